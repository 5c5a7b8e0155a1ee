"""Read the values of `column in (...)`, for an INTEGER column."""

import ctypes
import re
from collections.abc import Callable
from typing import Any

from .library import INT64_MAX, FunctionError, Library
from .structures import SQLITE_BLOB, SQLITE_DONE, SQLITE_INTEGER, SQLITE_OK, SQLITE_TEXT

MOST_VALUES = 1_000_000
"""The most values of an IN: each takes some 100 bytes in Python."""

NUMBER = re.compile(r"[ \t-\r]*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?[ \t-\r]*", re.I)
"""Text that SQLite compares with an INTEGER column as a number."""

MOST_BYTES = 400
"""A longer text is not a 64-bit number, zeros aside, and parsing it takes quadratic time."""

VALUES_AT_A_TIME = 5000


def value_set(
    library: Library, address: int | None, heed: Callable[[], None] = lambda: None
) -> set[int]:
    """Return the integers in an argument that is either a list or a value.

    `heed` is called now and then, and may raise to end a long list.
    """
    left = VALUES_AT_A_TIME
    found: set[int] = set()
    add, kind, integer = found.add, library.value_type, library.value_int64
    following = library.vtab_in_next
    value = ctypes.c_void_p()
    result = ctypes.byref(value)
    code = library.vtab_in_first(address, result)
    if code not in (SQLITE_OK, SQLITE_DONE):
        _add(found, _value(library, address))
        return found
    while code == SQLITE_OK and value:
        left -= 1
        if not left:
            heed()
            left = VALUES_AT_A_TIME
        if kind(value) == SQLITE_INTEGER:
            add(integer(value))
            if len(found) > MOST_VALUES:
                raise FunctionError(f"in (...) has more than {MOST_VALUES} values")
        else:
            _add(found, _value(library, value.value))
        code = following(address, result)
    if code not in (SQLITE_OK, SQLITE_DONE):
        raise FunctionError(f"the values of in (...) cannot be read: SQLite's error {code}")
    return found


def _value(library: Library, address: int | None) -> Any:
    is_text = library.value_type(address) == SQLITE_TEXT
    if is_text and library.value_bytes(address) <= MOST_BYTES:
        return library.value(address, "replace")
    # A blob is not a number either.
    return None if is_text or library.value_type(address) == SQLITE_BLOB else library.value(address)


def _add(found: set[int], value: Any) -> None:
    if isinstance(value, str) and NUMBER.fullmatch(value):
        try:
            value = int(value) if -INT64_MAX - 1 <= int(value) <= INT64_MAX else None
        except ValueError:
            value = float(value)
    if isinstance(value, float) and value.is_integer() and -(2**63) <= value < 2**63:
        value = int(value)
    if isinstance(value, int):
        found.add(value)
