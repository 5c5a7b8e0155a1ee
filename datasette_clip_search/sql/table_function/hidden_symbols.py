"""Reach the functions of an SQLite that is linked into its driver without exported symbols.

The Pythons of uv (python-build-standalone) are built like that. SQLite passes a table of its
functions, `struct sqlite3_api_routines` of sqlite3ext.h, to each extension that it loads. The
places in the table never change. The extension of sqlite-vec stores the address of the table in an
exported symbol.
"""

import ctypes
import sys
from collections.abc import Callable
from ctypes import c_char_p, c_void_p
from typing import Any

PLACES = {
    "sqlite3_declare_vtab": 50,
    "sqlite3_errmsg": 53,
    "sqlite3_free": 58,
    "sqlite3_get_auxdata": 61,
    "sqlite3_libversion_number": 67,
    "sqlite3_result_double": 79,
    "sqlite3_result_error": 80,
    "sqlite3_result_int64": 83,
    "sqlite3_result_null": 84,
    "sqlite3_set_auxdata": 92,
    "sqlite3_total_changes": 97,
    "sqlite3_user_data": 101,
    "sqlite3_value_blob": 102,
    "sqlite3_value_bytes": 103,
    "sqlite3_value_double": 105,
    "sqlite3_value_int64": 107,
    "sqlite3_value_text": 109,
    "sqlite3_value_type": 113,
    "sqlite3_create_module_v2": 119,
    "sqlite3_result_error_code": 146,
    "sqlite3_next_stmt": 152,
    "sqlite3_sql": 153,
    "sqlite3_create_function_v2": 162,
    "sqlite3_sourceid": 169,
    "sqlite3_stmt_status": 170,
    "sqlite3_stmt_busy": 184,
    "sqlite3_malloc64": 197,
    "sqlite3_result_blob64": 201,
    "sqlite3_result_text64": 202,
    "sqlite3_value_frombind": 242,
    "sqlite3_vtab_rhs_value": 257,
    "sqlite3_vtab_in": 259,
    "sqlite3_vtab_in_first": 260,
    "sqlite3_vtab_in_next": 261,
}
"""The table of an older SQLite is shorter, so never look up a function that its release lacks."""


class HiddenForGood(Exception):
    "The functions of a hidden SQLite cannot be reached through an extension either."


def hidden_functions(driver: Any) -> Callable[[str], int]:
    """Return a function that finds addresses by name, in the SQLite of a Connection class.

    Raises HiddenForGood if sqlite-vec is missing or its extension cannot be loaded.
    """
    try:
        import sqlite_vec
    except ImportError:
        raise HiddenForGood(
            "they can be reached with sqlite-vec, which is not installed: pip install sqlite-vec"
        ) from None
    connection = driver(":memory:")
    try:
        table = _table_of(connection, sqlite_vec.loadable_path())
        (sourceid,) = connection.cursor().execute("select sqlite_source_id()").fetchone()
    except AttributeError:
        raise HiddenForGood(
            "it can load no extension that would reach them: pip install pysqlite3-binary"
        ) from None
    except Exception as error:
        raise HiddenForGood(
            f"sqlite-vec, which would reach them, cannot be loaded ({error}): "
            "pip install pysqlite3-binary"
        ) from error
    finally:
        connection.close()

    def find(name: str) -> int:
        place = PLACES[name] * ctypes.sizeof(c_void_p)
        return c_void_p.from_address(table + place).value or 0

    found = ctypes.PYFUNCTYPE(c_char_p)(find("sqlite3_sourceid"))()
    if found != sourceid.encode():
        raise HiddenForGood(f"sqlite-vec belongs to another SQLite: {found!r}")
    return find


def _table_of(connection: Any, path: str) -> int:
    suffix = {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")
    kept = c_void_p.in_dll(ctypes.CDLL(path + suffix), "sqlite3_api")
    before = kept.value
    connection.enable_load_extension(True)
    connection.load_extension(path)
    connection.enable_load_extension(False)
    table = kept.value
    if not table:
        raise OSError("it keeps no table of functions")
    if before:
        # Another SQLite of this process has loaded the extension, too: restore its table.
        kept.value = before
    return table
