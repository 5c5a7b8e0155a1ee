"""Table-valued and scalar functions of every kind, for tests of how SQLite calls them."""

import sqlite3

from datasette_clip_search.sql.table_function import (
    MISSING,
    ScalarFunction,
    TableFunction,
    register,
)


class Polite(Exception):
    "An exception whose text is meant for whoever typed the SQL."


def top_rows(connection, query, k, limit=None):
    """Return ranked rows that depend on the query, at most `limit`."""
    calls.append((query, k, limit))
    wanted = 5 if k is MISSING else k or 0
    if limit is not None:
        wanted = min(wanted, limit)
    seed = sum(str(query).encode()) + (7 if query is None else 0)
    for rank in range(1, wanted + 1):
        number = seed * rank % 11
        text = None if number % 5 == 0 else f"{query}{number % 3}"
        yield rank, number, text, number / 4 - 1


def series_rows(connection, start, stop, step, limit=None):
    return ((n,) for n in range(start, stop + 1, 1 if step is MISSING else step))


def echo_rows(connection, a, b, c, limit=None):
    yield tuple(type(value).__name__ for value in (a, b, c))


def raise_error(kind):
    # A new one, because an exception keeps the frames that it went through.
    error = ERRORS[kind]
    raise type(error)(*error.args)


def raise_rows(connection, kind, limit=None):
    raise_error(kind)


def later_rows(connection, kind, limit=None):
    yield (1,)
    yield (2,)
    raise_error(kind)


def sql_rows(connection, sql, limit=None):
    for row in connection.cursor().execute(sql):
        yield (row[0],)


def value_rows(connection, name, limit=None):
    yield (VALUES[name],)


def blob_rows(connection, size, count, limit=None):
    return [(n, bytes(size)) for n in range(count)]


def shape_rows(connection, n, limit=None):
    yield tuple(range(n))


calls = []
ERRORS = {
    "polite": Polite("no model 'ViT-B-32' here: 100% \u2713"),
    "empty": Polite(),
    "nul": Polite("a\0b \ud800"),
    "secret": ValueError("/home/me/secret"),
    "key": KeyError("secret"),
    "stop": StopIteration(),
    "exit": SystemExit(3),
    "interrupt": KeyboardInterrupt(),
    "memory": MemoryError(),
    "time limit": sqlite3.OperationalError("interrupted"),
}
MESSAGES = {
    "polite": "no model 'ViT-B-32' here: 100% \u2713",
    "empty": "Polite",
    "nul": "a\\0b ?",
    "secret": "{} failed: ValueError",
    "key": "{} failed: KeyError",
    "exit": "{} failed: SystemExit",
    "interrupt": "interrupted",
    "memory": "{} failed: MemoryError",
    "time limit": "interrupted",
}
VALUES = {}

TOP = TableFunction(
    "top",
    {"rank": "INTEGER", "id": "INTEGER", "text": "TEXT", "score": "REAL"},
    ("query", "k"),
    1,
    top_rows,
    ordered_by="rank",
)
FUNCTIONS = [
    TOP,
    TableFunction("series", {"value": "INTEGER"}, ("start", "stop", "step"), 2, series_rows),
    TableFunction("echo", {"x": "", "y": "", "z": ""}, ("a", "b", "c"), 0, echo_rows),
    TableFunction("fails", {"n": "INTEGER"}, ("kind",), 1, raise_rows),
    TableFunction("fails_later", {"n": "INTEGER"}, ("kind",), 1, later_rows),
    TableFunction("run_sql", {"value": ""}, ("sql",), 1, sql_rows),
    TableFunction("value_of", {"value": ""}, ("name",), 1, value_rows),
    TableFunction("blobs", {"n": "INTEGER", "data": ""}, ("size", "count"), 2, blob_rows),
    TableFunction("shape", {"a": "", "b": ""}, ("n",), 1, shape_rows),
]


def raise_scalar(connection, kind):
    raise_error(kind)


def count_calls(connection, value):
    calls.append(value)
    return value


SCALARS = [
    ScalarFunction("describe", 0, -1, lambda connection, *values: repr(values)),
    ScalarFunction("two_or_three", 2, 3, lambda connection, *values: len(values)),
    ScalarFunction("exactly_two", 2, 2, lambda connection, a, b: a),
    ScalarFunction("raises", 1, 1, raise_scalar),
    ScalarFunction("give", 1, 1, lambda connection, name: VALUES[name]),
    ScalarFunction("run_one", 1, 1, lambda connection, sql: connection.execute(sql).fetchone()[0]),
    ScalarFunction("counted", 1, 1, count_calls, deterministic=True),
    ScalarFunction("recounted", 1, 1, count_calls),
]


def connect(driver, *arguments, **options):
    connection = driver.connect(*(arguments or (":memory:",)), **options)
    register(connection, FUNCTIONS + SCALARS, expected=(Polite,))
    return connection
