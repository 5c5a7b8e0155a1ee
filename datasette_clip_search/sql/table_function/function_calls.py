"""Call a table function: for as many rows as SQLite needs, and never twice for the same rows."""

from collections.abc import Callable
from typing import Any

from .caller_statement import Note, bits_of, places_in, running, runs_of, text_of
from .connections import connection_of
from .declaration import TableFunction
from .library import FunctionError, Library
from .meaning import Meaning, meaning_of
from .planner import CallRequest, Planner
from .row_cache import Result, run_of
from .scans import Scan
from .structures import VirtualTable

MOST_REMEMBERED = 10_000
"""The rows of a call are cached if its restriction has at most this many values."""

GROWTH = 4
MOST_UNCOUNTED = 10_000
"""The most rows that a call without a count makes for a LIMIT, GROWTH times more at each step."""


class FunctionCalls:
    """The calls of one function; `call` takes the arguments of TableFunction.rows()."""

    def __init__(
        self,
        library: Library,
        function: TableFunction,
        planner: Planner,
        call: Callable[..., list[Any]],
    ) -> None:
        self._library, self._function, self._planner, self._call = library, function, planner, call
        self._key = 0 if planner.within is None else planner.within

    def rows(
        self,
        table: VirtualTable,
        note: Note,
        request: CallRequest,
        short: tuple[Any, ...],
        limit: int | None,
    ) -> Result:
        """Call the function, unless the cache has the rows of an equal call of this run.

        `short` are the arguments as storable() returns them.
        """
        library, function = self._library, self._function
        run, key = None, None
        owners = running(library, table.handle, note)
        note.called = 1
        if len(owners) == 1 and len(request.within or ()) <= MOST_REMEMBERED:
            started = runs_of(library, owners[0])
            changes = library.total_changes(table.handle)
            if started is not None:
                run = run_of(owners[0], started, changes, note.serial)
        if run is not None:
            within = None if request.within is None else frozenset(request.within)
            # The types too, because 1, 1.0 and True are equal in Python.
            key = self._planner, short, tuple(map(type, short)), within, limit, request.costly
            if result := run.get(key):
                return result
        options: dict[str, Any] = {"within": request.within} if function.within else {}
        if function.costly:
            options["costly"] = request.costly
        connection = connection_of(table)
        result = Result(self._call(connection, *request.arguments, limit=limit, **options))
        if run is not None and run.changes == library.total_changes(table.handle):
            run.put(key, result)
        return result

    def meaning(self, table: VirtualTable, note: Note, arguments: tuple[Any, ...]) -> Meaning:
        """Return the meaning of a call, and note it if it also applies to the next call."""
        if note.decided:
            return Meaning(
                places_in(note.restricting_lists),
                places_in(note.restricting_values),
                note.mode,
                note.first,
            )
        library = self._library
        statements = [text_of(library, one) for one in running(library, table.handle, note)]
        connection = connection_of(table)
        meaning = meaning_of(self._function, note, library, statements, connection, arguments)
        if note.sure:
            note.restricting_lists = bits_of(meaning.lists)
            note.restricting_values = bits_of(meaning.values)
            note.mode, note.first = meaning.mode, meaning.first
            note.decided = 1
        return meaning

    def may_lack(self, table: VirtualTable, note: Note) -> bool:
        """Tell whether SQLite may hide a restriction from a call, as a RIGHT or FULL JOIN does."""
        if note.called:
            return False
        library = self._library
        texts = [text_of(library, one).lower() for one in running(library, table.handle, note)]
        return any("right" in text or "full" in text for text in texts)

    def read_more(self, table: VirtualTable, scan: Scan) -> None:
        """Call the function again with a larger limit, and continue a scan with the new rows."""
        note, request, size = scan.more
        function = self._function
        if size > MOST_UNCOUNTED:
            raise FunctionError(
                f"{function.name}() got no {function.counted}, and SQLite reads more than "
                f"{MOST_UNCOUNTED} rows. Give {function.counted}: {function.example}"
            )
        size = min(size * GROWTH, MOST_UNCOUNTED + 1)
        rows = self.rows(table, note, request, scan.arguments, size).rows
        scan.more = (note, request, size) if len(rows) == size else None
        scan.add_rows(rows[:MOST_UNCOUNTED], self._key)
