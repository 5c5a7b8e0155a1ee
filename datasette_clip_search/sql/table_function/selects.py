"""What an SQL text says of a table function, of its FROM, and of what is around that."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from .sql_tokens import Token, literal


@dataclass(eq=False)
class Query:
    """One SELECT, or several that a compound makes one of, with their ORDER BY and LIMIT."""

    kind: str
    """Where it stands: a statement, view or trigger, a `from` or `cte`, an `in`, or a `value`."""

    parent: "Select | None" = None
    name: str = ""
    """What a FROM calls it."""

    compound: bool = False
    order: Sequence[Token] = ()
    limit: Sequence[Token] | None = None


@dataclass(eq=False)
class Select:
    """What decides how the rows of a FROM become those of its SELECT."""

    query: Query
    grouped: bool = False
    aggregate: bool = False
    window: bool = False
    froms: list[str] = field(default_factory=list)
    """The tables by their names, "" for a subquery."""

    shared: list[bool] = field(default_factory=list)
    """For each of the tables, whether its join is, or may be, one by the column's name alone."""

    has_lists: bool = False
    """Whether one of its conditions is a list, or may become one."""

    two_sided: bool = False
    """Whether a join is a RIGHT or FULL one."""


@dataclass(eq=False)
class CallSite:
    """A FROM that names the function."""

    select: Select
    alias: str
    arguments: Sequence[Sequence[Token]] | None
    place: int
    """Which of the tables of the FROM it is."""

    is_for_every_row: bool = False
    """Whether an argument is a column of another table, or has several values."""

    outer: bool = False
    """Whether an outer join may make up rows for it, or search for each row of another table."""

    lists: list[str] = field(default_factory=list)
    """Every `column in (...)`, in the order in which SQLite offers them: it `restricts`, or
    `filters` because its values come from another table, or does so `perhaps`, where the column
    may be another table's."""

    values: list[str] = field(default_factory=list)
    """The same of every `column = ...`, which filters, and every `column in (one value)`."""

    called: list[tuple[int, int, str]] = field(default_factory=list)
    """The same of every `column in (f(1))`: SQLite makes a list or a value of it, at these places
    among the others."""

    fixed: bool = False
    """Whether one of `values` compares with a constant, which SQLite may put in a list's place."""

    has_more: bool = False
    """Whether SQLite may make other lists of its SELECT's conditions."""

    is_mixed: bool = False
    """Whether it may offer such a list before those in `lists`."""

    def matches(self, arguments: Sequence[object], missing: object) -> bool:
        """Tells whether a call with these arguments can be this one."""
        for tokens, value in zip(self.arguments or (), arguments, strict=False):
            known = literal(tokens)
            if value is missing or (known and (type(known[0]), known[0]) != (type(value), value)):
                return False
        return True

    @property
    def restricts(self) -> bool:
        """Whether it says what it is restricted by, or may do so."""
        return bool(self.called) or not {"restricts", "perhaps"}.isdisjoint(
            [*self.lists, *self.values]
        )

    def conditions(self, lists: int, is_exposed: bool) -> tuple[list[str], list[str]] | None:
        """Returns `lists` and `values`, given how many lists SQLite offers.

        None where it can't be told which of the two is `called`.
        """
        if not self.called:
            return self.lists, self.values
        at_list, at_value, restricts = self.called[0]
        if len(self.called) > 1 or is_exposed or self.has_more or self.is_mixed:
            return None
        if lists > len(self.lists):
            return [*self.lists[:at_list], restricts, *self.lists[at_list:]], self.values
        return self.lists, [*self.values[:at_value], restricts, *self.values[at_value:]]
