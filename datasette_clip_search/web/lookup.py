"""Look things up on Datasette's own connections, within a time limit.

Datasette has few threads for the SQL of all databases, and sets no limit for plugins.
"""

import sqlite3
import time
from collections.abc import Callable
from typing import TypeVar
from weakref import WeakKeyDictionary

from datasette.database import Database
from datasette.utils.sqlite import sqlite3 as driver

from ..common.config import CONFIG
from ..common.errors import ClipSearchError, TookTooLong
from ..database.deadline import bounded

T = TypeVar("T")

# Databases that were slow, and the time until which Datasette's own pages do not ask them.
_paused: WeakKeyDictionary[Database, float] = WeakKeyDictionary()


async def look_up(
    database: Database, function: Callable[[sqlite3.Connection], T], seconds: float | None = None
) -> T:
    """Return `function` of a connection, run within `seconds` or Datasette's time limit for SQL.

    Raises TookTooLong beyond the limit.
    """
    limit = database.ds.setting("sql_time_limit_ms") / 1000 if seconds is None else seconds

    def limited(connection: sqlite3.Connection) -> T:
        with bounded(connection, limit):
            return function(connection)

    found: T = await database.execute_fn(limited)
    return found


async def if_quick(database: Database, function: Callable[[sqlite3.Connection], T]) -> T | None:
    """Return `function` of a connection for one of Datasette's own pages, or None if it fails.

    A page has a cell for every picture, so a database that was slow is not asked again for a while.
    """
    if _paused.get(database, 0) > time.monotonic():
        return None
    try:
        return await look_up(database, function, CONFIG.hook_seconds)
    except TookTooLong:
        _paused[database] = time.monotonic() + CONFIG.hook_pause_seconds
    except (ClipSearchError, driver.Error):
        pass
    return None
