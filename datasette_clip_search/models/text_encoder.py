"""What turns texts into vectors: the tower that a database brings, else torch."""

import sqlite3
from collections.abc import Sequence
from typing import Protocol

from ..common.arrays import Vectors
from ..common.errors import EncoderUnavailable
from ..database.schema import Model
from .query_torch import encoder_of, is_torch_here
from .torch_model import Heed
from .tower_cache import KeptTowers
from .towers.stored import TEXT, key_of, read_manifest
from .towers.text import TextTower

NO_TOWER = (
    "Text queries need no torch where the database brings a text tower, which embed-images makes "
    "where torch is installed"
)


class TextEncoder(Protocol):
    """A text tower, of whichever kind; threads may share it."""

    @property
    def key(self) -> str:
        """What tells its vectors from any other encoder's."""

    @property
    def logit_scale(self) -> float:
        """What the model learned to multiply cosines with, before a softmax or a sigmoid."""

    def encode_texts(self, texts: Sequence[str], heed: Heed | None = None) -> Vectors:
        """Returns the unit vectors, (n, dimension) float32, of n texts.

        `heed` may be called while that takes long, and may raise to end it.
        """


_towers: KeptTowers[TextTower] = KeptTowers(TEXT, TextTower)


def text_key(connection: sqlite3.Connection, model: Model) -> str:
    """Returns the key of what encodes a model's texts, without loading it."""
    manifest = read_manifest(connection, model)
    return model.fingerprint if manifest is None else key_of(manifest)


def text_encoder_of(connection: sqlite3.Connection, model: Model) -> TextEncoder:
    """Returns what encodes texts for a model of a database, one per process.

    A tower that is damaged is told of in the log, once, and torch is used where it is installed.

    Raises EncoderUnavailable where there is neither, and as `encoder_of` does.
    """
    tower, reason = _towers.find(connection, model)
    if tower:
        return tower
    try:
        return encoder_of(connection, model)
    except EncoderUnavailable as error:
        if reason and not is_torch_here():
            raise EncoderUnavailable(reason) from error
        raise EncoderUnavailable(f"{error}. {reason or NO_TOWER}") from error
