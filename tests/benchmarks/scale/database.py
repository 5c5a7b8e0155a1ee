"""Databases of synthetic vectors in the project's own tables, kept from run to run."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
from geometry import BATCH, DIMENSION, Geometry, Vectors
from numpy.typing import NDArray

from datasette_clip_search.database import connect, transaction
from datasette_clip_search.schema import create_tables

QUERIES = 100


def make(file: Path, count: int) -> None:
    """Writes a database of so many pictures, unless it is there: the first is picture 1."""
    if file.exists():
        return
    part = file.with_name(f"making-{file.name}")
    part.unlink(missing_ok=True)
    started = time.perf_counter()
    with closing(connect(part)) as connection:
        # What is half made is thrown away.
        connection.execute("pragma journal_mode = off")
        connection.execute("pragma synchronous = off")
        with transaction(connection):
            create_tables(connection, "images")
            connection.execute(
                "insert into clip_models (name, pretrained, dimension, fingerprint, preprocess, "
                "is_default, revision) values ('synthetic', '', ?, 'synthetic', '{}', 1, 1)",
                [DIMENSION],
            )
        with transaction(connection), _WithoutTriggers(connection):
            done = 0
            for vectors in Geometry().pictures(count):
                ids = range(done + 1, done + len(vectors) + 1)
                connection.executemany(
                    "insert into images (id, path, content_hash, size, mtime, width, height, "
                    "format) values (?, ?, '', 0, 0, 500, 375, 'JPEG')",
                    [(id, f"photographs/{id // 1000:05}/IMG_{id:08}.jpg") for id in ids],
                )
                connection.executemany(
                    "insert into clip_embeddings (model_id, image_id, embedding) values (1, ?, ?)",
                    zip(ids, (vector.astype("<f4").tobytes() for vector in vectors), strict=True),
                )
                done += len(vectors)
                print(f"\r{file.name}: {done} of {count}", end="", flush=True)
    part.rename(file)
    print(f", {time.perf_counter() - started:.0f} s", flush=True)


class _WithoutTriggers:
    """Lets vectors be put into a new database without a history of each."""

    def __init__(self, connection: sqlite3.Connection):
        self.connection = connection

    def __enter__(self) -> None:
        sql = "select name, sql from sqlite_master where type = 'trigger'"
        self.triggers = self.connection.execute(sql).fetchall()
        for name, _ in self.triggers:
            self.connection.execute(f'drop trigger "{name}"')

    def __exit__(self, *_: object) -> None:
        for _, sql in self.triggers:
            self.connection.execute(sql)


def vectors_of(count: int) -> Vectors:
    """Returns the vectors (count, d) of such a database."""
    vectors = np.empty((count, DIMENSION), np.float32)
    for number, batch in enumerate(Geometry().pictures(count)):
        vectors[number * BATCH : number * BATCH + len(batch)] = batch
    return vectors


def queries() -> Vectors:
    """Returns pictures and texts in turns, (2 * QUERIES, d)."""
    geometry = Geometry()
    both = np.stack([geometry.image_queries(QUERIES), geometry.text_queries(QUERIES)], axis=1)
    return both.reshape(2 * QUERIES, -1)


def truth(file: Path, count: int) -> NDArray[np.int64]:
    """Returns the ids (2 * QUERIES, 10) of the pictures nearest to them; kept in a file."""
    if file.exists():
        return np.load(file)
    asked = queries()
    ids = np.zeros((len(asked), 10), np.int64)
    best = np.full((len(asked), 10), -np.inf, np.float32)
    for start, vectors in _numbered(count):
        scores = np.concatenate([best, asked @ vectors.T], axis=1)
        here = np.broadcast_to(np.arange(start, start + len(vectors)), (len(asked), len(vectors)))
        every = np.concatenate([ids, here], axis=1)
        top = np.argsort(-scores, axis=1, kind="stable")[:, :10]
        best, ids = np.take_along_axis(scores, top, 1), np.take_along_axis(every, top, 1)
    np.save(file, ids)
    return ids


def _numbered(count: int) -> Iterator[tuple[int, Vectors]]:
    for number, vectors in enumerate(Geometry().pictures(count)):
        yield number * BATCH + 1, vectors


if __name__ == "__main__":
    import sys

    folder = Path(sys.argv[1])
    for size in map(int, sys.argv[2:]):
        make(folder / f"{size}.db", size)
        truth(folder / f"truth-{size}.npy", size)
