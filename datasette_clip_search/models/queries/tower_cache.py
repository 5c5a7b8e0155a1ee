"""The towers that databases bring, loaded once per process and shared by what is in them."""

import logging
import sqlite3
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from ...common.config import CONFIG
from ...common.interrupts import heed_time_limit
from ...common.shared_loading import SharedLoading
from ...common.stopping import Stopping
from ...common.terminal_text import visible
from ...database.connection import database_path
from ...database.model import Model
from ..towers.stored import (
    NoTower,
    StoredTower,
    TowerUnusable,
    damaged,
    key_of,
    read_manifest,
    read_tower,
)

log = logging.getLogger(__name__)


class Tower(Protocol):
    """A tower that was loaded, of vectors of this length."""

    @property
    def dimension(self) -> int: ...


T = TypeVar("T", bound=Tower)
U = TypeVar("U")


class TowerCache(Generic[T]):
    """Towers of one kind, for all threads of a process."""

    def __init__(self, tower: str, load: Callable[[StoredTower, Stopping], T]):
        """`tower` is TEXT or IMAGE; `load` makes one of what was kept, or raises TowerUnusable."""
        self._tower, self._load = tower, load
        self._loading: SharedLoading[T] = SharedLoading(self._too_slow, TowerUnusable)

    def find(self, connection: sqlite3.Connection, model: Model) -> tuple[T | None, str]:
        """Returns a model's tower; where there is none to use, None and why one can't be used.

        A tower that is loaded is one for all databases whose manifests are the same, and thereby
        the digests of all the rest: each was compared with what it was loaded from. What can't be
        used is remembered for the database alone that it was read from, and logged once.

        Raises sqlite3.OperationalError "interrupted" when the statement of `connection` is to end.
        """
        manifest = read_manifest(connection, model, self._tower)
        if manifest is None:
            return None, ""
        key = key_of(manifest)
        tower = self._loading.get(key)
        if tower is None:
            try:
                tower = self._loading.load(
                    _owner(connection),
                    key,
                    lambda: self._told(model, lambda: self._read(connection, model, manifest)),
                    lambda kept, stopping: self._told(model, lambda: self._load(kept, stopping)),
                    lambda: heed_time_limit(connection),
                )
            except TowerUnusable as error:
                return None, str(error)
        if tower.dimension != model.dimension:
            return None, str(damaged(self._tower, "makes vectors of another length"))
        return tower, ""

    def _read(self, connection: sqlite3.Connection, model: Model, manifest: str) -> StoredTower:
        return read_tower(connection, model, manifest, self._tower)

    def _told(self, model: Model, function: Callable[[], U]) -> U:
        """Calls a function, and logs why a tower is damaged."""
        try:
            return function()
        except TowerUnusable as error:
            if not isinstance(error, NoTower):
                log.warning("%s", visible(f"{model.label}: {error}"))
            raise

    def _too_slow(self) -> TowerUnusable:
        return damaged(self._tower, f"takes more than {CONFIG.tower_load_seconds:g} s to load")


def _owner(connection: sqlite3.Connection) -> str:
    """Returns what tells a database from another one of the process."""
    return str(database_path(connection) or f"in memory {id(connection)}")
