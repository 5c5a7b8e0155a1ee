"""When connections, cursors and half-read rows are freed."""

import gc
import logging
import os
import subprocess
import sys
import tracemalloc
import weakref
from contextlib import closing
from pathlib import Path

import pytest

from support.drivers import error_of, rows_of
from support.paths import PROGRAMS, ROOT
from support.table_functions import Polite, calls, connect

# If these tests run with another SQLite, the programs that they start do, too.
AHEAD = [path for path in [os.environ.get("PYTHONPATH")] if path]


def test_a_connection_is_freed(driver, request):
    class Own(driver.Connection):
        pass

    # pytest keeps log records, and with them each frame of a traceback.
    logging.disable()
    request.addfinalizer(lambda: logging.disable(logging.NOTSET))
    db = connect(driver, ":memory:", factory=Own)
    gone = weakref.ref(db)
    rows_of(db, "select value, describe(value) from series(1, 3)")
    error_of(db, "select * from fails('secret')")
    error_of(db, "select * from fails_later('polite')")
    error_of(db, "select raises('key')")
    half = db.execute("select value from run_sql('select value from series(1, 10)')")
    half.fetchone()
    half.close()
    del db, half
    gc.collect()
    assert gone() is None


@pytest.mark.slow
def use_and_close(driver):
    db = connect(driver)
    rows_of(db, "select value, query, describe(rank) from series(1, 3), top(value, 2)")
    error_of(db, "select * from fails('polite')")
    half = db.execute("select value from series(1, 10)")
    half.fetchone()
    left_open = db.execute("select rank, query from top('a')")
    left_open.fetchone()
    half.close()
    db.close()


def test_a_thousand_connections_grow_nothing(driver):
    def state():
        calls.clear()
        gc.collect()
        return len(gc.get_objects()), tracemalloc.get_traced_memory()[0], resident()

    tracemalloc.start()
    # Enough to fill the limit of half-read rows, so that old ones are dropped.
    for _ in range(1200):
        use_and_close(driver)
    before = state()
    for _ in range(1000):
        use_and_close(driver)
    objects, traced, memory = (now - then for now, then in zip(state(), before, strict=True))
    tracemalloc.stop()
    assert objects < 100
    assert traced < 20_000
    assert memory < 16 * 2**20


def resident():
    """Return the bytes of memory in use, or 0 on a system without /proc."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGESIZE") if statm.exists() else 0


def test_closing_with_open_cursors(driver):
    db = connect(driver)
    cursors = [db.execute("select value from series(1, 10)") for _ in range(3)]
    for cursor in cursors:
        assert cursor.fetchone() == (1,)
    db.close()
    with pytest.raises(driver.ProgrammingError):
        cursors[0].fetchone()
    del cursor, cursors, db
    gc.collect()


def abandon(db, sql):
    for row in db.execute(sql):
        raise Polite(row)


def abandon_in_a_generator(db, sql):
    def rows():
        yield from db.execute(sql)

    generator = rows()
    next(generator)
    generator.close()
    raise Polite((1,))


def abandon_in_a_comprehension(db, sql):
    return [abandon(db, "select value from series(1, 3)") for _ in db.execute(sql)]


@pytest.mark.parametrize("way", [abandon, abandon_in_a_generator, abandon_in_a_comprehension])
@pytest.mark.parametrize(
    "sql",
    [
        "select value from series(1, 9)",
        "select value from run_sql('select value from run_sql(''select * from series(1, 9)'')')",
        "select a.value, describe(b.value) from series(1, 9) a, series(1, 9) b, top('a') c",
    ],
)
def test_an_exception_crosses_a_half_read_query_safely(db, way, sql):
    for _ in range(3):
        with pytest.raises(Polite, match="1,"):
            way(db, sql)
    assert rows_of(db, "select count(*) from series(1, 9)") == [(9,)]


def half_read(db, sql="select value from series(1, 3)"):
    cursor = db.execute(sql)
    cursor.fetchone()
    return cursor


def test_many_half_read_queries(db):
    cursors = [db.execute("select value from series(1, 3)") for _ in range(101)]
    # The oldest lost its rows and reports it; all others continue.
    with pytest.raises(Exception, match=r"series\(\) gave up its rows: more than 100 calls"):
        cursors[0].fetchall()
    assert [cursor.fetchall() for cursor in cursors[1:]] == [[(1,), (2,), (3,)]] * 100


def test_a_query_still_being_read_keeps_its_rows(db):
    reader = db.execute("select value from series(1, 300)")
    given_up = []
    for n in range(1, 250):
        assert reader.fetchone() == (n,)
        given_up.append(half_read(db, "select rank from top('a')"))
    assert len(reader.fetchall()) == 51


def test_a_connection_does_not_cost_another_its_rows(driver):
    with closing(connect(driver)) as db, closing(connect(driver)) as other:
        reader = half_read(db)
        given_up = [half_read(other) for _ in range(150)]
        large = [half_read(other, "select n from blobs(30000000, 2)") for _ in range(3)]
        assert reader.fetchall() == [(2,), (3,)]
        # It drops only rows of its own.
        with pytest.raises(Exception, match="gave up its rows"):
            given_up[0].fetchall()
        with pytest.raises(Exception, match="or 64 MB of rows"):
            large[0].fetchall()
        assert large[2].fetchall() == [(1,)]


def test_least_recently_read_connections_lose_their_rows(driver):
    reading = connect(driver)
    reader = reading.execute("select value from series(1, 100)")
    others = [connect(driver) for _ in range(11)]
    given_up = []
    for other in others:
        reader.fetchone()
        given_up.append([half_read(other) for _ in range(100)])
    assert reader.fetchone() == (12,)
    with pytest.raises(Exception, match="gave up its rows"):
        given_up[0][0].fetchall()
    assert given_up[-1][0].fetchall() == [(2,), (3,)]
    for db in (reading, *others):
        db.close()


@pytest.mark.parametrize(
    ("sql", "count", "kept"),
    [
        # Rows.
        ("select n from blobs(1000000, 4)", 40, 64),
        # Arguments that are too long to keep, or just short enough.
        ("select x from echo(zeroblob(20000000)) cross join (values (1), (2))", 5, 0),
        ("select x from echo(zeroblob(60000)) cross join (values (1), (2))", 300, 6),
    ],
)
def test_half_read_queries_keep_few_bytes(driver, sql, count, kept):
    db = connect(driver)
    tracemalloc.start()
    cursors = []
    for _ in range(count):
        cursors.append(half_read(db, sql))
        calls.clear()
    gc.collect()
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert held < (kept + 1) * 2**20
    del cursors
    db.close()


def test_all_connections_keep_few_bytes(driver):
    tracemalloc.start()
    connections = [connect(driver) for _ in range(7)]
    for db in connections:
        for _ in range(6):
            half_read(db, "select n from blobs(5000000, 2)")
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert 200 * 2**20 < held < 257 * 2**20
    for db in connections:
        db.close()


@pytest.mark.parametrize(
    "sql",
    [
        "select query from top(zeroblob(65537), 1)",
        "select rank from top(zeroblob(65537), 1) where query = zeroblob(65537)",
        "select query from top(cast(zeroblob(65537) as text), 1)",
    ],
)
def test_a_long_argument_is_not_given_back(db, sql):
    assert error_of(db, sql) == (
        "top(), column query: an argument of 65537 bytes cannot be read back; the limit is 65536. "
        "Use the value that the SQL passed"
    )


@pytest.mark.parametrize(
    "way", ["global", "cycle", "module", "thread-local", "daemon", "del", "exit"]
)
def test_leaving_the_interpreter_with_a_half_read_cursor(way):
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "ignore", PROGRAMS / "table_function_exit.py", way],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*AHEAD, str(ROOT)])},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
