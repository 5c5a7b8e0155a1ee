"""The SQL functions, and how a connection gets them."""

import ctypes
import json
import sqlite3
from collections.abc import Iterator
from typing import Any

from .config import CONFIG
from .errors import ClipSearchError
from .table_function import MISSING, NativeUnavailable, ScalarFunction, TableFunction, register

# SQLite's own errors, "interrupted" above all, are as fit to be shown.
EXPECTED = (ClipSearchError, sqlite3.Error)


def _clip_search(
    connection: sqlite3.Connection, query: Any, k: Any, limit: int | None = None
) -> Iterator[Any]:
    from .search import search

    if k is MISSING:
        k = CONFIG.default_k if limit is None else min(limit, CONFIG.max_k)
    return search(connection, query, k)


def _clip_search_json(connection: sqlite3.Connection, query: Any, k: Any = MISSING) -> str:
    from .search import search

    hits = search(connection, query, CONFIG.default_k if k is MISSING else k)
    return json.dumps([hit._asdict() for hit in hits], ensure_ascii=False)


CLIP_SEARCH = TableFunction(
    name="clip_search",
    columns={"rank": "INTEGER", "id": "INTEGER", "path": "TEXT", "score": "REAL"},
    parameters=("query", "k"),
    required=1,
    rows=_clip_search,
    ordered_by="rank",
)
CLIP_SEARCH_JSON = ScalarFunction("clip_search_json", 1, 2, _clip_search_json)


def add_functions(connection: sqlite3.Connection) -> None:
    """Adds clip_search and clip_search_json to a connection that lacks them.

    Where SQLite can't be reached from Python, clip_search is left out, and the errors of
    clip_search_json lose their text.
    """
    sql = "select 1 from pragma_function_list where name = ?"
    if connection.execute(sql, [CLIP_SEARCH_JSON.name]).fetchone():
        return
    try:
        register(connection, [CLIP_SEARCH, CLIP_SEARCH_JSON], expected=EXPECTED)
    except NativeUnavailable:
        # By its address: a function that held the connection would keep it open for ever.
        address = id(connection)

        def call(*arguments: Any) -> str:
            return _clip_search_json(ctypes.cast(address, ctypes.py_object).value, *arguments)

        for count in (1, 2):
            connection.create_function(CLIP_SEARCH_JSON.name, count, call)
