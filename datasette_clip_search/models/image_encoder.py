"""What turns pictures into vectors: the tower that a database brings, else torch."""

import sqlite3
from typing import Protocol

from ..common.arrays import Pixels, Vectors
from ..common.errors import EncoderUnavailable
from ..database.schema import Model, is_published
from ..pictures.preprocess import Preprocess
from .query_torch import encoder_of, is_torch_here
from .torch_model import Heed
from .tower_cache import KeptTowers
from .towers.image import ImageTower
from .towers.stored import IMAGE, read_manifest

NO_TOWER = (
    "Without torch, this instance searches by text and by its own pictures. For searches by other "
    "pictures, have the database bring an image tower, where torch is installed: "
    "sqlite-utils embed-images with --with-image-search"
)

NOT_PUBLISHED = (
    "This instance searches by text and by its own pictures. Searching with others was not "
    "published: it takes sqlite-utils clip-publish with --with-image-search"
)

_towers: KeptTowers[ImageTower] = KeptTowers(IMAGE, ImageTower)


class ImageEncoder(Protocol):
    """An image tower, of whichever kind; threads may share it."""

    @property
    def preprocess(self) -> Preprocess:
        """What it sees of a picture."""

    def encode_pixels(self, pixels: Pixels, heed: Heed | None = None) -> Vectors:
        """Returns the unit vectors, (n, dimension) float32, of (n, height, width, 3) uint8.

        `heed` may be called while that takes long, and may raise to end it.
        """


def image_encoder_of(connection: sqlite3.Connection, model: Model) -> ImageEncoder:
    """Returns what encodes pictures for a model of a database, one per process.

    A tower that is damaged is told of in the log, once, and torch is used where it is installed.

    Raises EncoderUnavailable where there is neither, and as `encoder_of` does.
    """
    tower, reason = _towers.find(connection, model)
    if tower:
        return tower
    try:
        return encoder_of(connection, model)
    except EncoderUnavailable as error:
        if is_published(connection) and not reason:
            raise EncoderUnavailable(NOT_PUBLISHED) from error
        if reason and not is_torch_here():
            raise EncoderUnavailable(reason) from error
        advice = reason or ("" if is_torch_here() else NO_TOWER)
        raise EncoderUnavailable(f"{error}. {advice}" if advice else str(error)) from error


def takes_pictures(connection: sqlite3.Connection, model: Model) -> bool:
    """Tells whether searches by other pictures than those embedded work, if all is well.

    Loads nothing.
    """
    if read_manifest(connection, model, IMAGE) is not None:
        return True
    # Torch may be here, but the weights of what was published are elsewhere.
    return is_torch_here() and not is_published(connection)
