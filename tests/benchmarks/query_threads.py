"""Why a query is answered on one thread: one against all, on an idle and a busy machine.

    python tests/benchmarks/query_threads.py [--vectors 10000 100000]

Prints the median time of an exact search over vectors of 512 with one thread and with all of
FAISS's, and their ratio, the two taken in turns.
"""

import argparse
import multiprocessing
import statistics
import time

import faiss
import numpy as np

SEARCHES = 100


def burn() -> None:
    while True:
        pass


def measure(index: faiss.Index, query: np.ndarray, threads: int) -> float:
    faiss.omp_set_num_threads(threads)
    started = time.perf_counter()
    index.search(query, 10)
    return (time.perf_counter() - started) * 1000


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--vectors", type=int, nargs="+", default=[10_000, 100_000])
    arguments = parser.parse_args()
    many = faiss.omp_get_max_threads()
    print(f"{'':>9}{'':6}{'1 thread':>10}{f'{many} threads':>11}{'ratio':>7}   medians, ms")
    for count in arguments.vectors:
        random = np.random.default_rng(0)
        vectors = random.standard_normal((count, 512), np.float32)
        index = faiss.IndexFlatIP(512)
        index.add(vectors)
        for busy in (False, True):
            others = [
                multiprocessing.Process(target=burn, daemon=True)
                for _ in range(many if busy else 0)
            ]
            for other in others:
                other.start()
            times: dict[int, list[float]] = {1: [], many: []}
            for number in range(SEARCHES):
                for threads in (1, many):
                    times[threads].append(measure(index, vectors[number : number + 1], threads))
            one, all_ = (statistics.median(taken) for taken in times.values())
            name = "busy" if busy else "idle"
            print(f"{count:>9} {name:5}{one:>10.2f}{all_:>11.2f}{all_ / one:>7.1f}")
            for other in others:
                other.kill()


if __name__ == "__main__":
    main()
