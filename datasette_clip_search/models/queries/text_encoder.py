"""What turns texts into vectors: the tower that a database brings, else torch."""

import sqlite3

from ...common.errors import EncoderUnavailable
from ...database.model import Model
from ..encoding import TextEncoder
from ..open_clip_library import is_torch_installed
from ..towers.stored import TEXT, key_of, read_manifest
from ..towers.text import TextTower
from .torch_models import torch_model_of
from .tower_cache import TowerCache

NO_TOWER = (
    "Text queries need no torch where the database brings a text tower, which embed-images makes "
    "where torch is installed"
)


_towers: TowerCache[TextTower] = TowerCache(TEXT, TextTower)


def text_key(connection: sqlite3.Connection, model: Model) -> str:
    """Returns the key of what encodes a model's texts, without loading it."""
    manifest = read_manifest(connection, model)
    return model.fingerprint if manifest is None else key_of(manifest)


def text_encoder_of(connection: sqlite3.Connection, model: Model) -> TextEncoder:
    """Returns what encodes texts for a model of a database, one per process.

    A tower that is damaged is told of in the log, once, and torch is used where it is installed.

    Raises EncoderUnavailable where there is neither, and as `torch_model_of` does.
    """
    tower, reason = _towers.find(connection, model)
    if tower:
        return tower
    try:
        return torch_model_of(connection, model)
    except EncoderUnavailable as error:
        if reason and not is_torch_installed():
            raise EncoderUnavailable(reason) from error
        raise EncoderUnavailable(f"{error}. {reason or NO_TOWER}") from error
