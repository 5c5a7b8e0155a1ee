"""What clip_search() costs beside the FAISS call and the plain SQL that it stands for.

    python tests/benchmarks/sql_cost.py [--vectors 100000] [--dimension 512] [--rounds 30]

Over random vectors in a database: `select * from clip_search(vector, k)`, against FAISS's search of
the same index with as many threads, then one SQL statement that fetches the same rows by their ids.
Prints the median milliseconds of rounds taken in turns, and the median ratio of a round. Searching
alone is shown as well: what is left of both is SQL.

Then what each row of another table costs where SQLite calls the function for it with the arguments
of the row before, in microseconds of processor time, beside a table of the same rows with an index.
"""

import argparse
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np

from datasette_clip_search.database.connection import connect, transaction
from datasette_clip_search.database.index.snapshot_cache import snapshot_for
from datasette_clip_search.database.model import default_model
from datasette_clip_search.database.prepare import create_tables
from datasette_clip_search.sql import add_functions


def make(file: Path, count: int, dimension: int) -> None:
    """Write a database of random unit vectors, with the paths of no pictures."""
    connection = connect(file)
    rng = np.random.default_rng(0)
    with transaction(connection):
        create_tables(connection, "images")
        connection.execute(
            "insert into clip_models (name, pretrained, dimension, fingerprint, preprocess, "
            "is_default, revision) values ('none', '', ?, '', '{}', 1, 1)",
            [dimension],
        )
        for number in range(1, count + 1):
            vector = rng.normal(size=dimension).astype("<f4")
            vector /= np.linalg.norm(vector)
            connection.execute(
                "insert into images (id, path, content_hash, size, mtime, width, height, format) "
                "values (?, ?, '', 0, 0, 500, 375, 'JPEG')",
                [number, f"photographs/{number // 1000:03}/IMG_{number:06}.jpg"],
            )
            connection.execute(
                "insert into clip_embeddings (model_id, image_id, embedding) values (1, ?, ?)",
                [number, vector.tobytes()],
            )
    connection.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--vectors", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=30)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "photos.db")
        make(file, arguments.vectors, arguments.dimension)
        connection = sqlite3.connect(file)
        add_functions(connection)
        _, model = default_model(connection)
        base = snapshot_for(connection, model).index
        queries = np.random.default_rng(1).normal(size=(arguments.rounds, arguments.dimension))
        queries = (queries / np.linalg.norm(queries, axis=1, keepdims=True)).astype(np.float32)
        faiss.omp_set_num_threads(1)
        print(
            f"{arguments.vectors} x {arguments.dimension}, one thread, "
            f"medians of {arguments.rounds} rounds, ms"
        )
        print(f"{'k':>6}{'clip_search':>13}{'FAISS + SQL':>13}{'ratio':>7}{'FAISS':>9}{'limit':>7}")
        for k, limit in ((10, 1.2), (100, None), (1000, 2.0)):
            times: dict[str, list[float]] = {"ours": [], "plain": [], "FAISS": []}

            def ours(vector: np.ndarray, k: int = k) -> list[int]:
                sql = "select * from clip_search(?, ?)"
                return [row[1] for row in connection.execute(sql, [vector.tobytes(), k])]

            def search(vector: np.ndarray, k: int = k) -> list[int]:
                _, positions = base.faiss.search(vector[np.newaxis], k)
                return [int(id) for id in base.ids[positions[0]]]

            def plain(vector: np.ndarray, k: int = k) -> list[int]:
                ids = search(vector)
                marks = ",".join("?" * k)
                sql = f"select id, path from images where id in ({marks})"
                rows = dict(connection.execute(sql, ids))
                return [id for id in ids if rows[id]]

            ways: dict[str, Callable[[np.ndarray], list[int]]]
            ways = {"ours": ours, "plain": plain, "FAISS": search}
            for query in queries:
                found = []
                for name, work in ways.items():
                    started = time.perf_counter()
                    found.append(work(query))
                    times[name].append((time.perf_counter() - started) * 1000)
                # Equal scores stand in another order.
                assert sorted(found[0]) == sorted(found[1]) == sorted(found[2])
            ratio = statistics.median(
                a / b for a, b in zip(times["ours"], times["plain"], strict=True)
            )
            middle = {name: statistics.median(taken) for name, taken in times.items()}
            print(
                f"{k:>6}{middle['ours']:>13.2f}{middle['plain']:>13.2f}{ratio:>7.2f}"
                f"{middle['FAISS']:>9.2f}{limit or '':>7}"
            )
        repeats(connection, queries[0].tobytes(), arguments.vectors)


REPEATS = {
    "left join": "select count(s.rank) from images i left join {} s on s.id = i.id",
    "exists": "select count(*) from images i where exists (select 1 from {} s where s.id = i.id)",
    "not exists": "select count(*) from images i where not exists "
    "(select 1 from {} s where s.id = i.id)",
    "scalar": "select sum((select rank from {} s where s.id = i.id)) from images i",
}


def repeats(connection: sqlite3.Connection, query: bytes, count: int) -> None:
    """Print what a call for every picture costs, when all have the same arguments."""
    call = "clip_search(?, 20)"
    connection.execute(f"create temp table found as select * from {call}", [query])
    connection.execute("create index temp.found_id on found(id)")
    print(f"\n{'us a row':<12}{call:>20}{'table':>8}{'ratio':>7}{'limit':>7}")
    for name, sql in REPEATS.items():
        times: dict[str, list[float]] = {call: [], "found": []}
        for _ in range(5):
            answers = set()
            for source, taken in times.items():
                started = time.thread_time()
                parameters = [query] if source == call else []
                answers.add(connection.execute(sql.format(source), parameters).fetchone())
                taken.append((time.thread_time() - started) / count * 1e6)
            assert len(answers) == 1
        ours, table = (statistics.median(taken) for taken in times.values())
        print(f"{name:<12}{ours:>20.1f}{table:>8.2f}{ours / table:>7.0f}{50:>7}")


if __name__ == "__main__":
    main()
