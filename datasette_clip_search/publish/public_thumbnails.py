"""Strip thumbnails of all metadata, and make them smaller on request."""

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

# JPEG segments that decoding needs: tables, the frame header, and the restart interval.
_NEEDED = frozenset((0xDB, 0xC4, 0xC0, 0xC1, 0xDD))
_START_OF_SCAN, _JFIF = 0xDA, 0xE0
# Matches the first marker that does not belong to a scan, which begins another segment.
_END_OF_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7]")


def plain_thumbnail(format: object, data: object) -> tuple[str, bytes] | None:
    """Return a thumbnail that contains only the picture, or None if it can't be read.

    Thumbnails that embed-images made stay as they are. Other programs may have stored pictures with
    EXIF, comments or more, which are encoded again.
    """
    if format == "jpeg" and isinstance(data, bytes) and _is_plain(data):
        return "jpeg", data
    return _remade(data, CONFIG.thumbnail_size)


def _is_plain(data: bytes) -> bool:
    """Return whether a JPEG (ITU T.81, JFIF 1.02) has no segments but those of its picture."""
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
            # Without a thumbnail of its own.
            if len(held) != 14 or held[:5] != b"JFIF\0" or held[12:] != b"\0\0":
                return False
        elif mark[1] == _START_OF_SCAN:
            end = _END_OF_SCAN.search(data, at)
            return end is not None and data[end.start() :] == b"\xff\xd9"
        elif mark[1] not in _NEEDED:
            return False


def shrink_thumbnails(connection: sqlite3.Connection, size: int, progress: PublishProgress) -> int:
    """Shrink all thumbnails whose longer side has more than `size` pixels.

    Delete those that can't be read, and return their number.
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
    """Return a smaller thumbnail, () if it is small enough, or None if it can't be read."""
    from PIL import Image

    try:
        assert isinstance(data, bytes)
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            if max(image.size) <= size:
                return ()
    except Exception:
        # For damaged pictures, Pillow raises a dozen kinds of exception.
        return None
    # Exactly the requested size, or slightly smaller.
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
