"""Check that our tables are ordinary tables.

Anyone may have made a database. A view, a virtual table or a generated column with a name that we
read would run its maker's code. So each name is looked up in the schema before it is queried:

- No database can redefine the schema itself, `main.sqlite_master`, or pragma statements.
- A table in `main` can replace `json_each` and the functions that stand for pragmas. They are
  called as `temp.json_each`, because no file can define anything in `temp`.
- A key is an index, so a row of ours is found without reading all the others.
"""

import sqlite3
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from ..common.errors import DatabaseError
from .connection import fetch, quote

_MADE = "which sqlite-utils embed-images makes"


Declared = tuple[str, str, str | None]
"""The name, the type and the SQL of a table or a view in the schema."""


class Columns(NamedTuple):
    """The columns of a table that are read, and the columns of its primary key where it matters.

    `facts` are read if they are there: the owner may drop them.
    """

    key: frozenset[str]
    read: frozenset[str]
    facts: frozenset[str] = frozenset()


def declared(connection: sqlite3.Connection, names: tuple[str, ...]) -> tuple[Declared, ...]:
    """Look up names in the schema, regardless of case."""
    return tuple(fetch(connection, _statement(names)).fetchall())


@lru_cache(64)
def _statement(names: tuple[str, ...]) -> str:
    # Literals, because binding would take longer than all the rest.
    listed = ", ".join("'" + name.replace("'", "''") + "'" for name in names)
    return f"""select name, type, sql from main.sqlite_master
        where type in ('table', 'view') and name collate nocase in ({listed})"""


# Every search compares declarations; ours have a few hundred characters.
_LONGEST = 100_000


def check_is_table(found: Declared) -> None:
    """Raise DatabaseError for anything but an ordinary table."""
    name, kind, sql = found
    # SQLite writes the beginning of the statement itself, however it was typed.
    what = "a view" if kind == "view" else "no ordinary table"
    if kind == "table" and isinstance(sql, str):
        if sql.startswith("CREATE TABLE ") and len(sql) <= _LONGEST:
            return
        what = "a virtual table" if sql.startswith("CREATE VIRTUAL ") else what
    raise DatabaseError(
        f"{name[:80]} in this database is {what}, not the table of that name {_MADE}. "
        "It is not read"
    )


def check_columns(connection: sqlite3.Connection, table: str, expected: Columns) -> None:
    """Raise DatabaseError for an ordinary table that lacks or computes columns of ours."""
    own: Mapping[str, tuple[int, int]] = {
        str(name).lower(): (key, hidden)
        for _, name, _, _, _, key, hidden in fetch(
            connection, f"pragma main.table_xinfo({quote(table)})"
        )
    }
    for name in sorted(expected.read | expected.facts):
        if name not in own:
            if name in expected.facts:
                continue
            raise DatabaseError(
                f"The table {table[:80]} of this database has no column {name}, {_MADE}"
            )
        if own[name][1]:
            raise DatabaseError(
                f"The column {name} of the table {table[:80]} in this database is computed, not "
                f"stored as the one {_MADE}. It is not read"
            )
    if expected.key and {name for name, (key, _) in own.items() if key} != expected.key:
        raise DatabaseError(
            f"The primary key of the table {table[:80]} in this database is not "
            f"{', '.join(sorted(expected.key))}, {_MADE}"
        )
