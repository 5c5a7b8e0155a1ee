"""Tables that are no more than they seem.

Anyone may have made a database. A view, a virtual table or a generated column of a name that we
read would run what its maker wrote, so each name is looked up in the schema before it is asked:

- the schema itself, `main.sqlite_master`, is no database's to redefine;
- neither are pragma statements, but the functions that stand for them, and `json_each`, give way
  to a table of the same name in `main`: they are asked for as `temp.json_each`, because no file
  has a say in `temp`;
- a key is an index, so a row of ours is found without looking at all the others.
"""

import sqlite3
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from ..common.errors import DatabaseError

_MADE = "which sqlite-utils embed-images makes"


Declared = tuple[str, str, str | None]
"""The name, the type and the SQL of a table or a view, as the schema has them."""


class Columns(NamedTuple):
    """The columns of a table that are read, and those of its primary key where it matters.

    `facts` are read where they are there: people may take them out of the table.
    """

    key: frozenset[str]
    read: frozenset[str]
    facts: frozenset[str] = frozenset()


def declared(connection: sqlite3.Connection, names: tuple[str, ...]) -> tuple[Declared, ...]:
    """Return what the schema says of names, in whatever case it writes them."""
    cursor = connection.cursor()
    cursor.row_factory = None
    return tuple(cursor.execute(_statement(names)).fetchall())


@lru_cache(64)
def _statement(names: tuple[str, ...]) -> str:
    # Literals, because binding takes longer than all the rest.
    listed = ", ".join("'" + name.replace("'", "''") + "'" for name in names)
    return f"""select name, type, sql from main.sqlite_master
        where type in ('table', 'view') and name collate nocase in ({listed})"""


# Declarations are compared at every search, and ours have some hundred characters.
_LONGEST = 100_000


def check_is_table(found: Declared) -> None:
    """Raise DatabaseError for what is no ordinary table."""
    name, kind, sql = found
    # As SQLite itself begins it, however it was typed.
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
    """Raise DatabaseError for an ordinary table that lacks columns of ours, or computes them."""
    cursor = connection.cursor()
    cursor.row_factory = None
    quoted = table.replace('"', '""')
    own: Mapping[str, tuple[int, int]] = {
        str(name).lower(): (key, hidden)
        for _, name, _, _, _, key, hidden in cursor.execute(f'pragma main.table_xinfo("{quoted}")')
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
