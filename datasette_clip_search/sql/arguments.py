"""What SQL gives a function, before it is looked at closely."""

import os
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

from ..common.errors import NoEmbeddings


def given(value: Any) -> Any:
    """Returns a value of SQL, and None, which is its NULL, for blank text.

    Datasette sends '' for every parameter of a query that has none yet.
    """
    return None if isinstance(value, str) and not value.strip() else value


def asked(connection: sqlite3.Connection, query: Any) -> Any:
    """Returns a query, and None for a blank one, and for what `cast('' as integer)` makes of it."""
    if type(query) is int and query == 0:
        from ..database.schema import choose_model, fetch, quote

        table, _ = choose_model(connection, None)
        sql = f"select 1 from main.{quote(table)} where id = 0"
        return query if fetch(connection, sql).fetchone() else None
    return given(query)


def naming_attached(function: Callable[..., Any]) -> Callable[..., Any]:
    """Makes a function say what to do where an attached database has what its own lacks."""

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
    """Returns the names and file names of attached databases that hold embeddings."""
    from ..database.schema import EMBEDDINGS, fetch, quote

    found = []
    for _, name, path in fetch(connection, "pragma database_list").fetchall():
        sql = f"select 1 from {quote(name)}.sqlite_master where type = 'table' and name = ?"
        if name not in ("main", "temp") and fetch(connection, sql, EMBEDDINGS).fetchone():
            found.append((name, os.path.basename(path) or f"{name}.db"))
    return found
