"""Check that the SQL of --sql is a single select that only reads."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

from ...common.errors import CommandError

EXAMPLE = 'for example --sql "select id, data from photos"'

_READING = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_RECURSIVE,
}

# Strings, quoted names and comments, where a semicolon does not end a statement.
_TOKENS = re.compile(
    r"""(?P<quoted>'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\])"""
    r"""|(?P<comment>--[^\n]*|/\*.*?(?:\*/|\Z))|(?P<end>;)|(?P<other>[^'"`\[;/-]+|.)""",
    re.DOTALL,
)


def single_statement(sql: str) -> str:
    """Return the statement without comments and without the semicolon at its end."""
    kept: list[str] = []
    ended = False
    for token in _TOKENS.finditer(sql):
        if token.lastgroup == "end":
            ended = ended or bool("".join(kept).strip())
        elif token.lastgroup == "comment":
            kept.append(" " if not ended else "")
        elif ended and not token[0].isspace():
            raise CommandError(
                f"The SQL has more than one statement. Expected one select that returns a key and "
                f"a picture; {EXAMPLE}"
            )
        elif not ended:
            kept.append(token[0])
    statement = "".join(kept).strip()
    if not re.match(r"(select|with|values)\b", statement, re.IGNORECASE):
        begins = f"begins with {statement.split()[0]}" if statement else "is empty"
        raise CommandError(
            f"The SQL {begins}. Expected one select that returns a key and a picture; {EXAMPLE}"
        )
    return statement


def tables_read(connection: sqlite3.Connection, statement: str) -> list[str]:
    """Return the names of the tables whose columns a select reads; refuse one that writes."""
    read: set[tuple[str, str]] = set()

    def authorize(
        action: int, first: str | None, second: str | None, database: str | None, _: str | None
    ) -> int:
        if action == sqlite3.SQLITE_READ and first:
            read.add((database or "main", first))
        # Virtual tables read settings of the database, such as its page size.
        is_setting = action == sqlite3.SQLITE_PRAGMA and second is None
        return sqlite3.SQLITE_OK if action in _READING or is_setting else sqlite3.SQLITE_DENY

    connection.set_authorizer(authorize)
    try:
        # It must be complete by itself before it is put in parentheses.
        connection.execute(f"explain {statement}").close()
    finally:
        connection.set_authorizer(None)
    views = {
        (database, name)
        for database in {database for database, _ in read}
        for (name,) in connection.execute(
            f"select name from {_quoted(database)}.sqlite_master where type = 'view'"
        )
    }
    return sorted(
        _escaped(name if database == "main" else f"{database}.{name}")
        for database, name in read - views
        if not name.startswith("sqlite_")
    )


def columns_given(connection: sqlite3.Connection, statement: str) -> list[str]:
    """Return the names of a select's columns, without running it."""
    with closing(connection.execute(f"select * from ({statement}\n) limit 0")) as cursor:
        return [column[0] for column in cursor.description]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _escaped(name: str) -> str:
    """Return a table's name with the special characters of stored paths escaped."""
    return name.replace("%", "%25").replace("/", "%2F").replace("+", "%2B")


@contextmanager
def explain_sql_errors() -> Iterator[None]:
    """Turn SQLite's errors about a select into CommandErrors."""
    try:
        yield
    except sqlite3.Error as error:
        raise CommandError(
            f"The SQL can't be run: {error}. Expected one select that returns a key and a picture; "
            f"{EXAMPLE}"
        ) from error
