"""How an SQL function is declared."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from .limits import Limit


class Missing(Enum):
    MISSING = "missing"

    # It is part of a key for every call, and the one of Enum is written in Python.
    __hash__ = object.__hash__

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

    `descending` names columns that descend in the same order, for `order by … desc`.

    A call chooses its rows by its arguments. What the SQL around it asks of them filters the rows
    that it chose, as it would filter a table's, with two exceptions:

    - `within` names an INTEGER column, `id`, say. `id in (1, ?)` and `id in (select ...)` restrict
      a call where an AND of the WHERE, or of a join's ON, has them in the very SELECT whose FROM
      names the function: `rows` is called with `within`, a set of integers, all that every such
      list has, and should choose among the rows that have one of them there. Else it is None. A
      list of values from another table's columns filters, and so do `id = 5` and `id = ?`.
    - `counted` names a parameter, the most rows wanted. Where it is not given, `rows` is called
      with the `limit` of the SELECT that names the function, or of one around it that passes its
      rows on, and should then make that many rows. Where conditions and joins drop rows of a
      limited SELECT, SQLite reads on until it has enough: `rows` is called with ever larger
      limits, and its first rows should stay the same. An ORDER BY of something else, a GROUP BY,
      an outer join or a compound with a LIMIT is then an error that shows `example`. What a view
      calls is never limited from outside.

    SQLite moves conditions of a view, a CTE or a subquery to the function; which are its own is
    read from the text of the statement: see meaning. Where that can't be told, the error shows
    `instead`, a statement that has a restriction in its arguments. So it does for each restriction
    before SQLite 3.38, which hands over one value of an IN at a time.

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
    same arguments for as long as a statement runs. So does a `steady` one, unless the connection
    changes rows meanwhile: it is not called again for constants and parameters; but SQLite, which
    doesn't know, refuses it in an index. `limits` are those of the arguments, the last one that of
    all that follow; larger ones are refused uncopied.
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
        raise ValueError(f"{name!r} is no name for an SQL function")


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
