"""Interrupts and time limits of SQL, inside a function that SQL called.

SQLite cannot stop Python code. It checks a statement's time limit only between its own steps, and
takes no step between function calls in one row. So a function takes those steps itself.
"""

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from .drivers import driver_of

LOOK_SECONDS = 0.02
"""How long a function waits between two checks of whether its statement must end."""

# More steps than any time limit lets pass between two looks at the clock: Datasette looks every
# 1,000 steps, and a row takes some ten.
_STEPS = """
    with recursive step(n) as (select 1 union all select n + 1 from step limit 400)
    select max(n) from step
"""

# The steps take a tenth of a millisecond. This often, they cost next to nothing, and every
# statement ends in time.
_SECONDS = 0.01
_CALLS = 100


class _Last(threading.local):
    seconds = 0.0
    calls = 0


_last = _Last()


@cache
def _driver_class(connection_type: type) -> Any:
    """Return the driver's own connection class: this one or the one it derives from."""
    found = driver_of(connection_type)
    return found[1] if found else connection_type


def heed_time_limit(connection: Any) -> None:
    """End the statement that called the function if it was interrupted or its time is up.

    Raises sqlite3.OperationalError "interrupted" if so.
    """
    _last.seconds, _last.calls = time.monotonic(), 0
    # The driver's own method and rows: a subclass may have changed cursor().
    own: Any = type(connection)
    cursor: sqlite3.Cursor = _driver_class(own).cursor(connection)
    cursor.row_factory = None
    cursor.execute(_STEPS).fetchone()


def heed_if_due(connection: Any) -> None:
    """Call heed_time_limit() unless this thread has just done so: it costs next to nothing."""
    _last.calls += 1
    if _last.calls >= _CALLS or time.monotonic() - _last.seconds >= _SECONDS:
        heed_time_limit(connection)


@contextmanager
def turn(lock: threading.Lock, connection: sqlite3.Connection) -> Iterator[None]:
    """Hold a lock; while it waits for another thread, the statement can still end.

    Raises sqlite3.OperationalError "interrupted" if it does.
    """
    while not lock.acquire(timeout=LOOK_SECONDS):
        heed_time_limit(connection)
    try:
        yield
    finally:
        lock.release()
