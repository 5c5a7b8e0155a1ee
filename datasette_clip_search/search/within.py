"""The pictures that a search is kept to, as JSON says them.

The JSON comes from anyone who can run SQL, and Python reads JSON, and any number in it, in one go
that stops all other threads. So it is read

- in parts of a millisecond each, between which the statement's time limit is heeded;
- after a look at the digits of its numbers, which take the square of their count to read;
- once for all calls of a statement: what was read last is remembered;
- one at a time, where it is long.
"""

import json
import sqlite3
import threading
from hashlib import blake2b
from typing import Any

import numpy as np

from ..common.arrays import Ids, ascending
from ..common.cache import Recent
from ..common.config import CONFIG
from ..common.errors import QueryError
from ..common.interrupts import heed_if_due, turn
from .query import Value, shown

_SPACE = " \t\n\r"
_PART = 50_000
# Longer JSON is remembered, and up to so much of it is read in one go to say what is wrong with it.
_LONG, _EXPLAINED = 10_000, 250_000
# Of an id, which has 64 bits.
_MOST_DIGITS = 19
# What JSON's integers are made of: 0 stands for a digit, a space for what is between, x for others.
_KINDS = bytes(
    ord("0" if chr(n) in "0123456789" else " " if chr(n) in ",-" + _SPACE else "x")
    for n in range(256)
)
_TOO_LONG = b"0" * (_MOST_DIGITS + 1)

# By a digest of the JSON; each takes 8 MB at most.
_read: Recent[bytes, Ids] = Recent(4)
_reading = threading.Lock()


def read_ids(ids_json: Value, connection: sqlite3.Connection) -> Ids | None:
    """Returns the integers in a JSON array (n,), ascending, or None, for all pictures, for NULL.

    Raises QueryError for anything else, and for arrays too long; sqlite3.OperationalError
    "interrupted" when the statement of `connection` is to end.
    """
    if ids_json is None:
        return None
    if not isinstance(ids_json, str):
        raise _not_ids(f"it is {shown(ids_json)}")
    limit = CONFIG.max_within_characters
    if len(ids_json) > limit:
        raise QueryError(f"within has {len(ids_json)} characters of JSON and the limit is {limit}")
    if len(ids_json) <= _LONG:
        return _ids(ids_json, connection)
    key = blake2b(ids_json.encode("utf-8", "surrogatepass")).digest()
    with turn(_reading, connection):
        ids = _read.get(key)
        if ids is None:
            ids = _ids(ids_json, connection)
            _read.put(key, ids)
    return ids


def _ids(text: str, connection: sqlite3.Connection) -> Ids:
    # Before it is parsed: an array of ids has as many commas and brackets as ids, and arrays in
    # arrays take many times their characters in memory.
    if sum(map(text.count, ",[{")) > CONFIG.max_within_ids:
        raise QueryError(f"within has more than {CONFIG.max_within_ids} ids")
    array = text.strip(_SPACE)
    if len(array) < 2 or array[0] != "[" or array[-1] != "]":
        raise _explained(text)
    if not array[1:-1].strip(_SPACE):
        return np.empty(0, np.int64)
    # Outside of strings, none of JSON is other than ASCII.
    data = array.encode("ascii", "replace")
    parts = []
    at, end = 1, len(data) - 1
    while at <= end:
        comma = data.find(b",", at + _PART, end)
        stop = end if comma < 0 else comma
        part = _integers(data[at:stop])
        if part is None:
            raise _explained(text, array[at:stop], array.count(",", 0, at))
        parts.append(part)
        heed_if_due(connection)
        at = stop + 1
    return ascending(np.concatenate(parts))


def _integers(part: bytes) -> Ids | None:
    """Returns the integers of 64 bits in a part of an array, or None where it has anything else."""
    kinds = part.translate(_KINDS)
    if b"x" in kinds or _TOO_LONG in kinds:
        return None
    try:
        integers = json.loads(b"[%s]" % part)
    except ValueError:
        return None
    if not integers:
        return None
    try:
        return np.array(integers, np.int64)
    except OverflowError:
        # No picture has such an id.
        return np.array([id for id in integers if -(2**63) <= id < 2**63], np.int64)


def _explained(text: str, part: str = "", before: int = 0) -> QueryError:
    """Returns why a text is no array of ids; in long ones, by the part that isn't, after others."""
    if len(text) > _EXPLAINED:
        if not part:
            return _not_ids(f"{shown(text)} is not an array")
        if len(part) > _EXPLAINED:
            return _not_ids(f"number {before + 1} is none")
        whole = f"[{part}]"
    else:
        whole, before = text, 0
    try:
        given = json.loads(whole, parse_int=_integer)
    except (ValueError, RecursionError):
        if whole is text:
            return _not_ids(f"{shown(text)} is not JSON")
        return _not_ids(f"number {before + 1}, or one of those after it, is none")
    if not isinstance(given, list):
        return _not_ids(f"{shown(text)} is not an array")
    place, bad = next((n, id) for n, id in enumerate(given, before + 1) if type(id) is not int)
    if isinstance(bad, _LongInteger):
        return _not_ids(f"number {place} has {bad.digits} digits, and an id {_MOST_DIGITS} at most")
    kind = "an array" if isinstance(bad, list) else "an object"
    return _not_ids(f"number {place} is {kind if isinstance(bad, list | dict) else shown(bad)}")


class _LongInteger:
    def __init__(self, digits: int):
        self.digits = digits


def _integer(text: str) -> Any:
    digits = len(text.lstrip("-"))
    return int(text) if digits <= _MOST_DIGITS else _LongInteger(digits)


def _not_ids(what: str) -> QueryError:
    return QueryError(
        "within must be a JSON array of ids, such as (select json_group_array(id) from images), "
        f"but {what}"
    )
