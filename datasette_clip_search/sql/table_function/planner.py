"""Reply to SQLite's planner (xBestIndex), and read what a call then gets (xFilter)."""

import ctypes
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from .caller_statement import Note, add_note, places_in
from .declaration import MISSING, TableFunction
from .in_lists import value_set
from .library import FunctionError, Library
from .meaning import PLAIN, Meaning
from .row_limit import DEFAULT, DISORDERED, LIMITED, NO_ORDER, ORDERED
from .structures import (
    SQLITE_CONSTRAINT,
    SQLITE_INDEX_CONSTRAINT_EQ,
    SQLITE_INDEX_CONSTRAINT_LIMIT,
    SQLITE_INDEX_CONSTRAINT_OFFSET,
    SQLITE_OK,
    IndexInfo,
)

COST = 1e6
"""The cost of a call. It is high, so that the planner puts the call into the outer loop."""

COST_OF_NOT_GIVEN = 1e6
"""The factor for each optional parameter that is not given: `k = 1 or k = 2` should become two
calls, not one call without k whose rows are then all dropped."""

COST_WITHOUT_REQUIRED = 1e200
ROWS = 25

MOST_ARGUMENTS = 31
"""SQLite can tell only for the first 32 arguments whether they are lists."""


class CallRequest(NamedTuple):
    """The arguments of one call, and what SQLite needs of its rows."""

    arguments: tuple[Any, ...]
    limit: int | None
    """The most rows that are used, if that is known."""

    first: int | None
    """How many rows to make first, if SQLite may come to ask for more."""

    within: set[int] | None
    only: int | None
    """The value of the column of `within` in every row that is used."""

    costly: bool


class Planner:
    """Chooses the constraints of a statement that become arguments of a function.

    idxNum, the integer that xBestIndex returns and xFilter gets, has a bit for each parameter that
    is given, one each for limit and offset, and `costly_bit`.
    """

    def __init__(self, library: Library, function: TableFunction) -> None:
        names = list(function.columns)
        self.library = library
        self.name = function.name
        self.first_hidden = len(names)
        self.parameters = len(function.parameters)
        self.needed = function.parameters[: function.required]
        self.signature = function.signature
        self.required = (1 << function.required) - 1
        self.orders = {(names.index(name), 1) for name in function.descending}
        if function.ordered_by:
            self.orders.add((names.index(function.ordered_by), 0))
        self.unique = names.index(function.ordered_by) if function.ordered_by else None
        self.within = names.index(function.within) if function.within else None
        self.counted = function.parameters.index(function.counted) if function.counted else None
        self.limit, self.offset = self.parameters, self.parameters + 1
        self.costly = names.index(function.costly) if function.costly else None
        self.costly_bit = 1 << self.offset + 1
        self.limits = function.limits

    def _bit(self, column: int, operator: int) -> int | None:
        if operator == SQLITE_INDEX_CONSTRAINT_EQ and column >= self.first_hidden:
            return column - self.first_hidden
        if operator == SQLITE_INDEX_CONSTRAINT_LIMIT:
            return self.limit
        if operator == SQLITE_INDEX_CONSTRAINT_OFFSET:
            return self.offset
        return None

    def choose(self, handle: int, info: IndexInfo) -> int:
        """Fill in the outputs of an IndexInfo and return an SQLite result code."""
        chosen: dict[int, int] = {}
        unusable = set()
        wanted = []
        filtered = False
        note = add_note(self.library, handle, info)
        for position in range(info.nConstraint):
            constraint = info.aConstraint[position]
            if constraint.op == SQLITE_INDEX_CONSTRAINT_EQ and constraint.iColumn == self.within:
                if self._offer(note, info, position):
                    wanted.append(position)
                else:
                    filtered = True
                continue
            bit = self._bit(constraint.iColumn, constraint.op)
            if bit is None or bit in chosen:
                filtered = True
            elif constraint.usable:
                chosen[bit] = position
            else:
                unusable.add(bit)
        filtered |= bool(unusable)
        if any(bit < self.parameters for bit in unusable - chosen.keys()):
            # The argument comes from a table that this order of joins reads later.
            return SQLITE_CONSTRAINT
        ordered = self._is_ordered(info)
        info.orderByConsumed = int(ordered)
        note.ordered = NO_ORDER if not info.nOrderBy else ORDERED if ordered else DISORDERED
        # SQLite offers its limit even if it drops or sorts rows afterwards.
        if filtered or self.limit not in chosen or note.ordered == DISORDERED:
            chosen.pop(self.limit, None)
            chosen.pop(self.offset, None)
        # These conditions come first. SQLite still checks them for each row.
        for place, position in enumerate(wanted, 1):
            info.aConstraintUsage[position].argvIndex = place
        given = 0
        for place, bit in enumerate(sorted(chosen), len(wanted) + 1):
            usage = info.aConstraintUsage[chosen[bit]]
            usage.argvIndex = place
            usage.omit = int(bit < self.parameters)
            given |= 1 << bit
        info.idxNum = given
        if self.costly is not None and info.colUsed >> min(self.costly, 63) & 1:
            info.idxNum |= self.costly_bit
        # A missing argument is not an error here: SQLite also asks about one side of an OR alone.
        lacking = sum(1 for bit in range(self.parameters) if bit not in chosen)
        complete = given & self.required == self.required
        info.estimatedCost = (
            COST * COST_OF_NOT_GIVEN**lacking if complete else COST_WITHOUT_REQUIRED
        )
        # With more rows, the planner would drop a plan that gets the value from another table.
        info.estimatedRows = 1 if wanted else ROWS
        return SQLITE_OK

    def _offer(self, note: Note, info: IndexInfo, position: int) -> bool:
        """Note a condition on the restricting column; tell whether it can be passed to a call."""
        library, address = self.library, ctypes.addressof(info)
        is_list = library.takes_lists and library.vtab_in(address, position, -1)
        usable = info.aConstraint[position].usable and position < MOST_ARGUMENTS
        if is_list:
            note.usable_lists |= bool(usable) << min(note.lists, 31)
            note.lists += 1
            if usable:
                # Ask for all values at once.
                library.vtab_in(address, position, 1)
                note.are_lists |= 1 << (
                    note.usable_lists.bit_count() + note.usable_values.bit_count() - 1
                )
        else:
            note.usable_values |= bool(usable) << min(note.values, 31)
            note.values += 1
        return bool(usable)

    def _is_ordered(self, info: IndexInfo) -> bool:
        if not info.nOrderBy:
            return False
        first = info.aOrderBy[0].iColumn, info.aOrderBy[0].desc
        # No two rows have the same rank, so further columns cannot change the order.
        return first in self.orders and (info.nOrderBy == 1 or first == (self.unique, 0))

    def unpack(
        self,
        note: Note,
        number: int,
        addresses: Sequence[int | None],
        decide: Callable[[tuple[Any, ...]], Meaning],
        heed: Callable[[], None] = lambda: None,
        may_withhold: Callable[[], bool] = lambda: False,
    ) -> CallRequest:
        """Return the request in the arguments that xFilter got.

        `decide` gets the function's arguments and returns what the SQL means; it is called only if
        that matters. `heed` is called now and then, and may raise to end a long list.
        `may_withhold` tells whether SQLite may hide a condition.
        """
        given = number & (self.costly_bit - 1)
        count = len(addresses) - given.bit_count()
        places = [bit for bit in range(self.offset + 1) if given >> bit & 1]
        passed = list(zip(places, addresses[count:], strict=True))
        everything: list[Any] = [MISSING] * (self.offset + 1)
        library = self.library
        try:
            # Check all sizes before any value is copied.
            for place, address in passed:
                if place < len(self.limits):
                    library.check(address, self.limits[place])
            for place, address in passed:
                everything[place] = library.value(address)
        except FunctionError as error:
            raise FunctionError(f"{self.name}(): {error}") from None
        *listed, limit, offset = everything
        if given & self.required != self.required:
            lacking = [
                name for name, value in zip(self.needed, listed, strict=False) if value is MISSING
            ]
            raise FunctionError(
                f"{self.name}() needs {' and '.join(lacking)}: select * from {self.signature}"
            )
        arguments = tuple(listed)
        if not isinstance(limit, int) or limit < 0:
            limit = None
        elif isinstance(offset, int) and offset > 0:
            limit += offset
        uncounted = self.counted is not None and arguments[self.counted] is MISSING
        meaning = PLAIN
        if uncounted or note.lists or note.values or (self.within is not None and may_withhold()):
            meaning = decide(arguments)
        within, only, filters = None, None, False
        if count:
            within, only, filters = self._restriction(note, meaning, addresses[:count], heed)
        if filters or (uncounted and meaning.mode == DEFAULT):
            limit = None
        first = meaning.first if limit is None and meaning.mode == LIMITED else None
        costly = bool(number & self.costly_bit)
        return CallRequest(arguments, limit, first, within, only, costly)

    def _restriction(
        self,
        note: Note,
        meaning: Meaning,
        addresses: Iterable[int | None],
        heed: Callable[[], None],
    ) -> tuple[set[int] | None, int | None, bool]:
        """Return the ids that restrict a call, an id that filters it, and whether anything does."""
        within: set[int] | None = None
        only: int | None = None
        filters = False
        kinds = _kinds(
            note.are_lists, note.usable_lists, note.usable_values, meaning.lists, meaning.values
        )
        for address, (is_list, restricts) in zip(addresses, kinds, strict=False):
            if restricts:
                found = value_set(self.library, address, heed)
                within = found if within is None else within & found
            else:
                filters = True
                if not is_list:
                    value = self.library.value(address, "replace")
                    only = value if type(value) is int else only
        return within, only, filters


@lru_cache(256)
def _kinds(
    are_lists: int,
    usable_lists: int,
    usable_values: int,
    lists: frozenset[int],
    values: frozenset[int],
) -> list[tuple[bool, bool]]:
    """Return for each condition that a call gets whether it is a list, and whether it restricts."""
    numbers = {True: sorted(places_in(usable_lists)), False: sorted(places_in(usable_values))}
    kinds = []
    for place in range(len(numbers[True]) + len(numbers[False])):
        is_list = place in places_in(are_lists)
        number = numbers[is_list].pop(0)
        kinds.append((is_list, number in (lists if is_list else values)))
    return kinds
