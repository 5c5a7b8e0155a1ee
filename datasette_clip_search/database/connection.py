"""Open a database file to read or to write, lock it, and explain its errors."""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from ..common.config import CONFIG
from ..common.errors import CommandError

Item = TypeVar("Item")


def fetch(connection: sqlite3.Connection, sql: str, *parameters: object) -> sqlite3.Cursor:
    """Run a statement whose rows are plain tuples, whatever the connection's row factory is."""
    cursor = connection.cursor()
    cursor.row_factory = None
    return cursor.execute(sql, parameters)


def quote(name: str) -> str:
    """Quote the name of a table or column for SQL."""
    return '"' + name.replace('"', '""') + '"'


def has_table(connection: sqlite3.Connection, name: str) -> bool:
    """Tell whether a database has a table, which its owner may have dropped."""
    sql = "select 1 from main.sqlite_master where type = 'table' and name = ?"
    return fetch(connection, sql, name).fetchone() is not None


def main_file(connection: sqlite3.Connection) -> str | None:
    """Return the path of a connection's own database, or None for one in memory."""
    for _, name, path in fetch(connection, "pragma database_list"):
        if name == "main":
            return path or None
    return None


def database_path(connection: sqlite3.Connection) -> Path | None:
    """Return the file of a connection's own database, or None for one in memory."""
    path = main_file(connection)
    return Path(path) if path else None


def open_database(path: str) -> sqlite3.Connection:
    """Open a database for reading, with the SQL functions of sqlite-utils and its plugins.

    Raises CommandError for a file that is not a database, and for one that a killed program left
    in the middle of a write: undoing that would be a write.
    """
    from sqlite_utils import Database

    uri = f"{Path(path).absolute().as_uri()}?mode=ro"
    connection = sqlite3.connect(uri, uri=True)
    try:
        try:
            fetch(connection, "select 1 from sqlite_master").fetchone()
        except sqlite3.OperationalError as error:
            if "unable to open" not in str(error) or os.path.exists(f"{path}-wal"):
                raise
            # In a read-only folder, a database in WAL mode gets no -shm file. Without a -wal file
            # either, nobody writes to it.
            connection.close()
            connection = sqlite3.connect(f"{uri}&immutable=1", uri=True)
            fetch(connection, "select 1 from sqlite_master").fetchone()
        Database(connection)
        heed_signals(connection)
    except sqlite3.DatabaseError as error:
        connection.close()
        if "not a database" in str(error):
            raise CommandError(f"{path} is not a SQLite database: {error}") from error
        if getattr(error, "sqlite_errorname", "") == "SQLITE_READONLY_ROLLBACK":
            raise CommandError(
                f"{path} was left in the middle of a write, by a program that was killed. To undo "
                f"that write, run: sqlite-utils tables {path}"
            ) from error
        raise
    return connection


def connect(path: Path) -> sqlite3.Connection:
    """Open a database for writing; a new one gets a page size that suits vectors.

    Raises CommandError for a file that is not a database, is read-only, or is locked.
    """
    if str(path) == ":memory:":
        # SQLite would open one in memory, whose vectors nobody could search.
        raise CommandError(":memory: is no file. Expected the path of a database file")
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
    """Let Ctrl-C end a long statement: Python handles signals between its own instructions."""
    connection.set_progress_handler(lambda: None, 10_000)


def wait_for_lock(connection: sqlite3.Connection, seconds: float) -> None:
    """Set how long to wait while another program has the database locked."""
    connection.execute(f"pragma busy_timeout = {round(seconds * 1000)}")


def check_writable(connection: sqlite3.Connection) -> None:
    """Fail now, not after the first batch, where the database is locked or read-only."""
    version = connection.execute("pragma user_version").fetchone()[0]
    connection.execute("begin immediate")
    try:
        # On a read-only database, the first write fails, not the begin.
        connection.execute(f"pragma user_version = {version}")
    finally:
        if connection.in_transaction:
            connection.execute("rollback")


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Take the write lock at the start: in WAL mode, upgrading a read fails at once."""
    connection.execute("begin immediate")
    try:
        yield
    except BaseException:
        # SQLite itself rolls back after some errors, such as a full disk.
        if connection.in_transaction:
            connection.execute("rollback")
        raise
    connection.execute("commit")


def write_in_parts(
    connection: sqlite3.Connection, items: Sequence[Item], write: Callable[[Sequence[Item]], object]
) -> None:
    """Call `write` with parts of many items, each part in a transaction of its own.

    Other programs can write between the parts, and a killed run keeps the finished parts.
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
def explain_sqlite_errors(path: Path) -> Iterator[None]:
    """Turn SQLite's own errors about a database file into CommandErrors."""
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
            # To SQLite, a limit on the size of files and a quota are I/O errors.
            what = "The disk is full" if "full" in text else f"{path} can't be written to: {text}"
            raise CommandError(
                f"{what}. What was embedded before is kept; make room and run the same command "
                "again"
            ) from error
        if isinstance(error, sqlite3.OperationalError | sqlite3.DataError):
            raise CommandError(f"{path} can't be used: {text}") from error
        raise
