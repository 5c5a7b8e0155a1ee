"""The C functions that SQLite calls to run a table-valued or a scalar function.

They are made once for each function of each SQLite library and never freed. An exception never
leaves one: it becomes the text of an SQL error.

No Python runs when a cursor, a virtual table or a connection goes away: `sqlite3_free` does that.
Python frees a half-read query whenever it pleases, also at interpreter exit and, more often, on the
way of an exception, and a callback of ctypes that runs while an exception is under way ruins both.
So a call's rows are read at once, into a list that holds on to nothing, and what nobody read to the
end is thrown away when it is much: see scans.
"""

import ctypes
import logging
import threading
from collections.abc import Callable, Iterable
from ctypes import c_int, c_int64, c_void_p
from functools import cache, partial
from itertools import islice
from typing import Any

from ...common.interrupts import heed_if_due
from .answers import Answers
from .caller_statement import Note
from .declaration import MISSING, ScalarFunction, TableFunction
from .library import (
    FunctionError,
    Library,
    address_of,
    callback,
    connection_at,
    keep_for_ever,
    pointers,
)
from .planner import Planner
from .scalar_cache import CachedResult, cache_result, cached_result
from .scans import MOST_BYTES, MOST_CALLS, Scan, clock, kept, make_room
from .structures import (
    SQLITE_ERROR,
    SQLITE_INTERRUPT,
    SQLITE_NOMEM,
    SQLITE_OK,
    Cursor,
    IndexInfo,
    Module,
    VirtualTable,
)

MOST_NESTED = 20
"""How deep functions may call one another by SQL: far from where Python's stack ends, because an
exception at the very entry of a callback can't be caught."""

ROWS_AT_A_TIME = 1000

logger = logging.getLogger(__name__)


class Failures:
    """Turns exceptions into the text and the code of an SQL error."""

    def __init__(self, name: str, expected: tuple[type[BaseException], ...]) -> None:
        self._name = name
        self._expected = (*expected, FunctionError)
        self._log = logger

    def describe(self, error: BaseException) -> tuple[bytes, int]:
        try:
            if isinstance(error, KeyboardInterrupt) or _is_interrupted(error):
                return b"interrupted", SQLITE_INTERRUPT
            if isinstance(error, self._expected):
                text = str(error) or type(error).__name__
                return text.replace("\0", "\\0").encode("utf-8", "replace"), SQLITE_ERROR
            self._log.error("%s failed", self._name, exc_info=error)
            return f"{self._name} failed: {type(error).__name__}".encode(), SQLITE_ERROR
        except BaseException:
            return b"an SQL function failed", 1


def _is_interrupted(error: BaseException) -> bool:
    # An interrupt or a time limit that stops a statement inside the function is meant for the
    # statement outside, and programs know it by this very text.
    return type(error).__name__ == "OperationalError" and error.args == ("interrupted",)


class Nesting(threading.local):
    """Counts the functions that run inside one another in a thread."""

    depth = 0

    def __enter__(self) -> None:
        if self.depth >= MOST_NESTED:
            raise FunctionError(f"SQL functions call one another more than {MOST_NESTED} deep")
        self.depth += 1

    def __exit__(self, *error: object) -> None:
        self.depth -= 1


nesting = Nesting()


scans: dict[int, Scan] = {}
"""What is being read, by the addresses of the cursors of all functions."""


@cache
def table_callbacks(
    library: Library, function: TableFunction, expected: tuple[type[BaseException], ...]
) -> int:
    """Makes the callbacks of a table-valued function and returns their `sqlite3_module*`."""
    describe = Failures(function.name, expected).describe
    plan = Planner(library, function)
    declaration = function.declaration.encode()
    names = [*function.columns, *function.parameters]
    width = len(function.columns)
    # Whether a cursor has no row left, for SQLite to ask next: it calls the dict's own pop().
    ended: dict[int, bool] = {}
    end: Any = object()
    column = plan.within
    malloc, free, give = library.malloc, library.free, library.give

    def fail(vtab: int, error: BaseException) -> int:
        code = SQLITE_ERROR
        try:
            text, code = describe(error)
            memory = malloc(len(text) + 1)
            if memory:
                ctypes.memmove(memory, text + b"\0", len(text) + 1)
                table = VirtualTable.from_address(vtab)
                free(table.zErrMsg)
                table.zErrMsg = memory
        except BaseException:
            pass  # The code alone must do.
        return code

    def vtab_of(cursor: int) -> int:
        vtab: int = Cursor.from_address(cursor).pVtab
        return vtab

    def scan_of(cursor: int) -> Scan:
        scan = scans.get(cursor)
        if scan is None:
            raise FunctionError(
                f"{function.name}() gave up its rows: more than {MOST_CALLS} calls, or "
                f"{MOST_BYTES >> 20} MB of rows, are half read at a time"
            )
        return scan

    def read(rows: Iterable[Any], heed: Callable[[], None]) -> list[Any]:
        everything: list[Any] = []
        left = iter(rows)
        while some := list(islice(left, ROWS_AT_A_TIME)):
            for row in some:
                if len(row) != width:
                    raise FunctionError(
                        f"{function.name}() made a row of {len(row)} values; expected {width}: "
                        f"{', '.join(names[:width])}"
                    )
            everything += some
            heed()
        return everything

    def call(connection: Any, *arguments: Any, **options: Any) -> list[Any]:
        heed = partial(heed_if_due, connection)
        with nesting:
            return read(function.rows(connection, *arguments, **options), heed)

    answers = Answers(library, function, plan, call)

    def advance(cursor: int, scan: Scan) -> None:
        scan.row = next(scan.rows, end)
        scan.last = next(clock)
        if scan.numbers is None:
            scan.number += 1
        else:
            scan.number = next(scan.numbers, 0)
        if scan.row is end and scan.more is not None:
            answers.go_on(VirtualTable.from_address(vtab_of(cursor)), scan)
            scan.row = next(scan.rows, end)
        if scan.row is end:
            scans.pop(cursor, None)
        ended[cursor] = scan.row is end

    @callback(c_int, c_void_p, c_void_p, c_int, c_void_p, c_void_p, c_void_p)
    def x_connect(handle: int, pointer: int, argc: int, argv: int, vtab: int, message: int) -> int:
        try:
            code: int = library.declare_vtab(handle, declaration)
            if code != SQLITE_OK:
                return code
            memory = malloc(ctypes.sizeof(VirtualTable))
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

    @callback(c_int, c_void_p, c_void_p)
    def x_best_index(vtab: int, info: int) -> int:
        try:
            handle = VirtualTable.from_address(vtab).handle
            return plan.choose(handle, IndexInfo.from_address(info))
        except BaseException as error:
            return fail(vtab, error)

    @callback(c_int, c_void_p, c_void_p)
    def x_open(vtab: int, result: int) -> int:
        try:
            memory = malloc(ctypes.sizeof(Cursor))
            if not memory:
                return SQLITE_NOMEM
            # An earlier cursor with this address is gone.
            scans.pop(memory, None)
            c_void_p.from_address(result).value = memory
            return SQLITE_OK
        except BaseException as error:
            return fail(vtab, error)

    @callback(c_int, c_void_p, c_int, c_void_p, c_int, c_void_p)
    def x_filter(cursor: int, given: int, text: int, argc: int, argv: int) -> int:
        try:
            scans.pop(cursor, None)
            table = VirtualTable.from_address(vtab_of(cursor))
            connection = connection_at(ctypes.addressof(table) + VirtualTable.connection.offset)
            heed = partial(heed_if_due, connection)
            heed()
            note = Note.from_address(text)
            asked = plan.unpack(
                note,
                given,
                pointers(argc, argv),
                partial(answers.meaning, table, note),
                heed,
                partial(answers.may_lack, table, note),
            )
            limit = asked.first or asked.limit
            short = tuple(map(kept, asked.arguments))
            result = answers.rows(table, note, asked, short, limit)
            heed()
            places = None
            if asked.only is not None and column is not None and asked.first is None:
                places = result.places(column, asked.only)
            more = (note, asked, limit) if len(result.rows) == limit and asked.first else None
            scan = scans[cursor] = Scan(
                cursor, table.connection, short, asked.within, result.rows, places, more
            )
            make_room(scans, scan)
            advance(cursor, scan)
            return SQLITE_OK
        except BaseException as error:
            return fail(vtab_of(cursor), error)

    @callback(c_int, c_void_p)
    def x_next(cursor: int) -> int:
        try:
            advance(cursor, scan_of(cursor))
            return SQLITE_OK
        except BaseException as error:
            return fail(vtab_of(cursor), error)

    @callback(c_int, c_void_p, c_void_p, c_int)
    def x_column(cursor: int, context: int, column: int) -> int:
        try:
            scan = scans.get(cursor) or scan_of(cursor)
            try:
                if column < width:
                    give(context, scan.row[column])
                else:
                    value = scan.argument(column - width)
                    give(context, None if value is MISSING else value)
            except FunctionError as error:
                raise FunctionError(f"{function.name}(), column {names[column]}: {error}") from None
            return SQLITE_OK
        except BaseException as error:
            return fail(vtab_of(cursor), error)

    @callback(c_int, c_void_p, c_void_p)
    def x_rowid(cursor: int, result: int) -> int:
        try:
            # For the two sides of an OR, SQLite tells the rows of two calls apart by their rowid,
            # and drops those that it has seen.
            c_int64.from_address(result).value = scan_of(cursor).rowid()
            return SQLITE_OK
        except BaseException as error:
            return fail(vtab_of(cursor), error)

    x_eof = callback(c_int, c_void_p)(ended.pop)

    module = Module(
        xConnect=address_of(x_connect),
        xBestIndex=address_of(x_best_index),
        xDisconnect=library.free_address,
        xDestroy=library.free_address,
        xOpen=address_of(x_open),
        xClose=library.free_address,
        xFilter=address_of(x_filter),
        xNext=address_of(x_next),
        xEof=address_of(x_eof),
        xColumn=address_of(x_column),
        xRowid=address_of(x_rowid),
    )
    keep_for_ever((module, x_connect, x_best_index, x_open, x_filter))
    keep_for_ever((x_next, x_eof, x_column, x_rowid))
    return ctypes.addressof(module)


@cache
def scalar_callback(
    library: Library, function: ScalarFunction, expected: tuple[type[BaseException], ...]
) -> int | None:
    """Makes the callback of a scalar function and returns its address."""
    describe = Failures(function.name, expected).describe
    least, most = function.min_arguments, function.max_arguments
    bounds = f"at least {least}" if most < 0 else f"{least} to {most}"

    @callback(None, c_void_p, c_int, c_void_p)
    def x_func(context: int, argc: int, argv: int) -> None:
        try:
            try:
                if argc < least or -1 < most < argc:
                    raise FunctionError(f"expected {bounds} arguments but received {argc}")
                connection = connection_at(library.user_data(context))
                heed_if_due(connection)
                changes = connection.total_changes
                if function.steady and (known := cached_result(library, context, argc, changes)):
                    library.give(context, known.value)
                    return
                arguments = library.arguments(argc, argv, function.limits)
                with nesting:
                    value = function.function(connection, *arguments)
                library.give(context, value)
                if function.steady and changes == connection.total_changes:
                    cache_result(library, context, argc, CachedResult(value, changes))
                heed_if_due(connection)
            except FunctionError as error:
                raise FunctionError(f"{function.name}(): {error}") from None
        except BaseException as error:
            text, code = describe(error)
            library.result_error(context, text, len(text))
            if code != SQLITE_ERROR:
                library.result_error_code(context, code)

    keep_for_ever(x_func)
    return address_of(x_func)
