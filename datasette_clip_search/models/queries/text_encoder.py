"""The encoder of texts: the text tower of a database, or else its model in torch."""

import sqlite3

from ...common.errors import EncoderUnavailable
from ...database.model import Model
from ..encoding import TextEncoder
from ..open_clip_library import is_torch_installed
from ..towers.stored import TEXT, manifest_key, read_manifest
from ..towers.text import TextTower
from .torch_models import torch_model_of
from .tower_cache import TowerCache

NO_TOWER = (
    "Text queries need no torch if the database has a text tower, which embed-images makes where "
    "torch is installed"
)


_towers: TowerCache[TextTower] = TowerCache(TEXT, TextTower)


def text_key(connection: sqlite3.Connection, model: Model) -> str:
    """Return the key of the encoder of a model's texts, without loading it."""
    manifest = read_manifest(connection, model)
    return model.fingerprint if manifest is None else manifest_key(manifest)


def text_encoder_of(connection: sqlite3.Connection, model: Model) -> TextEncoder:
    """Return the encoder of texts for a database's model, one per process.

    A damaged tower is logged once, and torch is used where it is installed.

    Raises EncoderUnavailable where there is neither, and the errors of `torch_model_of`.
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
