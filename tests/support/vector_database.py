"""Databases of synthetic vectors, and a brute-force search to compare with."""

import sqlite3
from pathlib import Path

import numpy as np

from datasette_clip_search.database.changes import Moment
from datasette_clip_search.database.index import flat
from datasette_clip_search.database.index.snapshot import Snapshot
from datasette_clip_search.database.model import Model
from datasette_clip_search.database.prepare import create_tables

DIMENSION = 32


def unit(vectors) -> np.ndarray:
    vectors = np.asarray(vectors, np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def clustered(count: int, dimension: int = DIMENSION, seed: int = 0) -> np.ndarray:
    """Return vectors in clusters that all point to one side, as CLIP's do."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(50, dimension)) + 1
    which = random.integers(0, len(centres), count)
    return unit(centres[which] + random.normal(size=(count, dimension)) * 0.7)


def make(path: Path, vectors: np.ndarray, first: int = 1) -> Path:
    """Create a database of pictures with the ids `first`, `first` + 1, … and these vectors."""
    connection = sqlite3.connect(path)
    create_tables(connection, "images")
    connection.execute(
        "insert into clip_models (name, pretrained, dimension, fingerprint, preprocess, "
        "is_default, revision) values ('made', 'up', ?, 'f', '{}', 1, 7)",
        [vectors.shape[1]],
    )
    put(connection, range(first, first + len(vectors)), vectors)
    connection.commit()
    connection.close()
    return path


def put(connection: sqlite3.Connection, ids, vectors: np.ndarray) -> None:
    """Add pictures with these vectors, or update those that exist."""
    connection.executemany(
        "insert or ignore into images (id, path, content_hash, size, mtime, width, height, format) "
        "values (?, ?, '', 0, 0, 1, 1, 'JPEG')",
        [(int(id), f"{id}.jpg") for id in ids],
    )
    connection.executemany(
        "insert into clip_embeddings (model_id, image_id, embedding) values (1, ?, ?) "
        "on conflict do update set embedding = excluded.embedding",
        [(int(id), v.astype("<f4").tobytes()) for id, v in zip(ids, vectors, strict=True)],
    )


def truth(connection: sqlite3.Connection, query: np.ndarray, k: int, within=None):
    """Return the ids and cosines of the k nearest by comparing every vector in the database."""
    rows = connection.execute("select image_id, embedding from clip_embeddings").fetchall()
    rows = [row for row in rows if within is None or row[0] in within]
    ids = np.array([id for id, _ in rows], np.int64)
    vectors = np.frombuffer(b"".join(blob for _, blob in rows), "<f4").reshape(len(rows), -1)
    scores = vectors @ query
    order = np.lexsort((ids, -scores))[:k]
    return ids[order].tolist(), scores[order]


def found(connection: sqlite3.Connection, query: np.ndarray, k: int, where: str = ""):
    """Return the ids and cosines that clip_search finds."""
    sql = f"select id, score from clip_search(?, ?) {where}"
    rows = connection.execute(sql, [query.astype("<f4").tobytes(), k]).fetchall()
    return [id for id, _ in rows], np.array([score for _, score in rows], np.float32)


def snapshot_of(ids, vectors):
    """Return a snapshot that needs no database, because its index is exact."""
    model = Model(1, "none", "", vectors.shape[1], "", "{}", 0)
    vectors = np.ascontiguousarray(vectors, np.float32)
    return Snapshot(model, Moment(0, 0), flat(np.asarray(ids, np.int64), vectors))
