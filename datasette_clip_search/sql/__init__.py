"""Add the SQL functions, such as clip_search(), to a connection.

It imports `search` and what that imports; `web` and `cli` import it. sqlite-utils and Datasette
import it for each connection, so its functions import numpy and everything else only when they are
called.
"""

import ctypes
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ..common.errors import ClipSearchError
from .arguments import naming_attached
from .duplicates import CLIP_DUPLICATES
from .search import CLIP_SEARCH, CLIP_SEARCH_JSON
from .table_function import NativeUnavailable, ScalarFunction, TableFunction, register
from .tags import CLIP_TAGS
from .vectors import CLIP_MIX, CLIP_SIMILARITY, CLIP_VECTOR

# The text of SQLite's own errors, such as "interrupted", can be shown as well.
EXPECTED = (ClipSearchError, sqlite3.Error)

FUNCTIONS: tuple[TableFunction | ScalarFunction, ...] = tuple(
    replace(function, rows=naming_attached(function.rows))
    if isinstance(function, TableFunction)
    else replace(function, function=naming_attached(function.function))
    for function in (
        CLIP_SEARCH,
        CLIP_SEARCH_JSON,
        CLIP_VECTOR,
        CLIP_SIMILARITY,
        CLIP_MIX,
        CLIP_DUPLICATES,
        CLIP_TAGS,
    )
)


def add_functions(connection: sqlite3.Connection) -> None:
    """Add the SQL functions to a connection that does not have them yet.

    If SQLite cannot be reached from Python, only scalar functions are added, and their errors have
    no text.
    """
    try:
        # Compile it without running it, and name no table: a database may have a view of any name.
        connection.cursor().execute(f"explain select {CLIP_SEARCH_JSON.name}(null)").close()
        return
    except sqlite3.OperationalError:
        pass
    try:
        register(connection, FUNCTIONS, expected=EXPECTED)
    except NativeUnavailable:
        for function in FUNCTIONS:
            if isinstance(function, ScalarFunction):
                _create_function(connection, function)


def _create_function(connection: sqlite3.Connection, function: ScalarFunction) -> None:
    # Identified by address, because a reference to the connection would keep it open for ever.
    address = id(connection)
    work: Callable[..., Any] = function.function

    def call(*arguments: Any) -> Any:
        return work(ctypes.cast(address, ctypes.py_object).value, *arguments)

    least, most = function.min_arguments, function.max_arguments
    for count in range(least, most + 1) if most >= 0 else (-1,):
        connection.create_function(function.name, count, call)
