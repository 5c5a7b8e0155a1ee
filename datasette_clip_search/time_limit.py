"""Interrupts and time limits of SQL, inside a function that SQL called."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from .table_function.limits import heed_if_due, heed_time_limit

__all__ = ["LOOK_SECONDS", "heed_if_due", "heed_time_limit", "turn"]

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
