"""What turns pictures into vectors: the tower that a database brings, else torch."""

import sqlite3

from ...common.errors import EncoderUnavailable
from ...database.model import Model
from ...database.publication import is_published
from ..encoding import PictureEncoder
from ..open_clip_library import is_torch_installed
from ..towers.image import ImageTower
from ..towers.stored import IMAGE, read_manifest
from .torch_models import torch_model_of
from .tower_cache import TowerCache

NO_TOWER = (
    "Without torch, this instance searches by text and by its own pictures. For searches by other "
    "pictures, have the database bring an image tower, where torch is installed: "
    "sqlite-utils embed-images with --with-image-search"
)

NOT_PUBLISHED = (
    "This instance searches by text and by its own pictures. Searching with others was not "
    "published: it takes sqlite-utils clip-publish with --with-image-search"
)

_towers: TowerCache[ImageTower] = TowerCache(IMAGE, ImageTower)


def picture_encoder_of(connection: sqlite3.Connection, model: Model) -> PictureEncoder:
    """Returns what encodes pictures for a model of a database, one per process.

    A tower that is damaged is told of in the log, once, and torch is used where it is installed.

    Raises EncoderUnavailable where there is neither, and as `torch_model_of` does.
    """
    tower, reason = _towers.find(connection, model)
    if tower:
        return tower
    try:
        return torch_model_of(connection, model)
    except EncoderUnavailable as error:
        if is_published(connection) and not reason:
            raise EncoderUnavailable(NOT_PUBLISHED) from error
        if reason and not is_torch_installed():
            raise EncoderUnavailable(reason) from error
        advice = reason or ("" if is_torch_installed() else NO_TOWER)
        raise EncoderUnavailable(f"{error}. {advice}" if advice else str(error)) from error


def takes_pictures(connection: sqlite3.Connection, model: Model) -> bool:
    """Tells whether searches by other pictures than those embedded work, if all is well.

    Loads nothing.
    """
    if read_manifest(connection, model, IMAGE) is not None:
        return True
    # Torch may be here, but the weights of what was published are elsewhere.
    return is_torch_installed() and not is_published(connection)
