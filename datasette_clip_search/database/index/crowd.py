"""How far a picture stands above the crowd, which is a sample of the collection.

What a cosine is worth depends on the model and on the query: one model has true pairs of words
and picture at 0.26 and all pairs at 0.21, another at 0.53 and 0.01. Measured against how like the
query the other pictures are, one cut-off serves them all, as `tests/benchmarks/cutoff.py` shows.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...common.arrays import Ids, Vectors
from .exact import products

SIZE = 1000
"""Pictures that hits are measured against: their cosines tell the spread to 2% in 0.1 ms."""

# Fewer pictures, or cosines that differ by no more than float32's rounding, are no measure.
_AT_LEAST = 10
_DEVIATION_AT_LEAST = 1e-5


@dataclass(frozen=True)
class Crowd:
    """Some of a collection's pictures, evenly spread over it: ids (n,) and unit vectors (n, d)."""

    ids: Ids
    vectors: Vectors

    def z_scores(
        self, vector: Vectors, cosines: Vectors, without: int | None = None
    ) -> list[float] | list[None]:
        """Returns how many standard deviations each cosine lies above the crowd's median.

        `vector` (d,) is the query's, `cosines` (k,) those of pictures to it, and `without` the id
        of a picture that doesn't count, because it is the query. All are None where the crowd is
        too small, or all alike.

        It is a z-score about the median instead of the mean, which pictures that match pull towards
        themselves: a quarter of a collection, all alike, can't lie 2 above the mean.
        """
        crowd = self._cosines(vector)
        if without is not None:
            crowd = crowd[self.ids != without]
        nothing = [None] * len(cosines)
        if len(crowd) < _AT_LEAST:
            return nothing
        away = crowd - crowd.mean()
        deviation = math.sqrt(np.dot(away, away) / len(away))
        # Also false for what is not a number.
        if not _DEVIATION_AT_LEAST <= deviation < math.inf:
            return nothing
        low, high = (len(crowd) - 1) // 2, len(crowd) // 2
        crowd.partition([low, high])
        median = (crowd[low] + crowd[high]) / 2
        scores: list[float] = ((cosines - median) / deviation).tolist()
        return scores

    def _cosines(self, vector: Vectors) -> NDArray[np.float64]:
        """Returns the cosine of each (n,) to a vector (d,)."""
        return products(vector, self.vectors).astype(np.float64)
