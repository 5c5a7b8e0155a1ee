"""How fast near-duplicates are found, and how many, against comparing all pairs.

    python tests/benchmarks/duplicates.py [THRESHOLD [COUNT...]]

Makes vectors of 512 with the geometry of CLIP's pictures: about one direction, in clusters of many
sizes, along axes of falling strength, a tenth of them near-duplicates planted at cosines of 0.93 to
0.999. Prints the seconds that our search of pairs takes, with the groups made of them; those of
numpy's and FAISS's flat search over all pairs, each on all cores; how many times as long the faster
of these takes; and the share of all true pairs that ours finds. The three take turns.
"""

import statistics
import sys
import time
from collections.abc import Callable

import faiss
import numpy as np

from datasette_clip_search.common.config import CONFIG
from datasette_clip_search.search.duplicates import group
from datasette_clip_search.search.near_pairs import find_pairs

DIMENSION = 512
BLOCK = 1024


def make_vectors(count: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    planted = count // 10
    strength = np.arange(1, DIMENSION + 1) ** -0.5
    strength /= np.linalg.norm(strength)
    turn = np.linalg.qr(random.normal(size=(DIMENSION, DIMENSION)))[0]

    def directions(number: int) -> np.ndarray:
        return (random.normal(size=(number, DIMENSION)) * strength) @ turn

    centres = directions(max(count // 100, 10))
    cluster = random.zipf(1.3, count - planted) % len(centres)
    common = directions(1)
    vectors = 0.75 * common / np.linalg.norm(common) + 0.75 * centres[cluster]
    vectors += 0.66 * directions(len(vectors))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    original = vectors[random.integers(0, len(vectors), planted)]
    away = directions(planted)
    away -= (away * original).sum(axis=1, keepdims=True) * original
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    cosine = random.uniform(0.93, 0.999, (planted, 1))
    near = cosine * original + np.sqrt(1 - cosine**2) * away
    everything = random.permutation(np.concatenate([vectors, near]))
    everything /= np.linalg.norm(everything, axis=1, keepdims=True)
    return everything.astype(np.float32)


def ours(vectors: np.ndarray, threshold: float) -> set[tuple[int, int]]:
    pairs = find_pairs(vectors, threshold, CONFIG.max_duplicate_pairs)
    positions = np.arange(len(vectors))
    ranks = np.full(len(vectors), len(vectors))
    involved = np.unique(np.concatenate([pairs.first, pairs.second]))
    ranks[involved] = np.arange(len(involved))
    group(pairs, positions, ranks)
    return set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))


def numpy_flat(vectors: np.ndarray, threshold: float) -> set[tuple[int, int]]:
    found: set[tuple[int, int]] = set()
    for top in range(0, len(vectors), BLOCK):
        # Each pair once: the rows against themselves and those after them.
        first, second = np.nonzero(vectors[top : top + BLOCK] @ vectors[top:].T >= threshold)
        upper = first < second
        found.update(
            zip((first[upper] + top).tolist(), (second[upper] + top).tolist(), strict=True)
        )
    return found


def faiss_flat(vectors: np.ndarray, threshold: float) -> set[tuple[int, int]]:
    index = faiss.IndexFlatIP(DIMENSION)
    index.add(vectors)
    found: set[tuple[int, int]] = set()
    for top in range(0, len(vectors), BLOCK):
        limits, _, second = index.range_search(vectors[top : top + BLOCK], threshold)
        first = np.repeat(np.arange(len(limits) - 1), np.diff(limits).astype(int)) + top
        upper = first < second
        found.update(zip(first[upper].tolist(), second[upper].tolist(), strict=True))
    return found


def timed(search: Callable, vectors: np.ndarray, threshold: float) -> tuple[float, set]:
    started = time.perf_counter()
    found = search(vectors, threshold)
    return time.perf_counter() - started, found


def main() -> None:
    threshold = float(sys.argv[1]) if len(sys.argv) > 1 else CONFIG.duplicate_threshold
    counts = [int(count) for count in sys.argv[2:]] or [10_000, 100_000]
    heads = ("vectors", "pairs", "ours, s", "numpy, s", "FAISS, s", "ratio", "recall")
    print("".join(f"{head:>10}" for head in heads))
    for count in counts:
        vectors = make_vectors(count)
        searches = {search: [] for search in (ours, numpy_flat, faiss_flat)}
        found = {}
        for _ in range(5 if count <= 10_000 else 1):
            for search, seconds in searches.items():
                spent, found[search] = timed(search, vectors, threshold)
                seconds.append(spent)
        medians = [statistics.median(seconds) for seconds in searches.values()]
        true = found[numpy_flat]
        row = f"{count:>10}{len(true):>10}" + "".join(f"{median:>10.2f}" for median in medians)
        ratio = min(medians[1:]) / medians[0]
        print(f"{row}{ratio:>10.1f}{len(true & found[ours]) / len(true):>10.5f}", flush=True)


if __name__ == "__main__":
    main()
