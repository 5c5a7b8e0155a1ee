"""Reach the SQLite library and the `sqlite3*` of a Python connection.

Nothing is compiled. The C functions are looked up in the library that the connection's own driver
uses, and the `sqlite3*` is read from the connection object.
"""

import ctypes
import sys
from collections.abc import Iterator
from ctypes import c_void_p
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

from ...common.drivers import driver_of
from .hidden_symbols import HiddenForGood, hidden_functions
from .library import Library, NativeUnavailable
from .structures import VirtualTable


def library_of(connection: Any) -> Library:
    """Return the SQLite library that a connection uses, after a check that it is the same one.

    Raises NativeUnavailable if it cannot be reached, and the driver's own ProgrammingError
    for a connection that is closed, not initialised or another thread's.
    """
    if sys.implementation.name != "cpython":
        raise NativeUnavailable(
            f"table-valued functions need CPython; this is {sys.implementation.name}"
        )
    found = driver_of(type(connection))
    if found is None:
        raise NativeUnavailable(
            f"{type(connection).__module__}.{type(connection).__name__} is not a connection of "
            "Python's sqlite3 or of pysqlite3"
        )
    extension, driver = found
    # The driver's own methods: a subclass may have changed cursor() and execute().
    cursor = driver.cursor(connection)
    cursor.row_factory = None
    library = _open(extension, driver)
    sourceid = library.sourceid().decode()
    if cursor.execute("select sqlite_source_id() = ?", (sourceid,)).fetchone() != (1,):
        raise NativeUnavailable(
            f"{extension.__name__} uses another SQLite than that of its symbols: {sourceid}"
        )
    return library


def handle_of(connection: Any) -> int:
    """Return the `sqlite3*` of a connection that library_of() has accepted."""
    handle = c_void_p.from_address(id(connection) + object.__basicsize__).value
    if not handle:
        raise NativeUnavailable("the connection is closed")
    return handle


@cache
def _open(extension: ModuleType, driver: Any) -> Library:
    reasons = []
    for name in _library_names(extension):
        try:
            return Library(partial(_address_in, ctypes.CDLL(name)))
        except (OSError, AttributeError) as error:
            reasons.append(str(error))
    try:
        return Library(hidden_functions(driver))
    except HiddenForGood as error:
        reasons.append(str(error))
    raise NativeUnavailable(
        f"the SQLite of {extension.__name__} hides its functions: {'; '.join(reasons)}"
    )


def _address_in(library: ctypes.CDLL, name: str) -> int:
    return ctypes.cast(getattr(library, name), c_void_p).value or 0


def _library_names(extension: ModuleType) -> Iterator[str | None]:
    # An extension that is built into the interpreter has no file; None means the program itself.
    file = extension.__file__ if hasattr(extension, "__file__") else None
    yield file
    if sys.platform == "win32":
        if file is not None:
            yield str(Path(file).with_name("sqlite3.dll"))
        yield "sqlite3.dll"


def pointer_to(library: Library, connection: Any) -> int:
    """Return memory from SQLite that holds the address of a connection, without a reference.

    A reference would keep the connection alive for ever. Only callbacks follow the address, and a
    callback runs only while a statement of that connection runs.
    """
    memory: int | None = library.malloc(ctypes.sizeof(c_void_p))
    if not memory:
        raise MemoryError
    c_void_p.from_address(memory).value = id(connection)
    return memory


def connection_at(memory: int) -> Any:
    """Return the connection whose address is stored in memory."""
    return ctypes.py_object.from_address(memory).value


def connection_of(table: VirtualTable) -> Any:
    """Return the connection that a virtual table belongs to."""
    return connection_at(ctypes.addressof(table) + VirtualTable.connection.offset)
