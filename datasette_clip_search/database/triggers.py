"""Find out whether a database still has the triggers that record every change of a vector.

- With the triggers of the vectors' table, every change of a vector is in clip_changes.
- With the triggers of the pictures' table, no vector outlives its picture.
- Any rebuild of a table drops its triggers silently. So answers rely only on triggers that are
  there and unchanged; without them, each search compares the vectors with the pictures.
- A change of the schema changes its version, so triggers found once are there until it changes.
"""

import re
import sqlite3
from functools import lru_cache
from typing import NamedTuple

from .connection import fetch, has_table, quote
from .schema import CHANGES, history_triggers, picture_triggers


class Standing(NamedTuple):
    """Which triggers a database has: those of `pictures`, and those of the `history`.

    It holds while the schema's version is the same.
    """

    version: int
    pictures: bool
    history: bool


def schema_version(connection: sqlite3.Connection) -> int:
    """Return the number that SQLite changes with every change of the schema."""
    return int(fetch(connection, "pragma main.schema_version").fetchone()[0])


def standing_of(connection: sqlite3.Connection, images: str) -> Standing:
    """Look up the triggers of a database; `images` is the name of the pictures' table."""
    # Read first, so that the next call notices a change from here on.
    version = schema_version(connection)
    rows = fetch(connection, "select name, sql from main.sqlite_master where type = 'trigger'")
    there = {name: normalized_sql(sql) for name, sql in rows}
    history = has_table(connection, CHANGES) and _HISTORY.items() <= there.items()
    return Standing(version, _of_pictures(images).items() <= there.items(), history)


@lru_cache(64)
def _of_pictures(images: str) -> dict[str, str]:
    return {trigger_name(sql): normalized_sql(sql) for sql in picture_triggers(quote(images))}


def trigger_name(sql: str) -> str:
    """Return the name of the trigger that one of our statements makes."""
    return sql.split()[2]


def normalized_sql(sql: str) -> str:
    """Return SQL in one spelling, to compare it regardless of spaces and case."""
    return re.sub(r"\s+", " ", sql).strip().lower()


_HISTORY = {trigger_name(sql): normalized_sql(sql) for sql in history_triggers()}
