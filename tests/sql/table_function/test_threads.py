"""Threads, recursion and interrupts."""

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from datasette_clip_search.sql.table_function import ScalarFunction, TableFunction, register
from support.drivers import error_of, rows_of
from support.paths import PROGRAMS, ROOT
from support.table_functions import FUNCTIONS, connect

# If these tests run with another SQLite, the programs that they start do, too.
AHEAD = [path for path in [os.environ.get("PYTHONPATH")] if path]


def test_a_connection_for_each_thread(driver):
    def work(number):
        db = connect(driver)
        sql = "select sum(a.value * b.value) from series(1, ?) a, series(1, a.value) b"
        results = {rows_of(db, sql, 30 + number)[0][0] for _ in range(5)}
        db.close()
        return results

    with ThreadPoolExecutor(8) as pool:
        for number, results in enumerate(pool.map(work, range(8))):
            top = 30 + number
            assert results == {sum(a * a * (a + 1) // 2 for a in range(1, top + 1))}


def test_one_connection_for_many_threads(driver):
    db = connect(driver, ":memory:", check_same_thread=False)
    # Without it, Python's own sqlite3 deadlocks with any function written in Python.
    one_at_a_time = threading.Lock()

    def work(number):
        seen = set()
        for _ in range(20):
            with one_at_a_time:
                register(db, FUNCTIONS[:3])
                sql = "select count(*), sum(value) from series(1, ?), top('a', 2)"
                seen.update(rows_of(db, sql, number))
        return seen

    with ThreadPoolExecutor(6) as pool:
        for number, seen in enumerate(pool.map(work, range(1, 7)), 1):
            assert seen == {(number * 2, number * (number + 1))}
    db.close()


DEPTHS = []


def again_rows(connection, n, limit=None):
    DEPTHS.append(n)
    return connection.cursor().execute("select n from again(?)", (n + 1,)).fetchall()


def again(connection, n):
    DEPTHS.append(n)
    return connection.cursor().execute("select again(?)", (n + 1,)).fetchone()[0]


@pytest.mark.parametrize(
    ("function", "sql"),
    [
        (TableFunction("again", {"n": ""}, ("depth",), 1, again_rows), "select n from again(1)"),
        (ScalarFunction("again", 1, 1, again), "select again(1)"),
    ],
)
def test_endless_recursion_is_an_error(driver, function, sql):
    DEPTHS.clear()
    db = driver.connect(":memory:")
    register(db, [function, FUNCTIONS[1]], expected=(driver.Error,))
    assert "SQL functions call one another more than 20 deep" in error_of(db, sql)
    assert max(DEPTHS) == 20
    assert rows_of(db, "select value from series(1, 2)") == [(1,), (2,)]
    db.close()


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs interval timers")
def test_interrupts_at_any_moment_crash_nothing():
    done = subprocess.run(
        [sys.executable, PROGRAMS / "table_function_interrupts.py"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*AHEAD, str(ROOT)])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == "still right\n"
