"""The rows of a table function's calls, as many as are asked for, and no oftener than needed."""

import ctypes
from collections.abc import Callable
from typing import Any

from .caller_statement import Note, running, runs_of, text_of
from .declaration import TableFunction
from .library import FunctionError, Library, connection_at
from .meaning import Meaning, meaning_of
from .planner import CallRequest, Planner
from .row_cache import Result, run_of
from .scans import Scan
from .structures import VirtualTable

MOST_REMEMBERED = 10_000
"""How many values a restriction may have for its rows to be kept for the next call."""

GROWTH = 4
MOST_UNCOUNTED = 10_000
"""How many rows a LIMIT may come to read where nothing else says how many."""


class Answers:
    """What the calls of one function get; `call` takes what TableFunction.rows() does."""

    def __init__(
        self,
        library: Library,
        function: TableFunction,
        plan: Planner,
        call: Callable[..., list[Any]],
    ) -> None:
        self._library, self._function, self._plan, self._call = library, function, plan, call
        self._key = 0 if plan.within is None else plan.within

    def rows(
        self,
        table: VirtualTable,
        note: Note,
        asked: CallRequest,
        short: tuple[Any, ...],
        limit: int | None,
    ) -> Result:
        """Calls the function, unless the same run of a statement has its answer.

        `short` are the arguments as a scan keeps them.
        """
        library, function = self._library, self._function
        run, key = None, None
        owners = running(library, table.handle, note)
        note.called = 1
        if len(owners) == 1 and len(asked.within or ()) <= MOST_REMEMBERED:
            started = runs_of(library, owners[0])
            changes = library.total_changes(table.handle)
            if started is not None:
                run = run_of(owners[0], started, changes, note.serial)
        if run is not None:
            within = None if asked.within is None else frozenset(asked.within)
            # 1, 1.0 and True are the same to Python.
            key = self._plan, short, tuple(map(type, short)), within, limit, asked.costly
            if result := run.get(key):
                return result
        options: dict[str, Any] = {"within": asked.within} if function.within else {}
        if function.costly:
            options["costly"] = asked.costly
        connection = _connection_of(table)
        result = Result(self._call(connection, *asked.arguments, limit=limit, **options))
        if run is not None and run.changes == library.total_changes(table.handle):
            run.put(key, result)
        return result

    def meaning(self, table: VirtualTable, note: Note, arguments: tuple[Any, ...]) -> Meaning:
        """Returns what a call means, and notes it where that is the same for the next."""
        if note.decided:
            return Meaning(note.restricting_lists, note.restricting_values, note.mode, note.first)
        library = self._library
        statements = [text_of(library, one) for one in running(library, table.handle, note)]
        connection = _connection_of(table)
        meaning = meaning_of(self._function, note, library, statements, connection, arguments)
        if note.sure:
            note.restricting_lists, note.restricting_values, note.mode, note.first = meaning
            note.decided = 1
        return meaning

    def may_lack(self, table: VirtualTable, note: Note) -> bool:
        """Tells whether SQLite may keep back what restricts a call, as for a RIGHT or FULL JOIN."""
        if note.called:
            return False
        library = self._library
        texts = [text_of(library, one).lower() for one in running(library, table.handle, note)]
        return any("right" in text or "full" in text for text in texts)

    def go_on(self, table: VirtualTable, scan: Scan) -> None:
        """Asks for more rows than before, where there may be more."""
        note, asked, size = scan.more
        function = self._function
        if size > MOST_UNCOUNTED:
            raise FunctionError(
                f"{function.name}() is given no {function.counted}, and more than "
                f"{MOST_UNCOUNTED} rows are asked of it. Say how many: {function.example}"
            )
        size = min(size * GROWTH, MOST_UNCOUNTED + 1)
        rows = self.rows(table, note, asked, scan.arguments, size).rows
        scan.more = (note, asked, size) if len(rows) == size else None
        scan.go_on(rows[:MOST_UNCOUNTED], self._key)


def _connection_of(table: VirtualTable) -> Any:
    return connection_at(ctypes.addressof(table) + VirtualTable.connection.offset)
