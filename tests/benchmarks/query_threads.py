"""Why a small collection is searched on one thread: one against all, on an idle and a busy machine.

    python tests/benchmarks/query_threads.py

Prints the median time of a search over 10,000 vectors of 512 with one thread and with all of
FAISS's, and their ratio, the two taken in turns.
"""

import multiprocessing
import statistics
import time

import faiss
import numpy as np

from datasette_clip_search.index import build

SEARCHES = 400


def burn() -> None:
    while True:
        pass


def measure(index: faiss.Index, query: np.ndarray, threads: int) -> float:
    faiss.omp_set_num_threads(threads)
    started = time.perf_counter()
    index.search(query, 10)
    return (time.perf_counter() - started) * 1000


def main() -> None:
    threads = faiss.omp_get_max_threads()
    vectors = np.random.default_rng(0).normal(size=(10_000, 512)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    index = build(np.arange(len(vectors)), vectors)
    print(f"{'machine':<8}{'1 thread, ms':>14}{f'{threads} threads, ms':>16}{'ratio':>8}")
    for machine, burners in (("idle", 0), ("busy", threads)):
        processes = [multiprocessing.Process(target=burn, daemon=True) for _ in range(burners)]
        for process in processes:
            process.start()
        one, many = [], []
        for number in range(SEARCHES):
            query = vectors[number : number + 1]
            one.append(measure(index, query, 1))
            many.append(measure(index, query, threads))
        for process in processes:
            process.kill()
        a, b = statistics.median(one), statistics.median(many)
        print(f"{machine:<8}{a:>14.2f}{b:>16.2f}{b / a:>8.2f}")


if __name__ == "__main__":
    main()
