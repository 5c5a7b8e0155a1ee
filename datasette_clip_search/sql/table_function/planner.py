"""What SQLite's planner is told of a table-valued function, and what a call then gets."""

import ctypes
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from .caller_statement import Note, add_note
from .declaration import MISSING, TableFunction
from .in_lists import value_set
from .library import FunctionError, Library
from .meaning import DEFAULT, DISORDERED, LIMITED, NO_ORDER, ORDERED, Meaning
from .structures import (
    SQLITE_CONSTRAINT,
    SQLITE_INDEX_CONSTRAINT_EQ,
    SQLITE_INDEX_CONSTRAINT_LIMIT,
    SQLITE_INDEX_CONSTRAINT_OFFSET,
    SQLITE_OK,
    IndexInfo,
)

COST = 1e6
"""A call is dear next to looking rows up: it makes the planner call once, in the outer loop."""

COST_OF_NOT_GIVEN = 1e6
"""How many times dearer a call looks for every optional parameter that is not given: `k = 1 or
k = 2` should become two calls, not one call without k whose rows are then all dropped."""

COST_WITHOUT_REQUIRED = 1e200
ROWS = 25

MOST_ARGUMENTS = 31
"""Beyond the 32nd, SQLite cannot say which constraints and which arguments are lists."""


PLAIN = Meaning(0, 0, DEFAULT)


class CallRequest(NamedTuple):
    """What one call is asked for."""

    arguments: tuple[Any, ...]
    limit: int | None
    """How many rows are used at most, where that is known."""

    first: int | None
    """How many rows to begin with, where they are wanted for as long as SQLite asks for more."""

    within: set[int] | None
    only: int | None
    """The value that the column of `within` has in every row that is used."""

    costly: bool


class Planner:
    """Chooses, for SQLite's planner, which constraints of a query become arguments."""

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
        """Fills in the outputs of an IndexInfo and returns an SQLite result code."""
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
            # The argument comes from a table that this order of joining reads later.
            return SQLITE_CONSTRAINT
        ordered = self._is_ordered(info)
        info.orderByConsumed = int(ordered)
        note.ordered = NO_ORDER if not info.nOrderBy else ORDERED if ordered else DISORDERED
        # SQLite offers its limit even where it drops or sorts rows afterwards.
        if filtered or self.limit not in chosen or note.ordered == DISORDERED:
            chosen.pop(self.limit, None)
            chosen.pop(self.offset, None)
        # SQLite goes on to compare what it gives in the first places with every row.
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
        # Not an error here: SQLite also asks for plans of one side of an OR, without the rest.
        lacking = sum(1 for bit in range(self.parameters) if bit not in chosen)
        complete = given & self.required == self.required
        info.estimatedCost = (
            COST * COST_OF_NOT_GIVEN**lacking if complete else COST_WITHOUT_REQUIRED
        )
        # Else the planner drops a plan that waits for another table to tell the value.
        info.estimatedRows = 1 if wanted else ROWS
        return SQLITE_OK

    def _offer(self, note: Note, info: IndexInfo, position: int) -> bool:
        """Notes a list or value that the column has to have; tells whether a call can get it."""
        library, address = self.library, ctypes.addressof(info)
        is_list = library.takes_lists and library.vtab_in(address, position, -1)
        usable = info.aConstraint[position].usable and position < MOST_ARGUMENTS
        if is_list:
            note.usable_lists |= bool(usable) << min(note.lists, 31)
            note.lists += 1
            if usable:
                # All values at once.
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
        # No two rows have the same rank, so nothing is left for other columns to order.
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
        """Returns what the arguments that xFilter got ask for.

        `decide` is called with those of the function, where it takes knowing what the SQL means,
        and `heed` now and then, to end a long list by an exception. `may_withhold` tells whether
        SQLite may not offer a condition at all.
        """
        given = number & (self.costly_bit - 1)
        count = len(addresses) - given.bit_count()
        try:
            bits = (bit for bit in range(self.offset + 1) if given >> bit & 1)
            for bit, address in zip(bits, addresses[count:], strict=True):
                if bit < len(self.limits):
                    self.library.check(address, self.limits[bit])
            left = iter([self.library.value(address) for address in addresses[count:]])
        except FunctionError as error:
            raise FunctionError(f"{self.name}(): {error}") from None
        everything = [next(left) if given >> bit & 1 else MISSING for bit in range(self.offset + 1)]
        *listed, limit, offset = everything
        lacking = [
            name for name, value in zip(self.needed, listed, strict=False) if value is MISSING
        ]
        if lacking:
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
        """Returns what restricts a call, a value that filters it, and whether anything does."""
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
    are_lists: int, usable_lists: int, usable_values: int, lists: int, values: int
) -> list[tuple[bool, bool]]:
    """Tells of every list and value that a call gets whether it is a list, and restricts."""
    numbers = {
        True: [place for place in range(32) if usable_lists >> place & 1],
        False: [place for place in range(32) if usable_values >> place & 1],
    }
    kinds = []
    for place in range(len(numbers[True]) + len(numbers[False])):
        is_list = bool(are_lists >> place & 1)
        number = numbers[is_list].pop(0)
        kinds.append((is_list, bool((lists if is_list else values) >> number & 1)))
    return kinds
