"""A sample of queries with their exact answers, to measure the recall of an index."""

import numpy as np

from ...common.answers import EQUAL_COSINES, shares_found
from ...common.arrays import Ids, Vectors

QUERIES = 512
"""How many queries to measure an index with."""

_K = 10
# The cosine of words to the picture that they describe.
_LIKENESS = 0.3
# How many of the nearest to keep for each query: copies of the tenth count as well.
_KEPT = 40
# An id that no picture has.
_NOBODY = np.iinfo(np.int64).min


class Sample:
    """Queries (m, d) and, after show() for all vectors, the nearest pictures to each query.

    Half of the queries are pictures of the collection, which do not count among their own answers.
    The other half are far from all pictures, as words are: halfway between two pictures, and as far
    from both as words are from the picture that they describe.
    """

    def __init__(self, ids: Ids, vectors: Vectors):
        """Take some pictures of the collection, ids (n,) and vectors (n, d)."""
        rng = np.random.default_rng(0)
        half = min(QUERIES // 2, len(ids))
        own = rng.permutation(len(ids))[:half]
        between = (
            vectors[rng.permutation(len(ids))[:half]] + vectors[rng.permutation(len(ids))[:half]]
        )
        between /= np.linalg.norm(between, axis=1, keepdims=True).clip(1e-6)
        away = rng.standard_normal(between.shape, np.float32)
        away /= np.linalg.norm(away, axis=1, keepdims=True)
        between = between * _LIKENESS + away * np.sqrt(1 - _LIKENESS**2)
        self.queries: Vectors = np.concatenate([vectors[own], between]).astype(np.float32)
        nobody = np.full(half, _NOBODY)
        self.itself: Ids = np.concatenate([ids[own], nobody])
        self._ids = np.full((len(self.queries), _KEPT), _NOBODY)
        self._scores = np.full((len(self.queries), _KEPT), -np.inf, np.float32)
        self._tenth = self._scores[:, 0]

    def show(self, ids: Ids, vectors: Vectors) -> None:
        """Compare the queries with more pictures of the collection, (n,) and (n, d)."""
        scores = self.queries @ vectors.T
        scores[self.itself[:, None] == ids] = -np.inf
        near = (scores >= self._tenth[:, None] - EQUAL_COSINES).any(axis=0)
        scores = np.concatenate([self._scores, scores[:, near]], axis=1)
        best = np.argpartition(-scores, _KEPT - 1, axis=1)[:, :_KEPT]
        every = np.concatenate([self._ids, np.tile(ids[near], (len(scores), 1))], axis=1)
        self._scores = np.take_along_axis(scores, best, axis=1)
        self._ids = np.take_along_axis(every, best, axis=1)
        self._tenth = np.partition(self._scores, _KEPT - _K, axis=1)[:, _KEPT - _K]

    def recall(self, found: list[Ids]) -> float:
        """Return the recall@10 of what was found for each query.

        It is the lower of two recalls: that of the pictures, and that of the queries far from them.
        """
        shares = [
            _share(ids[scores > -np.inf], scores[scores > -np.inf], theirs)
            for ids, scores, theirs in zip(self._ids, self._scores, found, strict=True)
        ]
        half = len(shares) // 2
        return float(min(np.mean(shares[:half]), np.mean(shares[half:]))) if half else 1.0


def _share(ids: Ids, scores: Vectors, found: Ids) -> float:
    """Return the share of the ten nearest, among ids and scores (n,), that was found."""
    wanted = min(_K, len(ids))
    if not wanted:
        return 1.0
    theirs = scores[np.isin(ids, found)]
    return float(shares_found(theirs[np.newaxis], scores[np.newaxis], wanted)[0])
