"""What a call means: which of the conditions that reach it restrict it, and what its LIMIT is.

See TableFunction for the rules.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from .caller_statement import Note
from .declaration import MISSING, TableFunction
from .library import FunctionError, Library
from .selects import CallSite, Select
from .sql_text import SQLText
from .sql_tokens import (
    MOST_CHARACTERS,
    Token,
    Unreadable,
    is_name,
    is_operator,
    is_word,
    literal,
    split,
)

DEFAULT, LIMITED, UNKNOWN = range(3)
"""How many rows a call without a count makes: as many as it makes by default, as many as its LIMIT
asks for, or what can't be known."""

FIRST_CHUNK = 40
"""How many rows are asked for first where the LIMIT is not known."""

_read_text = lru_cache(32)(SQLText)


class Meaning(NamedTuple):
    """Which of the lists and values restrict, as bits; and how many rows are meant."""

    lists: int
    values: int
    mode: int
    first: int = 0
    """How many rows a LIMIT probably comes to read."""


def meaning_of(
    function: TableFunction,
    note: Note,
    library: Library,
    statements: Sequence[str],
    connection: Any,
    arguments: Sequence[Any],
) -> Meaning:
    """Decides by the text of the statement, and of the views and triggers that it may come from.

    Of several statements it may be any. Raises FunctionError where that can't be told, or where
    SQLite doesn't pass on what was meant.
    """
    try:
        texts = list(_texts(function, connection, statements, bool(note.trigger)))
    except (Unreadable, RecursionError):
        restricted = note.lists or note.values
        raise FunctionError(_unclear(function) if restricted else _uncounted(function)) from None
    counted = function.parameters.index(function.counted) if function.counted else None
    is_counted = counted is None or arguments[counted] is not MISSING
    found: set[Meaning] = set()
    refused: list[CallSite] = []
    for text in texts:
        if text.has_others:
            found.add(Meaning(0, 0, DEFAULT))
        for call in text.calls:
            if not call.matches(arguments, MISSING):
                continue
            try:
                exposed = _is_reached(texts, text, call.select, set())
                mode = DEFAULT if is_counted else _mode(function, text, call, note)
            except RecursionError:
                # CTEs may name one another a thousand deep.
                exposed, mode = True, DEFAULT if is_counted else UNKNOWN
            bits = _restricting(call, note, library.takes_lists, exposed)
            if bits == "refused":
                refused.append(call)
            elif not isinstance(bits, str):
                found.add(Meaning(*bits, mode))
    if not found and not refused:
        return Meaning(0, 0, DEFAULT)
    if len({(meaning.lists, meaning.values) for meaning in found}) > 1 or (
        refused and (not found or any(call.fixed for call in refused))
    ):
        raise FunctionError(
            _unclear(function) if library.takes_lists else _too_old(function, library)
        )
    if len(found) > 1 or UNKNOWN in {meaning.mode for meaning in found}:
        raise FunctionError(_uncounted(function))
    meaning = found.pop()
    if meaning.mode == LIMITED:
        return meaning._replace(first=_likely(texts))
    return meaning


def _unclear(function: TableFunction) -> str:
    return (
        f"{function.name}() can't tell that this {function.within} in (...) is its own, or gets no "
        f"whole list. To restrict it: {function.instead or function.signature}"
    )


def _uncounted(function: TableFunction) -> str:
    return (
        f"{function.name}() is given no {function.counted}, and how many rows this LIMIT asks "
        f"it for is unclear. Say how many: {function.example}"
    )


def _too_old(function: TableFunction, library: Library) -> str:
    dotted = ".".join(str(library.version // n % 1000) for n in (1_000_000, 1000, 1))
    return (
        f"{function.name}() cannot be restricted by its {function.within} before SQLite 3.38; "
        f"this is {dotted}. "
        + (f"To restrict it: {function.instead}. " if function.instead else "")
        + "For a newer SQLite: pip install pysqlite3-binary"
    )


def _texts(
    function: TableFunction, connection: Any, statements: Sequence[str], is_trigger: bool
) -> Iterator[SQLText]:
    name = function.name.lower()
    parameters = tuple(parameter.lower() for parameter in function.parameters)
    stored = stored_texts(connection, name)
    own: Sequence[str] = statements
    if is_trigger:
        own = [text for kind, _, text in stored if kind == "trigger"]
    kind = "trigger" if is_trigger else "statement"
    names: set[str] = set()
    for text in own:
        read = _read_text(text, name, function.within, parameters, kind)
        names |= read.names
        yield read
    views = {view: text for kind, view, text in stored if kind == "view"}
    waiting = [view for view in views if view in names]
    seen = set(waiting)
    while waiting:
        read = _read_text(views[waiting.pop()], name, function.within, parameters, "view")
        yield read
        following = (views.keys() & read.names) - seen
        seen |= following
        waiting += following


def stored_texts(connection: Any, name: str) -> list[tuple[str, str, str]]:
    """Returns the kinds, names and texts of views and triggers; none where none names a function.

    Whose database it is doesn't matter: what they are called is all that a statement says.
    """
    cursor = connection.cursor()
    cursor.row_factory = None
    # Not its table-valued form, which a view of the same name would stand in for.
    databases = [row[1] for row in cursor.execute("pragma database_list")]
    schemas = []
    for database in databases:
        plain = database.decode() if isinstance(database, bytes) else database
        schema = '"' + plain.replace('"', '""') + '".sqlite_master'
        # As every release of SQLite calls it.
        schemas.append("sqlite_temp_master" if plain == "temp" else schema)
    columns = ", ".join(f"cast({column} as blob)" for column in ("type", "name", "sql"))
    cursor.execute(
        " union all ".join(
            f"select {columns} from {schema} where type in ('view', 'trigger')"
            for schema in schemas
        )
    )
    found: list[tuple[str, str, str]] = []
    length = 0
    for row in cursor:
        kind, view, text = [value.decode("utf-8", "replace") for value in row]
        found.append((kind, view.lower(), text))
        length += len(text)
        if length > MOST_CHARACTERS:
            raise Unreadable
    return found if any(name in text.lower() for _, _, text in found) else []


def _is_reached(texts: Sequence[SQLText], text: SQLText, select: Select, seen: set[Select]) -> bool:
    """Tells whether another SELECT may have a list that SQLite moves into this one."""
    query = select.query
    if select in seen:
        return False
    seen.add(select)
    if query.kind == "view":
        return any({"in", "or"} & other.names for other in texts if other is not text)
    around: list[Select] = []
    if query.kind == "from" and query.parent:
        around = [query.parent]
    elif query.kind == "cte":
        around = [other for other in text.selects if query.name in other.froms]
    return any(other.has_lists or _is_reached(texts, text, other, seen) for other in around)


def _restricting(
    call: CallSite, note: Note, takes_lists: bool, is_exposed: bool
) -> tuple[int, int] | str:
    """Returns the bits of the lists and values that restrict a call; else `other` or `refused`.

    Conditions of other SELECTs may reach one that `is_exposed`.
    """
    if not takes_lists:
        return "refused" if call.restricts else (0, 0)
    conditions = call.conditions(note.lists, is_exposed)
    if conditions is None:
        return "refused"
    of_lists, of_values = conditions
    if note.lists > len(of_lists):
        if not (is_exposed or call.has_more or call.is_mixed):
            return "other"
        if call.is_mixed and call.restricts:
            return "refused"
    lists = values = 0
    if note.lists >= len(of_lists):
        lists = _bits(of_lists)
    elif "restricts" in of_lists or (note.lists and "filters" in of_lists):
        return "refused"
    if "restricts" in of_values or "perhaps" in of_values:
        values = _bits(of_values)
        if values >> note.values and ("restricts" in of_values or note.values):
            return "refused"
        if "perhaps" in of_values:
            if note.values:
                return "refused"
            values = 0
    if lists & ~note.usable_lists or values & ~note.usable_values:
        return "refused"
    return lists, values


def _bits(kinds: Sequence[str]) -> int:
    return sum(1 << place for place, kind in enumerate(kinds) if kind != "filters")


def _mode(function: TableFunction, text: SQLText, call: CallSite, note: Note) -> int:
    select = call.select
    in_order = note.ordered == ORDERED or (
        note.ordered == NO_ORDER and _is_ranked(function, select.query.order, call.alias)
    )
    mode = _asked(function, text, select, in_order, True, {})
    if mode == LIMITED and (call.outer or call.is_for_every_row):
        return UNKNOWN
    return mode


def _likely(texts: Sequence[SQLText]) -> int:
    """Returns how many rows the only LIMIT takes, where it is a number."""
    queries = {select.query for text in texts for select in text.selects}
    limits = [query.limit for query in queries if query.limit is not None]
    if len(limits) != 1:
        return FIRST_CHUNK
    numbers = [literal(part) for part in split(limits[0], ",", "offset")]
    if any(number is None or type(number[0]) is not int for number in numbers):
        return FIRST_CHUNK
    return min(max(sum(int(str(number[0])) for number in numbers if number), 10), 1000)


NO_ORDER, ORDERED, DISORDERED = range(3)


def _asked(
    function: TableFunction,
    text: SQLText,
    select: Select,
    in_order: bool,
    is_own: bool,
    known: dict[tuple[Select, bool], int],
) -> int:
    """Tells whether a LIMIT of a SELECT, or of one around it that passes rows on, counts rows.

    `known` are the answers for others: CTEs may name one another in exponentially many ways.
    """
    key = select, in_order
    if key not in known:
        # A recursive CTE meets this answer for itself; the others that name it decide.
        known[key] = DEFAULT
        known[key] = _asked_first(function, text, select, in_order, is_own, known)
    return known[key]


def _asked_first(
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
        # Of the one row, or for the first.
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
    asked = set()
    for other in around:
        ranked = _is_ranked(function, other.query.order, query.name)
        asked.add(_asked(function, text, other, in_order and ranked, False, known))
    if len(around) > 1 and asked != {DEFAULT}:
        return UNKNOWN
    return max(asked, default=DEFAULT)


def _is_ranked(function: TableFunction, order: Sequence[Token], alias: str) -> bool:
    """Tells whether an ORDER BY, if there is one, starts with the function's own order."""
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
