"""Work on a database that ends in time, and with its server.

Datasette limits the SQL of visitors. What a server reads for itself has no limit but this one:

- a statement of ours ends at its deadline, also one inside SQLite, which Python can't stop;
- Ctrl-C, and the signal that ends services, ends what runs: a server waits for its threads;
- no value is read that could fill the memory.
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

# As often as Datasette looks at its clock, which heed_time_limit() relies on.
_OPERATIONS = 1000
_LIMIT_LENGTH = 0


class _Work:
    """What runs under a deadline: ended by handlers of signals, which can't wait for a lock."""

    is_over = False


_running: set[_Work] = set()
# A signal that ends the process sets it, so that nothing that waits for its turn begins.
_ending = _Work()


@contextmanager
def bounded(connection: sqlite3.Connection, seconds: float) -> Iterator[None]:
    """Limit what is done with a connection that no other limit of time is set on.

    Raises TookTooLong for a statement that was ended, and for one that begins too late.
    """
    work, deadline = _Work(), time.monotonic() + seconds

    def is_over() -> bool:
        return _ending.is_over or work.is_over or time.monotonic() > deadline

    # Other drivers than Python's own may lack the limits.
    set_limit: Callable[[int, int], int] = getattr(connection, "setlimit", lambda *_: 0)
    before = set_limit(_LIMIT_LENGTH, CONFIG.max_value_bytes)
    connection.set_progress_handler(is_over, _OPERATIONS)
    _running.add(work)
    try:
        yield
    except Exception as error:
        # Another driver than Python's own has exceptions of its own.
        if error.args != ("interrupted",) or not is_over():
            raise
        if _ending.is_over or work.is_over:
            raise TookTooLong("The search was ended, because the server ends") from error
        raise TookTooLong(
            f"The database takes longer to read than {seconds:g} seconds, the limit here"
        ) from error
    finally:
        _running.discard(work)
        connection.set_progress_handler(None, 0)
        set_limit(_LIMIT_LENGTH, before)


def end_all() -> None:
    """End everything that runs under a deadline."""
    for work in list(_running):
        work.is_over = True


class _Ending:
    """A handler of a signal that ends what runs, and then does what the one before did."""

    def __init__(self, before: Callable[[int, FrameType | None], Any]):
        self._before = before

    def __call__(self, number: int, frame: FrameType | None) -> None:
        _ending.is_over = True
        self._before(number, frame)


def end_with_signals() -> None:
    """Let Ctrl-C, and the signal that ends services, end what runs under a deadline.

    A server sets its own handlers when it begins to serve, and only then waits for what it serves:
    call this while it does. In any thread but the main one, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGINT, signal.SIGTERM):
        before = signal.getsignal(number)
        if callable(before) and not isinstance(before, _Ending):
            signal.signal(number, _Ending(before))
