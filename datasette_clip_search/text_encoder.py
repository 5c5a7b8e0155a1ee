"""What turns texts into vectors: the tower that a database brings, else torch."""

import logging
import sqlite3
import threading
from collections.abc import Sequence
from typing import Protocol

from .config import CONFIG
from .encoder import Vectors
from .errors import EncoderUnavailable
from .query_encoder import encoder_of
from .recent import Recent
from .schema import Model
from .text_tower.stored import NoTower, TowerUnusable, key_of, read_manifest, read_tower
from .text_tower.tower import TextTower

NO_TOWER = (
    "Text queries need no torch where the database brings a text tower, which embed-images makes "
    "where torch is installed"
)

log = logging.getLogger(__name__)


class TextEncoder(Protocol):
    """A text tower, of whichever kind; threads may share it."""

    @property
    def key(self) -> str:
        """What tells its vectors from any other encoder's."""

    @property
    def logit_scale(self) -> float:
        """What the model learned to multiply cosines with, before a softmax or a sigmoid."""

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """Returns the unit vectors, (n, dimension) float32, of n texts."""


_towers: Recent[str, TextTower] = Recent(CONFIG.encoder_cache_entries)
# Why towers can't be used, by their keys, so that none is read again for every query.
_unusable: Recent[str, str] = Recent(CONFIG.unusable_towers_remembered)
_loading = threading.Lock()


def text_key(connection: sqlite3.Connection, model: Model) -> str:
    """Returns the key of what encodes a model's texts, without loading it."""
    manifest = read_manifest(connection, model)
    return model.fingerprint if manifest is None else key_of(manifest)


def text_encoder_of(connection: sqlite3.Connection, model: Model) -> TextEncoder:
    """Returns what encodes texts for a model of a database, one per process.

    A tower that is damaged is told of in the log, once, and torch is used where it is installed.

    Raises EncoderUnavailable where there is neither, and as `encoder_of` does.
    """
    manifest = read_manifest(connection, model)
    if manifest is None:
        reason = NO_TOWER
    else:
        key = key_of(manifest)
        tower = _towers.get(key)
        if tower is None:
            with _loading:
                # Another thread may have loaded it while this one waited.
                tower = _towers.get(key) or _load(connection, model, manifest, key)
        if tower:
            return tower
        reason = _unusable.get(key) or ""
    try:
        return encoder_of(connection, model)
    except EncoderUnavailable as error:
        raise EncoderUnavailable(f"{error}. {reason}") from error


def _load(
    connection: sqlite3.Connection, model: Model, manifest: str, key: str
) -> TextTower | None:
    if _unusable.get(key):
        return None
    try:
        tower = TextTower(read_tower(connection, model, manifest))
    except TowerUnusable as error:
        if not isinstance(error, NoTower):
            log.warning("%s: %s", model.label, error)
        _unusable.put(key, str(error))
        return None
    _towers.put(key, tower)
    return tower
