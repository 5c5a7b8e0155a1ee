"""What SQLite's planner is told of a table-valued function."""

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

from .declaration import MISSING, MOST_PARAMETERS, TableFunction
from .library import Library, Refused
from .structures import (
    SQLITE_CONSTRAINT,
    SQLITE_INDEX_CONSTRAINT_EQ,
    SQLITE_INDEX_CONSTRAINT_LIMIT,
    SQLITE_INDEX_CONSTRAINT_OFFSET,
    SQLITE_OK,
    IndexInfo,
)
from .within import value_set

COST = 1e6
"""A call is dear next to looking rows up: it makes the planner call once, in the outer loop."""

COST_OF_NOT_GIVEN = 1e6
"""How many times dearer a call looks for every optional parameter that is not given: `k = 1 or
k = 2` should become two calls, not one call without k whose rows are then all dropped."""

COST_OF_NO_WITHIN = 2
"""How many times dearer a call without the restriction looks than one with it, before SQLite 3.38.
There an IN can't be told from a join: an IN must be seen, to be refused, and a join that looks up
a restriction for two rows or more is dearer still. From 3.38 on the two cost the same, and of two
such plans SQLite takes the one that waits for no other table."""

COST_WITHOUT_REQUIRED = 1e200
ROWS = 25

BITS = MOST_PARAMETERS + 3
MOST_ARGUMENTS = 31
"""Beyond the 32nd, SQLite cannot say which constraints and which arguments are lists."""


class Plan:
    """Chooses, for SQLite's planner, which constraints of a query become arguments."""

    def __init__(self, library: Library, function: TableFunction) -> None:
        names = list(function.columns)
        self.library = library
        self.name = function.name
        self.first_hidden = len(names)
        self.parameters = len(function.parameters)
        self.required = (1 << function.required) - 1
        self.ordered_by = names.index(function.ordered_by) if function.ordered_by else None
        self.within = names.index(function.within) if function.within else None
        self.restricted = function.within
        self.instead = function.instead
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

    def choose(self, info: IndexInfo) -> int:
        """Fills in the outputs of an IndexInfo and returns an SQLite result code."""
        chosen: dict[int, int] = {}
        unusable = set()
        restrictions = []
        filtered = unrestricted = False
        for position in range(info.nConstraint):
            constraint = info.aConstraint[position]
            if constraint.op == SQLITE_INDEX_CONSTRAINT_EQ and constraint.iColumn == self.within:
                if constraint.usable:
                    restrictions.append(position)
                else:
                    filtered = unrestricted = True
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
        ordered = info.nOrderBy == 1 and (
            (info.aOrderBy[0].iColumn, info.aOrderBy[0].desc) == (self.ordered_by, 0)
        )
        info.orderByConsumed = int(ordered)
        # SQLite offers its limit even where it drops or sorts rows afterwards.
        if filtered or self.limit not in chosen or (info.nOrderBy and not ordered):
            chosen.pop(self.limit, None)
            chosen.pop(self.offset, None)
        certain, uncertain = self._sort_out(info, restrictions)
        if restrictions and max(restrictions[-1], len(restrictions) + len(chosen)) > MOST_ARGUMENTS:
            raise Refused(f"{self.name}() has too many conditions")
        # SQLite goes on to compare what it gives in the first places with every row.
        for place, position in enumerate(certain + uncertain, 1):
            info.aConstraintUsage[position].argvIndex = place
        given = 0
        for place, bit in enumerate(sorted(chosen), len(restrictions) + 1):
            usage = info.aConstraintUsage[chosen[bit]]
            usage.argvIndex = place
            usage.omit = int(bit < self.parameters)
            given |= 1 << bit
        info.idxNum = given | len(certain) << BITS
        if self.costly is not None and info.colUsed >> min(self.costly, 63) & 1:
            info.idxNum |= self.costly_bit
        # Not an error here: SQLite also asks for plans of one side of an OR, without the rest.
        lacking = sum(1 for bit in range(self.parameters) if bit not in chosen)
        complete = given & self.required == self.required
        cost = COST * COST_OF_NOT_GIVEN**lacking if complete else COST_WITHOUT_REQUIRED
        if unrestricted and not self.library.takes_lists:
            cost *= COST_OF_NO_WITHIN
        info.estimatedCost = cost
        info.estimatedRows = ROWS
        return SQLITE_OK

    def _sort_out(self, info: IndexInfo, positions: list[int]) -> tuple[list[int], list[int]]:
        """Tells lists and literals from values of which only xFilter sees where they are from."""
        certain: list[int] = []
        uncertain: list[int] = []
        library, address, value = self.library, ctypes.addressof(info), ctypes.c_void_p()
        for position in positions:
            known = library.takes_lists and (
                # Asks for the whole list at once; 0 where there is no list.
                library.vtab_in(address, position, 1)
                or library.vtab_rhs_value(address, position, ctypes.byref(value)) == SQLITE_OK
            )
            (certain if known else uncertain).append(position)
        return certain, uncertain

    def unpack(
        self,
        number: int,
        addresses: Sequence[int | None],
        heed: Callable[[], None] = lambda: None,
    ) -> tuple[tuple[Any, ...], int | None, set[int] | None, bool]:
        """Returns the arguments, the limit and the restriction that xFilter got.

        The last value tells whether the costly column is used. `heed` is called now and then, to
        end a long list by an exception.
        """
        given, certain = number & (self.costly_bit - 1), number >> BITS
        count = len(addresses) - given.bit_count()
        try:
            bits = (bit for bit in range(self.offset + 1) if given >> bit & 1)
            for bit, address in zip(bits, addresses[count:], strict=True):
                if bit < len(self.limits):
                    self.library.check(address, self.limits[bit])
            left = iter([self.library.value(address) for address in addresses[count:]])
        except Refused as error:
            raise Refused(f"{self.name}(): {error}") from None
        everything = [next(left) if given >> bit & 1 else MISSING for bit in range(self.offset + 1)]
        *arguments, limit, offset = everything
        if not isinstance(limit, int) or limit < 0:
            limit = None
        elif isinstance(offset, int) and offset > 0:
            limit += offset
        within: set[int] | None = None
        for place, address in enumerate(addresses[:count]):
            if not self.library.takes_lists:
                raise Refused(
                    f"{self.name}() cannot be restricted by its {self.restricted}, nor joined on "
                    f"it like this, before SQLite 3.38; this is {_dotted(self.library)}. "
                    + (f"To restrict it: {self.instead}. " if self.instead else "")
                    + f"To join it: on +a.{self.restricted} = +b.{self.restricted}. "
                    "For a newer SQLite: pip install pysqlite3-binary"
                )
            if place < certain or self.library.value_frombind(address):
                values = value_set(self.library, address, heed)
                within = values if within is None else within & values
            else:
                # The value of a column, in a join or a correlated subquery: SQLite drops the
                # other rows afterwards.
                limit = None
        return tuple(arguments), limit, within, bool(number & self.costly_bit)


def _dotted(library: Library) -> str:
    version = library.version_number()
    return f"{version // 1_000_000}.{version // 1000 % 1000}.{version % 1000}"
