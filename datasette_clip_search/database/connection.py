"""A database file being written: opened, locked, its errors explained."""

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from ..common.config import CONFIG
from ..common.errors import CommandError

Item = TypeVar("Item")


def connect(path: Path) -> sqlite3.Connection:
    """Opens a database for writing; a new one gets a page size that suits vectors.

    Raises CommandError for a file that is no database, can't be written, or is locked.
    """
    if sqlite3.sqlite_version_info < CONFIG.sqlite_at_least:
        least = ".".join(map(str, CONFIG.sqlite_at_least))
        raise CommandError(
            f"Writing takes SQLite {least} or newer, and this Python has {sqlite3.sqlite_version}. "
            "Use another Python, such as one from python.org; searching works with this one"
        )
    if path.is_dir():
        raise CommandError(f"{path} is a folder. Expected a SQLite database file")
    if not path.absolute().parent.is_dir():
        raise CommandError(f"There is no folder {path.absolute().parent} to make {path.name} in")
    connection = sqlite3.connect(path, isolation_level=None)
    wait_for_lock(connection, CONFIG.first_write_wait_seconds)
    heed_signals(connection)
    connection.execute(f"pragma page_size = {CONFIG.page_size}")
    return connection


def heed_signals(connection: sqlite3.Connection) -> None:
    """Lets Ctrl-C end a long statement: Python handles signals between its own instructions."""
    connection.set_progress_handler(lambda: None, 10_000)


def wait_for_lock(connection: sqlite3.Connection, seconds: float) -> None:
    """Sets how long another program may hold the database before that is an error."""
    connection.execute(f"pragma busy_timeout = {round(seconds * 1000)}")


def check_writable(connection: sqlite3.Connection) -> None:
    """Fails now, not after the first batch, where the database is locked or read-only."""
    version = connection.execute("pragma user_version").fetchone()[0]
    connection.execute("begin immediate")
    try:
        # On a read-only database, beginning a write is no error yet; writing is.
        connection.execute(f"pragma user_version = {version}")
    finally:
        if connection.in_transaction:
            connection.execute("rollback")


def in_parts(
    connection: sqlite3.Connection, items: Sequence[Item], write: Callable[[Sequence[Item]], object]
) -> None:
    """Has many items written or deleted in parts, each in a transaction of its own.

    Other programs can write between them, and what is done stays done when the run is killed.
    """
    start = 0
    while start < len(items):
        if start:
            time.sleep(CONFIG.pause_seconds)
        begun = time.monotonic()
        with transaction(connection):
            is_first = True
            while start < len(items) and (
                is_first or time.monotonic() - begun < CONFIG.part_seconds
            ):
                write(items[start : start + CONFIG.rows_at_once])
                start += CONFIG.rows_at_once
                is_first = False


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns SQLite's own errors about a database file into CommandErrors."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        text = str(error)
        if text == "interrupted":
            raise KeyboardInterrupt from error
        if "not a database" in text or "malformed" in text:
            raise CommandError(f"{path} is not a SQLite database: {text}") from error
        if "readonly" in text or "unable to open" in text:
            raise CommandError(f"{path} can't be written: {text}") from error
        if "locked" in text:
            raise CommandError(
                f"{path} is in use by another program: {text}. Finished work is kept; "
                "run the same command again"
            ) from error
        if "full" in text or "disk I/O" in text:
            # A limit on the size of files, or a quota, is an I/O error to SQLite.
            what = "The disk is full" if "full" in text else f"{path} can't be written to: {text}"
            raise CommandError(
                f"{what}. What was embedded before is kept; make room and run the same command "
                "again"
            ) from error
        if isinstance(error, sqlite3.OperationalError | sqlite3.DataError):
            raise CommandError(f"{path} can't be used: {text}") from error
        raise


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Holds the write lock from the start: in WAL, upgrading a read fails at once."""
    connection.execute("begin immediate")
    try:
        yield
    except BaseException:
        # SQLite itself rolls back after some errors, such as a full disk.
        if connection.in_transaction:
            connection.execute("rollback")
        raise
    connection.execute("commit")
