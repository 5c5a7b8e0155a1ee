"""Whether the triggers are there on which it rests that a change can't go unseen.

With the triggers of the vectors' table, every change of a vector is in the history. With those of
the pictures' table, no vector outlives its picture. Any rebuild of a table drops them, and nobody
is told; where they are missing, vectors are read and compared with the pictures for each search.
"""

import re
import sqlite3
from functools import lru_cache
from typing import NamedTuple

from .schema import CHANGES, fetch, has_table, history_triggers, picture_triggers, quote


class Standing(NamedTuple):
    """What a connection can rely on while the schema's version, a number, is the same."""

    version: int
    pictures: bool
    history: bool


def schema_version(connection: sqlite3.Connection) -> int:
    """Returns a number that every change of the schema changes."""
    return int(fetch(connection, "pragma main.schema_version").fetchone()[0])


def standing_of(connection: sqlite3.Connection, images: str) -> Standing:
    """Looks at the triggers of a database whose pictures are in the table `images`."""
    # First: what changes meanwhile is then seen the next time.
    version = schema_version(connection)
    rows = fetch(connection, "select name, sql from main.sqlite_master where type = 'trigger'")
    there = {name: plain(sql) for name, sql in rows}
    history = has_table(connection, CHANGES) and _HISTORY.items() <= there.items()
    return Standing(version, _of_pictures(images).items() <= there.items(), history)


@lru_cache(64)
def _of_pictures(images: str) -> dict[str, str]:
    return {trigger_name(sql): plain(sql) for sql in picture_triggers(quote(images))}


def trigger_name(sql: str) -> str:
    """Returns the name of the trigger that one of our statements makes."""
    return sql.split()[2]


def plain(sql: str) -> str:
    """Returns SQL of a schema, to be compared however it is spaced."""
    return re.sub(r"\s+", " ", sql).strip().lower()


_HISTORY = {trigger_name(sql): plain(sql) for sql in history_triggers()}
