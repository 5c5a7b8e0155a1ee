"""Limits that functions heed: a statement's time, and the sizes of arguments.

SQLite can't stop Python, only itself, and looks at a statement's time limit between its own steps:
function calls side by side in one row pass without one. So a function takes those steps itself.
"""

import sqlite3
import threading
import time
from dataclasses import dataclass
from functools import cache
from typing import Any

# More steps than any limit of a statement's time lets pass between two looks at the clock:
# Datasette looks every 1,000, and a row takes some ten.
_STEPS = """
    with recursive step(n) as (select 1 union all select n + 1 from step limit 400)
    select max(n) from step
"""

# They take a tenth of a millisecond: so often, nobody notices, and every statement ends in time.
_SECONDS = 0.01
_CALLS = 100


@dataclass(frozen=True)
class Limit:
    """The most bytes of text, and of a blob, that an argument may have.

    They are counted before anything is copied. `name` begins the error of a larger one, and
    `characters` are the limit that it names for a text, where they are.
    """

    name: str
    text: int
    blob: int
    characters: int | None = None

    def refusal(self, size: int, is_text: bool) -> str:
        """Returns the error of an argument of `size` bytes."""
        limit = str(self.text if is_text else self.blob)
        if is_text and self.characters:
            limit = f"{self.characters} characters"
        return f"{self.name} has {size} bytes and the limit is {limit}"


class _Last(threading.local):
    seconds = 0.0
    calls = 0


_last = _Last()


@cache
def _driver_class(connection_type: type) -> Any:
    """Returns the driver's own class of connections, of which this is one or a subclass."""
    from .library import NativeUnavailable, driver_of

    try:
        _, driver = driver_of(connection_type)
        return driver
    except NativeUnavailable:
        return connection_type


def heed_time_limit(connection: Any) -> None:
    """End the statement that called the function if it is to end.

    Raises sqlite3.OperationalError "interrupted" when it is.
    """
    _last.seconds, _last.calls = time.monotonic(), 0
    # The driver's own method and rows: a subclass may have given cursor() another meaning.
    own: Any = type(connection)
    cursor: sqlite3.Cursor = _driver_class(own).cursor(connection)
    cursor.row_factory = None
    cursor.execute(_STEPS).fetchone()


def heed_if_due(connection: Any) -> None:
    """Do so where this thread has not for a moment, or for many calls: it costs next to nothing."""
    _last.calls += 1
    if _last.calls >= _CALLS or time.monotonic() - _last.seconds >= _SECONDS:
        heed_time_limit(connection)
