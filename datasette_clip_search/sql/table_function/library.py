"""The C functions of an SQLite library, and the conversion of values to and from it."""

import ctypes
from collections.abc import Callable, Sequence
from ctypes import POINTER, c_char_p, c_double, c_int, c_int64, c_ubyte, c_uint64, c_void_p
from operator import index
from typing import Any, TypeVar, cast

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
"""Eponymous virtual tables with hidden columns came with 3.9; 3.10 says which columns are used."""

INT64_MAX = 2**63 - 1

MOST_BYTES = 64 * 2**20
"""The most bytes that the arguments of a call may have together; all of them are copied."""

SQLITE_OF_LISTS = 3_038_000
"""Since 3.38, SQLite can pass all values of an IN to a virtual table at once."""


class NativeUnavailable(Exception):
    "The SQLite library of this connection cannot be reached with ctypes."


class FunctionError(Exception):
    "An SQL error; its text is for the person who typed the SQL."


class Library:
    """The C functions of one SQLite library."""

    def __init__(self, find: Callable[[str], int]) -> None:
        """Bind the functions; `find` returns the address of one by its name.

        A function that waits for the connection's mutex must release the GIL. Otherwise it would
        wait for ever for a thread that holds the mutex inside a Python callback. The others are
        called several times for each row, and keep the GIL because that is faster.
        """
        releasing, holding = ctypes.CFUNCTYPE, ctypes.PYFUNCTYPE

        def bind(kind: Any, name: str, result: Any, *arguments: Any) -> Any:
            return kind(result, *arguments)(find(name))

        # First, because an older SQLite lacks some of the functions below.
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
        # This thread already holds the connection's mutex wherever these are called.
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
        """Return the values of a C array of `sqlite3_value*`.

        The last of `limits` applies to all further arguments. Raises FunctionError as check() and
        value() do, and if the arguments are too large together.
        """
        values = pointers(count, addresses)
        if not limits:
            return [self.value(address) for address in values]
        last = len(limits) - 1
        # Check all before any is copied: there may be a hundred.
        sizes = [self.check(address, limits[min(n, last)]) for n, address in enumerate(values)]
        if sum(sizes) > MOST_BYTES:
            raise FunctionError(
                f"the arguments have {sum(sizes)} bytes together and the limit is {MOST_BYTES}"
            )
        return [self.value(address) for address in values]

    def check(self, address: int | None, limit: Limit) -> int:
        """Return the size of a text or blob in bytes, without a copy; 0 for any other value.

        Raises FunctionError if it is over the limit.
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
        """Return one `sqlite3_value*` as int, float, str, bytes or None.

        Raises FunctionError for text that is not UTF-8, unless `errors` allows it.
        """
        kind = self.value_type(address)
        if kind == SQLITE_TEXT:
            # sqlite3_value_bytes returns the length of the text that the previous call returned.
            start = self.value_text(address)
            data = ctypes.string_at(start, self.value_bytes(address))
            try:
                return data.decode("utf-8", errors)
            except UnicodeDecodeError as error:
                wrong = data[error.start : error.start + 4].hex()
                raise FunctionError(
                    f"text is not UTF-8: it has x'{wrong}' at byte {error.start}"
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
        """Return a Python value to SQLite, as the result of a function or the value of a column.

        Raises FunctionError for a value that SQLite cannot store.
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
                raise FunctionError("an integer does not fit in the 64 bits that SQLite stores")


def pointers(count: int, start: int | None) -> list[int | None]:
    """Return the pointers of a C array."""
    return list((c_void_p * count).from_address(start)) if count and start else []


def _number(value: Any) -> int | float:
    for convert in (index, float):
        if hasattr(type(value), f"__{convert.__name__}__"):
            try:
                return convert(value)
            except TypeError:
                pass  # A numpy array has both methods, and they raise.
    raise FunctionError(
        f"expected NULL, int, float, str or bytes but received {type(value).__name__}"
    )


def callback(result: Any, *arguments: Any) -> Callable[[F], F]:
    """Return a decorator that turns a Python function into a C function."""
    return cast(Callable[[F], F], ctypes.CFUNCTYPE(result, *arguments))


def address_of(function: Callable[..., Any]) -> int | None:
    """Return the address of a C function that callback() made."""
    return ctypes.cast(cast(Any, function), c_void_p).value


def keep_for_ever(thing: object) -> None:
    """Never free an object that C code points at, not even when the interpreter exits."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))
