"""The share of the right answers that a search finds, such as recall@10."""

import numpy as np
from numpy.typing import NDArray

EQUAL_COSINES = 1e-6
"""Cosines that differ by less count as equal, as those of copies do: their order is arbitrary."""


def shares_found(
    found: NDArray[np.floating], nearest: NDArray[np.floating], k: int
) -> NDArray[np.float64]:
    """Return for each of n queries the share (n,) of its k nearest pictures that were found.

    `found` (n, m) holds the exact cosines of the pictures found, and `nearest` (n, l) those of at
    least the k nearest pictures. A picture counts if it is as near as the k-th nearest.
    """
    kth = np.partition(nearest, -k, axis=1)[:, -k]
    hits = (found >= kth[:, np.newaxis] - EQUAL_COSINES).sum(axis=1)
    shares: NDArray[np.float64] = np.minimum(hits, k) / k
    return shares
