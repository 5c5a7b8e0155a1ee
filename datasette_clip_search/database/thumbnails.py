"""The thumbnails in the database."""

import sqlite3
from typing import NamedTuple

from ..common.config import CONFIG
from .connection import fetch, has_table, quote
from .recognition import images_table
from .schema import THUMBNAILS, made_from_it

# Anyone may have made the database, so no other type is shown.
CONTENT_TYPES = {"webp": "image/webp", "jpeg": "image/jpeg", "png": "image/png"}


class Thumbnail(NamedTuple):
    """A small picture: its content type and the bytes of its file."""

    content_type: str
    data: bytes


def read_thumbnail(connection: sqlite3.Connection, image_id: int) -> Thumbnail | None:
    """Return the thumbnail of a picture, or None where the database has none."""
    row = _read(connection, image_id, "t.data")
    return row and Thumbnail(CONTENT_TYPES[row[0]], row[1])


def has_thumbnail(connection: sqlite3.Connection, image_id: object) -> bool:
    """Tell whether read_thumbnail() returns one, without reading it."""
    return _read(connection, image_id, "1") is not None


def _read(connection: sqlite3.Connection, image_id: object, what: str) -> tuple[str, bytes] | None:
    images = images_table(connection)
    if images is None or not has_table(connection, THUMBNAILS):
        return None
    # SQLite knows the length of a blob before it reads any of it.
    formats = ", ".join(f"'{name}'" for name in CONTENT_TYPES)
    same = made_from_it("t", "i")
    sql = f"""select t.format, {what} from main.{THUMBNAILS} as t join main.{quote(images)} as i
        on i.id = t.image_id and {same} where t.image_id = ?
        and typeof(t.data) = 'blob' and length(t.data) <= {CONFIG.max_thumbnail_bytes}
        and t.format collate binary in ({formats})"""
    row: tuple[str, bytes] | None = fetch(connection, sql, image_id).fetchone()
    return row
