"""What Datasette gains: a search page, menu entries for it, and the SQL functions.

A package rather than a module, because Datasette looks for `templates` and `static` in the
folder of a plugin that is one. Everything heavy is imported when it is needed.
"""

from __future__ import annotations

import atexit
import logging
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from datasette import hookimpl

from ..common.config import CONFIG
from ..common.cores import limit_threads
from ..common.errors import ClipSearchError, NoEmbeddings
from ..common.terminal_text import visible
from ..database import deadline
from ..database.schema import default_model

if TYPE_CHECKING:
    # Datasette loads its plugins while it is itself being imported.
    from datasette.app import Datasette
    from datasette.database import Database

log = logging.getLogger(__name__)

# Before anything imports numpy.
limit_threads()

Link = dict[str, str]


@hookimpl
def prepare_connection(conn: sqlite3.Connection, database: str, datasette: Datasette) -> None:
    """Adds the SQL functions to the connections of every real database.

    Where all are attached to `_memory`, they say there where to search.
    """
    # An exception here would end every page of Datasette.
    try:
        from .. import sql
        from . import pages as web

        crossed = database == "_memory" and datasette.crossdb
        if database not in web.NEVER_SEARCHED or crossed:
            sql.add_functions(conn)
    except Exception as error:
        said = visible(f"{database}: {error}")
        log.warning("The SQL functions of clip-search are missing in %s", said)


@hookimpl
def register_routes() -> list[tuple[str, Callable[..., Any]]]:
    """Adds the search page, its JSON and the thumbnails."""
    from . import pages as web

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
    from . import pages as web

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
    from . import pages as web

    opened = datasette.get_database(database)
    return web.picture_cell(datasette, opened, table, row["id"], row["path"])


@hookimpl
def startup(datasette: Datasette) -> None:
    """Starts loading what queries need, so that the first one need not wait."""
    stopping = threading.Event()
    thread = threading.Thread(
        target=_load,
        args=(list(datasette.databases.values()), stopping),
        name="clip-search-load",
        daemon=True,
    )

    def stop() -> None:
        # A thread that still is inside torch when Python ends aborts the process.
        stopping.set()
        while thread.is_alive():
            # Again, because one may just begin what the others have ended.
            deadline.end_all()
            thread.join(0.1)

    atexit.register(stop)
    thread.start()


def _load(databases: list[Database], stopping: threading.Event) -> None:
    from . import pages as web

    # A command that only looks something up, as `datasette --get` does, has ended by then.
    stopping.wait(CONFIG.load_after_seconds)
    loading: list[threading.Thread] = []
    for database in databases:
        # More than are kept would only put each other out of memory.
        if stopping.is_set() or len(loading) == CONFIG.collection_cache_entries:
            break
        if database.name not in web.NEVER_SEARCHED and _reported(database, _has_pictures):
            # Each on a thread of its own, so that none waits for another's.
            work = threading.Thread(
                target=_reported, args=(database, _load_database), name="clip-search-load-one"
            )
            work.daemon = True
            work.start()
            loading.append(work)
    for work in loading:
        work.join()


def _reported(database: Database, work: Callable[[Database], bool]) -> bool:
    """Returns what some work on a database returns; False, and a line in the log, if it fails."""
    try:
        return work(database)
    except NoEmbeddings:
        return False
    except Exception as error:
        is_told = isinstance(error, (ClipSearchError, sqlite3.Error))
        reason = str(error) if is_told else repr(error)
        said = visible(f"{database.name} may fail: {reason}")
        log.warning("Searching the pictures of %s", said)
        return False


def _has_pictures(database: Database) -> bool:
    with _opened(database, CONFIG.hook_seconds) as connection:
        default_model(connection)
    return True


def _load_database(database: Database) -> bool:
    with _opened(database, CONFIG.load_seconds) as connection:
        _, model = default_model(connection)
        from ..database.index.snapshots import collection_for
        from ..models.text_encoder import text_encoder_of

        collection_for(connection, model)
        text_encoder_of(connection, model)
    return True


@contextmanager
def _opened(database: Database, seconds: float) -> Iterator[sqlite3.Connection]:
    # A connection of its own, so that none of Datasette's few SQL threads waits for the loading.
    with closing(database.connect()) as connection, deadline.bounded(connection, seconds):
        yield connection
