"""The SELECTs of an SQL text, and the calls of a table function in their FROMs."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from .sql_tokens import Token, literal


@dataclass(eq=False)
class Query:
    """A SELECT, or a compound of several, with its ORDER BY and LIMIT."""

    kind: str
    """Its place: `statement`, `view`, `trigger`, `from`, `cte`, `in` or `value`."""

    parent: "Select | None" = None
    name: str = ""
    """Its name in a FROM."""

    compound: bool = False
    order: Sequence[Token] = ()
    limit: Sequence[Token] | None = None


@dataclass(eq=False)
class Select:
    """The parts of a SELECT that decide which rows of its FROM it returns."""

    query: Query
    grouped: bool = False
    aggregate: bool = False
    window: bool = False
    froms: list[str] = field(default_factory=list)
    """The names of its tables; "" for a subquery."""

    shared: list[bool] = field(default_factory=list)
    """For each table, whether its join is by the restricting column, or may be."""

    has_lists: bool = False
    """Whether a condition is a list, or can become one."""

    two_sided: bool = False
    """Whether there is a RIGHT or FULL JOIN."""


@dataclass(eq=False)
class CallSite:
    """A place in the text that calls the function: its name in a FROM."""

    select: Select
    alias: str
    arguments: Sequence[Sequence[Token]] | None
    place: int
    """Its position among the tables of the FROM."""

    is_for_every_row: bool = False
    """Whether it is called several times: an argument is a column, or has several values."""

    outer: bool = False
    """Whether an outer join may add rows of NULLs, or call it for each row of another table."""

    lists: list[str] = field(default_factory=list)
    """Each `column in (...)`, in the order in which SQLite offers them: `restricts`; or `filters`,
    if its values come from another table; or `perhaps`, if the column may be another table's."""

    values: list[str] = field(default_factory=list)
    """The same for each `column = ...`, which filters, and each `column in (one value)`."""

    called: list[tuple[int, int, str]] = field(default_factory=list)
    """The same for each `column in (f(1))`, with its places in `lists` and `values`: SQLite turns
    it into either a list or a value."""

    fixed: bool = False
    """Whether one of `values` is a constant, which SQLite may pass in place of a list."""

    has_more: bool = False
    """Whether SQLite may make more lists of the conditions of its SELECT."""

    is_mixed: bool = False
    """Whether SQLite may offer such a list before those in `lists`."""

    def matches(self, arguments: Sequence[object], missing: object) -> bool:
        """Tell whether a call with these arguments can come from here."""
        for tokens, value in zip(self.arguments or (), arguments, strict=False):
            known = literal(tokens)
            if value is missing or (known and (type(known[0]), known[0]) != (type(value), value)):
                return False
        return True

    @property
    def restricts(self) -> bool:
        """Whether a condition restricts it, or may."""
        return bool(self.called) or not {"restricts", "perhaps"}.isdisjoint(
            [*self.lists, *self.values]
        )

    def conditions(self, lists: int, is_exposed: bool) -> tuple[list[str], list[str]] | None:
        """Return `lists` and `values`, given the number of lists that SQLite offers.

        Return None if it is not clear to which of the two a `called` condition belongs.
        """
        if not self.called:
            return self.lists, self.values
        at_list, at_value, restricts = self.called[0]
        if len(self.called) > 1 or is_exposed or self.has_more or self.is_mixed:
            return None
        if lists > len(self.lists):
            return [*self.lists[:at_list], restricts, *self.lists[at_list:]], self.values
        return self.lists, [*self.values[:at_value], restricts, *self.values[at_value:]]
