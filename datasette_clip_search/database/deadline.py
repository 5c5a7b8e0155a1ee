"""Deadlines for a server's own work on a database.

Datasette limits the SQL of visitors, but not a server's own reads. This module does:

- A statement of ours ends at its deadline, even inside SQLite, which Python can't stop.
- Ctrl-C, and the signal that ends services, end running statements, because a server waits for its
  threads.
- No value is read that could fill the memory.
"""

import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from ..common.config import CONFIG
from ..common.errors import TookTooLong

# Datasette checks its clock as often, and heed_time_limit() relies on it.
_OPERATIONS = 1000
_LIMIT_LENGTH = 0


class _Work:
    """Work under a deadline. Signal handlers end it, and they can't wait for a lock."""

    is_over = False


_running: set[_Work] = set()
# Set by a signal that ends the process, so that no waiting work begins.
_ending = _Work()


@contextmanager
def bounded(connection: sqlite3.Connection, seconds: float) -> Iterator[None]:
    """Limit the time of statements on a connection that has no other time limit.

    Raises TookTooLong for a statement that was ended, and for one that starts too late.
    """
    work, deadline = _Work(), time.monotonic() + seconds

    def is_over() -> bool:
        return _ending.is_over or work.is_over or time.monotonic() > deadline

    # Drivers other than Python's own may lack limits.
    set_limit: Callable[[int, int], int] = getattr(connection, "setlimit", lambda *_: 0)
    before = set_limit(_LIMIT_LENGTH, CONFIG.max_value_bytes)
    connection.set_progress_handler(is_over, _OPERATIONS)
    _running.add(work)
    try:
        yield
    except Exception as error:
        # Drivers other than Python's own have their own exceptions.
        if error.args != ("interrupted",) or not is_over():
            raise
        if _ending.is_over or work.is_over:
            raise TookTooLong(
                "The search was stopped because the server is shutting down"
            ) from error
        raise TookTooLong(
            f"The database takes longer to read than {seconds:g} seconds, the limit here"
        ) from error
    finally:
        _running.discard(work)
        connection.set_progress_handler(None, 0)
        set_limit(_LIMIT_LENGTH, before)


def end_all() -> None:
    """End all work under a deadline."""
    for work in list(_running):
        work.is_over = True


class _Ending:
    """A signal handler that ends work under a deadline, then calls the handler before it."""

    def __init__(self, before: Callable[[int, FrameType | None], Any]):
        self._before = before

    def __call__(self, number: int, frame: FrameType | None) -> None:
        _ending.is_over = True
        try:
            self._before(number, frame)
        except BaseException:
            # A process can survive KeyboardInterrupt, as a notebook does, so end only running work.
            end_all()
            _ending.is_over = False
            raise


def end_with_signals() -> None:
    """Let Ctrl-C, and the signal that ends services, end work under a deadline.

    A server sets its own handlers when it begins to serve: call this while it serves. It does
    nothing in threads other than the main one.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGINT, signal.SIGTERM):
        before = signal.getsignal(number)
        if callable(before) and not isinstance(before, _Ending):
            signal.signal(number, _Ending(before))
