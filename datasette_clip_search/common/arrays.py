"""NumPy array types: ids, unit vectors, pixels."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
"""Ids of pictures, or positions in an index, (n,)."""

Vectors = NDArray[np.float32]
"""Unit vectors, one (d,) or many (n, d)."""

Chosen = NDArray[np.bool_]
"""A mask that selects some of n pictures, (n,)."""

Pixels = NDArray[np.uint8]
"""Preprocessed pictures, one (height, width, 3) or many (n, height, width, 3)."""


def ascending(ids: Iterable[int] | Ids) -> Ids:
    """Return ids (n,) in ascending order, each once.

    An array that is already in this order is returned unchanged. numpy's unique() would take five
    times as long.
    """
    given = ids if isinstance(ids, np.ndarray) else np.fromiter(ids, np.int64)
    if np.all(given[1:] > given[:-1]):
        return given
    ordered = np.sort(given)
    once: Ids = ordered[np.concatenate([[True], ordered[1:] > ordered[:-1]])]
    return once
