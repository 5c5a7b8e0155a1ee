"""Where an SQL text names a table function, and what the SELECT that names it says of it.

SQLite shows a virtual table the conditions that reach it, but not the SELECT that they were written
in: those on a view, a CTE or a subquery it moves inside. The text tells the two apart.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from .tokens import (
    Token,
    all_names,
    is_group,
    is_name,
    is_operator,
    is_query,
    is_word,
    literal,
    nested,
    split,
    words,
)

_JOINS = ("join", "cross", "inner", "left", "right", "full", "natural")
_AFTER_WHERE = ("group", "having", "window", "order", "limit", "returning")
_NO_ALIAS = (*_JOINS, *_AFTER_WHERE, "where", "on", "using", "indexed", "not", "set")
_COMPOUND = ("union", "except", "intersect")
_AGGREGATES = words(
    """
    avg count group_concat json_group_array json_group_object jsonb_group_array jsonb_group_object
    max median min percentile percentile_cont percentile_disc string_agg sum total
    """
)
_CONSTANTS = words(
    """
    null true false cast as text integer int real blob numeric case when then else end and or not
    is collate current_date current_time current_timestamp
    """
)


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
class Call:
    """A FROM that names the function."""

    select: Select
    alias: str
    arguments: Sequence[Sequence[Token]] | None
    place: int
    """Which of the tables of the FROM it is."""

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


class Text:
    """The calls of a function in the text of a statement, or of a view or a trigger."""

    def __init__(self, sql: str, function: str, column: str | None, kind: str = "statement"):
        self._function, self._column = function, column
        self.calls: list[Call] = []
        self.selects: list[Select] = []
        tokens = nested(sql)
        names = all_names(tokens)
        self.names = frozenset(names)
        if function in self.names:
            for part in split(tokens, ";", "begin") if kind == "trigger" else [tokens]:
                self._statement(part, kind)
        # Such as in the FROM of an UPDATE, which is no SELECT.
        self.has_others = _uses(tokens, function) > len(
            [call for call in self.calls if call.arguments is not None]
        )

    def _statement(self, tokens: Sequence[Token], kind: str) -> None:
        for start, token in enumerate(tokens):
            if is_word(tokens, start, "select", "with", "values"):
                self._query(tokens[start:], Query(kind))
                return
            if token.kind == "group":
                self._values(tokens[start : start + 1], None)

    def _values(self, tokens: Sequence[Token], parent: Select | None) -> None:
        """Looks through an expression for SELECTs in it."""
        for place, token in enumerate(tokens):
            if token.kind == "group":
                if is_query(token.inside):
                    kind = "in" if is_word(tokens, place - 1, "in") else "value"
                    self._query(token.inside, Query(kind, parent))
                else:
                    self._values(token.inside, parent)

    def _query(self, tokens: Sequence[Token], query: Query) -> None:
        tokens = tokens[self._with(tokens, query) :]
        cores = split(tokens, *_COMPOUND)
        query.compound = len(cores) > 1
        last = cores[-1]
        order = _find(last, "order")
        limit = _find(last, "limit")
        query.order = last[order + 2 : limit]
        query.limit = last[limit + 1 :] if limit < len(last) else None
        cores[-1] = last[: min(order, limit)]
        self._values(last[min(order, limit) :], None)
        for core in cores:
            start = int(is_word(core, 0, "all"))
            if is_word(core, start, "select"):
                self._select(core[start + 1 :], query)
            else:
                self._values(core, None)

    def _with(self, tokens: Sequence[Token], query: Query) -> int:
        """Reads the CTEs, and returns where what follows them starts."""
        if not is_word(tokens, 0, "with"):
            return 0
        place = 1 + is_word(tokens, 1, "recursive")
        while is_name(tokens, place):
            name = tokens[place].text
            place += 1 + is_group(tokens, place + 1)
            while is_word(tokens, place, "as", "not", "materialized"):
                place += 1
            if is_group(tokens, place):
                self._query(tokens[place].inside, Query("cte", query.parent, name))
                place += 1
            if not is_operator(tokens, place, ","):
                break
            place += 1
        # INSERT, UPDATE and DELETE may stand between.
        start = min(_find(tokens, "select", "values", after=place), len(tokens))
        self._values(tokens[place:start], None)
        return start

    def _select(self, tokens: Sequence[Token], query: Query) -> None:
        select = Select(query)
        self.selects.append(select)
        start = _find(tokens, "from")
        where = _find(tokens, "where", after=start)
        stop = _find(tokens, *_AFTER_WHERE, after=start)
        # After a WHERE, only an upsert has an ON.
        upsert = _find(tokens, "on", after=where)
        columns = tokens[:start]
        select.grouped = _find(tokens, "group", after=start) < len(tokens)
        select.window = _find(columns, "over") < len(columns)
        select.aggregate = _find(columns, "filter") < len(columns) or _has_aggregate(columns)
        select.has_lists = _has_list(tokens[where:])
        self._values(columns, select)
        self._values(tokens[where:], select)
        calls: list[Call] = []
        ons = self._from(tokens[start + 1 : min(where, stop)], select, calls)
        for call in calls:
            self._conditions(tokens[where + 1 : min(stop, upsert)], call)
            for restricted, condition in ons:
                if call in restricted:
                    self._conditions(condition, call)
        self.calls += calls

    # FROM

    def _from(
        self, tokens: Sequence[Token], select: Select, calls: list[Call]
    ) -> list[tuple[list[Call], Sequence[Token]]]:
        """Reads a FROM into `calls`; returns its ONs, each with the calls that it restricts."""
        ons: list[tuple[list[Call], Sequence[Token]]] = []
        place, outer = 0, False
        while place < len(tokens):
            before = len(calls)
            place = self._table(tokens, place, select, calls)
            for call in calls[before:]:
                call.outer |= outer
            end = place
            while end < len(tokens) and not (
                is_word(tokens, end, *_JOINS) or is_operator(tokens, end, ",")
            ):
                end += 1
            if is_word(tokens, place, "on"):
                ons.append((calls[before:] if outer else calls, tokens[place + 1 : end]))
                select.has_lists |= _has_list(tokens[place + 1 : end])
                self._values(tokens[place + 1 : end], select)
            elif is_word(tokens, place, "using") and is_group(tokens, place + 1):
                select.shared[-1] |= self._column in all_names(tokens[place + 1].inside)
            outer, place = False, end
            while is_word(tokens, place, *_JOINS, "outer") or is_operator(tokens, place, ","):
                outer |= is_word(tokens, place, "left", "right", "full")
                if is_word(tokens, place, "right", "full"):
                    select.two_sided = True
                    for call in calls:
                        call.outer = True
                if is_word(tokens, place, "natural"):
                    self._natural = True
                place += 1
        return ons

    _natural = False

    def _table(self, tokens: Sequence[Token], place: int, select: Select, calls: list[Call]) -> int:
        """Reads one table of a FROM, and returns where it ends."""
        natural, self._natural = self._natural, False
        name = ""
        arguments: list[Sequence[Token]] | None = None
        subquery: Query | None = None
        if is_group(tokens, place):
            inside = tokens[place].inside
            place += 1
            if not is_query(inside):
                before = len(calls)
                ons = self._from(inside, select, calls)
                for call in calls[before:]:
                    call.is_mixed |= any(self._column in all_names(on) for _, on in ons)
                return place + _alias_length(tokens, place)
            subquery = Query("from", select)
            self._query(inside, subquery)
        elif is_name(tokens, place):
            name = tokens[place].text
            place += 1
            while is_operator(tokens, place, ".") and is_name(tokens, place + 1):
                name = tokens[place + 1].text
                place += 2
            if is_group(tokens, place):
                arguments = list(split(tokens[place].inside, ","))
                self._values(tokens[place].inside, select)
                place += 1
        else:
            return place + 1
        length = _alias_length(tokens, place)
        alias = tokens[place + length - 1].text.strip("'").lower() if length else name
        select.froms.append(name)
        select.shared.append(natural)
        if subquery:
            subquery.name = alias
        if name == self._function:
            calls.append(Call(select, alias, arguments, len(select.froms) - 1))
        return place + length

    # Conditions

    def _conditions(self, tokens: Sequence[Token], call: Call) -> None:
        """Notes what conditions that AND joins say of the column."""
        for term in _conjuncts(tokens):
            if len(term) == 1 and is_group(term, 0) and not is_query(term[0].inside):
                self._conditions(term[0].inside, call)
                continue
            is_one_of = _find(term, "or") < len(term)
            if (is_one_of or not self._note(term, call)) and self._column in all_names(term):
                # `id = 1 or id = 2` becomes a list after all others.
                call.has_more |= is_one_of or any(token.kind == "group" for token in term)
                call.is_mixed |= call.has_more and "in" in all_names(term)

    def _note(self, term: Sequence[Token], call: Call) -> bool:
        """Notes a condition that SQLite offers; tells whether it is one."""
        length, ours = self._column_at_start(term, call)
        if length:
            rest = term[length:]
            if is_word(rest, 0, "in") and len(rest) > 1:
                kind = _right_side(rest[1:])
                if kind and ours is not False:
                    restricts = "restricts" if ours else "perhaps"
                    if kind == "called":
                        call.called.append((len(call.lists), len(call.values), restricts))
                    elif kind == "one":
                        call.values.append(restricts)
                    elif kind != "nothing":
                        call.lists.append(kind if kind == "filters" else restricts)
                return kind is not None
            if is_operator(rest, 0, "=", "=="):
                call.values += ["filters"] * (ours is not False)
                call.fixed |= not _is_of_a_row(rest[1:])
                return True
        for at in range(len(term)):
            if is_operator(term, at, "=", "=="):
                length, ours = self._column_at_start(term[at + 1 :], call)
                if length and length == len(term) - at - 1:
                    call.values += ["filters"] * (ours is not False)
                    call.fixed |= not _is_of_a_row(term[:at])
                    return True
        return False

    def _column_at_start(self, term: Sequence[Token], call: Call) -> tuple[int, bool | None]:
        """Returns how long the column's name is at the start, and whether it is the call's own."""
        if is_group(term, 0):
            length, ours = self._column_at_start(term[0].inside, call)
            return (1, ours) if length and length == len(term[0].inside) else (0, None)
        place = 0
        while is_name(term, place) and is_operator(term, place + 1, "."):
            place += 2
        if not is_name(term, place) or term[place].text != self._column:
            return 0, None
        if place:
            return (place + 1, True) if term[place - 2].text == call.alias else (0, None)
        return 1, _is_own(call)


def _is_own(call: Call) -> bool | None:
    """Tells whether a column without a table's name is a call's; None where that isn't sure."""
    select = call.select
    if True not in select.shared:
        # Of two tables with such a column, SQLite asks which one is meant.
        return True
    if call.place == 0:
        return None if select.two_sided else True
    return False if select.shared[call.place] else None


def _right_side(tokens: Sequence[Token]) -> str | None:
    """Returns what follows an IN: a list that `restricts` or `filters`, or `nothing`.

    `one` is a value, and `called` one that takes a call. None where that is not all of the
    condition.
    """
    if is_name(tokens, 0):
        # A table, or a table function.
        length = 1
        while is_operator(tokens, length, ".") and is_name(tokens, length + 1):
            length += 2
        length += is_group(tokens, length)
        return "restricts" if length == len(tokens) else None
    if len(tokens) != 1 or not is_group(tokens, 0):
        return None
    inside = tokens[0].inside
    if not inside:
        return "nothing"
    if is_query(inside):
        return "restricts"
    if _is_of_a_row(inside):
        return "filters"
    if len(split(inside, ",")) > 1 or inside[0].kind == "many":
        return "restricts"
    if is_group(inside, 0) and len(inside) == 1 and is_query(inside[0].inside):
        return "restricts"
    return "called" if _has_call(inside) else "one"


def _has_list(tokens: Sequence[Token]) -> bool:
    return any(
        is_word(tokens, place, "in", "or")
        or (token.kind == "group" and not is_query(token.inside) and _has_list(token.inside))
        for place, token in enumerate(tokens)
    )


def _has_call(tokens: Sequence[Token]) -> bool:
    for place, token in enumerate(tokens):
        if token.kind == "group" and (
            is_query(token.inside)
            or (is_name(tokens, place - 1) and not is_word(tokens, place - 1, *_CONSTANTS))
            or _has_call(token.inside)
        ):
            return True
    return False


def _is_of_a_row(tokens: Sequence[Token]) -> bool:
    """Tells whether a value, or one of several, names a column."""
    for place, token in enumerate(tokens):
        if token.kind == "name" or (token.kind == "word" and token.text not in _CONSTANTS):
            if not is_group(tokens, place + 1):
                return True
        elif token.kind == "group" and not is_query(token.inside) and _is_of_a_row(token.inside):
            return True
    return False


def _has_aggregate(columns: Sequence[Token]) -> bool:
    for place, token in enumerate(columns):
        if token.kind == "group":
            if is_word(columns, place - 1, *_AGGREGATES) and not is_word(
                columns, place + 1, "over"
            ):
                several = len(split(token.inside, ",")) > 1
                if not (several and is_word(columns, place - 1, "min", "max")):
                    return True
            if not is_query(token.inside) and _has_aggregate(token.inside):
                return True
    return False


def _alias_length(tokens: Sequence[Token], place: int) -> int:
    start = int(is_word(tokens, place, "as"))
    at = place + start
    named = is_name(tokens, at) and not is_word(tokens, at, *_NO_ALIAS)
    quoted = at < len(tokens) and tokens[at].kind == "string"
    return start + 1 if named or quoted else 0


def _uses(tokens: Sequence[Token], function: str) -> int:
    """Counts where a function is called."""
    count = 0
    for place, token in enumerate(tokens):
        if token.kind == "group":
            count += is_name(tokens, place - 1) and tokens[place - 1].text == function
            count += _uses(token.inside, function)
    return count


def _find(tokens: Sequence[Token], *words: str, after: int = 0) -> int:
    """Returns where a keyword stands, or else where the tokens end."""
    for place in range(after, len(tokens)):
        if is_word(tokens, place, *words) and not is_operator(tokens, place - 1, "."):
            return place
    return len(tokens)


def _conjuncts(tokens: Sequence[Token]) -> Iterator[Sequence[Token]]:
    """Yields the conditions that AND joins; with an OR among them, all as one."""
    cases = betweens = 0
    cuts = []
    for place, token in enumerate(tokens):
        if token.kind != "word":
            continue
        if token.text in ("case", "end"):
            cases += 1 if token.text == "case" else -1
        elif cases > 0:
            continue
        elif token.text == "or":
            yield tokens
            return
        elif token.text == "between":
            betweens += 1
        elif token.text == "and":
            if betweens:
                betweens -= 1
            else:
                cuts.append(place)
    for start, stop in zip([-1, *cuts], [*cuts, len(tokens)], strict=True):
        if start + 1 < stop:
            yield tokens[start + 1 : stop]
