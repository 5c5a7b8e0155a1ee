"""z-scores: how far a hit stands above the crowd, which is a sample of the collection.

The meaning of a cosine depends on the model and on the query: in one model, true pairs of words
and picture have a cosine of 0.26 and all pairs 0.21, in another 0.53 and 0.01. A z-score compares a
hit with the other pictures instead, so that it guides across models and queries
(`tests/benchmarks/cutoff.py`).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...common.arrays import Ids, Vectors
from .exact import products

SIZE = 1000
"""How many pictures to compare hits with: their cosines give the spread to 2%, in 0.1 ms."""

# Fewer pictures, or cosines that differ by no more than float32's rounding, give no measure.
_AT_LEAST = 10
_DEVIATION_AT_LEAST = 1e-5


@dataclass(frozen=True)
class Crowd:
    """A sample of a collection, evenly spread over it: ids (n,) and unit vectors (n, d)."""

    ids: Ids
    vectors: Vectors

    def z_scores(
        self, vector: Vectors, cosines: Vectors, without: int | None = None
    ) -> list[float] | list[None]:
        """Return how many standard deviations each cosine lies above the crowd's median.

        `vector` (d,) is the query's, and `cosines` (k,) are those of pictures to it. `without` is
        the id of a picture to leave out because it is the query. All are None where the crowd is
        too small, or all alike.

        The median stands in for the mean, because pictures that match pull the mean towards
        themselves: a quarter of a collection, all alike, can't be 2 above the mean.
        """
        crowd = self._cosines(vector)
        if without is not None:
            crowd = crowd[self.ids != without]
        nothing = [None] * len(cosines)
        if len(crowd) < _AT_LEAST:
            return nothing
        away = crowd - crowd.mean()
        deviation = math.sqrt(np.dot(away, away) / len(away))
        # Also false for NaN.
        if not _DEVIATION_AT_LEAST <= deviation < math.inf:
            return nothing
        low, high = (len(crowd) - 1) // 2, len(crowd) // 2
        crowd.partition([low, high])
        median = (crowd[low] + crowd[high]) / 2
        scores: list[float] = ((cosines - median) / deviation).tolist()
        return scores

    def _cosines(self, vector: Vectors) -> NDArray[np.float64]:
        """Return the cosine (n,) of each picture to a vector (d,)."""
        return products(vector, self.vectors).astype(np.float64)
