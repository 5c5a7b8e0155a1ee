"""What searching within some of the pictures costs, by FAISS's selectors and by numpy.

    python tests/benchmarks/within.py [--vectors 100000] [--dimension 512] [--rounds 9]

The ten nearest of m random vectors among all of them: by our search (a bit for each vector), by
FAISS's own selector of ids, and by gathering the m vectors and multiplying. Prints the median
milliseconds of rounds taken in turns, and the ratio of each to ours.
"""

import argparse
import sqlite3
import statistics
import time

import faiss
import numpy as np

from datasette_clip_search.database.changes import Moment
from datasette_clip_search.database.index import flat
from datasette_clip_search.database.index.snapshot import Snapshot
from datasette_clip_search.database.model import Model


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--vectors", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(arguments.vectors, arguments.dimension)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = np.arange(1, arguments.vectors + 1, dtype=np.int64) * 3
    model = Model(1, "none", "", arguments.dimension, "", "{}", 0)
    base = flat(ids, vectors)
    snapshot = Snapshot(model, Moment(0, 0), base)
    connection = sqlite3.connect(":memory:")
    index = faiss.IndexIDMap(faiss.IndexFlatIP(arguments.dimension))
    index.add_with_ids(vectors, ids)
    query = vectors[7]
    print(f"{arguments.vectors} x {arguments.dimension}, medians of {arguments.rounds} rounds, ms")
    print(f"{'within':>9}{'ours':>9}{'by ids':>9}{'ratio':>8}{'gathered':>10}{'ratio':>8}")
    for share in (0.0001, 0.001, 0.01, 0.1, 0.3, 0.6, 1.0):
        chosen = rng.choice(ids, max(10, int(share * len(ids))), replace=False)

        def by_ids(chosen: np.ndarray = chosen) -> None:
            parameters = faiss.SearchParameters(sel=faiss.IDSelectorBatch(chosen))
            index.search(query[np.newaxis], 10, params=parameters)

        def gathered(chosen: np.ndarray = chosen) -> None:
            scores = vectors[np.searchsorted(ids, np.sort(chosen))] @ query
            np.argpartition(-scores, min(10, len(scores) - 1))

        ways = {
            "ours": lambda chosen=chosen: snapshot.nearest(connection, query, 10, chosen),
            "by ids": by_ids,
            "gathered": gathered,
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(arguments.rounds):
            for name, work in ways.items():
                started = time.perf_counter()
                work()
                times[name].append((time.perf_counter() - started) * 1000)
        ours, theirs, numpys = (statistics.median(taken) for taken in times.values())
        print(
            f"{len(chosen):>9}{ours:>9.2f}{theirs:>9.2f}{theirs / ours:>8.1f}"
            f"{numpys:>10.2f}{numpys / ours:>8.1f}"
        )


if __name__ == "__main__":
    main()
