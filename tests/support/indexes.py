"""Index files: built as a command builds them, or assembled by hand."""

import hashlib
import json
import sqlite3
import struct
from contextlib import closing

import faiss
import numpy as np

from datasette_clip_search.common.config import CONFIG
from datasette_clip_search.database.index.file import _PIECE, MAGIC
from datasette_clip_search.database.index.index import Effort
from datasette_clip_search.database.index.maintenance import keep_index
from datasette_clip_search.database.index.snapshot_cache import snapshot_for
from datasette_clip_search.database.model import default_model

COUNT = 6000
"""The pictures of the databases that tests of indexes share."""


def build_index(path, choice=None, **options):
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        _, model = default_model(connection)
        return keep_index(connection, path, model, choice, **options)


def index_in_use(path, connection):
    """Return the index that a connection's searches use."""
    _, model = default_model(connection)
    return snapshot_for(connection, model).index


def put_together(body, ids, facts):
    """Return an index file with a correct checksum."""
    text = facts if isinstance(facts, bytes) else json.dumps(facts).encode()
    body = bytes(body) + np.asarray(ids, "<i8").tobytes() + text
    pieces = (body[start : start + _PIECE] for start in range(0, len(body), _PIECE))
    digest = hashlib.sha256(b"".join(hashlib.sha256(piece).digest() for piece in pieces))
    return body + digest.digest() + struct.pack("<Q", len(text)) + MAGIC


def padded(index):
    body = faiss.serialize_index(index).tobytes()
    return body + bytes(-len(body) % 8)


def everything(base, *_):
    """Return the effort that misses nothing, so that a missing picture means a stale index."""
    return Effort(base.lists, CONFIG.depths[-1]), 1.0
