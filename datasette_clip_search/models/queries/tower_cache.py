"""The towers of databases, loaded once per process and shared by databases with the same one."""

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
    damaged_error,
    manifest_key,
    read_manifest,
    read_tower,
)

log = logging.getLogger(__name__)


class LoadedTower(Protocol):
    """A loaded tower, with the length of its vectors."""

    @property
    def dimension(self) -> int: ...


T = TypeVar("T", bound=LoadedTower)
U = TypeVar("U")


class TowerCache(Generic[T]):
    """The towers of one kind that a process has loaded, for all of its threads."""

    def __init__(self, tower: str, load: Callable[[StoredTower, Stopping], T]):
        """Take the kind, TEXT or IMAGE, and a function that loads one or raises TowerUnusable."""
        self._tower, self._load = tower, load
        self._loading: SharedLoading[T] = SharedLoading(self._too_slow, TowerUnusable)

    def find(self, connection: sqlite3.Connection, model: Model) -> tuple[T | None, str]:
        """Return a model's tower, or None and why it can't be used ("" where there is none).

        All databases with the same manifest share a loaded tower: the manifest holds the digest of
        the rest, which was checked when the tower was loaded. A failure is remembered only for the
        database that the tower was read from, and logged once.

        Raises sqlite3.OperationalError "interrupted" when the statement of `connection` has to end.
        """
        manifest = read_manifest(connection, model, self._tower)
        if manifest is None:
            return None, ""
        key = manifest_key(manifest)
        tower = self._loading.get(key)
        if tower is None:
            try:
                tower = self._loading.load(
                    _owner(connection),
                    key,
                    lambda: self._logged(model, lambda: self._read(connection, model, manifest)),
                    lambda kept, stopping: self._logged(model, lambda: self._load(kept, stopping)),
                    lambda: heed_time_limit(connection),
                )
            except TowerUnusable as error:
                return None, str(error)
        if tower.dimension != model.dimension:
            return None, str(damaged_error(self._tower, "makes vectors of another length"))
        return tower, ""

    def _read(self, connection: sqlite3.Connection, model: Model, manifest: str) -> StoredTower:
        return read_tower(connection, model, manifest, self._tower)

    def _logged(self, model: Model, function: Callable[[], U]) -> U:
        """Call a function, and log why a tower is damaged."""
        try:
            return function()
        except TowerUnusable as error:
            if not isinstance(error, NoTower):
                log.warning("%s", visible(f"{model.label}: {error}"))
            raise

    def _too_slow(self) -> TowerUnusable:
        return damaged_error(
            self._tower, f"takes more than {CONFIG.tower_load_seconds:g} s to load"
        )


def _owner(connection: sqlite3.Connection) -> str:
    """Return an identifier of a database that is unique in the process."""
    return str(database_path(connection) or f"in memory {id(connection)}")
