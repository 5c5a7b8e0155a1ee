"""A database that is only read."""

import sqlite3
from pathlib import Path

from ..errors import CommandError
from ..schema import fetch


def open_database(path: str) -> sqlite3.Connection:
    """Opens a database for reading, with the SQL functions of sqlite-utils and its plugins.

    Raises CommandError for a file that is no database.
    """
    from sqlite_utils import Database

    connection = sqlite3.connect(f"{Path(path).absolute().as_uri()}?mode=ro", uri=True)
    try:
        fetch(connection, "select 1 from sqlite_master").fetchone()
        Database(connection)
    except sqlite3.DatabaseError as error:
        connection.close()
        if "not a database" in str(error):
            raise CommandError(f"{path} is not a SQLite database: {error}") from error
        raise
    return connection
