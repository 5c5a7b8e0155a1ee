"""A cache of the rows of equal calls within one run of a statement.

SQLite calls a table function once for each row of an outer join, a correlated subquery or the inner
table of a join, mostly with the same arguments. The answer cannot change meanwhile: a running
statement reads one state of the database, unless its own connection writes. So a cache belongs to
one run of one statement. It is the same run as long as

- the address of the statement is the same, and the number of times that it has been started;
- its plan is older than the cache: a later statement at the same address has a later plan;
- the connection has changed no rows since the first call.
"""

from collections import OrderedDict
from collections.abc import Hashable
from threading import Lock
from typing import Any

from .caller_statement import serials
from .scans import weight

MOST_RUNS = 16
"""How many runs have a cache, in the whole process."""

MOST_RESULTS = 64
"""How many calls with different arguments the cache of a run holds."""

MOST_BYTES_OF_RUN = 8 * 2**20
MOST_BYTES = 16 * 2**20
"""How many bytes the cache of a run holds, and all caches together."""

ROWS_WEIGHED = 4
"""How many rows are sampled for their size. More would take longer than a call from the cache."""


class Result:
    """The rows of a call, with an index by the value of one column."""

    __slots__ = ("_places", "bytes", "rows")

    def __init__(self, rows: list[Any]) -> None:
        self.rows = rows
        self.bytes = weight(rows, ROWS_WEIGHED)
        self._places: dict[int, list[int]] | None = None

    def places(self, column: int, value: int) -> list[int]:
        """Return the positions of the rows that have a value in a column."""
        if self._places is None:
            self._places = {}
            for place, row in enumerate(self.rows):
                self._places.setdefault(row[column], []).append(place)
        return self._places.get(value, [])


class Run:
    """The cache of one run of a statement."""

    def __init__(self, started: int, changes: int, serial: int) -> None:
        self.started, self.changes = started, changes
        # A plan with a higher number belongs to a later statement.
        self.serial = serial
        self.results: OrderedDict[Hashable, Result] = OrderedDict()
        self.bytes = 0

    def get(self, key: Hashable) -> Result | None:
        result = self.results.get(key)
        if result is not None and len(self.results) > 1:
            self.results.move_to_end(key)
        return result

    def put(self, key: Hashable, result: Result) -> None:
        if result.bytes > MOST_BYTES_OF_RUN // 2:
            return
        self.results[key] = result
        self.bytes += result.bytes
        if self.bytes > MOST_BYTES // MOST_RUNS:
            _large.add(self)
        while len(self.results) > MOST_RESULTS or self.bytes > MOST_BYTES_OF_RUN:
            self.bytes -= self.results.popitem(last=False)[1].bytes


_runs: dict[int, Run] = {}
_large: set[Run] = set()
_changing = Lock()


def _heed_size() -> None:
    """Drop the oldest runs while all together are too large."""
    if not _large:
        return
    size = sum([kept.bytes for kept in _runs.values()])
    while size > MOST_BYTES and len(_runs) > 1:
        size -= _runs.pop(next(iter(_runs))).bytes
    _large.intersection_update(_runs.values())


def run_of(statement: int, started: int, changes: int, plan: int) -> Run | None:
    """Return the run that a call belongs to, or None if rows have changed since it began.

    `plan` is the serial number of the plan of the call.
    """
    run = _runs.get(statement)
    if run is None or run.started != started or plan > run.serial:
        run = Run(started, changes, next(serials))
        with _changing:
            _runs.pop(statement, None)
            _runs[statement] = run
            if len(_runs) > MOST_RUNS:
                del _runs[next(iter(_runs))]
            _heed_size()
    return run if run.changes == changes else None
