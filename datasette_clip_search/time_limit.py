"""Interrupts and time limits of SQL, inside a function that SQL called."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from .schema import fetch

# More steps than any limit of a statement's time lets pass between two looks at the clock:
# Datasette looks every 1,000, and a row takes some ten.
_STEPS = """
    with recursive step(n) as (select 1 union all select n + 1 from step limit 400)
    select max(n) from step
"""


def heed_time_limit(connection: sqlite3.Connection) -> None:
    """Lets SQLite end a statement whose function takes long: it can't stop Python, but itself.

    Raises sqlite3.OperationalError "interrupted" when it is to end.
    """
    fetch(connection, _STEPS).fetchone()


LOOK_SECONDS = 0.02
"""How long a function waits before it looks again whether its statement is to end."""


@contextmanager
def turn(lock: threading.Lock, connection: sqlite3.Connection) -> Iterator[None]:
    """Hold a lock; while another thread holds it, the statement can still end.

    Raises sqlite3.OperationalError "interrupted" when it does.
    """
    while not lock.acquire(timeout=LOOK_SECONDS):
        heed_time_limit(connection)
    try:
        yield
    finally:
        lock.release()
