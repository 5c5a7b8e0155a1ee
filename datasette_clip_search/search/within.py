"""Read `within`, the JSON array of the ids to search.

Anyone who can run SQL can send one. Python parses JSON, and each number in it, in one step that
holds the GIL. Invariants:

- A long array is parsed in parts of about a millisecond, with a check of the statement's time limit
  between them.
- Digits are counted before a number is parsed, because parsing takes quadratic time.
- The last long arrays are cached, so each call of a statement does not parse the same one again.
- Only one thread at a time parses a long array.
"""

import json
import sqlite3
import threading
from hashlib import blake2b
from typing import Any

import numpy as np

from ..common.arrays import Ids, ascending
from ..common.cache import LRUCache
from ..common.config import CONFIG
from ..common.errors import QueryError
from ..common.interrupts import heed_if_due, turn
from .json_arrays import JSONArray
from .query import Value, describe_value

WITHIN = JSONArray("within", "ids", "(select json_group_array(id) from images)")

_SPACE = " \t\n\r"
_PART = 50_000
# JSON longer than _LONG is cached. To explain an error, at most _EXPLAINED characters are parsed in
# one step.
_LONG, _EXPLAINED = 10_000, 250_000
# An id has 64 bits.
_MOST_DIGITS = 19
# Maps digits to 0, characters that may separate integers to a space, and all others to x.
_KINDS = bytes(
    ord("0" if chr(n) in "0123456789" else " " if chr(n) in ",-" + _SPACE else "x")
    for n in range(256)
)
_TOO_LONG = b"0" * (_MOST_DIGITS + 1)

# The key is a digest of the JSON. An entry takes up to 8 MB.
_read: LRUCache[bytes, Ids] = LRUCache(4)
_reading = threading.Lock()


def read_ids(ids_json: Value, connection: sqlite3.Connection) -> Ids | None:
    """Return the integers of a JSON array, (n,) ascending; None, for NULL, means all pictures.

    Raises QueryError for any other value and for too many ids, and sqlite3.OperationalError
    "interrupted" when the statement of `connection` must end.
    """
    if ids_json is None:
        return None
    text = WITHIN.check_text(ids_json, CONFIG.max_within_characters)
    if len(text) <= _LONG:
        return _parse_ids(text, connection)
    key = blake2b(text.encode("utf-8", "surrogatepass")).digest()
    with turn(_reading, connection):
        ids = _read.get(key)
        if ids is None:
            ids = _parse_ids(text, connection)
            _read.put(key, ids)
    return ids


def _parse_ids(text: str, connection: sqlite3.Connection) -> Ids:
    # Count before parsing: an array has as many commas and brackets as ids, and nested arrays
    # take many times more memory than their text.
    if sum(map(text.count, ",[{")) > CONFIG.max_within_ids:
        raise QueryError(f"within has more than {CONFIG.max_within_ids} ids")
    array = text.strip(_SPACE)
    if len(array) < 2 or array[0] != "[" or array[-1] != "]":
        raise _error_in(text)
    if not array[1:-1].strip(_SPACE):
        return np.empty(0, np.int64)
    # Outside of strings, JSON is ASCII only.
    data = array.encode("ascii", "replace")
    parts = []
    at, end = 1, len(data) - 1
    while at <= end:
        comma = data.find(b",", at + _PART, end)
        stop = end if comma < 0 else comma
        part = _parse_integers(data[at:stop])
        if part is None:
            raise _error_in(text, array[at:stop], array.count(",", 0, at))
        parts.append(part)
        heed_if_due(connection)
        at = stop + 1
    return ascending(np.concatenate(parts))


def _parse_integers(part: bytes) -> Ids | None:
    """Return the 64-bit integers of a part of an array, or None if it has anything else."""
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
        # No picture has an id of more than 64 bits.
        return np.array([id for id in integers if -(2**63) <= id < 2**63], np.int64)


def _error_in(text: str, part: str = "", before: int = 0) -> QueryError:
    """Return why a text is not an array of ids; for a long text, parse only the bad `part`.

    `before` is the number of items before that part.
    """
    if len(text) <= _EXPLAINED:
        part, before = "", 0
    elif not part:
        return WITHIN.error(f"{describe_value(text)} is not an array")
    elif len(part) > _EXPLAINED:
        return WITHIN.error(f"number {before + 1} is not an id")
    try:
        items = WITHIN.parse(f"[{part}]" if part else text, _parse_integer)
    except QueryError as error:
        if part:
            return WITHIN.error(f"number {before + 1}, or one soon after it, is not an id")
        return error
    place, bad = next((n, id) for n, id in enumerate(items, before + 1) if type(id) is not int)
    if isinstance(bad, _LongInteger):
        return WITHIN.error(
            f"number {place} has {bad.digits} digits, and an id {_MOST_DIGITS} at most"
        )
    kind = "an array" if isinstance(bad, list) else "an object"
    kind = kind if isinstance(bad, list | dict) else describe_value(bad)
    return WITHIN.error(f"number {place} is {kind}")


class _LongInteger:
    def __init__(self, digits: int):
        self.digits = digits


def _parse_integer(text: str) -> Any:
    digits = len(text.lstrip("-"))
    return int(text) if digits <= _MOST_DIGITS else _LongInteger(digits)
