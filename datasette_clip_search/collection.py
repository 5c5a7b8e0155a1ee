"""The vectors of one model in one database, loaded once per process and searched.

Most of them are in an index; those that were added, changed or deleted since that was made are
told by the database, and are scored beside it. So an answer is always that of the database as the
connection sees it.
"""

import logging
import os
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np

from .arrays import Chosen, Ids, Vectors
from .changes import Moment, changes_since, moment_of
from .config import CONFIG
from .crowd import Crowd
from .errors import DatabaseError, QueryError
from .index import Base, IndexUnusable, flat, index_path, open_index, read_facts
from .schema import Model, fetch, is_published
from .vectors import batches_by_id, read_vectors, vectors_by_id

log = logging.getLogger(__name__)


class Collection:
    """The embedded pictures of a database at one moment."""

    def __init__(
        self,
        model: Model,
        moment: Moment,
        base: Base,
        made: Moment | None = None,
        touched: Ids | None = None,
        fresh: Base | None = None,
    ):
        """Takes an index, and what has happened since it was `made`.

        Of `touched` pictures (n,) the index holds what they were before; what is left of them is in
        the exact index `fresh`.
        """
        self.model = model
        self.moment = moment
        self.base = base
        self.made = made or moment
        # The index file that was looked at, whether it is the one in use or not.
        self.seen: object = None
        none = np.empty(0, np.int64), np.empty((0, model.dimension), np.float32)
        self.touched = none[0] if touched is None else touched
        self.fresh = flat(*none) if fresh is None else fresh
        self._stale = base.positions(self.touched)
        self._crowd: Crowd | None = None
        self._distribution: tuple[Vectors, Vectors] | None = None

    @property
    def count(self) -> int:
        """How many pictures there are."""
        return len(self.base) - len(self._stale) + len(self.fresh)

    @property
    def is_outgrown(self) -> bool:
        """Whether an index of all of it, read again, would be worth the time."""
        lag = CONFIG.index_lag_from + CONFIG.index_lag * len(self.base)
        return not self.base.is_mapped and len(self.touched) > lag

    def before(self) -> "Collection":
        """Returns the collection as it was when its index was made."""
        return Collection(self.model, self.made, self.base)

    def nearest(
        self,
        connection: sqlite3.Connection,
        vector: Vectors,
        k: int,
        within: Iterable[int] | None = None,
    ) -> tuple[Ids, Vectors]:
        """Returns ids and cosines of the k nearest pictures to a (d,) unit vector, best first.

        With `within`, ids of pictures, they are the nearest of these.
        """
        wanted = None if within is None else np.unique(np.fromiter(within, np.int64))
        found = [
            self._nearest(connection, self.base, self._stale, vector, k, wanted),
            self._nearest(connection, self.fresh, self._stale[:0], vector, k, wanted),
        ]
        ids, scores = (np.concatenate(column) for column in zip(*found, strict=True))
        # Equal scores come in the order of their ids, so that an answer never depends on the
        # order in which pictures were embedded.
        order = np.lexsort((ids, -scores))[: max(k, 0)]
        return ids[order], scores[order]

    def _nearest(
        self,
        connection: sqlite3.Connection,
        base: Base,
        stale: Ids,
        vector: Vectors,
        k: int,
        wanted: Ids | None,
    ) -> tuple[Ids, Vectors]:
        """Returns the k nearest of an index, without those at the `stale` positions."""
        chosen: Chosen | None = None
        available = len(base) - len(stale)
        if wanted is not None:
            chosen = np.zeros(len(base), bool)
            chosen[base.positions(wanted)] = True
        elif len(stale):
            chosen = np.ones(len(base), bool)
        if chosen is not None:
            chosen[stale] = False
            available = int(np.count_nonzero(chosen))
        k = min(k, available)
        if k < 1:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        if base.kind.is_exact:
            return base.exact(vector, k, chosen)
        if chosen is not None and wanted is not None and available <= CONFIG.fetched_within:
            return self._ranked(connection, vector, base.ids[chosen], k)
        # Some pictures, by whatever they were chosen, may lie in any list.
        harder = 1 if wanted is None else base.lists
        while True:
            candidates, is_all = base.candidates(vector, k, chosen, harder)
            ids, scores = self._ranked(connection, vector, candidates, k)
            if len(ids) == k or is_all:
                return ids, scores
            harder *= 4

    def _ranked(
        self, connection: sqlite3.Connection, vector: Vectors, ids: Ids, k: int
    ) -> tuple[Ids, Vectors]:
        """Returns the k nearest of some pictures by their vectors in the database."""
        # In parts: a k that anyone may ask for would fill the memory with vectors.
        parts = [(ids[:0], np.empty(0, np.float32))]
        for some, vectors in batches_by_id(connection, self.model, ids):
            parts.append((some, np.einsum("nd,d->n", vectors, vector)))
        ids, scores = (np.concatenate(column) for column in zip(*parts, strict=True))
        if len(scores) > k:
            best = np.argpartition(-scores, k - 1)[:k]
            # Of those that are as good as the last one, the lowest ids.
            last = scores[best].min()
            better, equal = np.flatnonzero(scores > last), np.flatnonzero(scores == last)
            best = np.concatenate([better, equal[: k - len(better)]])
            ids, scores = ids[best], scores[best]
        return ids, scores

    def sample(self, connection: sqlite3.Connection, count: int) -> tuple[Ids, Vectors]:
        """Returns at most `count` ids (n,) and vectors (n, d), evenly spread in the ids' order.

        They are the same for the same pictures, whatever the index.
        """
        every = self.ids
        places = np.linspace(0, len(every) - 1, min(count, len(every))).astype(np.int64)
        return self._vectors(connection, every[places])

    @property
    def ids(self) -> Ids:
        """The ids (n,) of all pictures, ascending."""
        if not len(self.touched):
            return self.base.ids
        return np.sort(np.concatenate([np.delete(self.base.ids, self._stale), self.fresh.ids]))

    def vectors(self, database: Path | None) -> Vectors:
        """Returns all vectors (n, d), in the order of the ids.

        Without a connection, so that a thread of its own can use it: where the index holds no exact
        vectors they are read from the `database`. Raises QueryError for so many that they would
        fill the memory, of which a published database allows less, and DatabaseError where they
        have changed meanwhile.
        """
        if self.base.kind.is_exact:
            if not len(self.touched):
                return self.base.vectors
            ids = np.concatenate([np.delete(self.base.ids, self._stale), self.fresh.ids])
            kept = np.delete(self.base.vectors, self._stale, axis=0)
            return np.concatenate([kept, self.fresh.vectors])[np.argsort(ids)]
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
        if not np.array_equal(ids, self.ids):
            raise DatabaseError("The vectors have changed meanwhile. Search again")
        return vectors

    def _vectors(self, connection: sqlite3.Connection, ids: Ids) -> tuple[Ids, Vectors]:
        if self.base.kind.is_exact and not len(self.touched):
            return ids, self.base.vectors[self.base.positions(ids)]
        return vectors_by_id(connection, self.model, ids)

    def crowd(self, connection: sqlite3.Connection) -> Crowd:
        """Returns what hits stand above; the same pictures always make the same one."""
        if self._crowd is None:
            self._crowd = Crowd(*self.sample(connection, CONFIG.crowd_size))
        return self._crowd

    def distribution(self, connection: sqlite3.Connection) -> tuple[Vectors, Vectors]:
        """Returns the mean (d,) and the covariance (d, d), float32, of a sample of the vectors."""
        if self._distribution is None:
            _, vectors = self.sample(connection, CONFIG.distribution_sample)
            d = self.model.dimension
            mean, covariance = np.zeros(d, np.float32), np.zeros((d, d), np.float32)
            if len(vectors):
                mean = vectors.mean(axis=0)
                others = vectors - mean
                covariance = others.T @ others / np.float32(len(vectors))
            self._distribution = mean, covariance
        return self._distribution


def database_path(connection: sqlite3.Connection) -> Path | None:
    """Returns the file of a connection's own database, or None for one in memory."""
    for _, name, path in fetch(connection, "pragma database_list"):
        if name == "main":
            return Path(path) if path else None
    return None


_collections: OrderedDict[tuple[str, int], Collection] = OrderedDict()
_loading = threading.Lock()
# What was told of index files, each once; and those files that are no good to anyone.
_told: set[tuple[object, str]] = set()
_damaged: set[object] = set()


def collection_for(connection: sqlite3.Connection, model: Model) -> Collection:
    """Returns the collection as the connection sees it now, shared by all of a process."""
    path = database_path(connection)
    file = index_path(path, model.id) if path else None
    key = (str(path), model.id)
    known = _collections.get(key)
    if known and known.moment.revision == model.revision and known.seen == _signature(file):
        return known
    with _loading:
        known = _collections.get(key)
        seen = _signature(file)
        current = next(
            later
            for start in _starts(connection, model, file, known)
            if (later := advanced(connection, model, start))
        )
        current.seen = seen
        # A connection that looks at an older state leaves the newest one to the others.
        if not known or known.base is not current.base or known.moment.seq < current.moment.seq:
            _collections[key] = current
        _collections.move_to_end(key)
        if len(_collections) > CONFIG.collection_cache_entries:
            _collections.popitem(last=False)
        return current


def _starts(
    connection: sqlite3.Connection, model: Model, file: Path | None, known: Collection | None
) -> Iterator[Collection]:
    """Yields what may be brought up to date, from the least work on."""
    if known and known.model.fingerprint == model.fingerprint:
        if known.seen != _signature(file) and (mapped := _from_file(connection, model, file)):
            yield mapped
        if not known.is_outgrown:
            yield known
            # For a connection that looks at an older state than `known` is of.
            yield known.before()
    if mapped := _from_file(connection, model, file):
        yield mapped
    # Before the vectors: what changes meanwhile is then read again.
    moment = moment_of(connection, model)
    yield Collection(model, moment, flat(*read_vectors(connection, model)))
    # Only where the history is being deleted at the same time.
    raise DatabaseError("The vectors change faster than they can be read. Search again")


def advanced(connection: sqlite3.Connection, model: Model, start: Collection) -> Collection | None:
    """Returns a collection with all that has happened since, or None where that isn't known."""
    changes = changes_since(connection, model, start.moment)
    if changes is None:
        return None
    moment, touched = changes
    if moment == start.moment:
        return start
    ids, vectors = vectors_by_id(connection, model, touched)
    kept = ~np.isin(start.fresh.ids, touched)
    ids = np.concatenate([start.fresh.ids[kept], ids])
    vectors = np.concatenate([start.fresh.vectors[kept], vectors])
    order = np.argsort(ids)
    return Collection(
        model,
        moment,
        start.base,
        start.made,
        np.union1d(start.touched, touched),
        flat(ids[order], vectors[order]),
    )


def _signature(file: Path | None) -> object:
    """Returns what tells one index file from another one in its place; None where there is none."""
    try:
        stat = os.stat(file) if file else None
    except OSError:
        return None
    return stat and (str(file), stat.st_ino, stat.st_size, stat.st_mtime_ns)


def _from_file(
    connection: sqlite3.Connection, model: Model, file: Path | None
) -> Collection | None:
    """Maps the index file of a model; None, and a warning, where it won't do."""
    seen = _signature(file)
    if file is None or seen is None or seen in _damaged:
        return None
    try:
        moment = read_facts(file).moment
        if changes_since(connection, model, moment) is None:
            if connection.in_transaction and moment.seq > moment_of(connection, model).seq:
                # It looks at a state of the database from before the index was built.
                return None
            raise IndexUnusable("it was built from other vectors than the database holds now")
        base, facts = open_index(file, model.fingerprint, model.dimension)
        # Another one may have been put there meanwhile; `advanced` looks at what it says.
        return Collection(model, facts.moment, base)
    except IndexUnusable as error:
        if error.is_damaged:
            _damaged.add(seen)
        if (seen, str(error)) not in _told:
            _told.add((seen, str(error)))
            log.warning("Not using the index %s: %s. Searching exactly", file.name, error)
        return None
