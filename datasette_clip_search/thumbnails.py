"""Thumbnails as they are shown: out of the database, or made of the picture's file."""

import sqlite3
from typing import TYPE_CHECKING, NamedTuple

from .config import CONFIG
from .errors import PictureError
from .schema import THUMBNAILS, fetch, has_table, images_table, made_from_it, quote

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
    row = _read(connection, image_id, "t.data")
    return row and Thumbnail(CONTENT_TYPES[row[0]], row[1])


def has_thumbnail(connection: sqlite3.Connection, image_id: object) -> bool:
    """Tells whether read_thumbnail() returns one, without reading it."""
    return _read(connection, image_id, "1") is not None


def _read(connection: sqlite3.Connection, image_id: object, what: str) -> tuple[str, bytes] | None:
    images = images_table(connection)
    if images is None or not has_table(connection, THUMBNAILS):
        return None
    # The length of a blob is known before any of it is read.
    formats = ", ".join(f"'{name}'" for name in CONTENT_TYPES)
    same = made_from_it(connection, "t", "i", THUMBNAILS)
    sql = f"""select t.format, {what} from main.{THUMBNAILS} as t join main.{quote(images)} as i
        on i.id = t.image_id and {same} where t.image_id = ?
        and typeof(t.data) = 'blob' and length(t.data) <= {CONFIG.max_thumbnail_bytes}
        and t.format collate binary in ({formats})"""
    row: tuple[str, bytes] | None = fetch(connection, sql, image_id).fetchone()
    return row


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
