"""Add table-valued and scalar functions to a connection of Python's own sqlite3.

It knows nothing of pictures: it imports only `common`, and only `sql` imports it.

    def count_up(connection, stop, start, limit=None):
        return ((n,) for n in range(0 if start is MISSING else start, stop + 1))

    counter = TableFunction("count_up", {"n": "INTEGER"}, ("stop", "start"), 1, count_up)
    register(connection, [counter])
    connection.execute("select n from count_up(10, 3)")

Python's sqlite3 can add scalar functions only, and it hides their error messages. Here the text of
an exception reaches the person who typed the SQL.

How SQLite calls us
===================

A table-valued function is an *eponymous virtual table*: nobody creates it, and its arguments are
hidden columns. `select n from count_up(10, 3)` means
`select n from count_up where stop = 10 and start = 3`. SQLite calls the functions of a C struct,
`sqlite3_module`; ctypes makes each of them from a method of `callbacks.TableCallbacks`.

1. Registration. `register` finds the SQLite library and the `sqlite3*` of a connection
   (`connections`), and calls `sqlite3_create_module_v2`, or `sqlite3_create_function_v2` for a
   scalar function (`scalar`). It passes 8 bytes of SQLite's memory that hold the address of the
   Python connection. The callbacks are made once for each function and library, and never freed.
2. Compiling a statement.
   - xConnect, for the first statement that names the function. It declares the columns
     (`TableFunction.declaration`) and allocates a `VirtualTable`.
   - xBestIndex, once for each order of joins that SQLite considers. It gets the conditions that
     SQLite can pass on, and replies which of them it uses and what a call costs
     (`planner.Planner.choose`). The chosen reply comes back to each xFilter as idxNum, a bit for
     each argument, and idxStr, the memory of a `caller_statement.Note`.
3. Running it.
   - xOpen allocates a `Cursor`, which is an address and nothing more.
   - xFilter starts a call: once, or for each row of an outer table. It reads the arguments
     (`Planner.unpack`). If there is a condition on the restricting column, or no count, it also
     reads the text of the statement, to learn which conditions and which LIMIT belong to this call
     (`meaning`). Then `function_calls` calls the Python function, or takes the rows of an equal
     call of the same run (`row_cache`). All rows are read at once, into a `scans.Scan`.
   - xEof, after xFilter and after each xNext: is there a row?
   - xColumn for each value that the statement uses, and xRowid where SQLite tells rows apart.
   - xNext moves on to the next row. After the last one it may call the function again, with a
     larger limit (`FunctionCalls.read_more`).
4. The end.
   - xClose for a cursor, xDisconnect for the virtual table, and a destructor for the 8 bytes of
     step 1. All three are `sqlite3_free` itself: no Python runs.

A scalar function has one callback, xFunc, called for each row (`scalar`).

Surprises
=========

- No Python runs at the end, because Python frees a half-read cursor at any moment: while an
  exception is on its way, or when the interpreter exits. So nothing tells us that a cursor is gone,
  and `scans` drops the least recently read rows when there are too many.
- xEof is the `pop` method of a dict, which each step of a cursor fills for the question that
  follows it. It is faster than a method written in Python, and no KeyboardInterrupt can be raised
  in it: it has no way to report an error to SQLite.
- A `Note` stores sets of conditions as bits, because it lives in C memory that SQLite frees.
- A connection is identified by its address: a reference would keep it open for ever. A callback
  runs only while a statement of that connection does, so the address is valid.
"""

from collections.abc import Iterable
from typing import Any

from .callbacks import module_of
from .connections import handle_of, library_of, pointer_to
from .declaration import MISSING, ScalarFunction, TableFunction
from .library import NativeUnavailable
from .scalar import scalar_callback
from .structures import SQLITE_DETERMINISTIC, SQLITE_OK, SQLITE_UTF8

__all__ = ["MISSING", "NativeUnavailable", "ScalarFunction", "TableFunction", "register"]


def register(
    connection: Any,
    functions: Iterable[TableFunction | ScalarFunction],
    *,
    expected: tuple[type[BaseException], ...] = (),
) -> None:
    """Add functions to a connection; each replaces any function of the same name.

    The text of an exception of one of the `expected` classes becomes the SQL error, word for word.
    Any other exception is logged, and the SQL error names only its class. Declare each function
    once, at module level: its callbacks are never freed.

    Raises NativeUnavailable if the SQLite of the connection cannot be reached, and the driver's own
    ProgrammingError for a connection that is closed, not initialised or another thread's.
    """
    library = library_of(connection)
    handle = handle_of(connection)
    for function in functions:
        name = function.name.encode()
        pointer = pointer_to(library, connection)
        # Both calls free the pointer when they fail.
        if isinstance(function, TableFunction):
            module = module_of(library, function, expected)
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
