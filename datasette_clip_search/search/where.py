"""The condition of --where: SQL that must be one by itself, and what is wrong where it is not."""

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
    """Returns the ids of the pictures with a vector of the model that meet a condition.

    Raises CommandError with what SQLite says of one that is none.
    """
    if not _COMMENTS.sub("", where).strip():
        raise CommandError(
            f"--where is empty. Expected a condition on the columns of {table}, such as "
            "\"taken >= '2020'\""
        )
    values = {name.removeprefix(":"): value for name, value in parameters}
    try:
        # Whole without the brackets, it can't close them.
        connection.execute(f"explain select 1 from main.{quote(table)} where {where}", values)
        # On a line of its own, because it may end in a comment.
        rows = connection.execute(
            f"""select id from main.{quote(table)} where id in
            (select image_id from main.{EMBEDDINGS} where model_id = {model.id}) and (
            {where}
            )""",
            values,
        )
        return [int(image_id) for (image_id,) in rows]
    # More than one statement was a Warning before Python 3.12.
    except (sqlite3.Error, sqlite3.Warning) as error:
        # SQLite repeats the whole of a text without an end.
        first, newline, _ = str(error).partition("\n")
        said = _explained(connection, table, first.rstrip(".") + (" …" if newline else ""))
        raise CommandError(f"--where can't be run: {said}") from error


def _explained(connection: sqlite3.Connection, table: str, said: str) -> str:
    if "has no name" in said:
        return "? stands for no value. Use :name in it, and give the value with -p name value"
    if found := re.search(r"binding parameter :(\w+)", said):
        return f"{said}. Give it with -p {found[1]} value"
    if found := re.search(r"no such column: \W?(\w+)", said):
        columns = [
            name
            for (name,) in fetch(connection, "select name from temp.pragma_table_info(?)", table)
        ]
        if found[1].lower() in {*Hit._fields} - {*columns}:
            return (
                f"{found[1]} is a column of the result, not of {table}. Cut the result in SQL: "
                "\"select * from clip_search('dog', 1000) where z_score > 2\""
            )
        return f"{said}. The columns of {table} are {', '.join(columns)}"
    return said
