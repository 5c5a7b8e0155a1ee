"""The vectors of one model in one database, loaded once per process and searched."""

import logging
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import numpy as np

from . import index as indexes
from .config import CONFIG
from .crowd import crowd_of
from .errors import DatabaseError
from .index import Ids, Index, IndexUnusable, Origin, Vectors
from .schema import EMBEDDINGS, Model, fetch

log = logging.getLogger(__name__)


class Collection:
    """An index over the embedded pictures of a database, and the crowd that hits stand above."""

    def __init__(self, index: Index):
        """Takes an index whose ids ascend."""
        self.index = index
        self.ids = indexes.ids_of(index)
        self.crowd = crowd_of(index)

    def nearest(
        self, vector: Vectors, k: int, within: Iterable[int] | None = None
    ) -> tuple[Ids, Vectors]:
        """Returns ids and cosines of the k nearest pictures to a (d,) unit vector, best first.

        With `within`, ids of pictures, they are the nearest of these.
        """
        positions = None if within is None else self._positions(within)
        k = min(k, len(self.ids) if positions is None else len(positions))
        if k < 1:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        scores, found = indexes.search(self.index, vector, k, positions)
        ids = self.ids[found]
        # Equal scores come in the order of their ids, so that an answer never depends on the
        # order in which pictures were embedded.
        order = np.lexsort((ids, -scores))
        return ids[order], scores[order]

    @cached_property
    def distribution(self) -> tuple[Vectors, Vectors]:
        """The mean (d,) and the covariance (d, d), float32, of the vectors: of a sample of many."""
        _, vectors = indexes.sample(self.index, CONFIG.distribution_sample)
        if not len(vectors):
            d = self.index.d
            return np.zeros(d, np.float32), np.zeros((d, d), np.float32)
        mean = vectors.mean(axis=0)
        vectors -= mean
        return mean, vectors.T @ vectors / np.float32(len(vectors))

    def _positions(self, within: Iterable[int]) -> Ids:
        wanted = np.unique(np.array(list(within), np.int64))
        positions = np.searchsorted(self.ids, wanted)
        is_there = positions < len(self.ids)
        is_there[is_there] = self.ids[positions[is_there]] == wanted[is_there]
        return positions[is_there]


def database_path(connection: sqlite3.Connection) -> Path | None:
    """Returns the file of a connection's own database, or None for one in memory."""
    for _, name, path in fetch(connection, "pragma database_list"):
        if name == "main":
            return Path(path) if path else None
    return None


def count_vectors(connection: sqlite3.Connection, model: Model) -> int:
    """Returns how many pictures the model has embedded."""
    sql = f"select count(*) from main.{EMBEDDINGS} where model_id = ?"
    return int(fetch(connection, sql, model.id).fetchone()[0])


def read_vectors(connection: sqlite3.Connection, model: Model) -> tuple[Ids, Vectors]:
    """Reads ids (n,) int64 and vectors (n, d) float32 of a model, in the order of the ids.

    Raises DatabaseError for a stored vector of another length, or one that is not finite.
    """
    sql = f"select image_id, embedding from main.{EMBEDDINGS} where model_id = ? order by image_id"
    # Begun before counting, so that both see the same state of the database.
    rows = fetch(connection, sql, model.id)
    count = count_vectors(connection, model)
    ids = np.empty(count, np.int64)
    vectors = np.empty((count, model.dimension), np.float32)
    for row, (image_id, blob) in enumerate(rows):
        if not isinstance(blob, bytes) or len(blob) != 4 * model.dimension:
            raise DatabaseError(
                f"The embedding of picture {image_id} is not {4 * model.dimension} bytes long. "
                "Delete that row and run sqlite-utils embed-images again"
            )
        ids[row] = image_id
        vectors[row] = np.frombuffer(blob, "<f4")
    if not np.isfinite(vectors).all():
        bad = ids[~np.isfinite(vectors).all(axis=1)][0]
        raise DatabaseError(
            f"The embedding of picture {bad} holds a number that is not finite. "
            "Delete that row and run sqlite-utils embed-images again"
        )
    return ids, vectors


def origin_of(connection: sqlite3.Connection, model: Model) -> Origin:
    """Returns what an index of the model's vectors, built now, would say of itself."""
    count = count_vectors(connection, model)
    return Origin(model.fingerprint, model.revision, model.dimension, count)


def load(connection: sqlite3.Connection, model: Model) -> Collection:
    """Loads a collection from its index file, or from the database where the file won't do."""
    path = database_path(connection)
    if path is not None:
        file = indexes.index_path(path, model.id)
        try:
            return Collection(indexes.read(file, origin_of(connection, model)))
        except IndexUnusable as error:
            if file.exists():
                log.warning("Not using the index %s: %s. Searching exactly", file.name, error)
    return Collection(indexes.build(*read_vectors(connection, model)))


_collections: OrderedDict[tuple[str, int, int], Collection] = OrderedDict()
_loading = threading.Lock()


def collection_for(connection: sqlite3.Connection, model: Model) -> Collection:
    """Returns the collection as the connection sees it now, shared by all of a process."""
    key = (str(database_path(connection)), model.id, model.revision)
    with _loading:
        collection = _collections.get(key)
        if collection is None:
            collection = load(connection, model)
            # Vectors of an older revision will not be asked for again.
            for other in [other for other in _collections if other[:2] == key[:2]]:
                del _collections[other]
            _collections[key] = collection
            if len(_collections) > CONFIG.collection_cache_entries:
                _collections.popitem(last=False)
        _collections.move_to_end(key)
        return collection
