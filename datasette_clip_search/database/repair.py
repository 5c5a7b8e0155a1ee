"""Restore the parts that a database lacks, compared with a new one.

Every rebuild of a table drops its triggers, and some rebuilds drop its keys: those of sqlite-utils
transform, extract and add-foreign-key, of Datasette's alter, and those made by hand. No search
relies on them (see triggers.py). Every command that writes restores them first.
"""

import re
import sqlite3
from contextlib import closing
from functools import lru_cache
from typing import NamedTuple

from ..common.errors import DatabaseError
from .connection import fetch, quote
from .schema import CHANGES, EMBEDDINGS, MODELS, OWN_TABLES, history_triggers, migrate
from .triggers import normalized_sql, trigger_name


class _Column(NamedTuple):
    type: str
    required: bool
    key: int


class Table(NamedTuple):
    """The definition of a table as it is, or as it should be.

    `links` are its foreign keys: a column, the other table, and its column.
    """

    sql: str
    columns: dict[str, _Column]
    links: set[tuple[str, str, str]]
    unique: set[tuple[str, ...]]


class _Schema(NamedTuple):
    tables: dict[str, Table]
    indexes: dict[str, tuple[str, str]]
    triggers: dict[str, tuple[str, str]]


def restore_schema(connection: sqlite3.Connection, images: str) -> list[str]:
    """Restore our missing tables, keys, indexes and triggers; return descriptions of them.

    Runs inside the caller's transaction. Where vectors may have changed unrecorded, every older
    index is out of date afterwards. Raises DatabaseError for what cannot be restored.
    """
    wanted = _wanted(images)
    said = _restore_pictures(connection, images, wanted.tables[images])
    broken = [
        name
        for name, table in wanted.tables.items()
        if name != images and not _is_whole(connection, name, table)
    ]
    if broken:
        # SQLite checks the triggers when a table is renamed; they are made again below.
        for name in wanted.triggers:
            connection.execute(f"drop trigger if exists {quote(name)}")
    for name in broken:
        _rebuild(connection, name, wanted.tables[name])
        said.append(f"the table {name}")
    said += _restore_indexes(connection, wanted)
    missing = _restore_triggers(connection, wanted)
    if any(set(broken) & {MODELS, EMBEDDINGS, CHANGES}) or missing & _HISTORY:
        _begin_history(connection)
    if missing and not broken:
        tables = sorted({wanted.triggers[name][0] for name in missing})
        said.append(f"the triggers of {' and '.join(tables)}")
    return said


_HISTORY = {trigger_name(sql) for sql in history_triggers()}


@lru_cache(8)
def _wanted(images: str) -> _Schema:
    """Return the schema of a new database."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection, images)
        names = [images, *OWN_TABLES]
        sql = "select name, tbl_name, sql from main.sqlite_master where type = ? and sql > ''"
        indexes, triggers = (
            {name: (table, sql) for name, table, sql in fetch(connection, sql, kind)}
            for kind in ("index", "trigger")
        )
        tables = {name: read_table(connection, name) for name in names}
        ours = {name: each for name, each in indexes.items() if each[0] in tables}
        return _Schema({n: t for n, t in tables.items() if t}, ours, triggers)


def read_table(connection: sqlite3.Connection, name: str) -> Table | None:
    """Read the definition of a table; None where there is no such table."""
    sql = "select sql from main.sqlite_master where type = 'table' and lower(name) = lower(?)"
    row = fetch(connection, sql, name).fetchone()
    if row is None:
        return None
    columns = {
        column.lower(): _Column(kind, bool(required), key)
        for _, column, kind, required, _, key in fetch(
            connection, f"pragma main.table_info({quote(name)})"
        )
    }
    links = {
        (str(own).lower(), str(table).lower(), str(theirs or "").lower())
        for _, _, table, own, theirs, *_ in fetch(
            connection, f"pragma main.foreign_key_list({quote(name)})"
        )
    }
    unique = set()
    for _, index, is_unique, _, partial in fetch(
        connection, f"pragma main.index_list({quote(name)})"
    ).fetchall():
        if is_unique and not partial:
            info = fetch(connection, f"pragma main.index_info({quote(index)})")
            unique.add(tuple(sorted(str(column).lower() for _, _, column in info)))
    return Table(row[0], columns, links, unique)


def _is_whole(connection: sqlite3.Connection, name: str, wanted: Table) -> bool:
    """Tell whether one of our tables has all its columns, keys and links."""
    table = read_table(connection, name)
    return (
        table is not None
        and table.columns.keys() >= wanted.columns.keys()
        and _key(table) == _key(wanted)
        and table.links >= wanted.links
        and table.unique >= wanted.unique
    )


def _key(table: Table) -> list[str]:
    """Return the columns of the primary key, in its order."""
    keys = {column.key: name for name, column in table.columns.items() if column.key}
    return [keys[place] for place in sorted(keys)]


def _rebuild(connection: sqlite3.Connection, name: str, wanted: Table) -> None:
    """Rebuild one of our tables correctly; it keeps its rows and additional columns."""
    table = read_table(connection, name)
    if table is None:
        connection.execute(wanted.sql)
        return
    lacking = [
        column
        for column, facts in wanted.columns.items()
        if column not in table.columns and facts.required
    ]
    if lacking and _count(connection, name):
        raise DatabaseError(
            f"The table {name} has lost its column {lacking[0]}, which cannot be restored. Use an "
            "older copy of the database, or embed the pictures into a new one"
        )
    new = f"{name}_restored"
    connection.execute("pragma legacy_alter_table = on")
    try:
        connection.execute(f"drop table if exists {new}")
        declared = rf'^(create table )["\[`]?{name}["\]`]?'
        connection.execute(re.sub(declared, rf"\g<1>{new}", wanted.sql, flags=re.IGNORECASE))
        for column, facts in table.columns.items():
            if column not in wanted.columns:
                kind = facts.type if re.fullmatch(r"[\w ]*", facts.type or "") else ""
                connection.execute(f"alter table {new} add column {quote(column)} {kind}")
        if not lacking:
            names = ", ".join(map(quote, table.columns))
            # Skips rows that only a missing key or constraint let in.
            connection.execute(f"insert or ignore into {new} ({names}) select {names} from {name}")
        connection.execute(f"drop table {name}")
        connection.execute(f"alter table {new} rename to {name}")
    finally:
        connection.execute("pragma legacy_alter_table = off")


def _restore_pictures(connection: sqlite3.Connection, images: str, wanted: Table) -> list[str]:
    """Add the columns and the unique keys that the pictures' table lacks."""
    table = read_table(connection, images)
    if table is None:
        raise DatabaseError(
            f"The pictures' table {images} is gone. Restore it from a copy of the database, or "
            "embed the pictures into a new one"
        )
    said = []
    for column, facts in wanted.columns.items():
        if column in table.columns:
            continue
        if column in ("id", "path", "content_hash"):
            raise DatabaseError(
                f"The table {images} has no column {column} any more, which identifies its "
                "pictures. Rename the column back, or use an older copy of the database"
            )
        connection.execute(f"alter table {quote(images)} add column {column} {facts.type}")
        said.append(f"the column {images}.{column}, empty for the pictures that are there")
    is_rowid = _key(table) == ["id"] and table.columns["id"].type.lower() == "integer"
    for column in ("id", "path"):
        is_key = is_rowid if column == "id" else _key(table) == [column]
        if is_key or (column,) in table.unique:
            continue
        try:
            connection.execute(
                f"create unique index clip_image_{column} on {quote(images)} ({column})"
            )
        except sqlite3.IntegrityError as error:
            raise DatabaseError(
                f"The table {images} lets several rows have one {column} now, and some do. Delete "
                "all but one of them, and run this command again"
            ) from error
        said.append(f"the unique index of {images}.{column}")
    return said


def _restore_indexes(connection: sqlite3.Connection, wanted: _Schema) -> list[str]:
    said = []
    there = _there(connection, "index")
    for name, (table, sql) in wanted.indexes.items():
        if not _is_same(there.get(name), (table, sql)):
            connection.execute(f"drop index if exists {quote(name)}")
            connection.execute(sql)
            said.append(f"the index {name}")
    return said


def _restore_triggers(connection: sqlite3.Connection, wanted: _Schema) -> set[str]:
    """Make the triggers that are missing or changed; return their names."""
    there = _there(connection, "trigger")
    missing = {
        name for name, trigger in wanted.triggers.items() if not _is_same(there.get(name), trigger)
    }
    for name in missing:
        connection.execute(f"drop trigger if exists {quote(name)}")
        connection.execute(wanted.triggers[name][1])
    return missing


def _there(connection: sqlite3.Connection, kind: str) -> dict[str, tuple[str, str]]:
    sql = "select name, tbl_name, sql from main.sqlite_master where type = ? and sql > ''"
    return {name: (table, sql) for name, table, sql in fetch(connection, sql, kind)}


def _is_same(there: tuple[str, str] | None, wanted: tuple[str, str]) -> bool:
    if there is None:
        return False
    (table, sql), (wanted_table, wanted_sql) = there, wanted
    return table.lower() == wanted_table.lower() and normalized_sql(sql) == normalized_sql(
        wanted_sql
    )


def _begin_history(connection: sqlite3.Connection) -> None:
    """Start the history again, so that no older index or snapshot passes for a current one."""
    last = f"select model_id, max(seq) as seq from {CHANGES} group by model_id"
    connection.execute(f"update {MODELS} set revision = random()")
    begun = fetch(
        connection,
        f"""select id, 1 + coalesce(last.seq, 0), revision from {MODELS}
        left join ({last}) as last on last.model_id = id""",
    ).fetchall()
    connection.execute(f"delete from {CHANGES}")
    connection.executemany(
        f"insert into {CHANGES} (model_id, seq, image_id, revision) values (?, ?, null, ?)", begun
    )


def _count(connection: sqlite3.Connection, table: str) -> int:
    return int(fetch(connection, f"select count(*) from main.{quote(table)}").fetchone()[0])
