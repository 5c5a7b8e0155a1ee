"""The Datasette plugin: the search page, links to it, thumbnails in tables, and SQL functions.

Nothing else in the package may import it. It is a package because Datasette looks for `templates`
and `static` in the folder of a plugin only if the plugin is a package.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from datasette import hookimpl

from ..common.cores import limit_threads
from ..common.terminal_text import visible

if TYPE_CHECKING:
    from datasette.app import Datasette

# The hooks import the other modules, because those import Datasette, which loads its plugins while
# it is itself being imported.

log = logging.getLogger(__name__)

# Must run before anything imports numpy.
limit_threads()

Link = dict[str, str]


@hookimpl
def prepare_connection(conn: sqlite3.Connection, database: str, datasette: Datasette) -> None:
    """Add the SQL functions to connections.

    The internal databases get none, unless `--crossdb` attaches every database to `_memory`.
    """
    # An exception here would break every page of Datasette.
    try:
        from .. import sql
        from .access import NEVER_SEARCHED

        crossed = database == "_memory" and datasette.crossdb
        if database not in NEVER_SEARCHED or crossed:
            sql.add_functions(conn)
    except Exception as error:
        message = visible(f"{database}: {error}")
        log.warning("The SQL functions of clip-search are missing in %s", message)


@hookimpl
def register_routes() -> list[tuple[str, Callable[..., Any]]]:
    """Add the search page, its JSON and the thumbnails."""
    from .pages import index_page, search_page
    from .thumbnail_pages import serve_thumbnail

    database = r"/-/clip-search/(?P<database>[^/.]+)"
    return [
        (r"/-/clip-search$", index_page),
        (database + r"(?P<format>\.json)?$", search_page),
        (database + r"/thumbnail/(?P<id>[0-9]{1,18})$", serve_thumbnail),
    ]


@hookimpl
def database_actions(
    datasette: Datasette, actor: dict[str, Any] | None, database: str
) -> Callable[[], Awaitable[list[Link]]]:
    """Link to the search page from the menu of a database with pictures."""
    return lambda: _links(datasette, actor, database)


@hookimpl
def table_actions(
    datasette: Datasette, actor: dict[str, Any] | None, database: str, table: str
) -> Callable[[], Awaitable[list[Link]]]:
    """Link to the search page from the menu of the pictures' table."""
    return lambda: _links(datasette, actor, database, table)


async def _links(
    datasette: Datasette, actor: dict[str, Any] | None, database: str, table: str | None = None
) -> list[Link]:
    from .access import place_for
    from .addresses import page_url

    place = await place_for(datasette, actor, datasette.get_database(database))
    if place is None or table not in (None, place.table):
        return []
    return [
        {
            "href": page_url(datasette, place.database),
            "label": "Search pictures",
            "description": "Find pictures by describing them",
        }
    ]


@hookimpl
def render_cell(
    row: Any, column: str, table: str | None, database: str, datasette: Datasette
) -> Awaitable[Any] | None:
    """Show thumbnails in the pictures' table and on its row pages."""
    if column != "path" or table is None or not {"id", "content_hash"} <= set(row.keys()):
        return None
    from .thumbnail_pages import picture_cell

    opened = datasette.get_database(database)
    return picture_cell(datasette, opened, table, row["id"], row["path"])


@hookimpl
def startup(datasette: Datasette) -> None:
    """Start loading the vectors and encoders that searches need."""
    from .preload import start_preloading

    start_preloading(datasette.databases.values())
