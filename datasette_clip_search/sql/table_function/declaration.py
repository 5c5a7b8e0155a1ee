"""Declarations of SQL functions."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from .limits import Limit


class Missing(Enum):
    MISSING = "missing"

    # It is part of a cache key for each call, and the hash of Enum is slow Python code.
    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return self.name


MISSING: Final = Missing.MISSING
"""The value of an optional parameter that the SQL does not give; NULL is None."""


MOST_PARAMETERS = 23
"""SQLite passes one C int from a plan to its calls. It has a bit for each parameter that is given,
and three more: for limit, offset, and whether the costly column is used."""


@dataclass(frozen=True)
class TableFunction:
    """A declaration of an SQL function that returns a table.

    `rows(connection, *arguments, limit=None)` gets one argument for each of `parameters`, MISSING
    for those not given, and returns an iterable of rows in the order of `columns`. All rows are
    read before SQLite gets the first. `limit` is the most rows that the SQL can use, or None if
    that is not known; more rows do no harm. Equal arguments should give equal rows, because SQLite
    may call more than once. SQL can read the arguments back as hidden columns, except one longer
    than scans.MOST_ARGUMENT_BYTES, which is an error.

    Only the first `required` parameters must be given. `ordered_by` names a column whose values
    ascend and are never NULL: an `order by` on it costs nothing and keeps `limit` known.
    `descending` names columns that descend in the same order, for `order by … desc`.

    A call chooses its rows by its arguments. Conditions of the SQL around it filter the chosen
    rows, as they filter the rows of a table, with two exceptions:

    - `within` names an INTEGER column, such as `id`. `id in (1, ?)` and `id in (select …)` restrict
      a call if they are in the SELECT whose FROM names the function, joined by AND in its WHERE or
      in the ON of a join. `rows` is then called with `within`, the set of integers that all such
      lists contain, and should choose among the rows with one of these values. Without a
      restriction, `within` is None. A list of values from columns of another table only filters,
      and so do `id = 5` and `id = ?`.
    - `counted` names a parameter, the most rows wanted. If it is not given, `rows` is called with
      the `limit` of the SELECT that names the function, or of one that passes its rows on, and
      should make that many rows. If conditions or joins drop some of them, SQLite reads on until it
      has enough: `rows` is called again with larger limits, and its first rows should stay the
      same. With a LIMIT, an ORDER BY of something else, a GROUP BY, an outer join or a compound is
      an error that shows `example`. A LIMIT outside of a view does not limit the calls in it.

    SQLite moves conditions on a view, a CTE or a subquery to the function. The text of the
    statement shows which are its own: see meaning. If that is not clear, the error shows `instead`,
    a statement with the restriction in its arguments. Before SQLite 3.38, which passes one value of
    an IN at a time, each restriction is this error.

    `costly` names a column that takes extra work. `rows` is then called with `costly`, which tells
    whether the SQL may use that column. If it is False, any value will do.

    `limits` are those of the parameters, in their order; larger arguments are refused before a
    copy.
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
    descending: tuple[str, ...] = ()
    counted: str | None = None
    example: str | None = None

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
        for name in self.descending:
            if name not in self.columns:
                raise ValueError(f"{self.name}: there is no column {name!r} to order by")
        if self.counted is not None and self.counted not in self.parameters[self.required :]:
            raise ValueError(f"{self.name}: there is no optional parameter {self.counted!r}")
        if self.costly is not None and self.costly not in self.columns:
            raise ValueError(f"{self.name}: there is no column {self.costly!r} to be costly")
        if self.limits and len(self.limits) != len(self.parameters):
            raise ValueError(f"{self.name}: every parameter needs a limit, or none")

    @property
    def signature(self) -> str:
        return f"{self.name}({', '.join(self.parameters)})"

    @property
    def declaration(self) -> str:
        """The CREATE TABLE that declares the columns to SQLite, arguments as hidden ones."""
        columns = [f"{_quote(name)} {kind}" for name, kind in self.columns.items()]
        # SQLite converts no value that is compared with a BLOB column. It would take HIDDEN alone
        # for a numeric type, and pass 12 as a number for query in ('12', 'dog').
        hidden = [f"{_quote(name)} BLOB HIDDEN" for name in self.parameters]
        return f"CREATE TABLE {_quote(self.name)}({', '.join(columns + hidden)})"


@dataclass(frozen=True)
class ScalarFunction:
    """A declaration of an SQL function that returns a value: `function(connection, *arguments)`.

    `max_arguments` is -1 for any number. A deterministic function returns the same result for the
    same arguments while a statement runs. So does a `steady` one, unless the connection changes
    rows meanwhile: it is not called again for constants and parameters, but SQLite does not allow
    it in an index. `limits` are those of the arguments, the last one for all further arguments;
    larger arguments are refused before a copy.
    """

    name: str
    min_arguments: int
    max_arguments: int
    function: Callable[..., Any]
    deterministic: bool = False
    limits: tuple[Limit, ...] = ()
    steady: bool = False

    def __post_init__(self) -> None:
        _check_name(self.name)
        if self.min_arguments < 0 or -1 < self.max_arguments < self.min_arguments:
            raise ValueError(
                f"{self.name}: cannot take {self.min_arguments} to {self.max_arguments} arguments"
            )


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError(f"{name!r} is not a name for an SQL function")


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
