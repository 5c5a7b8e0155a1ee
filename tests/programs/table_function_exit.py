"""Exit the interpreter while a query is half read, for test_lifetimes.py.

The argument says what holds the half-read cursor, and so when it is destroyed.
"""

import sqlite3
import sys
import threading

from datasette_clip_search.sql.table_function import (
    MISSING,
    ScalarFunction,
    TableFunction,
    register,
)


def count(connection, stop, start, limit=None):
    for number in range(0 if start is MISSING else start, stop):
        yield (number,)


def half_read():
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    register(connection, [COUNT, TWICE])
    cursor = connection.execute("select twice(n) from count_up(10)")
    assert cursor.fetchone() == (0,)
    assert cursor.fetchone() == (2,)
    return cursor


class Keeper:
    pass


class AtDeath:
    """Run SQL while the interpreter shuts down."""

    def __init__(self):
        self.cursor = half_read()

    def __del__(self):
        try:
            self.cursor.fetchone()
            self.cursor.connection.execute("select twice(1), n from count_up(3)").fetchall()
        except Exception:
            pass


COUNT = TableFunction("count_up", {"n": "INTEGER"}, ("stop", "start"), 1, count)
TWICE = ScalarFunction("twice", 1, 1, lambda connection, number: number * 2)

way = sys.argv[1]
if way == "global":
    kept = half_read()
elif way == "cycle":
    keeper = Keeper()
    keeper.itself, keeper.cursor = keeper, half_read()
elif way == "module":
    sys.kept = half_read()
elif way == "thread-local":
    local = threading.local()
    local.kept = half_read()
elif way == "daemon":
    ready = threading.Event()

    def hold():
        kept = half_read()
        ready.set()
        threading.Event().wait()
        kept.fetchone()

    threading.Thread(target=hold, daemon=True).start()
    ready.wait()
elif way == "del":
    kept = AtDeath()
elif way == "exit":
    kept = half_read()
    sys.exit(0)
