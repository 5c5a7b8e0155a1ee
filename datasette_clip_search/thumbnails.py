"""Thumbnails as they are shown: out of the database, or made of the picture's file."""

import sqlite3
from typing import TYPE_CHECKING, NamedTuple

from .config import CONFIG
from .errors import PictureError
from .schema import THUMBNAILS, fetch

if TYPE_CHECKING:
    from PIL.Image import Image

# Anyone may have made the database: what is not one of these is not shown.
CONTENT_TYPES = {"webp": "image/webp", "jpeg": "image/jpeg", "png": "image/png"}


class Thumbnail(NamedTuple):
    """A small picture: its content type and the bytes of its file."""

    content_type: str
    data: bytes


def read_thumbnail(connection: sqlite3.Connection, image_id: int) -> Thumbnail | None:
    """Returns the thumbnail of a picture, or None where the database has none."""
    sql = f"""select format, case when length(data) <= ? then data end
        from main.{THUMBNAILS} where image_id = ?"""
    row = fetch(connection, sql, CONFIG.max_thumbnail_bytes, image_id).fetchone()
    if row is None or row[0] not in CONTENT_TYPES or not isinstance(row[1], bytes):
        return None
    return Thumbnail(CONTENT_TYPES[row[0]], row[1])


def make(image: "Image") -> Thumbnail:
    """Makes a thumbnail of an RGB picture."""
    from .pictures.thumbnail import THUMBNAIL_FORMAT, make_thumbnail

    return Thumbnail(CONTENT_TYPES[THUMBNAIL_FORMAT], make_thumbnail(image))


def make_from_file(path: str, data: bytes) -> Thumbnail | None:
    """Makes the thumbnail of a picture file that has been read, or returns None for no picture."""
    from .pictures.decode import decode, without_pillow_limit

    try:
        with without_pillow_limit():
            picture = decode(data, longest_side=CONFIG.thumbnail_size, name=path)
    except PictureError:
        return None
    return make(picture.image)
