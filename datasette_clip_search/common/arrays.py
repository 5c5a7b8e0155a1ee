"""What is searched for and in what, and what models see."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

# Ids of pictures, or positions in an index.
Ids = NDArray[np.int64]
# Unit vectors, one (d,) or many (n, d).
Vectors = NDArray[np.float32]
Chosen = NDArray[np.bool_]
# What models see of pictures, (height, width, 3) of one or (n, height, width, 3) of many.
Pixels = NDArray[np.uint8]


def ascending(ids: Iterable[int] | Ids) -> Ids:
    """Return ids (n,) in ascending order, each once.

    Of an array that is in this order it is the same one. numpy's unique() takes five times as long.
    """
    given = ids if isinstance(ids, np.ndarray) else np.fromiter(ids, np.int64)
    if np.all(given[1:] > given[:-1]):
        return given
    ordered = np.sort(given)
    once: Ids = ordered[np.concatenate([[True], ordered[1:] > ordered[:-1]])]
    return once
