"""Find the calls of a table function in an SQL text, and the conditions of their SELECTs.

SQLite shows a virtual table the conditions that reach it, but not the SELECT where they were
written: it moves conditions on a view, a CTE or a subquery inside. The text shows which is which.
"""

from collections.abc import Sequence

from .conditions import is_of_a_row, note_conditions, takes_several
from .selects import CallSite, Query, Select
from .sql_tokens import (
    Token,
    all_names,
    find_word,
    is_group,
    is_name,
    is_operator,
    is_query,
    is_word,
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


class SQLText:
    """The calls of a function in the text of a statement, a view or a trigger."""

    def __init__(
        self,
        sql: str,
        function: str,
        column: str | None,
        parameters: tuple[str, ...] = (),
        kind: str = "statement",
    ) -> None:
        """Read a text; `column` is the restricting column, and names are in lower case."""
        self._function, self._column, self._parameters = function, column, parameters
        self.calls: list[CallSite] = []
        self.selects: list[Select] = []
        tokens = nested(sql)
        names = all_names(tokens)
        self.names = frozenset(names)
        if function in self.names:
            for part in split(tokens, ";", "begin") if kind == "trigger" else [tokens]:
                self._statement(part, kind)
        # Calls outside of a SELECT, such as in the FROM of an UPDATE.
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
        """Read the SELECTs in an expression."""
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
        order = find_word(last, "order")
        limit = find_word(last, "limit")
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
        """Read the CTEs, and return where the rest starts."""
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
        # INSERT, UPDATE or DELETE may come before the SELECT.
        start = min(find_word(tokens, "select", "values", after=place), len(tokens))
        self._values(tokens[place:start], None)
        return start

    def _select(self, tokens: Sequence[Token], query: Query) -> None:
        select = Select(query)
        self.selects.append(select)
        start = find_word(tokens, "from")
        where = find_word(tokens, "where", after=start)
        stop = find_word(tokens, *_AFTER_WHERE, after=start)
        # After a WHERE, only an upsert has an ON.
        upsert = find_word(tokens, "on", after=where)
        columns = tokens[:start]
        select.grouped = find_word(tokens, "group", after=start) < len(tokens)
        select.window = find_word(columns, "over") < len(columns)
        select.aggregate = find_word(columns, "filter") < len(columns) or _has_aggregate(columns)
        select.has_lists = _has_list(tokens[where:])
        self._values(columns, select)
        self._values(tokens[where:], select)
        calls: list[CallSite] = []
        ons = self._from(tokens[start + 1 : min(where, stop)], select, calls)
        for call in calls:
            # SQLite reads a double-quoted name as a string if there is no such column.
            call.is_for_every_row = len(select.froms) > 1 and any(
                is_of_a_row(argument) and not (len(argument) == 1 and argument[0].kind == "name")
                for argument in call.arguments or ()
            )
            note_conditions(tokens[where + 1 : min(stop, upsert)], call, self._column)
            call.is_for_every_row |= takes_several(
                tokens[where + 1 : min(stop, upsert)], call, self._parameters
            )
            for restricted, condition in ons:
                if call in restricted:
                    note_conditions(condition, call, self._column)
        self.calls += calls

    # FROM

    def _from(
        self, tokens: Sequence[Token], select: Select, calls: list[CallSite]
    ) -> list[tuple[list[CallSite], Sequence[Token]]]:
        """Read a FROM into `calls`; return its ONs, each with the calls that it restricts."""
        ons: list[tuple[list[CallSite], Sequence[Token]]] = []
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

    def _table(
        self, tokens: Sequence[Token], place: int, select: Select, calls: list[CallSite]
    ) -> int:
        """Read one table of a FROM, and return where it ends."""
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
            calls.append(CallSite(select, alias, arguments, len(select.froms) - 1))
        return place + length


def _has_list(tokens: Sequence[Token]) -> bool:
    return any(
        is_word(tokens, place, "in", "or")
        or (token.kind == "group" and not is_query(token.inside) and _has_list(token.inside))
        for place, token in enumerate(tokens)
    )


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
    """Count the calls of a function."""
    count = 0
    for place, token in enumerate(tokens):
        if token.kind == "group":
            count += is_name(tokens, place - 1) and tokens[place - 1].text == function
            count += _uses(token.inside, function)
    return count
