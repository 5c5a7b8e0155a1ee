"""Databases of synthetic vectors in the project's own tables, kept from run to run."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import numpy as np
from geometry import BATCH, DIMENSION, Geometry, Vectors
from numpy.typing import NDArray

from datasette_clip_search.database.connection import connect, transaction
from datasette_clip_search.database.prepare import create_tables

QUERIES = 100


def make(file: Path, count: int) -> None:
    """Write a database of so many pictures, unless it is there: the first is picture 1.

    What is nearest to the queries is found out on the way.
    """
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
            nearest = Nearest()
            for vectors in Geometry().pictures(count):
                ids = range(done + 1, done + len(vectors) + 1)
                nearest.show(np.asarray(ids), vectors)
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
    nearest.save(_truth_of(file))
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
    """Return the vectors (count, d) of such a database."""
    vectors = np.empty((count, DIMENSION), np.float32)
    for number, batch in enumerate(Geometry().pictures(count)):
        vectors[number * BATCH : number * BATCH + len(batch)] = batch
    return vectors


def queries() -> Vectors:
    """Return pictures and texts in turns, (2 * QUERIES, d)."""
    geometry = Geometry()
    both = np.stack([geometry.image_queries(QUERIES), geometry.text_queries(QUERIES)], axis=1)
    return both.reshape(2 * QUERIES, -1)


class Nearest:
    """The ids (2 * QUERIES, 10) of the pictures nearest to the queries, among all it is shown."""

    def __init__(self) -> None:
        self._asked = queries()
        self._ids = np.zeros((len(self._asked), 10), np.int64)
        self._best = np.full(self._ids.shape, -np.inf, np.float32)

    def show(self, ids: NDArray[np.int64], vectors: Vectors) -> None:
        scores = self._asked @ vectors.T
        near = (scores > self._best.min(axis=1, keepdims=True)).any(axis=0)
        scores = np.concatenate([self._best, scores[:, near]], axis=1)
        every = np.concatenate([self._ids, np.tile(ids[near], (len(self._ids), 1))], axis=1)
        top = np.argpartition(-scores, 9, axis=1)[:, :10]
        self._best = np.take_along_axis(scores, top, 1)
        self._ids = np.take_along_axis(every, top, 1)

    def save(self, file: Path) -> None:
        order = np.argsort(-self._best, axis=1, kind="stable")
        np.save(file, np.take_along_axis(self._ids, order, 1))


def truth(file: Path) -> NDArray[np.int64]:
    """Return the ids (2 * QUERIES, 10) of the nearest pictures of a database, best first."""
    return np.load(_truth_of(file))


def _truth_of(file: Path) -> Path:
    return file.with_name(f"truth-{file.stem}.npy")


if __name__ == "__main__":
    import sys

    folder = Path(sys.argv[1])
    for size in map(int, sys.argv[2:]):
        make(folder / f"{size}.db", size)
