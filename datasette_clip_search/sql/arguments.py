"""Blank arguments, and errors that name an attached database."""

import os
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

from ..common.errors import NoEmbeddings


def none_if_blank(value: Any) -> Any:
    """Return an SQL value, or None (NULL) for blank text.

    Datasette sends '' for each parameter that the user has not filled in yet.
    """
    return None if isinstance(value, str) and not value.strip() else value


def none_if_blank_query(connection: sqlite3.Connection, table: str, query: Any) -> Any:
    """Return a query, or None for a blank one and for `cast('' as integer)`, which is 0.

    0 stays a query where `table`, the pictures' table, has a picture with that id.
    """
    if type(query) is int and query == 0:
        from ..database.connection import fetch, quote

        sql = f"select 1 from main.{quote(table)} where id = 0"
        return query if fetch(connection, sql).fetchone() else None
    return none_if_blank(query)


def naming_attached(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function so that NoEmbeddings says how to search an attached database instead."""

    def call(connection: sqlite3.Connection, *arguments: Any, **options: Any) -> Any:
        try:
            result = function(connection, *arguments, **options)
            return list(result) if isinstance(result, Iterator) else result
        except NoEmbeddings as error:
            found = _with_embeddings(connection)
            if not found:
                raise
            name, file = found[0]
            raise NoEmbeddings(
                f"This database holds no embeddings. Those of {name}, which is attached, are not "
                f"searched from here: run the SQL in Datasette at /{name}, or with sqlite-utils "
                f"query {file} SQL, which takes --attach for other databases"
            ) from error

    return call


def _with_embeddings(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    """Return the names and file names of attached databases that hold embeddings."""
    from ..database.connection import fetch, quote
    from ..database.schema import EMBEDDINGS

    found = []
    for _, name, path in fetch(connection, "pragma database_list").fetchall():
        sql = f"select 1 from {quote(name)}.sqlite_master where type = 'table' and name = ?"
        if name not in ("main", "temp") and fetch(connection, sql, EMBEDDINGS).fetchone():
            found.append((name, os.path.basename(path) or f"{name}.db"))
    return found
