"""How an SQL function is declared."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from .limits import Limit


class Missing(Enum):
    MISSING = "missing"

    def __repr__(self) -> str:
        return self.name


MISSING: Final = Missing.MISSING
"""What an optional parameter holds when the SQL does not give it; SQL's NULL is None."""


MOST_PARAMETERS = 23
"""Which parameters were given travels as bits of a C int, with three more: for limit, offset and
whether the costly column is used."""


@dataclass(frozen=True)
class TableFunction:
    """Declares an SQL function that returns a table.

    `rows(connection, *arguments, limit=None)` gets one argument for each of `parameters`, MISSING
    for those not given, and returns an iterable of rows in the order of `columns`. It is read to
    its end before SQLite gets the first row. `limit` is how many rows the SQL can use at most, None
    when that is not known; returning more is harmless. The same arguments should give the same
    rows: SQLite may call more than once. SQL can read the arguments back as hidden columns, except
    one longer than scans.MOST_ARGUMENT_BYTES, which is an error.

    Only the first `required` parameters must be given. `ordered_by` names a column whose values
    ascend (and are never NULL): SQL's `order by` on it costs nothing and keeps `limit` known.

    `within` names an INTEGER column that SQL can restrict before the function chooses its rows: it
    is then called with `within`, a set of integers, and should choose among the rows that have
    one of them there, else with None. Of what SQL can ask of `id`, say, this is

    - `id in (1, ?, ...)` and `id in (select ...)`, and every one of several that `and` joins;
    - `id = 5` and `id = ?`, which is also what SQLite makes of `id in (5)` and `id in (?)`; and
      therefore the `id = ?` that it concludes from `other.id = ? and id = other.id`.

    It is not an `id` that equals a column or anything else to be worked out, in a join of any kind
    or a correlated subquery, nor `id in (other.a, other.b)` in an inner join: the function chooses
    its rows first, as if they were a table's. So it does where one side of an `or` leaves `id`
    free, and where the arguments in each side of an `or`, or outside of it, make one call of it:
    `query = 1 and (id = 7 and k = 3 or id = 8 and k = 3)` has those rows of `query = 1 and k = 3`
    that are 7 or 8, while `query = 1 and k = 3 and id in (7, 8)`, or a `union all`, is restricted.
    SQLite looks through views, common table expressions and subqueries, except those that
    are `materialized` or limited.

    Before SQLite 3.38 a restriction is an error: of an IN, SQLite hands over one value at a time,
    each to be answered before the next is known, and it doesn't tell them from a join's. So a join
    on `id` is one too where SQLite calls the function for every row of the other table, such as an
    outer join with the function on its right, or a join of two functions; `+a.id = +b.id` is none.
    `instead` is a statement that has a restriction in its arguments, for that error to name.

    `costly` names a column that takes work of its own. The function is then called with `costly`,
    whether the SQL may use that column: where it is False, any value there will do.

    `limits` are those of the parameters, in their order; larger arguments are refused uncopied.
    """

    name: str
    columns: Mapping[str, str] = field(hash=False)
    parameters: tuple[str, ...]
    required: int
    rows: Callable[..., Iterable[Any]]
    ordered_by: str | None = None
    within: str | None = None
    instead: str | None = None
    costly: str | None = None
    limits: tuple[Limit, ...] = ()

    def __post_init__(self) -> None:
        _check_name(self.name)
        names = [name.lower() for name in (*self.columns, *self.parameters)]
        if len(set(names)) < len(names) or not self.columns:
            raise ValueError(f"{self.name}: columns and parameters need different names")
        if not 0 <= self.required <= len(self.parameters) <= MOST_PARAMETERS:
            raise ValueError(
                f"{self.name}: {self.required} of {len(self.parameters)} parameters required; "
                f"expected 0 <= required <= parameters <= {MOST_PARAMETERS}"
            )
        if self.ordered_by is not None and self.ordered_by not in self.columns:
            raise ValueError(f"{self.name}: there is no column {self.ordered_by!r} to order by")
        if self.within is not None and self.columns.get(self.within) != "INTEGER":
            raise ValueError(f"{self.name}: there is no INTEGER column {self.within!r}")
        if self.costly is not None and self.costly not in self.columns:
            raise ValueError(f"{self.name}: there is no column {self.costly!r} to be costly")
        if self.limits and len(self.limits) != len(self.parameters):
            raise ValueError(f"{self.name}: every parameter needs a limit, or none")

    @property
    def signature(self) -> str:
        return f"{self.name}({', '.join(self.parameters)})"

    @property
    def declaration(self) -> str:
        """The CREATE TABLE that tells SQLite the columns; arguments are hidden ones."""
        columns = [f"{_quote(name)} {kind}" for name, kind in self.columns.items()]
        # A BLOB is compared as it is. Without a type, SQLite takes the word HIDDEN for one of
        # numbers, and calls for the number 12 in query in ('12', 'dog').
        hidden = [f"{_quote(name)} BLOB HIDDEN" for name in self.parameters]
        return f"CREATE TABLE {_quote(self.name)}({', '.join(columns + hidden)})"


@dataclass(frozen=True)
class ScalarFunction:
    """Declares an SQL function that returns a value: `function(connection, *arguments)`.

    `max_arguments` is -1 for any number. A deterministic function gives the same result for the
    same arguments for as long as a statement runs. `limits` are those of the arguments, the last
    one that of all that follow; larger ones are refused uncopied.
    """

    name: str
    min_arguments: int
    max_arguments: int
    function: Callable[..., Any]
    deterministic: bool = False
    limits: tuple[Limit, ...] = ()

    def __post_init__(self) -> None:
        _check_name(self.name)
        if self.min_arguments < 0 or -1 < self.max_arguments < self.min_arguments:
            raise ValueError(
                f"{self.name}: cannot take {self.min_arguments} to {self.max_arguments} arguments"
            )


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError(f"{name!r} is no name for an SQL function")


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
