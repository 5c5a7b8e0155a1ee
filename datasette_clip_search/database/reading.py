"""A database that is only read."""

import os
import sqlite3
from pathlib import Path

from ..common.errors import CommandError
from .connection import heed_signals
from .schema import fetch


def open_database(path: str) -> sqlite3.Connection:
    """Opens a database for reading, with the SQL functions of sqlite-utils and its plugins.

    Raises CommandError for a file that is no database.
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
            # In a folder that can't be written to, a database in WAL mode gets no -shm file. As
            # it has no -wal file either, nobody writes to it.
            connection.close()
            connection = sqlite3.connect(f"{uri}&immutable=1", uri=True)
            fetch(connection, "select 1 from sqlite_master").fetchone()
        Database(connection)
        heed_signals(connection)
    except sqlite3.DatabaseError as error:
        connection.close()
        if "not a database" in str(error):
            raise CommandError(f"{path} is not a SQLite database: {error}") from error
        raise
    return connection
