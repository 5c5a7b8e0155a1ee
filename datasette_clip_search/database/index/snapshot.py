"""A snapshot: all vectors of one model in one database at one moment, ready for searches.

- Its pictures never change. A later moment gets a snapshot of its own.
- Most vectors are in `index`. The vectors of pictures `touched` since the index was built are in
  `fresh`, an exact index; the index's own vectors of these pictures are stale and never found.
- The pictures of `lost` vectors are gone or have other content; searches never find these either.
- Equal cosines are ordered by id, so an answer never depends on the index or on the order in which
  pictures were embedded.
"""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import numpy as np

from ...common.arrays import Chosen, Ids, Vectors, ascending
from ...common.config import CONFIG
from ...common.errors import DatabaseError, QueryError
from ..changes import Moment
from ..model import Model
from ..publication import is_published
from ..vectors import batches_by_id, read_vectors, vectors_by_id
from . import Index, flat
from .crowd import SIZE, Crowd

DISTRIBUTION_SAMPLE = 5_000
"""How many pictures to compute a mean and covariance from; half a second, once."""


class Snapshot:
    """The embedded pictures of a database at one moment."""

    def __init__(
        self,
        model: Model,
        moment: Moment,
        index: Index,
        made: Moment | None = None,
        touched: Ids | None = None,
        fresh: Index | None = None,
        lost: Ids | None = None,
    ):
        """Take an index, and the changes since it was `made`.

        The index holds the earlier state of the `touched` pictures (n,); the exact index `fresh`
        holds their present vectors. The `lost` ids (n,) have vectors in either, but no pictures.
        """
        self.model = model
        self.moment = moment
        self.index = index
        self.made = made or moment
        # The signature of the index file, whether or not it is in use.
        self.seen: object = None
        # The schema's version with which no vector is lost or can be lost unseen. None: look again.
        self.stands: int | None = None
        # The schema's version with which that was true, except for the touched pictures.
        self.stood: int | None = None
        none = np.empty(0, np.int64), np.empty((0, model.dimension), np.float32)
        self.touched = none[0] if touched is None else touched
        self.fresh = flat(*none) if fresh is None else fresh
        self.lost = none[0] if lost is None else lost
        self._stale = index.positions(np.union1d(self.touched, self.lost))
        self._stale_fresh = self.fresh.positions(self.lost)
        self._crowd: Crowd | None = None
        self._distribution: tuple[Vectors, Vectors] | None = None

    @property
    def count(self) -> int:
        """The number of pictures."""
        return len(self.index) - len(self._stale) + len(self.fresh) - len(self._stale_fresh)

    @property
    def state(self) -> tuple[int, bytes]:
        """A value that is equal for equal pictures of one database and model."""
        return self.moment.revision, self.lost.tobytes()

    @property
    def is_outgrown(self) -> bool:
        """Whether reading all vectors into a new index would be worth the time."""
        lag = CONFIG.index_lag_from + CONFIG.index_lag * len(self.index)
        return not self.index.is_mapped and len(self.touched) > lag

    def before(self) -> "Snapshot":
        """Return the snapshot of the moment when the index was built."""
        return Snapshot(self.model, self.made, self.index)

    def without(self, lost: Ids) -> "Snapshot":
        """Return the snapshot without the vectors of `lost` pictures."""
        if np.array_equal(lost, self.lost):
            return self
        other = Snapshot(
            self.model, self.moment, self.index, self.made, self.touched, self.fresh, lost
        )
        other.seen = self.seen
        return other

    def nearest(
        self,
        connection: sqlite3.Connection,
        vector: Vectors,
        k: int,
        within: Iterable[int] | Ids | None = None,
    ) -> tuple[Ids, Vectors]:
        """Return ids and cosines of the k nearest pictures to a (d,) unit vector, best first.

        With `within`, search only the pictures with these ids.
        """
        wanted = None if within is None else ascending(within)
        ids, scores = self._nearest(connection, self.index, self._stale, vector, k, wanted)
        if len(self.fresh):
            more = self._nearest(connection, self.fresh, self._stale_fresh, vector, k, wanted)
            ids, scores = np.concatenate([ids, more[0]]), np.concatenate([scores, more[1]])
        order = np.lexsort((ids, -scores))[: max(k, 0)]
        return ids[order], scores[order]

    def _nearest(
        self,
        connection: sqlite3.Connection,
        index: Index,
        stale: Ids,
        vector: Vectors,
        k: int,
        wanted: Ids | None,
    ) -> tuple[Ids, Vectors]:
        """Return the k nearest of an index, except those at the `stale` positions."""
        chosen: Chosen | None = None
        available = len(index) - len(stale)
        if wanted is not None:
            chosen = np.zeros(len(index), bool)
            chosen[index.positions(wanted)] = True
        elif len(stale):
            chosen = np.ones(len(index), bool)
        if chosen is not None:
            chosen[stale] = False
            available = int(np.count_nonzero(chosen))
        k = min(k, available)
        if k < 1:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        if index.kind.is_exact:
            return index.exact(vector, k, chosen)
        if chosen is not None and wanted is not None and available <= CONFIG.fetched_within:
            return self._ranked(connection, vector, index.ids[np.flatnonzero(chosen)], k)
        # A filter can match pictures in any list, so probe them all.
        harder = 1 if wanted is None else index.lists
        while True:
            candidates, is_all = index.candidates(vector, k, chosen, harder)
            ids, scores = self._ranked(connection, vector, candidates, k)
            if len(ids) == k or is_all:
                return ids, scores
            harder *= 4

    def _ranked(
        self, connection: sqlite3.Connection, vector: Vectors, ids: Ids, k: int
    ) -> tuple[Ids, Vectors]:
        """Return the k nearest of some pictures by their exact vectors in the database."""
        # In parts, because anyone may ask for a k whose vectors would fill the memory.
        parts = [(ids[:0], np.empty(0, np.float32))]
        for some, vectors in batches_by_id(connection, self.model, ids):
            parts.append((some, np.einsum("nd,d->n", vectors, vector)))
        ids, scores = (np.concatenate(column) for column in zip(*parts, strict=True))
        if len(scores) > k:
            best = np.argpartition(-scores, k - 1)[:k]
            # The tie-break among those equal to the last one: the lowest ids.
            last = scores[best].min()
            better, equal = np.flatnonzero(scores > last), np.flatnonzero(scores == last)
            best = np.concatenate([better, equal[: k - len(better)]])
            ids, scores = ids[best], scores[best]
        return ids, scores

    def sample(self, connection: sqlite3.Connection, count: int) -> tuple[Ids, Vectors]:
        """Return at most `count` ids (n,) and vectors (n, d), evenly spread in the ids' order.

        Equal pictures give the same sample, whatever the index.
        """
        every = self.ids
        places = np.linspace(0, len(every) - 1, min(count, len(every))).astype(np.int64)
        return self._vectors(connection, every[places])

    @property
    def ids(self) -> Ids:
        """The ids (n,) of all pictures, ascending."""
        if not len(self.touched) and not len(self.lost):
            return self.index.ids
        return np.sort(self._unsorted_ids())

    def _unsorted_ids(self) -> Ids:
        kept = np.delete(self.index.ids, self._stale)
        return np.concatenate([kept, np.delete(self.fresh.ids, self._stale_fresh)])

    def vectors(self, database: Path | None) -> Vectors:
        """Return all vectors (n, d), in the order of the ids.

        It takes no connection, so that any thread can call it. If the index holds no exact vectors,
        they are read from the `database`. Raises QueryError for more vectors than memory can hold,
        with less memory for a published database, and DatabaseError if they have changed
        meanwhile.
        """
        if self.index.kind.is_exact:
            if not len(self.touched) and not len(self.lost):
                return self.index.vectors
            kept = np.delete(self.index.vectors, self._stale, axis=0)
            fresh = np.delete(self.fresh.vectors, self._stale_fresh, axis=0)
            return np.concatenate([kept, fresh])[np.argsort(self._unsorted_ids())]
        assert database is not None
        uri = f"{database.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True)) as connection:
            limit = CONFIG.max_duplicate_numbers
            if is_published(connection):
                limit = CONFIG.max_published_duplicate_numbers
            if self.count * self.model.dimension > limit:
                raise QueryError(
                    f"clip_duplicates compares all {self.count} pictures in memory, which has room "
                    f"for {limit // self.model.dimension} of this model here"
                )
            ids, vectors = read_vectors(connection, self.model)
        if len(self.lost):
            has_picture = ~np.isin(ids, self.lost)
            ids, vectors = ids[has_picture], vectors[has_picture]
        if not np.array_equal(ids, self.ids):
            raise DatabaseError("The vectors have changed meanwhile. Search again")
        return vectors

    def _vectors(self, connection: sqlite3.Connection, ids: Ids) -> tuple[Ids, Vectors]:
        if self.index.kind.is_exact and not len(self.touched):
            return ids, self.index.vectors[self.index.positions(ids)]
        return vectors_by_id(connection, self.model, ids)

    def crowd(self, connection: sqlite3.Connection) -> Crowd:
        """Return the crowd that hits are compared with; equal pictures give the same crowd."""
        if self._crowd is None:
            self._crowd = Crowd(*self.sample(connection, SIZE))
        return self._crowd

    def distribution(self, connection: sqlite3.Connection) -> tuple[Vectors, Vectors]:
        """Return the mean (d,) and the covariance (d, d), float32, of a sample of the vectors."""
        if self._distribution is None:
            _, vectors = self.sample(connection, DISTRIBUTION_SAMPLE)
            d = self.model.dimension
            mean, covariance = np.zeros(d, np.float32), np.zeros((d, d), np.float32)
            if len(vectors):
                mean = vectors.mean(axis=0)
                others = vectors - mean
                covariance = others.T @ others / np.float32(len(vectors))
            self._distribution = mean, covariance
        return self._distribution
