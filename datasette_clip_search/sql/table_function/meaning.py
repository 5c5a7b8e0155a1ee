"""Decide which conditions restrict a call, and whether a LIMIT counts its rows.

SQLite passes conditions to a virtual table without the SELECT that they come from, so the text of
the statement decides. See TableFunction for the rules.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from .caller_statement import Note, places_in
from .declaration import MISSING, TableFunction
from .library import FunctionError, Library
from .row_limit import DEFAULT, LIMITED, UNKNOWN, likely_limit, row_mode
from .selects import CallSite, Select
from .sql_text import SQLText
from .sql_tokens import MOST_CHARACTERS, Unreadable

_read_text = lru_cache(32)(SQLText)


class Meaning(NamedTuple):
    """Which of a Note's lists and values restrict a call, and how many rows it makes."""

    lists: frozenset[int]
    values: frozenset[int]
    mode: int
    """DEFAULT, LIMITED or UNKNOWN: see row_limit."""

    first: int = 0
    """How many rows a LIMIT probably reads."""


PLAIN = Meaning(frozenset(), frozenset(), DEFAULT)
"""No condition restricts the call, and no LIMIT counts its rows."""


def meaning_of(
    function: TableFunction,
    note: Note,
    library: Library,
    statements: Sequence[str],
    connection: Any,
    arguments: Sequence[Any],
) -> Meaning:
    """Return the meaning of a call by the text of its statement, and of views and triggers.

    The call may belong to any of `statements`. Raises FunctionError if its meaning is not clear, or
    if SQLite does not pass the restriction on.
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
            found.add(PLAIN)
        for call in text.calls:
            if not call.matches(arguments, MISSING):
                continue
            try:
                exposed = _is_reached(texts, text, call.select, set())
                mode = DEFAULT if is_counted else row_mode(function, text, call, note)
            except RecursionError:
                # CTEs may name one another a thousand deep.
                exposed, mode = True, DEFAULT if is_counted else UNKNOWN
            restricting = _restricting(call, note, library.takes_lists, exposed)
            if restricting == "refused":
                refused.append(call)
            elif restricting != "other":
                found.add(Meaning(*restricting, mode))
    if not found and not refused:
        return PLAIN
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
        return meaning._replace(first=likely_limit(texts))
    return meaning


def _unclear(function: TableFunction) -> str:
    return (
        f"{function.name}() cannot tell whether this {function.within} in (...) restricts it, or "
        f"SQLite does not pass the whole list. To restrict it: "
        f"{function.instead or function.signature}"
    )


def _uncounted(function: TableFunction) -> str:
    return (
        f"{function.name}() got no {function.counted}, and it is unclear how many rows this LIMIT "
        f"takes from it. Give {function.counted}: {function.example}"
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
    """Return the kind, name and SQL of each view and trigger, if any of them names a function.

    Databases are not told apart, because a statement may name a view without its database.
    """
    cursor = connection.cursor()
    cursor.row_factory = None
    # A view could have the name of the pragma's table-valued form.
    databases = [row[1] for row in cursor.execute("pragma database_list")]
    schemas = []
    for database in databases:
        plain = database.decode() if isinstance(database, bytes) else database
        schema = '"' + plain.replace('"', '""') + '".sqlite_master'
        # The name that every release of SQLite knows.
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
    """Tell whether another SELECT may have a list that SQLite moves into this one."""
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
) -> tuple[frozenset[int], frozenset[int]] | Literal["other", "refused"]:
    """Return which of a Note's lists and values restrict a call.

    "other" means that the conditions are not those of this call, and "refused" that they are
    unclear. Conditions of other SELECTs may reach a call that `is_exposed`.
    """
    if not takes_lists:
        return "refused" if call.restricts else (frozenset(), frozenset())
    conditions = call.conditions(note.lists, is_exposed)
    if conditions is None:
        return "refused"
    of_lists, of_values = conditions
    if note.lists > len(of_lists):
        if not (is_exposed or call.has_more or call.is_mixed):
            return "other"
        if call.is_mixed and call.restricts:
            return "refused"
    lists: frozenset[int] = frozenset()
    values: frozenset[int] = frozenset()
    if note.lists >= len(of_lists):
        lists = _restricting_places(of_lists)
    elif "restricts" in of_lists or (note.lists and "filters" in of_lists):
        return "refused"
    if "restricts" in of_values or "perhaps" in of_values:
        values = _restricting_places(of_values)
        if max(values, default=-1) >= note.values and ("restricts" in of_values or note.values):
            return "refused"
        if "perhaps" in of_values:
            if note.values:
                return "refused"
            values = frozenset()
    if lists - places_in(note.usable_lists) or values - places_in(note.usable_values):
        return "refused"
    return lists, values


def _restricting_places(kinds: Sequence[str]) -> frozenset[int]:
    return frozenset(place for place, kind in enumerate(kinds) if kind != "filters")
