"""Reaches the SQLite library behind a connection of Python's sqlite3, with ctypes alone.

Nothing is compiled: the C functions are looked up in the very library that the connection's own
driver uses, and the `sqlite3*` is read from the connection object.
"""

import ctypes
import sys
from collections.abc import Callable, Iterator, Sequence
from ctypes import POINTER, c_char_p, c_double, c_int, c_int64, c_ubyte, c_uint64, c_void_p
from functools import cache, partial
from operator import index
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, cast

from ...common.drivers import driver_of
from .hidden_symbols import HiddenForGood, hidden_functions
from .limits import Limit
from .structures import (
    SQLITE_BLOB,
    SQLITE_FLOAT,
    SQLITE_INTEGER,
    SQLITE_TEXT,
    SQLITE_TRANSIENT,
    SQLITE_UTF8,
)

F = TypeVar("F", bound=Callable[..., Any])

OLDEST_SQLITE = 3_010_000
"""Eponymous virtual tables with hidden columns for their arguments came with 3.9, and which columns
a statement uses is told from 3.10 on."""

INT64_MAX = 2**63 - 1

MOST_BYTES = 64 * 2**20
"""How much the arguments of a function with limits may have together: all are copied."""

SQLITE_OF_LISTS = 3_038_000
"""A virtual table gets the values of an IN all at once from 3.38 on."""


class NativeUnavailable(Exception):
    "The SQLite library of this connection cannot be reached with ctypes."


class FunctionError(Exception):
    "An SQL error whose text is written for the person who typed the SQL."


class Library:
    """The C functions of one SQLite library, and the passing of values to and from it."""

    def __init__(self, find: Callable[[str], int]) -> None:
        """Takes what returns a function's address by its name.

        A function that waits for the connection's mutex must let go of the GIL, or it would wait
        for ever on a thread that holds the mutex inside a Python callback. The others are called
        several times for every row, and are faster without.
        """
        releasing, holding = ctypes.CFUNCTYPE, ctypes.PYFUNCTYPE

        def bind(kind: Any, name: str, result: Any, *arguments: Any) -> Any:
            return kind(result, *arguments)(find(name))

        # Before any function that an older one lacks.
        self.version_number = bind(holding, "sqlite3_libversion_number", c_int)
        self.version: int = self.version_number()
        if self.version < OLDEST_SQLITE:
            raise NativeUnavailable("table-valued functions need SQLite 3.10 or newer")
        self.sourceid = bind(holding, "sqlite3_sourceid", c_char_p)
        self.malloc = bind(holding, "sqlite3_malloc64", c_void_p, c_uint64)
        self.free = bind(holding, "sqlite3_free", None, c_void_p)
        self.free_address = find("sqlite3_free")
        self.user_data = bind(holding, "sqlite3_user_data", c_void_p, c_void_p)
        self.value_type = bind(holding, "sqlite3_value_type", c_int, c_void_p)
        self.value_int64 = bind(holding, "sqlite3_value_int64", c_int64, c_void_p)
        self.value_double = bind(holding, "sqlite3_value_double", c_double, c_void_p)
        self.value_text = bind(holding, "sqlite3_value_text", c_void_p, c_void_p)
        self.value_blob = bind(holding, "sqlite3_value_blob", c_void_p, c_void_p)
        self.value_bytes = bind(holding, "sqlite3_value_bytes", c_int, c_void_p)
        self.result_null = bind(holding, "sqlite3_result_null", None, c_void_p)
        self.result_int64 = bind(holding, "sqlite3_result_int64", None, c_void_p, c_int64)
        self.result_double = bind(holding, "sqlite3_result_double", None, c_void_p, c_double)
        self.result_text = bind(
            holding, "sqlite3_result_text64", None, c_void_p, c_char_p, c_uint64, c_void_p, c_ubyte
        )
        self.result_blob = bind(
            holding, "sqlite3_result_blob64", None, c_void_p, c_char_p, c_uint64, c_void_p
        )
        self.result_error = bind(holding, "sqlite3_result_error", None, c_void_p, c_char_p, c_int)
        self.result_error_code = bind(holding, "sqlite3_result_error_code", None, c_void_p, c_int)
        self.errmsg = bind(releasing, "sqlite3_errmsg", c_char_p, c_void_p)
        self.declare_vtab = bind(releasing, "sqlite3_declare_vtab", c_int, c_void_p, c_char_p)
        self.create_module = bind(
            releasing,
            "sqlite3_create_module_v2",
            c_int,
            c_void_p,
            c_char_p,
            c_void_p,
            c_void_p,
            c_void_p,
        )
        self.create_function = bind(
            releasing,
            "sqlite3_create_function_v2",
            c_int,
            c_void_p,
            c_char_p,
            c_int,
            c_int,
            c_void_p,
            c_void_p,
            c_void_p,
            c_void_p,
            c_void_p,
        )
        # The connection's mutex is already this thread's wherever these are called.
        self.next_stmt = bind(holding, "sqlite3_next_stmt", c_void_p, c_void_p, c_void_p)
        self.sql = bind(holding, "sqlite3_sql", c_char_p, c_void_p)
        self.stmt_busy = bind(holding, "sqlite3_stmt_busy", c_int, c_void_p)
        self.stmt_status = bind(holding, "sqlite3_stmt_status", c_int, c_void_p, c_int, c_int)
        self.get_auxdata = bind(holding, "sqlite3_get_auxdata", c_void_p, c_void_p, c_int)
        self.set_auxdata = bind(
            holding, "sqlite3_set_auxdata", None, c_void_p, c_int, c_void_p, c_void_p
        )
        self.total_changes = bind(holding, "sqlite3_total_changes", c_int, c_void_p)
        self.takes_lists: bool = self.version >= SQLITE_OF_LISTS
        if self.takes_lists:
            self.vtab_in = bind(holding, "sqlite3_vtab_in", c_int, c_void_p, c_int, c_int)
            self.vtab_in_first = bind(
                holding, "sqlite3_vtab_in_first", c_int, c_void_p, POINTER(c_void_p)
            )
            self.vtab_in_next = bind(
                holding, "sqlite3_vtab_in_next", c_int, c_void_p, POINTER(c_void_p)
            )
            self.vtab_rhs_value = bind(
                holding, "sqlite3_vtab_rhs_value", c_int, c_void_p, c_int, POINTER(c_void_p)
            )
            self.value_frombind = bind(holding, "sqlite3_value_frombind", c_int, c_void_p)

    def arguments(
        self, count: int, addresses: int | None, limits: Sequence[Limit] = ()
    ) -> list[Any]:
        """Returns the values of a C array of `sqlite3_value*`; the last limit is that of the rest.

        Raises FunctionError as value() does.
        """
        values = pointers(count, addresses)
        if not limits:
            return [self.value(address) for address in values]
        last = len(limits) - 1
        # Before the first is copied: there may be a hundred.
        sizes = [self.check(address, limits[min(n, last)]) for n, address in enumerate(values)]
        if sum(sizes) > MOST_BYTES:
            raise FunctionError(
                f"the arguments have {sum(sizes)} bytes together and the limit is {MOST_BYTES}"
            )
        return [self.value(address) for address in values]

    def check(self, address: int | None, limit: Limit) -> int:
        """Returns the bytes of a text or a blob, which are not copied; 0 for any other value.

        Raises FunctionError for more than the limit.
        """
        kind = self.value_type(address)
        if kind not in (SQLITE_TEXT, SQLITE_BLOB):
            return 0
        most = limit.text if kind == SQLITE_TEXT else limit.blob
        size: int = self.value_bytes(address)
        if size > most:
            raise FunctionError(limit.refusal(size, kind == SQLITE_TEXT))
        return size

    def value(self, address: int | None, errors: str = "strict") -> Any:
        """Returns an int, a float, a str, bytes or None for one `sqlite3_value*`.

        Raises FunctionError for text that is not UTF-8, unless `errors` allows it.
        """
        kind = self.value_type(address)
        if kind == SQLITE_TEXT:
            # sqlite3_value_bytes gives the length of what the call before it returned.
            start = self.value_text(address)
            data = ctypes.string_at(start, self.value_bytes(address))
            try:
                return data.decode("utf-8", errors)
            except UnicodeDecodeError as error:
                wrong = data[error.start : error.start + 4].hex()
                raise FunctionError(
                    f"text is not UTF-8: x'{wrong}' stands at byte {error.start}"
                ) from None
        if kind == SQLITE_INTEGER:
            return self.value_int64(address)
        if kind == SQLITE_FLOAT:
            return self.value_double(address)
        if kind == SQLITE_BLOB:
            start = self.value_blob(address)
            return ctypes.string_at(start, self.value_bytes(address)) if start else b""
        return None

    def give(self, context: int, value: Any) -> None:
        """Makes a Python value the result of an SQL function or of a column.

        Raises FunctionError for what SQLite cannot hold.
        """
        if value is None:
            self.result_null(context)
        elif type(value) is float:
            self.result_double(context, value)
        elif type(value) is int and -INT64_MAX <= value <= INT64_MAX:
            self.result_int64(context, value)
        elif isinstance(value, str):
            try:
                text = value.encode()
            except UnicodeEncodeError:
                raise FunctionError(
                    f"text with a lone surrogate is not Unicode: {value!a}"
                ) from None
            self.result_text(context, text, len(text), SQLITE_TRANSIENT, SQLITE_UTF8)
        elif isinstance(value, float):
            self.result_double(context, value)
        elif isinstance(value, (bytes, bytearray, memoryview)):
            blob = bytes(value)
            self.result_blob(context, blob, len(blob), SQLITE_TRANSIENT)
        else:
            number = _number(value)
            if isinstance(number, float):
                self.result_double(context, number)
            elif -INT64_MAX - 1 <= number <= INT64_MAX:
                self.result_int64(context, number)
            else:
                raise FunctionError("an integer does not fit in the 64 bits that SQLite has for it")


def pointers(count: int, start: int | None) -> list[int | None]:
    """Returns what a C array of pointers holds."""
    return list((c_void_p * count).from_address(start)) if count and start else []


def _number(value: Any) -> int | float:
    for convert in (index, float):
        if hasattr(type(value), f"__{convert.__name__}__"):
            try:
                return convert(value)
            except TypeError:
                pass  # An array of numbers has both methods, and they refuse.
    raise FunctionError(
        f"expected NULL, int, float, str or bytes but received {type(value).__name__}"
    )


def library_of(connection: Any) -> Library:
    """Returns the SQLite library that a connection uses, seen to be the same one.

    Raises NativeUnavailable where it cannot be reached, and the driver's own ProgrammingError
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
    # The driver's own methods: a subclass may have given cursor() and execute() other meanings.
    cursor = driver.cursor(connection)
    cursor.row_factory = None
    library = _open(extension, driver)
    sourceid = library.sourceid().decode()
    if cursor.execute("select sqlite_source_id() = ?", (sourceid,)).fetchone() != (1,):
        raise NativeUnavailable(
            f"{extension.__name__} uses another SQLite than its symbols lead to: {sourceid}"
        )
    return library


def handle_of(connection: Any) -> int:
    """Returns the `sqlite3*` of a connection that library_of() has accepted."""
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
    # An extension built into the interpreter has no file: None is the program itself.
    file = extension.__file__ if hasattr(extension, "__file__") else None
    yield file
    if sys.platform == "win32":
        if file is not None:
            yield str(Path(file).with_name("sqlite3.dll"))
        yield "sqlite3.dll"


def pointer_to(library: Library, connection: Any) -> int:
    """Returns memory of SQLite's own that holds the address of a connection, uncounted.

    A counted reference would keep the connection alive for ever. The address is only followed
    inside a callback, and a callback runs because a statement of that very connection does.
    """
    memory: int | None = library.malloc(ctypes.sizeof(c_void_p))
    if not memory:
        raise MemoryError
    c_void_p.from_address(memory).value = id(connection)
    return memory


def connection_at(memory: int) -> Any:
    """Returns the connection whose address stands in memory."""
    return ctypes.py_object.from_address(memory).value


def callback(result: Any, *arguments: Any) -> Callable[[F], F]:
    """Makes a decorator that turns a Python function into a C one."""
    return cast(Callable[[F], F], ctypes.CFUNCTYPE(result, *arguments))


def address_of(function: Callable[..., Any]) -> int | None:
    """Returns the address of a C function made by callback()."""
    return ctypes.cast(cast(Any, function), c_void_p).value


def keep_for_ever(thing: object) -> None:
    """Keeps an object that C code points at from ever being freed, even at interpreter exit."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))
