"""Run the condition of --where, and explain what is wrong with a bad one."""

import re
import sqlite3
from collections.abc import Iterable

from ..common.errors import CommandError
from ..database.schema import EMBEDDINGS, Model, fetch, quote
from .nearest import Hit

_COMMENTS = re.compile(r"--[^\n]*|/\*.*?(?:\*/|\Z)", re.DOTALL)


def ids_where(
    connection: sqlite3.Connection,
    table: str,
    model: Model,
    where: str,
    parameters: Iterable[tuple[str, str]],
) -> list[int]:
    """Return the ids of the pictures with a vector of the model that meet a condition.

    Raises CommandError with SQLite's message for a condition that cannot be run.
    """
    if not _COMMENTS.sub("", where).strip():
        raise CommandError(
            f"--where is empty. Expected a condition on the columns of {table}, such as "
            "\"taken >= '2020'\""
        )
    values = {name.removeprefix(":"): value for name, value in parameters}
    try:
        # First without the brackets, so that it cannot close them.
        connection.execute(f"explain select 1 from main.{quote(table)} where {where}", values)
        # On its own line, because it may end in a comment.
        rows = connection.execute(
            f"""select id from main.{quote(table)} where id in
            (select image_id from main.{EMBEDDINGS} where model_id = {model.id}) and (
            {where}
            )""",
            values,
        )
        return [int(image_id) for (image_id,) in rows]
    # Before Python 3.12, more than one statement raised a Warning.
    except (sqlite3.Error, sqlite3.Warning) as error:
        # SQLite repeats all of a text that has no end.
        first, newline, _ = str(error).partition("\n")
        said = _explain_error(connection, table, first.rstrip(".") + (" …" if newline else ""))
        raise CommandError(f"--where cannot be run: {said}") from error


def _explain_error(connection: sqlite3.Connection, table: str, said: str) -> str:
    if "has no name" in said:
        return "? has no value here. Use :name in its place, and give the value with -p name value"
    if found := re.search(r"binding parameter :(\w+)", said):
        return f"{said}. Give it with -p {found[1]} value"
    if found := re.search(r"no such column: \W?(\w+)", said):
        columns = [
            name
            for (name,) in fetch(connection, "select name from temp.pragma_table_info(?)", table)
        ]
        if found[1].lower() in {*Hit._fields} - {*columns}:
            return (
                f"{found[1]} is a column of the result, not of {table}. Filter the result in SQL: "
                "\"select * from clip_search('dog', 1000) where z_score > 2\""
            )
        return f"{said}. The columns of {table} are {', '.join(columns)}"
    return said
