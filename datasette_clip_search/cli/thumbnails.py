"""Thumbnails of picture files, for results without a thumbnail in the database."""

from typing import TYPE_CHECKING

from ..common.config import CONFIG
from ..common.errors import PictureError
from ..database.thumbnails import CONTENT_TYPES, Thumbnail

if TYPE_CHECKING:
    from PIL.Image import Image


def create_thumbnail(image: "Image") -> Thumbnail:
    """Return a thumbnail of an RGB picture."""
    from ..pictures.thumbnail import THUMBNAIL_FORMAT, make_thumbnail

    return Thumbnail(CONTENT_TYPES[THUMBNAIL_FORMAT], make_thumbnail(image))


def create_thumbnail_of_file(path: str, data: bytes) -> Thumbnail | None:
    """Return a thumbnail of the bytes of a file, or None if they are not a picture."""
    from ..pictures.decode import decode_picture, without_pillow_limit

    try:
        with without_pillow_limit():
            picture = decode_picture(data, longest_side=CONFIG.thumbnail_size, name=path)
    except PictureError:
        return None
    return create_thumbnail(picture.image)
