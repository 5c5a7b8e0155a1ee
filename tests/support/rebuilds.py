"""Tables that other programs change or rebuild: actual and expected results."""

import json
import sqlite3
from contextlib import closing

import numpy as np

from support.commands import run
from support.databases import rows
from support.indexes import build_index
from support.pictures import make_picture
from support.vector_database import clustered, make, put

COUNT = 60
VECTORS = clustered(COUNT)


def make_photos(folder):
    """Make a database with two more columns, thumbnails and an index."""
    path = make(folder / "photos.db", VECTORS)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("alter table images add column mine text")
        connection.execute("alter table images add column album text")
        connection.execute(
            "update images set mine = 'x' || (id % 3), album = 'y0', "
            "content_hash = printf('%016d', id) || 'abcdef'"
        )
        # Of other content now, they have lost their vectors.
        put(connection, range(1, COUNT + 1), VECTORS)
        connection.execute(
            "insert into clip_thumbnails (image_id, format, data) select id, 'png', ? from images",
            [make_picture(folder / "thumbnail.png").read_bytes()],
        )
        for table in ("clip_embeddings", "clip_thumbnails"):
            connection.execute(f"update {table} set made_from = printf('%016d', image_id)")
    build_index(path)
    return path


def table_of(path):
    return "pics" if rows(path, "select 1 from sqlite_master where name = 'pics'") else "images"


def nearest(query, without=(), k=10, vectors=VECTORS):
    ids = [id for id in range(1, len(vectors) + 1) if id not in without and id != query]
    scores = vectors[np.array(ids) - 1] @ vectors[query - 1]
    return [ids[at] for at in np.argsort(-scores, kind="stable")[:k]]


def found_ids(connection, query, k=10, more=""):
    rows = connection.execute(f"select id from clip_search({query}, {k}{more})").fetchall()
    return [id for (id,) in rows]


def delete(path, ids):
    with closing(sqlite3.connect(path)) as connection, connection:
        marks = ",".join(map(str, ids))
        connection.execute(f"delete from {table_of(path)} where id in ({marks})")


def counts(path):
    (found,) = rows(
        path,
        "select (select count(*) from clip_embeddings), (select count(*) from clip_thumbnails)",
    )
    return found


def status(path, *options):
    result = run("clip-index", path, "--json", *options)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)
