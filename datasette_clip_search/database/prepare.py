"""Prepare a database for writing: create its tables, or restore their missing parts."""

import sqlite3
from collections.abc import Sequence

from ..common.errors import DatabaseError
from .connection import fetch, quote, transaction, write_in_parts
from .ordinary_tables import check_is_table
from .recognition import images_table
from .repair import Table, read_table, restore_schema
from .schema import (
    EMBEDDINGS,
    KNOWN_MIGRATIONS,
    MIGRATIONS,
    MIGRATIONS_TABLE,
    OWN_TABLES,
    THUMBNAILS,
    made_from_it,
    migrate,
)


def create_tables(connection: sqlite3.Connection, table: str) -> list[str]:
    """Make our tables in a database, with `table` for the pictures; idempotent.

    Runs inside the caller's transaction. sqlite-utils' migrations record which steps a database has
    had. Parts that others have dropped since are restored, and described in the result.
    """
    migrate(connection, table)
    return restore_schema(connection, table)


def restore_database(connection: sqlite3.Connection) -> list[str]:
    """Bring the tables of a database up to date, and delete rows that belong to no picture.

    Returns descriptions of the missing parts and the deleted rows. Raises DatabaseError as
    images_table() does, and for what cannot be restored.
    """
    try:
        images = images_table(connection)
    except DatabaseError:
        images = _find_pictures(connection)
        if images is None:
            raise
    if images is None:
        return []
    with transaction(connection):
        said = create_tables(connection, images)
    for table, what in ((EMBEDDINGS, "vectors"), (THUMBNAILS, "thumbnails")):
        if count := _delete_lost(connection, images, table):
            said.append(f"{count} {what} without a picture deleted")
    return said


def _find_pictures(connection: sqlite3.Connection) -> str | None:
    """Return the pictures' table of a database that is ours but damaged, or None.

    It is the table that vectors or thumbnails refer to, or else the only one with its columns.
    """
    sql = "select name, type, sql from main.sqlite_master where type in ('table', 'view')"
    every = {each[0].lower(): each for each in fetch(connection, sql)}
    reserved = {*OWN_TABLES, MIGRATIONS_TABLE}
    try:
        for name in reserved & every.keys():
            check_is_table(every[name])
    except DatabaseError:
        return None
    if MIGRATIONS_TABLE not in every:
        return None
    sql = f"select name from main.{MIGRATIONS_TABLE} where migration_set = ?"
    applied = {name for (name,) in fetch(connection, sql, MIGRATIONS)}
    if not applied or not applied <= set(KNOWN_MIGRATIONS):
        return None
    tables = {
        name: table
        for name, (_, _, sql) in every.items()
        if name not in reserved and str(sql).startswith("CREATE TABLE ")
        for table in [read_table(connection, name)]
    }
    for ours in (EMBEDDINGS, THUMBNAILS):
        links = (read_table(connection, ours) or Table("", {}, set(), set())).links
        for column, table, _ in links:
            if column == "image_id" and table in tables:
                return str(every[table][0])
    like = [
        str(every[name][0])
        for name, table in tables.items()
        if table and table.columns.keys() >= {"id", "path", "content_hash", "size", "mtime"}
    ]
    return like[0] if len(like) == 1 else None


def _delete_lost(connection: sqlite3.Connection, images: str, table: str) -> int:
    """Delete vectors or thumbnails whose picture is gone, or has other content now."""
    rowid = "rowid" if table == EMBEDDINGS else "image_id"
    same = made_from_it("t", "i")
    lost = f"""select t.{rowid} from main.{table} as t left join main.{quote(images)} as i
        on i.id = t.image_id and {same} where i.id is null"""
    found = fetch(connection, lost).fetchall()

    def delete(rows: Sequence[tuple[int]]) -> None:
        # A picture may have come back in the meantime.
        sql = f"delete from main.{table} where {rowid} in ({lost} and t.{rowid} = ?)"
        connection.executemany(sql, rows)

    write_in_parts(connection, found, delete)
    return len(found)
