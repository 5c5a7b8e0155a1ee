"""Run the condition of --where, and explain what is wrong with a bad one."""

import re
import sqlite3
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ..common.errors import CommandError
from ..database.connection import fetch, quote
from ..database.model import Model
from ..database.schema import EMBEDDINGS
from ..database.vectors import ids_of
from .nearest import RankedPicture


class Words(NamedTuple):
    """How errors name the condition, and how they say to give its parameters."""

    condition: str
    unnamed: str
    missing: str


COMMAND = Words(
    "--where",
    "? has no value here. Use :name in its place, and give the value with -p name value",
    "Give it with -p {} value",
)
PYTHON = Words(
    "where",
    "? takes its value from a list, and parameters is a mapping. Use :name in it",
    "Give it in parameters",
)

_COMMENTS = re.compile(r"--[^\n]*|/\*.*?(?:\*/|\Z)", re.DOTALL)


def ids_where(
    connection: sqlite3.Connection,
    table: str,
    model: Model,
    where: str,
    parameters: Sequence[object] | Mapping[str, object],
    words: Words = COMMAND,
) -> list[int]:
    """Return the ids of the pictures with a vector of the model that meet a condition.

    `parameters` holds the values of its ? or :name parameters.

    Raises CommandError with SQLite's message for a condition that cannot be run, and DatabaseError
    for ids that are not integers.
    """
    if not _COMMENTS.sub("", where).strip():
        raise CommandError(
            f"{words.condition} is empty. Expected a condition on the columns of {table}, such as "
            "\"taken >= '2020'\""
        )
    values: Sequence[object] | Mapping[str, object] = parameters
    if isinstance(parameters, Mapping):
        values = {name.removeprefix(":"): value for name, value in parameters.items()}
    cursor = connection.cursor()
    cursor.row_factory = None
    try:
        # First without the brackets, so that it cannot close them.
        cursor.execute(f"explain select 1 from main.{quote(table)} where {where}", values)
        # On its own line, because it may end in a comment.
        rows = cursor.execute(
            f"""select id from main.{quote(table)} where id in
            (select image_id from main.{EMBEDDINGS} where model_id = {model.id}) and (
            {where}
            )""",
            values,
        )
        found = [image_id for (image_id,) in rows]
    # Before Python 3.12, more than one statement raised a Warning. Python itself refuses numbers
    # and texts that SQLite does not have.
    except (sqlite3.Error, sqlite3.Warning, OverflowError, UnicodeEncodeError) as error:
        if error.args == ("interrupted",):
            # By Ctrl-C or the caller; the condition is not to blame.
            raise
        # SQLite repeats all of a text that has no end.
        first, newline, _ = str(error).partition("\n")
        said = first.rstrip(".") + (" …" if newline else "")
        advice = _explain_error(connection, table, said, words)
        raise CommandError(f"{words.condition} cannot be run: {advice}") from error
    # Anyone may have made the tables.
    ids: list[int] = ids_of(found).tolist()
    return ids


def _explain_error(connection: sqlite3.Connection, table: str, said: str, words: Words) -> str:
    if "has no name" in said:
        return words.unnamed
    if found := re.search(r"binding parameter :(\w+)", said):
        return f"{said}. {words.missing.format(found[1])}"
    if found := re.search(r"no such column: \W?(\w+)", said):
        columns = [
            name
            for (name,) in fetch(connection, "select name from temp.pragma_table_info(?)", table)
        ]
        if found[1].lower() in {*RankedPicture._fields} - {*columns}:
            return (
                f"{found[1]} is a column of the result, not of {table}. Filter the result in SQL: "
                "\"select * from clip_search('dog', 1000) where z_score > 2\""
            )
        return f"{said}. The columns of {table} are {', '.join(columns)}"
    return said
