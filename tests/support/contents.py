"""The contents of a database by path, to compare with those of another."""

import sqlite3
from pathlib import Path

EVERYTHING = """
    select path, content_hash, size, mtime, width, height, images.format, taken, latitude,
        longitude, camera, key, embedding, precision, data
    from images left join clip_embeddings on clip_embeddings.image_id = images.id
    left join clip_thumbnails on clip_thumbnails.image_id = images.id order by path, model_id
"""


def contents(database: Path) -> dict[str, tuple]:
    """Return everything stored for each path but its id; fail for rows of no picture."""
    connection = sqlite3.connect(database)
    try:
        assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
        for table in ("clip_embeddings", "clip_thumbnails"):
            sql = f"select count(*) from {table} where image_id not in (select id from images)"
            assert connection.execute(sql).fetchone() == (0,), table
        return {path: tuple(facts) for path, *facts in connection.execute(EVERYTHING)}
    finally:
        connection.close()


def ids(database: Path) -> dict[str, int]:
    """Return the id of each path."""
    connection = sqlite3.connect(database)
    try:
        return dict(connection.execute("select path, id from images"))
    finally:
        connection.close()
