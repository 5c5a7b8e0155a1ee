"""What Datasette gains: a search page, menu entries for it, and the SQL functions.

A package rather than a module, because Datasette looks for `templates` and `static` in the
folder of a plugin that is one. Everything heavy is imported when it is needed.
"""

from __future__ import annotations

import atexit
import logging
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from datasette import hookimpl

from ..config import CONFIG
from ..errors import ClipSearchError, NoEmbeddings
from ..schema import default_model

if TYPE_CHECKING:
    # Datasette loads its plugins while it is itself being imported.
    from datasette.app import Datasette
    from datasette.database import Database

log = logging.getLogger(__name__)

Link = dict[str, str]


@hookimpl
def prepare_connection(conn: sqlite3.Connection, database: str) -> None:
    """Adds the SQL functions to the connections of every real database."""
    # An exception here would end every page of Datasette.
    try:
        from .. import sql, web

        if database not in web.NEVER_SEARCHED:
            sql.add_functions(conn)
    except Exception as error:
        log.warning("The SQL functions of clip-search are missing in %s: %s", database, error)


@hookimpl
def register_routes() -> list[tuple[str, Callable[..., Any]]]:
    """Adds the search page, its JSON and the thumbnails."""
    from .. import web

    return web.ROUTES


@hookimpl
def database_actions(
    datasette: Datasette, actor: dict[str, Any] | None, database: str
) -> Callable[[], Awaitable[list[Link]]]:
    """Adds the search page to the menu of a database with pictures."""
    return lambda: _links(datasette, actor, database)


@hookimpl
def table_actions(
    datasette: Datasette, actor: dict[str, Any] | None, database: str, table: str
) -> Callable[[], Awaitable[list[Link]]]:
    """Adds the search page to the menu of the pictures' table."""
    return lambda: _links(datasette, actor, database, table)


async def _links(
    datasette: Datasette, actor: dict[str, Any] | None, database: str, table: str | None = None
) -> list[Link]:
    from .. import web

    place = await web.place_for(datasette, actor, datasette.get_database(database))
    if place is None or table not in (None, place.table):
        return []
    return [
        {
            "href": web.page_url(datasette, place.database),
            "label": "Search pictures",
            "description": "Find pictures by describing them",
        }
    ]


@hookimpl
def render_cell(
    row: Any, column: str, table: str | None, database: str, datasette: Datasette
) -> Awaitable[Any] | None:
    """Shows the pictures in their table, and on their own pages."""
    if column != "path" or table is None or not {"id", "content_hash"} <= set(row.keys()):
        return None
    from .. import web

    opened = datasette.get_database(database)
    return web.picture_cell(datasette, opened, table, row["id"], row["path"])


@hookimpl
def startup(datasette: Datasette) -> None:
    """Starts loading what queries need, so that the first one need not wait."""
    from .. import web

    stopping = threading.Event()
    # So that many databases don't load all at once, but none waits long for another.
    turns = threading.Semaphore(CONFIG.load_databases_together)
    threads = [
        threading.Thread(
            target=_load, args=(database, turns, stopping), name="clip-search-load", daemon=True
        )
        for database in datasette.databases.values()
        if database.name not in web.NEVER_SEARCHED
    ]

    def stop() -> None:
        # A thread that still is inside torch when Python ends aborts the process.
        stopping.set()
        for thread in threads:
            thread.join(CONFIG.tower_end_seconds)

    atexit.register(stop)
    for thread in threads:
        thread.start()


def _load(database: Database, turns: threading.Semaphore, stopping: threading.Event) -> None:
    # A command that only looks something up, as `datasette --get` does, has ended by then.
    stopping.wait(CONFIG.load_after_seconds)
    is_turn = turns.acquire(timeout=CONFIG.load_turn_seconds)
    try:
        if not stopping.is_set():
            _load_database(database, stopping)
    except NoEmbeddings:
        pass
    except Exception as error:
        if not stopping.is_set():
            reason = str(error) if isinstance(error, ClipSearchError) else repr(error)
            log.warning("Searching the pictures of %s may fail: %s", database.name, reason)
    finally:
        if is_turn:
            turns.release()


def _load_database(database: Database, stopping: threading.Event) -> None:
    # A connection of its own, so that none of Datasette's few SQL threads waits for the loading.
    connection = database.connect()
    latest = time.monotonic() + CONFIG.load_database_seconds
    try:
        connection.set_progress_handler(
            lambda: stopping.is_set() or time.monotonic() > latest, 1000
        )
        _, model = default_model(connection)
        from ..loaded import collection_for
        from ..text_encoder import text_encoder_of

        collection_for(connection, model)
        text_encoder_of(connection, model)
    finally:
        connection.close()
