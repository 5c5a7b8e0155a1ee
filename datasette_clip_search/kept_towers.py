"""The towers that databases bring, loaded once per process."""

import logging
import sqlite3
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from .config import CONFIG
from .recent import Recent
from .schema import Model
from .terminal_text import visible
from .text_tower.stored import Kept, NoTower, TowerUnusable, key_of, read_manifest, read_tower
from .time_limit import turn

log = logging.getLogger(__name__)

T = TypeVar("T")


class KeptTowers(Generic[T]):
    """Towers of one kind, for all threads of a process."""

    def __init__(self, tower: str, load: Callable[[Kept], T]):
        """`tower` is TEXT or IMAGE; `load` makes one of what was kept, or raises TowerUnusable."""
        self._tower, self._load = tower, load
        self.loaded: Recent[str, T] = Recent(CONFIG.encoder_cache_entries)
        # Why towers can't be used, by their keys, so that none is read again for every query.
        self._unusable: Recent[str, str] = Recent(CONFIG.unusable_towers_remembered)
        self._loading = threading.Lock()

    def find(self, connection: sqlite3.Connection, model: Model) -> tuple[T | None, str]:
        """Returns a model's tower; where there is none to use, None and why one can't be used.

        One that is damaged is told of in the log, once.
        """
        manifest = read_manifest(connection, model, self._tower)
        if manifest is None:
            return None, ""
        key = key_of(manifest)
        tower = self.loaded.get(key)
        if tower is None:
            with turn(self._loading, connection):
                # Another thread may have loaded it while this one waited.
                tower = self.loaded.get(key) or self._read(connection, model, manifest, key)
        return tower, "" if tower else self._unusable.get(key) or ""

    def _read(
        self, connection: sqlite3.Connection, model: Model, manifest: str, key: str
    ) -> T | None:
        if self._unusable.get(key):
            return None
        try:
            tower = self._load(read_tower(connection, model, manifest, self._tower))
        except TowerUnusable as error:
            if not isinstance(error, NoTower):
                log.warning("%s", visible(f"{model.label}: {error}"))
            self._unusable.put(key, str(error))
            return None
        self.loaded.put(key, tower)
        return tower
