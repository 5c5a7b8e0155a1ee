"""Find the conditions of a SELECT on the column that restricts a table function."""

from collections.abc import Iterator, Sequence

from .selects import CallSite
from .sql_tokens import (
    Token,
    all_names,
    find_word,
    is_group,
    is_name,
    is_operator,
    is_query,
    is_word,
    split,
    words,
)

_CONSTANTS = words(
    """
    null true false cast as text integer int real blob numeric case when then else end and or not
    is collate current_date current_time current_timestamp
    """
)


def note_conditions(tokens: Sequence[Token], call: CallSite, column: str | None) -> None:
    """Note in `call` the conditions on the column, among those that AND joins."""
    for term in _conjuncts(tokens):
        if len(term) == 1 and is_group(term, 0) and not is_query(term[0].inside):
            note_conditions(term[0].inside, call, column)
            continue
        is_one_of = find_word(term, "or") < len(term)
        if (is_one_of or not _note(term, call, column)) and column in all_names(term):
            # SQLite makes a list of `id = 1 or id = 2`, after all other lists.
            call.has_more |= is_one_of or any(token.kind == "group" for token in term)
            call.is_mixed |= call.has_more and "in" in all_names(term)


def takes_several(tokens: Sequence[Token], call: CallSite, parameters: Sequence[str]) -> bool:
    """Tell whether conditions give an argument several values, or one for each row of a table."""
    for term in _conjuncts(tokens):
        is_group_alone = len(term) == 1 and is_group(term, 0) and not is_query(term[0].inside)
        if is_group_alone and takes_several(term[0].inside, call, parameters):
            return True
        for place, token in enumerate(term):
            qualified = is_operator(term, place - 1, ".")
            if (
                is_name(term, place)
                and token.text in parameters
                and (not qualified or term[place - 2].text == call.alias)
            ):
                others = [*term[: place - 2 * qualified], *term[place + 1 :]]
                if is_of_a_row([other for other in others if other.text not in ("in", "or")]):
                    return True
                if any(is_word(term, at, "in", "or") for at in range(len(term))):
                    return True
    return False


def _note(term: Sequence[Token], call: CallSite, column: str | None) -> bool:
    """Note a condition that SQLite offers; tell whether it is one."""
    length, ours = _column_at_start(term, call, column)
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
            call.fixed |= not is_of_a_row(rest[1:])
            return True
    for at in range(len(term)):
        if is_operator(term, at, "=", "=="):
            length, ours = _column_at_start(term[at + 1 :], call, column)
            if length and length == len(term) - at - 1:
                call.values += ["filters"] * (ours is not False)
                call.fixed |= not is_of_a_row(term[:at])
                return True
    return False


def _column_at_start(
    term: Sequence[Token], call: CallSite, column: str | None
) -> tuple[int, bool | None]:
    """Return the length of the column's name at the start, and whether it is the call's own."""
    if is_group(term, 0):
        length, ours = _column_at_start(term[0].inside, call, column)
        return (1, ours) if length and length == len(term[0].inside) else (0, None)
    place = 0
    while is_name(term, place) and is_operator(term, place + 1, "."):
        place += 2
    if not is_name(term, place) or term[place].text != column:
        return 0, None
    if place:
        return (place + 1, True) if term[place - 2].text == call.alias else (0, None)
    return 1, _is_own(call)


def _is_own(call: CallSite) -> bool | None:
    """Tell whether an unqualified column belongs to a call; None if that is not sure."""
    select = call.select
    if True not in select.shared:
        # If two tables had such a column, SQLite would report an ambiguous name.
        return True
    if call.place == 0:
        return None if select.two_sided else True
    return False if select.shared[call.place] else None


def _right_side(tokens: Sequence[Token]) -> str | None:
    """Return the kind of an IN's right side: `restricts`, `filters`, `nothing`, `one` or `called`.

    `one` is a single value, and `called` one that a function computes. Return None if more follows.
    """
    if is_name(tokens, 0):
        # A table or a table function.
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
    if is_of_a_row(inside):
        return "filters"
    if len(split(inside, ",")) > 1 or inside[0].kind == "many":
        return "restricts"
    if is_group(inside, 0) and len(inside) == 1 and is_query(inside[0].inside):
        return "restricts"
    return "called" if _has_call(inside) else "one"


def _has_call(tokens: Sequence[Token]) -> bool:
    for place, token in enumerate(tokens):
        if token.kind == "group" and (
            is_query(token.inside)
            or (is_name(tokens, place - 1) and not is_word(tokens, place - 1, *_CONSTANTS))
            or _has_call(token.inside)
        ):
            return True
    return False


def is_of_a_row(tokens: Sequence[Token]) -> bool:
    """Tell whether a value, or one of several, names a column."""
    for place, token in enumerate(tokens):
        if token.kind == "name" or (token.kind == "word" and token.text not in _CONSTANTS):
            if not is_group(tokens, place + 1):
                return True
        elif token.kind == "group" and not is_query(token.inside) and is_of_a_row(token.inside):
            return True
    return False


def _conjuncts(tokens: Sequence[Token]) -> Iterator[Sequence[Token]]:
    """Yield the conditions that AND joins; if there is an OR among them, all as one."""
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
