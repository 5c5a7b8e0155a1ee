"""Measure how many of the ten nearest pictures are still found after vectors are rounded."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from ..common.answers import shares_found
from ..common.arrays import Ids, Vectors

K = 10

Chunks = Callable[[], Iterable[tuple[Ids, Vectors, Vectors]]]
"""Returns chunks of ids (n,), and vectors (n, d) before and after rounding; called twice."""


def published_recall(chunks: Chunks, count: int, sample: int) -> tuple[float, int]:
    """Return the recall@10 of published vectors, and the number of query pictures.

    The queries are spread evenly over all `count` pictures. A published hit counts if it is as near
    by the original vectors as one of the ten nearest by these. A query is not its own hit.
    """
    chosen = set(np.linspace(0, count - 1, min(count, sample)).astype(int).tolist())
    ids, before, after = _rows(chunks(), chosen)
    k = min(K, count - 1)
    if k < 1:
        return 1.0, len(ids)
    # For each query, the original cosines of the nearest, and of the nearest as published.
    nearest = np.full((len(ids), k), -np.inf, np.float32)
    found = np.full((len(ids), k, 2), -np.inf, np.float32)
    for chunk_ids, old, new in chunks():
        itself = ids[:, np.newaxis] == chunk_ids
        old_scores = np.where(itself, -np.inf, before @ old.T)
        new_scores = np.where(itself, -np.inf, after @ new.T)
        nearest = np.sort(np.hstack([nearest, old_scores]), axis=1)[:, -k:]
        both = np.concatenate([found, np.stack([new_scores, old_scores], axis=2)], axis=1)
        best = np.argsort(both[:, :, 0], axis=1)[:, -k:]
        found = np.take_along_axis(both, best[:, :, np.newaxis], axis=1)
    return float(shares_found(found[:, :, 1], nearest, k).mean()), len(ids)


def _rows(
    chunks: Iterable[tuple[Ids, Vectors, Vectors]], places: set[int]
) -> tuple[Ids, Vectors, Vectors]:
    picked = list(_picked(chunks, places))
    ids, before, after = zip(*picked, strict=True)
    return np.concatenate(ids), np.concatenate(before), np.concatenate(after)


def _picked(
    chunks: Iterable[tuple[Ids, Vectors, Vectors]], places: set[int]
) -> Iterator[tuple[Ids, Vectors, Vectors]]:
    start = 0
    for ids, before, after in chunks:
        rows = [row for row in range(len(ids)) if start + row in places]
        start += len(ids)
        yield ids[rows], before[rows], after[rows]
