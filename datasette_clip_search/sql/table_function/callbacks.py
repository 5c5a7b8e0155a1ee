"""The C functions that SQLite calls to run a table-valued function.

The package's docstring shows the order in which SQLite calls them. Invariants:

- They are made once for each function of each SQLite library, and never freed.
- An exception never leaves one: it becomes the text of an SQL error.
- No Python runs when a cursor, a virtual table or a connection goes away: `sqlite3_free` is called.
  Python frees a half-read query at any moment, also while an exception is on its way, and a
  callback that runs then would destroy both.
- So a call reads all of its rows at once, into a list that refers to nothing else.
"""

import ctypes
from collections.abc import Callable, Iterable
from ctypes import c_int, c_int64, c_void_p
from functools import cache, partial
from itertools import islice
from typing import Any

from ...common.interrupts import heed_if_due
from .caller_statement import Note
from .connections import connection_of
from .declaration import MISSING, TableFunction
from .failures import Failures, nesting
from .function_calls import FunctionCalls
from .library import FunctionError, Library, address_of, callback, keep_for_ever, pointers
from .planner import Planner
from .scans import MOST_BYTES, MOST_CALLS, Scan, clock, make_room, storable
from .structures import (
    SQLITE_ERROR,
    SQLITE_NOMEM,
    SQLITE_OK,
    Cursor,
    IndexInfo,
    Module,
    VirtualTable,
)

ROWS_AT_A_TIME = 1000

scans: dict[int, Scan] = {}
"""The calls being read, by the addresses of their cursors, of all functions."""

_END: Any = object()


@cache
def module_of(
    library: Library, function: TableFunction, expected: tuple[type[BaseException], ...]
) -> int:
    """Make the callbacks of a table-valued function and return their `sqlite3_module*`."""
    callbacks = TableCallbacks(library, function, expected)
    functions: dict[str, Callable[..., int]] = {
        "xConnect": callback(c_int, c_void_p, c_void_p, c_int, c_void_p, c_void_p, c_void_p)(
            callbacks.connect
        ),
        "xBestIndex": callback(c_int, c_void_p, c_void_p)(callbacks.best_index),
        "xOpen": callback(c_int, c_void_p, c_void_p)(callbacks.open),
        "xFilter": callback(c_int, c_void_p, c_int, c_void_p, c_int, c_void_p)(callbacks.filter),
        # dict's own method: faster than one in Python, and Ctrl-C cannot raise an exception in it,
        # which xEof could not report.
        "xEof": callback(c_int, c_void_p)(callbacks.ended.pop),
        "xColumn": callback(c_int, c_void_p, c_void_p, c_int)(callbacks.column),
        "xRowid": callback(c_int, c_void_p, c_void_p)(callbacks.rowid),
        "xNext": callback(c_int, c_void_p)(callbacks.next),
    }
    free = library.free_address
    addresses = {name: address_of(function) for name, function in functions.items()}
    module = Module(xClose=free, xDisconnect=free, xDestroy=free, **addresses)
    keep_for_ever((module, functions))
    return ctypes.addressof(module)


class TableCallbacks:
    """The callbacks of one table-valued function; every method returns a result code."""

    def __init__(
        self, library: Library, function: TableFunction, expected: tuple[type[BaseException], ...]
    ) -> None:
        self._library = library
        self._give = library.give
        self._function = function
        self._describe = Failures(function.name, expected).describe
        self._declaration = function.declaration.encode()
        self._names = [*function.columns, *function.parameters]
        self._width = len(function.columns)
        self._planner = Planner(library, function)
        self._calls = FunctionCalls(library, function, self._planner, self._call)
        self.ended: dict[int, bool] = {}
        """Whether a cursor has no row left. It is set for each row, and xEof pops it once."""

    # The callbacks, in the order in which SQLite calls them

    def connect(
        self, handle: int, pointer: int, argc: int, argv: int, vtab: int, message: int
    ) -> int:
        """Declare the columns, and store a new VirtualTable at `vtab`."""
        library = self._library
        try:
            code: int = library.declare_vtab(handle, self._declaration)
            if code != SQLITE_OK:
                return code
            memory = library.malloc(ctypes.sizeof(VirtualTable))
            if not memory:
                return SQLITE_NOMEM
            ctypes.memset(memory, 0, ctypes.sizeof(VirtualTable))
            table = VirtualTable.from_address(memory)
            table.connection = c_void_p.from_address(pointer).value
            table.handle = handle
            c_void_p.from_address(vtab).value = memory
            return SQLITE_OK
        except BaseException:
            return SQLITE_ERROR

    def best_index(self, vtab: int, info: int) -> int:
        """Choose the conditions that become arguments."""
        try:
            handle = VirtualTable.from_address(vtab).handle
            return self._planner.choose(handle, IndexInfo.from_address(info))
        except BaseException as error:
            return self._fail(vtab, error)

    def open(self, vtab: int, result: int) -> int:
        """Store a new cursor at `result`."""
        try:
            memory = self._library.malloc(ctypes.sizeof(Cursor))
            if not memory:
                return SQLITE_NOMEM
            # An earlier cursor with this address is gone.
            scans.pop(memory, None)
            c_void_p.from_address(result).value = memory
            return SQLITE_OK
        except BaseException as error:
            return self._fail(vtab, error)

    def filter(self, cursor: int, number: int, note: int, argc: int, argv: int) -> int:
        """Call the function, and move the cursor to its first row."""
        try:
            scans.pop(cursor, None)
            table = VirtualTable.from_address(_vtab_of(cursor))
            scan = self._start(cursor, table, number, Note.from_address(note), pointers(argc, argv))
            scans[cursor] = scan
            make_room(scans, scan)
            self._advance(cursor, scan)
            return SQLITE_OK
        except BaseException as error:
            return self._fail(_vtab_of(cursor), error)

    def column(self, cursor: int, context: int, number: int) -> int:
        """Give a value of the row, or an argument of the call."""
        try:
            scan = scans.get(cursor) or self._scan_of(cursor)
            try:
                if number < self._width:
                    self._give(context, scan.row[number])
                else:
                    value = scan.argument(number - self._width)
                    self._give(context, None if value is MISSING else value)
            except FunctionError as error:
                where = f"{self._function.name}(), column {self._names[number]}"
                raise FunctionError(f"{where}: {error}") from None
            return SQLITE_OK
        except BaseException as error:
            return self._fail(_vtab_of(cursor), error)

    def rowid(self, cursor: int, result: int) -> int:
        """Store the number of the row at `result`.

        For the two sides of an OR, SQLite drops rows whose rowid it has already seen.
        """
        try:
            c_int64.from_address(result).value = self._scan_of(cursor).rowid()
            return SQLITE_OK
        except BaseException as error:
            return self._fail(_vtab_of(cursor), error)

    def next(self, cursor: int) -> int:
        """Move the cursor to the next row."""
        try:
            self._advance(cursor, self._scan_of(cursor))
            return SQLITE_OK
        except BaseException as error:
            return self._fail(_vtab_of(cursor), error)

    # The work behind them

    def _start(
        self,
        cursor: int,
        table: VirtualTable,
        number: int,
        note: Note,
        addresses: list[int | None],
    ) -> Scan:
        """Call the function for a cursor, and return its rows, none of them read."""
        calls = self._calls
        heed = partial(heed_if_due, connection_of(table))
        heed()
        request = self._planner.unpack(
            note,
            number,
            addresses,
            partial(calls.meaning, table, note),
            heed,
            partial(calls.may_lack, table, note),
        )
        limit = request.first or request.limit
        short = tuple(map(storable, request.arguments))
        result = calls.rows(table, note, request, short, limit)
        heed()
        places = None
        column = self._planner.within
        if request.only is not None and column is not None and request.first is None:
            places = result.places(column, request.only)
        has_more = request.first and len(result.rows) == limit
        more = (note, request, limit) if has_more else None
        return Scan(cursor, table.connection, short, request.within, result.rows, places, more)

    def _call(self, connection: Any, *arguments: Any, **options: Any) -> list[Any]:
        with nesting:
            rows = self._function.rows(connection, *arguments, **options)
            return self._read(rows, partial(heed_if_due, connection))

    def _read(self, rows: Iterable[Any], heed: Callable[[], None]) -> list[Any]:
        everything: list[Any] = []
        left = iter(rows)
        while some := list(islice(left, ROWS_AT_A_TIME)):
            for row in some:
                if len(row) != self._width:
                    raise FunctionError(
                        f"{self._function.name}() made a row of {len(row)} values; expected "
                        f"{self._width}: {', '.join(self._function.columns)}"
                    )
            everything += some
            heed()
        return everything

    def _advance(self, cursor: int, scan: Scan) -> None:
        scan.row = next(scan.rows, _END)
        scan.last = next(clock)
        if scan.numbers is None:
            scan.number += 1
        else:
            scan.number = next(scan.numbers, 0)
        if scan.row is _END and scan.more is not None:
            self._calls.read_more(VirtualTable.from_address(_vtab_of(cursor)), scan)
            scan.row = next(scan.rows, _END)
        if scan.row is _END:
            scans.pop(cursor, None)
        self.ended[cursor] = scan.row is _END

    def _scan_of(self, cursor: int) -> Scan:
        scan = scans.get(cursor)
        if scan is None:
            raise FunctionError(
                f"{self._function.name}() gave up its rows: more than {MOST_CALLS} calls, or "
                f"{MOST_BYTES >> 20} MB of rows, are half read at a time"
            )
        return scan

    def _fail(self, vtab: int, error: BaseException) -> int:
        """Store the text of an error in a virtual table, and return the error's code."""
        code = SQLITE_ERROR
        try:
            text, code = self._describe(error)
            memory = self._library.malloc(len(text) + 1)
            if memory:
                ctypes.memmove(memory, text + b"\0", len(text) + 1)
                table = VirtualTable.from_address(vtab)
                self._library.free(table.zErrMsg)
                table.zErrMsg = memory
        except BaseException:
            pass  # The code alone must do.
        return code


def _vtab_of(cursor: int) -> int:
    vtab: int = Cursor.from_address(cursor).pVtab
    return vtab
