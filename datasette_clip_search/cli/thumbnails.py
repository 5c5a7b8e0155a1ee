"""Thumbnails of picture files, for results whose thumbnails the database does not hold."""

from typing import TYPE_CHECKING

from ..common.config import CONFIG
from ..common.errors import PictureError
from ..database.thumbnails import CONTENT_TYPES, Thumbnail

if TYPE_CHECKING:
    from PIL.Image import Image


def create_thumbnail(image: "Image") -> Thumbnail:
    """Makes a thumbnail of an RGB picture."""
    from ..pictures.thumbnail import THUMBNAIL_FORMAT, make_thumbnail

    return Thumbnail(CONTENT_TYPES[THUMBNAIL_FORMAT], make_thumbnail(image))


def create_thumbnail_of_file(path: str, data: bytes) -> Thumbnail | None:
    """Makes the thumbnail of a picture file that has been read, or returns None for no picture."""
    from ..pictures.decode import decode_picture, without_pillow_limit

    try:
        with without_pillow_limit():
            picture = decode_picture(data, longest_side=CONFIG.thumbnail_size, name=path)
    except PictureError:
        return None
    return create_thumbnail(picture.image)
