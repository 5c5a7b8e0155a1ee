"""What ten processes that search one large collection cost: they share the mapped index.

    python tests/benchmarks/index_processes.py DATABASE [--processes 10]

Each opens the database, which has a current index, and searches fifty times by stored vectors.
Prints how long opening took, the first search included; the resident memory of one process; and its
share of the machine's memory, where what several processes map counts once (Linux only).
"""

import argparse
import multiprocessing
import sqlite3
import statistics
import time
from typing import Any

from datasette_clip_search.sql import add_functions


def serve(database: str, ready: Any, results: Any) -> None:
    connection = sqlite3.connect(database)
    add_functions(connection)
    sql = """select embedding from clip_embeddings where model_id = 1 and image_id in (
        select id from images where id % 997 = 1 limit 50)"""
    vectors = [vector for (vector,) in connection.execute(sql)]
    import faiss  # noqa: F401

    started = time.perf_counter()
    for number, vector in enumerate(vectors):
        connection.execute("select * from clip_search(?)", [vector]).fetchall()
        if not number:
            opening = time.perf_counter() - started
    ready.wait()
    with open("/proc/self/smaps_rollup") as file:
        sizes = dict(line.split()[:2] for line in list(file)[1:])
    results.put((opening, int(sizes["Rss:"]) / 1024, int(sizes["Pss:"]) / 1024))
    ready.wait()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("database")
    parser.add_argument("--processes", type=int, default=10)
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    for count in (1, arguments.processes):
        ready, results = context.Barrier(count), context.Queue()
        processes = [
            context.Process(target=serve, args=(arguments.database, ready, results))
            for _ in range(count)
        ]
        for process in processes:
            process.start()
        opening, resident, share = zip(*(results.get() for _ in processes), strict=True)
        for process in processes:
            process.join()
        print(
            f"{count:>3} processes: opened in {statistics.median(opening):.2f} s, "
            f"{statistics.median(resident):.0f} MB resident, {statistics.median(share):.0f} MB of "
            f"the machine's memory each, {sum(share):.0f} MB together"
        )


if __name__ == "__main__":
    main()
