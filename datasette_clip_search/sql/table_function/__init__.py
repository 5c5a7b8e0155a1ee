"""Adds table-valued and scalar functions to a connection of Python's own sqlite3.

    def count_up(connection, stop, start, limit=None):
        return ((n,) for n in range(0 if start is MISSING else start, stop + 1))

    counter = TableFunction("count_up", {"n": "INTEGER"}, ("stop", "start"), 1, count_up)
    register(connection, [counter])
    connection.execute("select n from count_up(10, 3)")

Python offers scalar functions alone, and swallows their error messages. Here an exception's text
reaches the person who typed the SQL. What SQLite calls is made once for a function and kept for
ever; a connection holds nothing but its own address, so it costs nothing and can be freed.
"""

from collections.abc import Iterable
from typing import Any

from .callbacks import scalar_callback, table_callbacks
from .declaration import MISSING, ScalarFunction, TableFunction
from .library import NativeUnavailable, handle_of, library_of, pointer_to
from .structures import SQLITE_DETERMINISTIC, SQLITE_OK, SQLITE_UTF8

__all__ = ["MISSING", "NativeUnavailable", "ScalarFunction", "TableFunction", "register"]


def register(
    connection: Any,
    functions: Iterable[TableFunction | ScalarFunction],
    *,
    expected: tuple[type[BaseException], ...] = (),
) -> None:
    """Makes functions callable from a connection's SQL, in place of any of the same names.

    The text of an exception of one of the `expected` classes becomes the SQL error word for word.
    Any other is logged, and the SQL error tells its class alone. Declare each function once, at
    module level: what is made for a function is kept for ever.

    Raises NativeUnavailable where the connection's SQLite cannot be reached, and the driver's own
    ProgrammingError for a connection that is closed, not initialised or another thread's.
    """
    library = library_of(connection)
    handle = handle_of(connection)
    for function in functions:
        name = function.name.encode()
        pointer = pointer_to(library, connection)
        # Both calls free the pointer when they fail.
        if isinstance(function, TableFunction):
            module = table_callbacks(library, function, expected)
            code = library.create_module(handle, name, module, pointer, library.free_address)
        else:
            flags = SQLITE_UTF8 | (SQLITE_DETERMINISTIC if function.deterministic else 0)
            fixed = function.min_arguments == function.max_arguments
            count = function.min_arguments if fixed else -1
            call = scalar_callback(library, function, expected)
            code = library.create_function(
                handle, name, count, flags, pointer, call, None, None, library.free_address
            )
        if code != SQLITE_OK:
            reason = library.errmsg(handle).decode("utf-8", "replace")
            raise NativeUnavailable(f"SQLite refused to add {function.name}(): {reason}")
