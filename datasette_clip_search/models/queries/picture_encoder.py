"""The encoder of pictures in queries: the image tower of a database, or its model in torch."""

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
    "Without torch, this instance searches by text and by its own pictures. To search by other "
    "pictures, add an image tower to the database where torch is installed: "
    "sqlite-utils embed-images with --with-image-search"
)

NOT_PUBLISHED = (
    "This instance searches by text and by its own pictures. Searching by others was not "
    "published: that takes sqlite-utils clip-publish with --with-image-search"
)

_towers: TowerCache[ImageTower] = TowerCache(IMAGE, ImageTower)


def picture_encoder_of(connection: sqlite3.Connection, model: Model) -> PictureEncoder:
    """Return the encoder of pictures for a database's model, one per process.

    A damaged tower is logged once, and torch is used where it is installed.

    Raises EncoderUnavailable where there is neither, and the errors of `torch_model_of`.
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
    """Return whether searches by pictures that are not embedded should work.

    This loads nothing.
    """
    if read_manifest(connection, model, IMAGE) is not None:
        return True
    # Where torch is installed, the weights of a published database are still elsewhere.
    return is_torch_installed() and not is_published(connection)
