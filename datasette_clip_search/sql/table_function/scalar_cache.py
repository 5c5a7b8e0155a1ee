"""The result of a scalar function, for the next row that has the same constant arguments.

SQLite keeps a pointer beside an argument for as long as a statement runs, if the argument is a
constant or a parameter, and none beside others. It is that of a number here, under which the
result is kept, so that no Python runs when SQLite throws the pointer away.
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
    """A result, and how many rows the connection had changed when it was worked out."""

    value: Any
    changes: int


_kept: OrderedDict[int, CachedResult] = OrderedDict()


def cached_result(library: Library, context: int, count: int, changes: int) -> CachedResult | None:
    """Returns what a call with the same constants gave in the running statement, if that is kept.

    Where the connection has changed rows since then, it is not.
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
    # What calls with columns gave is thrown away first. Another thread may just have done so.
    with suppress(KeyError):
        _kept.move_to_end(number)
    return known


def cache_result(library: Library, context: int, count: int, known: CachedResult) -> None:
    """Keeps a result beside the arguments of its call."""
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
            # SQLite frees it, at once where the argument is no constant.
            library.set_auxdata(context, place, memory, library.free_address)
