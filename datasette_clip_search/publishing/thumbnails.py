"""Smaller thumbnails, made of those that are there."""

import io
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from ..processors import cores
from ..schema import THUMBNAILS, fetch
from ..thumbnails import CONTENT_TYPES
from .options import Progress

_AT_ONCE = 256


def shrink_thumbnails(connection: sqlite3.Connection, size: int, progress: Progress) -> int:
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

    from ..pictures.thumbnail import THUMBNAIL_FORMAT, make_thumbnail

    try:
        assert isinstance(data, bytes)
        with Image.open(
            io.BytesIO(data), formats=[name.upper() for name in CONTENT_TYPES]
        ) as image:
            if max(image.size) <= size:
                return ()
            # As large as was asked for, or very nearly.
            return THUMBNAIL_FORMAT, make_thumbnail(image.convert("RGB"), size, size * 15 // 16)
    except Exception:
        # Pillow raises errors of a dozen kinds for damaged pictures.
        return None
