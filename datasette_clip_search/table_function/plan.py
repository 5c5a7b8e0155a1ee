"""What SQLite's planner is told of a table-valued function."""

from typing import Any

from .declaration import MISSING, TableFunction
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


class Plan:
    """Chooses, for SQLite's planner, which constraints of a query become arguments."""

    def __init__(self, function: TableFunction) -> None:
        names = list(function.columns)
        self.first_hidden = len(names)
        self.parameters = len(function.parameters)
        self.required = (1 << function.required) - 1
        self.ordered_by = names.index(function.ordered_by) if function.ordered_by else None
        self.limit, self.offset = self.parameters, self.parameters + 1

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
        filtered = False
        for position in range(info.nConstraint):
            constraint = info.aConstraint[position]
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
        given = 0
        for place, bit in enumerate(sorted(chosen), 1):
            usage = info.aConstraintUsage[chosen[bit]]
            usage.argvIndex = place
            usage.omit = int(bit < self.parameters)
            given |= 1 << bit
        info.idxNum = given
        # Not an error here: SQLite also asks for plans of one side of an OR, without the rest.
        lacking = sum(1 for bit in range(self.parameters) if bit not in chosen)
        complete = given & self.required == self.required
        info.estimatedCost = (
            COST * COST_OF_NOT_GIVEN**lacking if complete else COST_WITHOUT_REQUIRED
        )
        info.estimatedRows = ROWS
        return SQLITE_OK

    def unpack(self, given: int, values: list[Any]) -> tuple[tuple[Any, ...], int | None]:
        """Returns the arguments and the limit that xFilter got."""
        left = iter(values)
        everything = [next(left) if given >> bit & 1 else MISSING for bit in range(self.offset + 1)]
        *arguments, limit, offset = everything
        if not isinstance(limit, int) or limit < 0:
            limit = None
        elif isinstance(offset, int) and offset > 0:
            limit += offset
        return tuple(arguments), limit
