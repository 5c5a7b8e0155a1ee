"""A cache of the results of scalar functions, for rows with the same constant arguments.

SQLite can keep a pointer with an argument (its auxiliary data) while a statement runs, if the
argument is a constant or a parameter. The pointer leads to a number, which is the key of the
result here. So SQLite can free the pointer without a call of Python.
"""

from collections import OrderedDict
from contextlib import suppress
from ctypes import c_uint64, sizeof
from itertools import count
from typing import Any, NamedTuple

from .library import Library

MOST_KEPT = 64
MOST_LENGTH = 2**20
MOST_ARGUMENTS = 16

_numbers = count(1)


class CachedResult(NamedTuple):
    """A result, and how many rows the connection had changed by then."""

    value: Any
    changes: int


_kept: OrderedDict[int, CachedResult] = OrderedDict()


def cached_result(library: Library, context: int, count: int, changes: int) -> CachedResult | None:
    """Return the result of an earlier call with the same constants in the running statement.

    Return None if there is none, or if the connection has changed rows since then.
    """
    number = 0
    for place in range(count):
        memory = library.get_auxdata(context, place)
        if not memory:
            return None
        found = c_uint64.from_address(memory).value
        if number not in (0, found):
            return None
        number = found
    known = _kept.get(number)
    if known is None or known.changes != changes:
        return None
    # Results of calls with columns are never found again, so they are dropped first. Another
    # thread may have dropped this one.
    with suppress(KeyError):
        _kept.move_to_end(number)
    return known


def cache_result(library: Library, context: int, count: int, known: CachedResult) -> None:
    """Cache a result, and attach its key to the arguments of the call."""
    value = known.value
    if not 0 < count <= MOST_ARGUMENTS:
        return
    if isinstance(value, (str, bytes)) and len(value) > MOST_LENGTH:
        return
    number = next(_numbers)
    _kept[number] = known
    while len(_kept) > MOST_KEPT:
        _kept.popitem(last=False)
    for place in range(count):
        memory = library.malloc(sizeof(c_uint64))
        if memory:
            c_uint64.from_address(memory).value = number
            # SQLite frees it, and does so at once if the argument is not a constant.
            library.set_auxdata(context, place, memory, library.free_address)
