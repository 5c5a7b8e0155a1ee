"""What deleting pictures costs: by plain SQL, as --prune does it, and as it would without an index.

python tests/benchmarks/deleting.py --count 200000 --delete 20000

The vectors are made up; the figures are of SQLite alone. Also shown: the size of the database
against that of the bare vectors, and what the rows of another program wait for while --prune runs.
"""

import argparse
import shutil
import sqlite3
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path

import numpy as np

from datasette_clip_search.database.connection import connect
from datasette_clip_search.database.index.snapshot_cache import snapshot_for
from datasette_clip_search.database.model import choose_model
from datasette_clip_search.database.prepare import create_tables, restore_database
from datasette_clip_search.database.vectors import count_vectors, count_without, lost_ids
from datasette_clip_search.embedding.store import Store


def fill(path: Path, count: int, dimension: int) -> None:
    random = np.random.default_rng(0)
    with closing(connect(path)) as connection:
        connection.execute("pragma synchronous = off")
        connection.execute("begin")
        create_tables(connection, "images")
        connection.execute(
            "insert into clip_models (name, pretrained, dimension, fingerprint, preprocess, "
            "is_default, revision) values ('made', 'up', ?, 'f', '{}', 1, 7)",
            [dimension],
        )
        for start in range(0, count, 10_000):
            ids = range(start + 1, min(count, start + 10_000) + 1)
            connection.executemany(
                "insert into images (id, path, content_hash, size, mtime, width, height, format, "
                "camera) values (?, ?, ?, 1000000, 1.6e9, 4000, 3000, 'JPEG', 'Camera of 2020')",
                [(i, f"pictures/of the year/IMG_{i:07}.jpg", f"{i:016x}" * 4) for i in ids],
            )
            blobs = random.normal(size=(len(ids), dimension)).astype("<f4")
            connection.executemany(
                "insert into clip_embeddings values (1, ?, ?, 'fp32', ?)",
                [(i, blob.tobytes(), f"{i:016x}") for i, blob in zip(ids, blobs, strict=True)],
            )
            connection.executemany(
                "insert into clip_thumbnails values (?, 'webp', ?, ?)",
                [(i, b"thumbnail", f"{i:016x}") for i in ids],
            )
        connection.execute("commit")


def timed(what: str, function) -> float:
    start = time.perf_counter()
    result = function()
    seconds = time.perf_counter() - start
    shown = "" if result is None else f"  ({result})"
    print(f"{what:<58}{seconds:9.2f} s{shown}", flush=True)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=200_000)
    parser.add_argument("--delete", type=int, default=20_000)
    parser.add_argument("--dimension", type=int, default=512)
    options = parser.parse_args()
    some = f"(select id from images where id % {options.count // options.delete} = 0)"
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "made.db"
        timed(
            f"filling {options.count:,} rows", lambda: fill(made, options.count, options.dimension)
        )
        with closing(sqlite3.connect(made)) as connection:
            sizes = dict(connection.execute("select name, sum(pgsize) from dbstat group by name"))
        raw = options.count * options.dimension * 4
        ours = sum(size for name, size in sizes.items() if "clip_embedding" in name)
        print(
            f"clip_embeddings with its indexes: {ours / raw:.3f} of the bare vectors (limit 1.15)"
        )
        for name, size in sizes.items():
            if size > 1e6:
                print(f"    {name:<40} {size / 1e6:8.1f} MB")

        def copy(name: str) -> Path:
            return Path(shutil.copy(made, Path(folder) / name))

        with closing(sqlite3.connect(copy("plain.db"), isolation_level=None)) as connection:
            sql = f"delete from images where id in {some}"
            plain = timed(
                f"delete {options.delete:,} by plain SQL", lambda: connection.execute(sql) and None
            )
            print(f"{1000 * plain / options.delete:.3f} ms a picture")
        path = copy("unindexed.db")
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("drop index clip_embedding_image")
            few = max(1, options.delete // 1000)
            sql = f"delete from images where id in (select id from {some} limit {few})"
            seconds = timed(
                f"the same without the index, {few}", lambda: connection.execute(sql) and None
            )
            whole = seconds / few * options.delete
            print(
                f"{1000 * seconds / few:.1f} ms a picture, so {whole:,.0f} s for all: "
                f"{whole / plain:,.0f} times as long"
            )
        path.unlink()
        path = copy("pruned.db")
        with closing(connect(path)) as connection:
            store = Store(connection, path, None)
            ids = [id for (id,) in connection.execute(f"select id from {some}")]
            waits: list[float] = []
            stop = threading.Event()
            thread = threading.Thread(target=other, args=(path, stop, waits))
            thread.start()
            timed(f"--prune of {options.delete:,}", lambda: store.prune(ids, []))
            stop.set()
            thread.join()
            longest = max(waits, default=0)
            print(f"another program wrote {len(waits)} rows, each within {longest:.2f} s")
            model = choose_model(connection, None)[1]
            timed("counting the pictures", lambda: count_vectors(connection, model))
            timed("counting those without a vector", lambda: count_without(connection, model))
            timed("comparing vectors with pictures", lambda: len(lost_ids(connection, model)))
            timed("what a run checks first", lambda: restore_database(connection))
            connection.execute("delete from clip_replaced")
            vector = np.ones(options.dimension, np.float32) / options.dimension**0.5
            timed("loading the collection", lambda: snapshot_for(connection, model).count)
            timed("the same again", lambda: snapshot_for(connection, model).count)
            for _ in range(2):
                timed(
                    "a search",
                    lambda: len(snapshot_for(connection, model).nearest(connection, vector, 10)[0]),
                )
            start = time.perf_counter()
            for _ in range(1000):
                snapshot_for(connection, model)
            print(
                f"taking the collection that stands: {1000 * (time.perf_counter() - start):.1f} us"
            )
            connection.execute("drop trigger clip_image_deleted")
            timed("taking it without the trigger", lambda: snapshot_for(connection, model).count)


def other(path: Path, stop: threading.Event, waits: list[float]) -> None:
    """Write rows of its own, as a web application would, all the time."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=60)) as connection:
        connection.execute("create table if not exists log (at)")
        while not stop.is_set():
            start = time.perf_counter()
            connection.execute("insert into log values (1)")
            waits.append(time.perf_counter() - start)
            time.sleep(0.01)


if __name__ == "__main__":
    main()
