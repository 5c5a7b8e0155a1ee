"""Decide how many rows a call without a count makes: does a LIMIT count its rows?

See TableFunction.counted for the rules.
"""

from collections.abc import Sequence

from .caller_statement import Note
from .declaration import TableFunction
from .selects import CallSite, Select
from .sql_text import SQLText
from .sql_tokens import Token, is_name, is_operator, is_word, literal, split

DEFAULT, LIMITED, UNKNOWN = range(3)
"""Whether a call makes its default number of rows, or as many as a LIMIT asks for, or the number
cannot be known."""

NO_ORDER, ORDERED, DISORDERED = range(3)
"""Whether the statement has no ORDER BY, the function's own order, or another order."""

FIRST_CHUNK = 40
"""How many rows a call makes first if the LIMIT is not known."""


def row_mode(function: TableFunction, text: SQLText, call: CallSite, note: Note) -> int:
    """Return DEFAULT, LIMITED or UNKNOWN for a call without a count."""
    select = call.select
    in_order = note.ordered == ORDERED or (
        note.ordered == NO_ORDER and _is_ranked(function, select.query.order, call.alias)
    )
    mode = _mode_of(function, text, select, in_order, True, {})
    if mode == LIMITED and (call.outer or call.is_for_every_row):
        return UNKNOWN
    return mode


def likely_limit(texts: Sequence[SQLText]) -> int:
    """Return how many rows the only LIMIT takes, if it is a number."""
    queries = {select.query for text in texts for select in text.selects}
    limits = [query.limit for query in queries if query.limit is not None]
    if len(limits) != 1:
        return FIRST_CHUNK
    numbers = [literal(part) for part in split(limits[0], ",", "offset")]
    if any(number is None or type(number[0]) is not int for number in numbers):
        return FIRST_CHUNK
    return min(max(sum(int(str(number[0])) for number in numbers if number), 10), 1000)


def _mode_of(
    function: TableFunction,
    text: SQLText,
    select: Select,
    in_order: bool,
    is_own: bool,
    known: dict[tuple[Select, bool], int],
) -> int:
    """Return whether the LIMIT of a SELECT, or of one that passes its rows on, counts rows.

    `known` caches the answers: CTEs can name one another in exponentially many ways.
    """
    key = select, in_order
    if key not in known:
        # A recursive CTE gets this answer for itself, so the other SELECTs that name it decide.
        known[key] = DEFAULT
        known[key] = _find_mode(function, text, select, in_order, is_own, known)
    return known[key]


def _find_mode(
    function: TableFunction,
    text: SQLText,
    select: Select,
    in_order: bool,
    is_own: bool,
    known: dict[tuple[Select, bool], int],
) -> int:
    query = select.query
    limited = query.limit is not None
    if select.grouped:
        return UNKNOWN if is_own and limited else DEFAULT
    if select.aggregate or query.kind == "value":
        # The LIMIT is that of one row.
        return DEFAULT
    in_order = in_order and not select.window and not query.compound
    if limited:
        return LIMITED if in_order else UNKNOWN
    if query.kind == "from" and query.parent:
        around = [query.parent]
    elif query.kind == "cte":
        around = [other for other in text.selects for name in other.froms if name == query.name]
    else:
        around = []
    modes = set()
    for other in around:
        ranked = _is_ranked(function, other.query.order, query.name)
        modes.add(_mode_of(function, text, other, in_order and ranked, False, known))
    if len(around) > 1 and modes != {DEFAULT}:
        return UNKNOWN
    return max(modes, default=DEFAULT)


def _is_ranked(function: TableFunction, order: Sequence[Token], alias: str) -> bool:
    """Tell whether an ORDER BY, if there is one, starts with the function's own order."""
    if not order:
        return True
    term = split(order, ",")[0]
    place = 0
    if is_name(term, 0) and is_operator(term, 1, ".") and term[0].text == alias:
        place = 2
    if not is_name(term, place):
        return False
    way = term[place + 1 :]
    if term[place].text in function.descending:
        return len(way) == 1 and is_word(way, 0, "desc")
    return term[place].text == function.ordered_by and (
        not way or (len(way) == 1 and is_word(way, 0, "asc"))
    )
