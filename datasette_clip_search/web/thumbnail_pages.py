"""Thumbnails: serve them, and show them in the cells of Datasette's own pages."""

import hashlib
import sqlite3

from datasette import NotFound, Response
from datasette.app import Datasette
from datasette.database import Database, QueryInterrupted
from datasette.utils.asgi import Request
from datasette.utils.sqlite import sqlite3 as driver
from markupsafe import Markup

from ..common.config import CONFIG
from ..common.errors import ClipSearchError
from ..database.recognition import images_table
from ..database.thumbnails import has_thumbnail, read_thumbnail
from .access import requested_place
from .addresses import page_url, thumbnail_url
from .lookup import if_quick, look_up


async def serve_thumbnail(datasette: Datasette, request: Request) -> Response:
    """Serve the thumbnail of a picture."""
    image_id = int(request.url_vars["id"])
    try:
        place = await requested_place(datasette, request)
        found = await look_up(place.database, lambda conn: read_thumbnail(conn, image_id))
    except (ClipSearchError, QueryInterrupted, driver.Error) as error:
        raise NotFound(f"There is no thumbnail to show: {error}") from error
    if found is None:
        raise NotFound(f"Picture {image_id} has no thumbnail")
    etag = f'"{hashlib.sha256(found.data).hexdigest()[:32]}"'
    unchanged = etag in (request.headers.get("if-none-match") or "")
    headers = {
        # Visitors can have different permissions, so no shared cache may keep it.
        "Cache-Control": "private, max-age=3600",
        "Content-Security-Policy": "default-src 'none'",
        "ETag": etag,
        "X-Content-Type-Options": "nosniff",
    }
    if unchanged:
        return Response(b"", status=304, headers=headers, content_type=found.content_type)
    return Response(found.data, headers=headers, content_type=found.content_type)


async def picture_cell(
    datasette: Datasette, database: Database, table: str, image_id: int, path: object
) -> Markup | None:
    """Return a path with its thumbnail, which links to similar pictures.

    Return None, which leaves the cell to Datasette, for another table, for a picture without a
    thumbnail, and for a value that is not text or is too long for a path.
    """
    if not isinstance(path, str) or len(path) > CONFIG.max_path_characters:
        return None

    def has_cell(connection: sqlite3.Connection) -> bool:
        return images_table(connection) == table and has_thumbnail(connection, image_id)

    if not await if_quick(database, has_cell):
        return None
    template = (
        '<a href="{}" title="More like this"><img src="{}" alt="" loading="lazy" '
        'style="display: block; max-width: 12rem; max-height: 12rem"></a>{}'
    )
    like = page_url(datasette, database, like=image_id)
    return Markup(template).format(like, thumbnail_url(datasette, database, image_id), path)
