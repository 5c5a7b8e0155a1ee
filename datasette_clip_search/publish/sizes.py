"""Measure how many bytes each part of a published file takes."""

import sqlite3

from ..database.connection import fetch, quote
from ..database.schema import EMBEDDINGS, MODELS, OWN_TABLES, THUMBNAILS

_NAMES = {EMBEDDINGS: "vectors", THUMBNAILS: "thumbnails", MODELS: "models"}


def part_sizes(connection: sqlite3.Connection, table: str) -> list[tuple[str, int]]:
    """Return the parts of a database and the bytes of their values, without indexes."""
    sql = """select name from main.sqlite_master
        where type = 'table' and name not like 'sqlite~_%' escape '~'"""
    tables = {name for (name,) in fetch(connection, sql)}
    parts: dict[str, int] = {}
    for name in [table, EMBEDDINGS, THUMBNAILS, *sorted(tables)]:
        if name not in tables:
            continue
        tables.remove(name)
        if name == "clip_towers":
            sql = f"select tower, sum(length(data)) from main.{name} group by tower order by tower"
            parts |= {f"{tower} tower": size for tower, size in fetch(connection, sql)}
            continue
        own = "facts" if name == table else "other tables of embed-images"
        part = _NAMES.get(name) or (own if name in (table, *OWN_TABLES) else name)
        if name == "_sqlite_migrations":
            part = "other tables of embed-images"
        parts[part] = parts.get(part, 0) + _bytes_of(connection, name)
    return [(part, size) for part, size in parts.items() if size]


def _bytes_of(connection: sqlite3.Connection, table: str) -> int:
    columns = fetch(
        connection, "select name from temp.pragma_table_xinfo(?) where hidden = 0", table
    )
    lengths = [f"ifnull(length(cast({quote(name)} as blob)), 0)" for (name,) in columns]
    sql = f"select sum({' + '.join(lengths)}) from main.{quote(table)}"
    return int(fetch(connection, sql).fetchone()[0] or 0)
