"""The rows of the calls that are being read, within limits.

No Python runs when a cursor goes away, so an abandoned call looks like one that will be read on.
Both keep their rows until there are too many; then the least recently read ones are dropped.
"""

from array import array
from hashlib import blake2b
from itertools import chain, count
from sys import getsizeof
from typing import Any, NamedTuple

from .library import INT64_MAX, FunctionError

MOST_CALLS = 100
"""How many half-read calls of a connection keep their rows, abandoned ones included."""

MOST_BYTES = 64 * 2**20
"""How many bytes they may hold together: some 150,000 rows of a path and a few numbers. The latest
call keeps its rows, however many."""

MOST_CALLS_IN_ALL = 1000
MOST_BYTES_IN_ALL = 256 * 2**20
"""The same for all connections. Only above these can one connection cost another its rows."""

MOST_ARGUMENT_BYTES = 2**16
"""A longer argument, such as a picture, cannot be read back as a hidden column."""

ROWS_WEIGHED = 16

clock = count()


class Large(NamedTuple):
    """A placeholder for an argument that is too long to keep."""

    size: int
    digest: str


class Scan:
    """The rows that one cursor is reading; `last` grows each time that it reads one."""

    __slots__ = (
        "_bytes",
        "_everything",
        "_start",
        "_within",
        "arguments",
        "cursor",
        "last",
        "more",
        "number",
        "numbers",
        "owner",
        "row",
        "rows",
    )

    def __init__(
        self,
        cursor: int,
        owner: int | None,
        arguments: tuple[Any, ...],
        within: set[int] | None,
        rows: list[Any],
        places: list[int] | None = None,
        more: Any = None,
    ) -> None:
        """Take all rows, or those at some `places`.

        `arguments` are as storable() returns them. `more` is the note, the request and the limit of
        a call that can be repeated with a larger limit, or None.
        """
        self.cursor = cursor
        self.owner = owner
        self.arguments = arguments
        self._within = None if within is None else array("q", within)
        self._start: int | None = None
        self._everything = rows
        self._bytes: int | None = None
        self.rows = iter(rows if places is None else [rows[place] for place in places])
        self.numbers = None if places is None else iter([place + 1 for place in places])
        self.more = more
        self.row: Any = None
        self.number = 0
        self.last = next(clock)

    def add_rows(self, rows: list[Any], key: int) -> None:
        """Continue with the rows of a repeated call, which start with the rows already read.

        If they start otherwise, skip each row already read; `key` is the column that identifies it.
        """
        read = self._everything
        if [row[key] for row in rows[: len(read)]] != [row[key] for row in read]:
            known = {row[key] for row in read}
            rows = read + [row for row in rows if row[key] not in known]
        self.rows = iter(rows[len(read) :])
        self._everything = rows
        self._bytes = None

    @property
    def read(self) -> int:
        """How many rows there are so far."""
        return len(self._everything)

    @property
    def bytes(self) -> int:
        """The approximate size in memory."""
        if self._bytes is None:
            self._bytes = (
                weight(self._everything)
                + sum(map(getsizeof, self.arguments))
                + (0 if self._within is None else getsizeof(self._within))
                + (0 if self.more is None else sum(map(getsizeof, self.more[1].arguments)))
            )
        return self._bytes

    def argument(self, place: int) -> Any:
        """Return an argument; raise FunctionError if it was too long to keep."""
        value = self.arguments[place]
        if isinstance(value, Large):
            raise FunctionError(
                f"an argument of {value.size} bytes cannot be read back; the limit is "
                f"{MOST_ARGUMENT_BYTES}. Use the value that the SQL passed"
            )
        return value

    def rowid(self) -> int:
        """Return a number that is the same only for the same row of an equal call."""
        if self._start is None:
            # The repr differs for values of different types.
            digest = blake2b(repr(self.arguments).encode(), digest_size=8)
            if self._within is not None:
                digest.update(array("q", sorted(self._within)))
            self._start = int.from_bytes(digest.digest(), "big")
        return (self._start + self.number) & INT64_MAX


def storable(argument: Any) -> Any:
    """Return an argument, or a Large in place of one that is too long to keep."""
    if isinstance(argument, str) and len(argument) * 4 > MOST_ARGUMENT_BYTES:
        data = argument.encode()
    elif isinstance(argument, bytes):
        data = argument
    else:
        return argument
    if len(data) <= MOST_ARGUMENT_BYTES:
        return argument
    kind = type(argument).__name__.encode()
    return Large(len(data), blake2b(data, person=kind).hexdigest())


def weight(rows: list[Any], weighed: int = ROWS_WEIGHED) -> int:
    """Return the approximate size of rows in bytes, from a sample of them."""
    sample = rows[:: 1 + len(rows) // weighed]
    size = sum(map(getsizeof, chain(sample, *sample)))
    return getsizeof(rows) + size * len(rows) // max(1, len(sample))


def make_room(scans: dict[int, Scan], newest: Scan) -> None:
    """Drop the least recently read scans until the limits are met."""
    if len(scans) == 1:
        return
    everything = list(scans.values())
    own = [scan for scan in everything if scan.owner == newest.owner]
    _shorten(scans, own, newest, MOST_CALLS, MOST_BYTES)
    everything = list(scans.values())
    _shorten(scans, everything, newest, MOST_CALLS_IN_ALL, MOST_BYTES_IN_ALL)


def _shorten(
    scans: dict[int, Scan], held: list[Scan], newest: Scan, most_calls: int, most_bytes: int
) -> None:
    calls, size = len(held), sum([scan.bytes for scan in held])
    if calls <= most_calls and size <= most_bytes:
        return
    for scan in sorted(held, key=lambda scan: scan.last):
        if scan is newest or scans.get(scan.cursor) is not scan:
            continue
        scans.pop(scan.cursor, None)
        calls, size = calls - 1, size - scan.bytes
        if calls <= most_calls and size <= most_bytes:
            return
