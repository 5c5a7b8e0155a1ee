"""The addresses of the search pages and thumbnails."""

from urllib.parse import urlencode

from datasette.app import Datasette
from datasette.database import Database
from datasette.utils import tilde_encode


def page_url(datasette: Datasette, database: Database, **parameters: object) -> str:
    """Return the address of a database's search page."""
    path: str = datasette.urls.path(f"/-/clip-search/{tilde_encode(database.route)}")
    return f"{path}?{urlencode(parameters)}" if parameters else path


def thumbnail_url(datasette: Datasette, database: Database, image_id: int) -> str:
    """Return the address of a picture's thumbnail."""
    return f"{page_url(datasette, database)}/thumbnail/{image_id}"
