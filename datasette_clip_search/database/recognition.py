"""Recognize a database of ours: find its pictures' table, and refuse what only looks like one."""

import json
import sqlite3
from collections.abc import Iterable
from functools import lru_cache

from ..common.cache import LRUCache
from ..common.config import CONFIG
from ..common.errors import DatabaseError
from .connection import fetch, quote
from .ordinary_tables import Columns, Declared, check_columns, check_is_table, declared
from .schema import (
    CHANGES,
    EMBEDDINGS,
    FAILURES,
    KNOWN_MIGRATIONS,
    MIGRATIONS,
    MIGRATIONS_TABLE,
    MODELS,
    OWN_TABLES,
    PUBLICATION,
    THUMBNAILS,
    TOWERS,
)

# Every database from before the first release has this migration, and other tables.
_BEFORE_THE_FIRST = "m001_create_tables"
# More migrations than any database of ours has.
_MOST_MIGRATIONS = 100


def _columns(key: str, others: str = "", facts: str = "") -> Columns:
    names = frozenset(key.split())
    return Columns(names, names | frozenset(others.split()), frozenset(facts.split()))


# The columns that we read, in every release. A rebuilt table may have another key, which makes it
# slower; only keys that answers depend on are checked.
_IMAGES = _columns(
    "",
    "id path content_hash",
    "size mtime width height format taken latitude longitude camera key key_table",
)
_COLUMNS = {
    MODELS: _columns("id", "name pretrained dimension fingerprint preprocess is_default revision"),
    EMBEDDINGS: _columns("", "model_id image_id embedding made_from", "precision"),
    THUMBNAILS: _columns("", "image_id format data made_from"),
    FAILURES: _columns("path", "reason failed size mtime"),
    CHANGES: _columns("", "model_id seq image_id revision"),
    TOWERS: _columns("model_id tower part", "precision data"),
    PUBLICATION: _columns("", "published release originals_url"),
    MIGRATIONS_TABLE: _columns("", "migration_set name"),
}


def images_table(connection: sqlite3.Connection) -> str | None:
    """Return the name of the pictures' table, or None where there is none yet.

    Raises DatabaseError for tables from another release, for tables of the same names that are
    not ours, and for views and virtual tables that only look like ours.
    """
    found = declared(connection, _NAMES)
    if (known := _images_tables.get(found)) and _is_declared(connection, known):
        _check_migrations(_applied(connection), found)
        return known[0][0]
    ours = {each[0].lower(): each for each in found}
    if not ours.keys() & set(OWN_TABLES):
        return None
    for each in ours.keys() - {CONFIG.table}:
        check_is_table(ours[each])
    applied: list[str] = []
    if MIGRATIONS_TABLE in ours:
        check_columns(connection, MIGRATIONS_TABLE, _COLUMNS[MIGRATIONS_TABLE])
        applied = _applied(connection)
    _check_migrations(applied, found)
    images = _referenced(connection, found)
    check_is_table(images)
    check_columns(connection, images[0], _IMAGES)
    for name in ours.keys() & _COLUMNS.keys():
        check_columns(connection, name, _COLUMNS[name])
    _images_tables.put(found, (images, images in found))
    return images[0]


# Schemas that passed every check once, and need not be checked again: the declarations of our
# tables, that of the pictures' table, and whether the former include it.
_images_tables: LRUCache[tuple[Declared, ...], tuple[Declared, bool]] = LRUCache(64)

_NAMES = (*OWN_TABLES, MIGRATIONS_TABLE, CONFIG.table)


def _is_declared(connection: sqlite3.Connection, known: tuple[Declared, bool]) -> bool:
    """Tell whether a pictures' table is still declared as it was when it passed the checks."""
    images, is_among = known
    return is_among or declared(connection, (images[0],)) == (images,)


def known_images_table(connection: sqlite3.Connection) -> str | None:
    """Return the pictures' table if images_table() has accepted this schema before.

    The caller still has to check the migrations, by APPLIED_MIGRATIONS and are_known_migrations().
    """
    known = _images_tables.get(declared(connection, _NAMES))
    return known[0][0] if known and _is_declared(connection, known) else None


APPLIED_MIGRATIONS = f"""select json_group_array(name) from (
    select substr(name, 1, 200) as name from main.{MIGRATIONS_TABLE}
    where migration_set = '{MIGRATIONS}' limit {_MOST_MIGRATIONS}
)"""
"""SQL for a JSON list of the names of the migrations that a database has had."""


@lru_cache(64)
def are_known_migrations(applied: str) -> bool:
    """Tell whether migrations, a JSON list of names, are all ours, and at least one."""
    names = json.loads(applied)
    return bool(names) and set(names) <= set(KNOWN_MIGRATIONS)


def _applied(connection: sqlite3.Connection) -> list[str]:
    names: list[str] = json.loads(fetch(connection, APPLIED_MIGRATIONS).fetchone()[0])
    return names


def _check_migrations(applied: list[str], found: Iterable[Declared]) -> None:
    if _BEFORE_THE_FIRST in applied:
        raise DatabaseError(
            "The database was made before the first release, and its tables are different. Embed "
            "the pictures into a new one: sqlite-utils embed-images DATABASE FOLDER"
        )
    if newer := sorted({str(name) for name in applied}.difference(KNOWN_MIGRATIONS)):
        raise DatabaseError(
            f"The database was written by a newer release (it has {', '.join(newer)[:200]}). "
            "Run: pip install --upgrade datasette-clip-search"
        )
    if not applied:
        raise _not_ours(found)


def check_migrations_table(connection: sqlite3.Connection) -> None:
    """Raise DatabaseError where the table for migrations is not an ordinary table."""
    for found in declared(connection, (MIGRATIONS_TABLE,)):
        check_is_table(found)


def _not_ours(found: Iterable[Declared]) -> DatabaseError:
    taken = ", ".join(sorted(name for name, *_ in found if name.lower() in OWN_TABLES))
    return DatabaseError(
        f"The database has tables of its own named {taken}, which embed-images did not make"
    )


def _referenced(connection: sqlite3.Connection, found: Iterable[Declared]) -> Declared:
    """Return the pictures' table, which the vectors' table refers to."""
    for _, _, table, column, *_ in fetch(connection, f"pragma main.foreign_key_list({EMBEDDINGS})"):
        if column == "image_id":
            if images := declared(connection, (str(table),)):
                return images[0]
            raise DatabaseError(
                f"The database has no table {table[:80]}, which its vectors refer to as the one of "
                "the pictures. If it was rebuilt under another name, run: sqlite-utils clip-index"
            )
    raise _not_ours(found)


def select_facts(connection: sqlite3.Connection, table: str, *names: str) -> str:
    """Return the SQL of some columns of the pictures' table, null for those that were dropped."""
    rows = fetch(connection, f"pragma main.table_info({quote(table)})")
    there = {str(name).lower() for _, name, *_ in rows}
    return ", ".join(name if name in there else f"null as {name}" for name in names)
