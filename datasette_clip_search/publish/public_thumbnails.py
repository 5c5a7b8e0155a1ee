"""Thumbnails as they are published: nothing but a picture in them, and smaller where asked for."""

import io
import re
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from ..common.config import CONFIG
from ..common.cores import cores
from ..database.connection import fetch
from ..database.schema import THUMBNAILS
from ..database.thumbnails import CONTENT_TYPES
from .options import PublishProgress

_AT_ONCE = 256
_FORMATS = [name.upper() for name in CONTENT_TYPES]

# Segments of a JPEG that decoding takes: tables, the frame's header, and the restart interval.
_NEEDED = frozenset((0xDB, 0xC4, 0xC0, 0xC1, 0xDD))
_START_OF_SCAN, _JFIF = 0xDA, 0xE0
# Between them lie marks alone that belong to a scan: all else would be another segment.
_END_OF_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7]")


def plain_thumbnail(format: object, data: object) -> tuple[str, bytes] | None:
    """Returns a thumbnail with nothing in it but the picture, or None for one that can't be read.

    Those that embed-images makes are such, and stay as they are. Any other program may have put
    pictures with EXIF, comments or more into the table.
    """
    if format == "jpeg" and isinstance(data, bytes) and _is_plain(data):
        return "jpeg", data
    return _remade(data, CONFIG.thumbnail_size)


def _is_plain(data: bytes) -> bool:
    """Tells whether a JPEG file (ITU T.81, JFIF 1.02) holds no segment but those of its picture."""
    at = 2
    if data[:at] != b"\xff\xd8":
        return False
    while True:
        mark, size = data[at : at + 2], int.from_bytes(data[at + 2 : at + 4])
        if len(mark) < 2 or mark[0] != 0xFF or size < 2:
            return False
        held = data[at + 4 : at + 2 + size]
        at += 2 + size
        if mark[1] == _JFIF:
            # With no picture of its own in it.
            if len(held) != 14 or held[:5] != b"JFIF\0" or held[12:] != b"\0\0":
                return False
        elif mark[1] == _START_OF_SCAN:
            end = _END_OF_SCAN.search(data, at)
            return end is not None and data[end.start() :] == b"\xff\xd9"
        elif mark[1] not in _NEEDED:
            return False


def shrink_thumbnails(connection: sqlite3.Connection, size: int, progress: PublishProgress) -> int:
    """Makes thumbnails anew whose longer side is more than `size` pixels.

    Returns how many could not be read; they are deleted.
    """
    ids = [row[0] for row in fetch(connection, f"select image_id from {THUMBNAILS}")]
    progress.start("Thumbnails", len(ids))
    failed = 0
    connection.execute("begin")
    with ThreadPoolExecutor(cores()) as threads:
        for start in range(0, len(ids), _AT_ONCE):
            batch = ids[start : start + _AT_ONCE]
            sql = f"select data from {THUMBNAILS} where image_id between ? and ? order by image_id"
            rows = fetch(connection, sql, batch[0], batch[-1]).fetchall()
            shrunk = threads.map(partial(_shrunk, size=size), [data for (data,) in rows])
            for image_id, made in zip(batch, shrunk, strict=True):
                if made is None:
                    failed += 1
                    connection.execute(f"delete from {THUMBNAILS} where image_id = ?", (image_id,))
                elif made:
                    sql = f"update {THUMBNAILS} set format = ?, data = ? where image_id = ?"
                    connection.execute(sql, (*made, image_id))
            progress.advance(len(batch))
    connection.execute("commit")
    progress.finish()
    return failed


def _shrunk(data: object, size: int) -> tuple[str, bytes] | tuple[()] | None:
    """Returns a smaller one, nothing for one that is small, or None for one that can't be read."""
    from PIL import Image

    try:
        assert isinstance(data, bytes)
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            if max(image.size) <= size:
                return ()
    except Exception:
        # Pillow raises errors of a dozen kinds for damaged pictures.
        return None
    # As large as was asked for, or very nearly.
    return _remade(data, size, size * 15 // 16)


def _remade(
    data: object, size: int, least: int = CONFIG.thumbnail_least
) -> tuple[str, bytes] | None:
    from PIL import Image, ImageOps

    from ..pictures.thumbnail import THUMBNAIL_FORMAT, make_thumbnail

    try:
        assert isinstance(data, bytes)
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            if image.width * image.height > CONFIG.max_query_image_megapixels * 1e6:
                return None
            upright = ImageOps.exif_transpose(image).convert("RGB")
            return THUMBNAIL_FORMAT, make_thumbnail(upright, size, least)
    except Exception:
        return None
