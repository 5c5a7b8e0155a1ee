import ctypes
import gc
import importlib.util
import logging
import math
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import tracemalloc
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datasette_clip_search.sql.table_function import (
    MISSING,
    NativeUnavailable,
    ScalarFunction,
    TableFunction,
    register,
)
from support.drivers import DRIVERS, error_of, rows_of
from support.paths import PROGRAMS, ROOT

# Where these tests run with another SQLite, so do the programs that they start.
AHEAD = [path for path in [os.environ.get("PYTHONPATH")] if path]


class Polite(Exception):
    "An exception whose text is meant for whoever typed the SQL."


def top_rows(connection, query, k, limit=None):
    """Ranked rows that depend on the query, cut as short as the limit allows."""
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
    # A fresh one: an exception that is kept keeps the frames it went through.
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


@pytest.fixture(params=DRIVERS)
def driver(request):
    return importlib.import_module(request.param)


def connect(driver, *arguments, **options):
    connection = driver.connect(*(arguments or (":memory:",)), **options)
    register(connection, FUNCTIONS + SCALARS, expected=(Polite,))
    return connection


@pytest.fixture
def db(driver):
    calls.clear()
    connection = connect(driver)
    yield connection
    connection.close()


QUERIES = [
    # Arguments by place, by name, optional, and read back.
    ("select value from series(2, 4)", [2, 3, 4]),
    ("select value from series(2, 9, 3)", [2, 5, 8]),
    ("select value from series where start = 2 and stop = 4", [2, 3, 4]),
    ("select value from series(1) where stop = 3", [1, 2, 3]),
    ("select query || k from top('a', 2)", ["a2", "a2"]),
    ("select k from top('a', null)", []),
    ("select k is null from top('a') limit 1", [1]),
    ("select count(*) from top(null)", [5]),
    ("select query is null from top(null) limit 1", [1]),
    ("select count(*) from top('a', 3) where query = 'a'", [3]),
    ("select count(*) from top('a', 3) where query = 'b'", [0]),
    ("select count(*) from top('a', 3) where k = 4", [0]),
    ("select count(*) from top('', 0)", [0]),
    # Several at once.
    ("select count(*) from series(1, 3) a, series(1, 4) b", [12]),
    ("select a.value * 10 + b.value from series(1, 2) a, series(1, a.value) b", [11, 21, 22]),
    ("select b.value from series(1, a.value) b, series(1, 2) a order by 1", [1, 1, 2]),
    ("select count(*) from series(1, 3) a join series(2, 4) b using (value)", [2]),
    ("select sum(value) from series(1, (select max(value) from series(1, 4)))", [10]),
    ("select value from series(1, 3) where value in (select value from series(2, 9))", [2, 3]),
    ("select (select sum(value) from series(1, a.value)) from series(1, 3) a", [1, 3, 6]),
    ("select a.value from series(1, 3) a left join series(2, 2) b using (value)", [1, 2, 3]),
    ("select b.value from series(1, 3) a left join series(2, a.value) b", [None, 2, 2, 3]),
    (
        "with c as (select * from series(1, 3)) select a.value from c a, c b",
        [1] * 3 + [2] * 3 + [3] * 3,
    ),
    (
        "with recursive c(n) as (select 1 union all select value from c, series(n + 1, n + 1) "
        "where n < 4) select n from c",
        [1, 2, 3, 4],
    ),
    ("select value from series(1, 2) union all select value from series(5, 6)", [1, 2, 5, 6]),
    # Two sides of an OR are two plans, whose arguments SQLite sees apart.
    ("select value from series(1, 9) where value = 2 or value = 5", [2, 5]),
    ("select query from top where k = 2 and query = 'a' or query = 'b' and k = 1", ["a", "a", "b"]),
    ("select rank from top where (query = 'a' and k = 3) or (query = 'a' and k = 3)", [1, 2, 3]),
    ("select rank from top where query = 'a' and k = 0 or query = 'a' and k = 1", [1]),
    ("select query from top where query in ('a', 'b') and k = 2", ["a", "a", "b", "b"]),
    # Values whose hashes in Python are the same.
    ("select count(*) from top where query = -1 and k = 3 or query = -2 and k = 3", [6]),
    (
        "select count(*) from top where query = 0 and k = 3 or query = 2305843009213693951 and "
        "k = 3",
        [6],
    ),
    ("select count(*) from top where query = '1' and k = 3 or query = x'31' and k = 3", [6]),
    (
        "select count(distinct s.rowid) from (select 1 v union all values ('1'), (x'31'), (null)) "
        "join top s on query = v and k = 5",
        [20],
    ),
    ("select a.rowid - b.rowid from top('a', 2) a join top('a', 2) b using (rank)", [0, 0]),
    # Arguments too long to be kept.
    (
        "select count(*) from top where query = zeroblob(70000) and k = 1 "
        "or query = zeroblob(70001) and k = 2 or query = zeroblob(70000) and k = 1",
        [3],
    ),
    (
        "with v(n) as (values (70000), (70001)) "
        "select n from v join top on query = zeroblob(n) and k = 2",
        [70000, 70000, 70001, 70001],
    ),
    ("select length(query) from top(zeroblob(65536), 1)", [65536]),
    ("select length(query) from top(printf('%65536c', 'a'), 1)", [65536]),
    # Re-entrancy: the function runs SQL, with functions, on the connection that calls it.
    ("select value from run_sql('select value * 2 from series(1, 3)')", [2, 4, 6]),
    ("select value from run_sql('select * from run_sql(''select 7'')')", [7]),
    ("select run_one('select sum(value) from series(1, 4)')", [10]),
    # Scalars.
    ("select describe()", ["()"]),
    ("select describe(1, -2.5, 'x', x'00ff', null)", ["(1, -2.5, 'x', b'\\x00\\xff', None)"]),
    ("select describe(9223372036854775807, x'', '')", ["(9223372036854775807, b'', '')"]),
    ("select describe(cast(x'610062' as text))", ["('a\\x00b',)"]),
    ("select two_or_three(1, 2) + two_or_three(1, 2, 3)", [5]),
    ("select x || y || z from echo(1, 'a')", ["intstrMissing"]),
    ("select x || y || z from echo(null, 1.5, x'00')", ["NoneTypefloatbytes"]),
    ("select x || y || z from echo where b = 1", ["MissingintMissing"]),
]


@pytest.mark.parametrize(("sql", "expected"), QUERIES)
def test_query(db, sql, expected):
    assert [value for (value,) in rows_of(db, sql)] == expected
    assert [value for (value,) in rows_of(db, sql)] == expected


LIMITS = [
    ("select * from top('a') limit 2", 2),
    ("select * from top('a') limit 2 offset 3", 5),
    ("select * from top('a') limit 3, 2", 5),
    ("select * from top('a') limit ?", 2),
    ("select * from top('a') limit ? offset ?", 4),
    ("select * from top('a') limit 0", 0),
    ("select * from top('a') limit 1 + 1", 2),
    ("select * from top('a') order by rank limit 2", 2),
    ("select (select rank from top('a'))", 1),
    ("select * from top('a') limit -1", None),
    ("select * from top('a') limit -1 offset 2", None),
    ("select * from top('a') where score > 0 limit 2", None),
    ("select * from top('a') where text like 'a%' limit 2", None),
    ("select * from top('a') where rank = 2 or rank = 3 limit 2", None),
    ("select * from top('a') where query = 'b' limit 2", None),
    ("select * from top('a') where rowid > 3 limit 2", None),
    ("select * from top('a') order by rank desc limit 2", None),
    ("select * from top('a') order by score limit 2", None),
    ("select * from top('a') order by rank, score limit 2", 2),
    ("select * from top('a') order by score, rank limit 2", None),
    ("select * from top('a') order by rank + 0 limit 2", None),
    ("select * from top('a') order by rank collate nocase desc limit 2", None),
    ("select distinct id from top('a') limit 2", None),
    ("select count(*) from top('a') limit 2", None),
    ("select text, count(*) from top('a') group by text limit 2", None),
    ("select sum(score) over (order by id) from top('a') limit 2", None),
    ("select * from top('a') a, top('a') b limit 2", None),
    ("select * from top where query in ('a', 'b') limit 7", None),
    ("select * from top('a') union select * from top('a') limit 2", None),
]


@pytest.mark.parametrize(("sql", "expected"), LIMITS)
def test_limit_reaches_the_function_where_no_row_is_dropped_after_it(driver, db, sql, expected):
    rows_of(db, sql, *[2] * sql.count("?"))
    limits = {limit for _, _, limit in calls}
    # A literal 0 stops the statement before it asks.
    if expected == 0 and not limits:
        return
    assert limits == {None if driver.sqlite_version_info < (3, 38) else expected}


def test_limit_is_read_again_when_a_statement_runs_again(driver, db):
    for limit in (1, 4, -1, 2):
        calls.clear()
        rows = rows_of(db, "select rank from top('a') limit ?", limit)
        assert len(rows) == (limit if limit >= 0 else 5)
        if driver.sqlite_version_info >= (3, 38):
            assert calls == [("a", MISSING, limit if limit >= 0 else None)]


@pytest.mark.parametrize("kind", MESSAGES)
@pytest.mark.parametrize(
    ("name", "sql"),
    [
        ("fails", "select * from fails(?)"),
        ("fails", "select value from series(1, 2), fails(?)"),
        ("fails_later", "select * from fails_later(?)"),
        ("fails_later", "select n from fails_later(?) order by n desc"),
        ("raises", "select raises(?)"),
        ("raises", "select value from series(1, 2) where raises(?)"),
    ],
)
def test_error_text(db, kind, name, sql):
    assert error_of(db, sql, kind) == MESSAGES[kind].format(name)
    assert rows_of(db, "select value from series(1, 2)") == [(1,), (2,)]


def test_an_error_comes_before_the_first_row(db):
    cursor = db.cursor()
    with pytest.raises(Exception, match="no model"):
        cursor.execute("select n from fails_later('polite')")


def test_an_unexpected_error_is_logged_with_its_traceback(db, caplog):
    error_of(db, "select * from fails('secret')")
    (record,) = caplog.records
    assert "fails failed" in record.getMessage()
    assert "/home/me/secret" in caplog.text
    assert "raise_rows" in caplog.text


def test_an_expected_error_is_not_logged(db, caplog):
    error_of(db, "select * from fails('polite')")
    error_of(db, "select * from fails('interrupt')")
    assert not caplog.records


@pytest.mark.skipif(sys.version_info < (3, 11), reason="error codes came with Python 3.11")
@pytest.mark.parametrize("sql", ["select * from fails('interrupt')", "select raises('interrupt')"])
def test_an_interrupt_has_sqlites_own_code(sql):
    db = connect(sqlite3)
    with pytest.raises(sqlite3.OperationalError) as caught:
        rows_of(db, sql)
    assert caught.value.sqlite_errorname == "SQLITE_INTERRUPT"
    db.close()


def test_a_time_limit_inside_the_function_interrupts_the_statement(db):
    sql = "with recursive c(n) as (select 1 union all select n + 1 from c) select n from c"
    db.set_progress_handler(lambda: 1, 10_000)
    assert error_of(db, "select count(*) from run_sql(?)", sql) == "interrupted"


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("select * from top", "top() needs query: select * from top(query, k)"),
        ("select * from top where k = 3", "top() needs query: select * from top(query, k)"),
        ("select * from top where query > 'a'", "top() needs query: select * from top(query, k)"),
        (
            "select * from series",
            "series() needs start and stop: select * from series(start, stop, step)",
        ),
        (
            "select * from series(1)",
            "series() needs stop: select * from series(start, stop, step)",
        ),
        (
            "select value from series where step = 1",
            "series() needs start and stop: select * from series(start, stop, step)",
        ),
        ("select * from top('a', 1, 2)", "too many arguments on top() - max 2"),
        ("select * from top(b.text) a, top(a.text) b", "no query solution"),
        ("select * from unknown('a')", "no such table: unknown"),
        ("select exactly_two(1)", "wrong number of arguments to function exactly_two()"),
        ("select two_or_three(1)", "two_or_three(): expected 2 to 3 arguments but received 1"),
        (
            "select two_or_three(1, 2, 3, 4)",
            "two_or_three(): expected 2 to 3 arguments but received 4",
        ),
        (
            "select * from top(cast(x'61ff' as text))",
            "top(): text is not UTF-8: it has x'ff' at byte 1",
        ),
        (
            "select rank from top('a') where k = cast(x'c3' as text)",
            "top(): text is not UTF-8: it has x'c3' at byte 0",
        ),
        (
            "select describe(1, cast(x'61eda080' as text))",
            "describe(): text is not UTF-8: it has x'eda080' at byte 1",
        ),
        ("insert into top(rank) values (1)", "table top may not be modified"),
        ("delete from top", "table top may not be modified"),
        ("create virtual table t using top", "no such module: top"),
        ("select a from shape(3)", "shape() made a row of 3 values; expected 2: a, b"),
        ("select a from shape(0)", "shape() made a row of 0 values; expected 2: a, b"),
    ],
)
def test_wrong_sql(db, sql, message):
    assert error_of(db, sql) == message


def test_a_function_is_still_there_after_a_drop(driver, db):
    if driver.sqlite_version_info < (3, 38):
        # Old ones make it anew when it is next named.
        db.execute("drop table top")
    else:
        assert error_of(db, "drop table top") == "table top may not be dropped"
    assert len(rows_of(db, "select * from top('a', 3)")) == 3


class Index:
    def __index__(self):
        return 7


class Subclass(str):
    pass


GOOD_VALUES = [
    (None, None),
    (True, 1),
    (-(2**63), -(2**63)),
    (2**63 - 1, 2**63 - 1),
    (1.5, 1.5),
    (math.inf, math.inf),
    (math.nan, None),
    ("", ""),
    ("caf\u00e9 \U0001f42b", "caf\u00e9 \U0001f42b"),
    ("a\0b", "a\0b"),
    (Subclass("s"), "s"),
    (b"", b""),
    (b"\0\xff", b"\0\xff"),
    (bytearray(b"ab"), b"ab"),
    (memoryview(b"abcdef")[::2], b"ace"),
    (Index(), 7),
    (Decimal("0.5"), 0.5),
    (ctypes.sizeof(ctypes.c_int64), 8),
]
BAD_VALUES = [
    (2**63, "an integer does not fit in the 64 bits that SQLite stores"),
    (-(2**63) - 1, "an integer does not fit in the 64 bits that SQLite stores"),
    ("\udce9.jpg", "text with a lone surrogate is not Unicode: '\\udce9.jpg'"),
    ([1], "expected NULL, int, float, str or bytes but received list"),
    (object, "expected NULL, int, float, str or bytes but received type"),
    (1j, "expected NULL, int, float, str or bytes but received complex"),
]


@pytest.mark.parametrize(("value", "expected"), GOOD_VALUES)
@pytest.mark.parametrize("sql", ["select value from value_of('it')", "select give('it')"])
def test_value(db, monkeypatch, sql, value, expected):
    monkeypatch.setitem(VALUES, "it", value)
    ((received,),) = rows_of(db, sql)
    assert received == expected
    assert type(received) is type(expected)


@pytest.mark.parametrize(("value", "message"), BAD_VALUES)
@pytest.mark.parametrize(
    ("sql", "where"),
    [
        ("select value from value_of('it')", "value_of(), column value"),
        ("select give('it')", "give()"),
    ],
)
def test_value_that_sqlite_cannot_hold(db, monkeypatch, sql, where, value, message):
    monkeypatch.setitem(VALUES, "it", value)
    assert error_of(db, sql) == f"{where}: {message}"


def test_numpy_values(db, monkeypatch):
    numpy = pytest.importorskip("numpy")
    for value, expected in [
        (numpy.int64(3), 3),
        (numpy.uint8(255), 255),
        (numpy.float64(0.5), 0.5),
        (numpy.float32(0.5), 0.5),
        (numpy.float32("nan"), None),
        (numpy.str_("a"), "a"),
    ]:
        monkeypatch.setitem(VALUES, "it", value)
        assert rows_of(db, "select give('it')") == [(expected,)]
    monkeypatch.setitem(VALUES, "it", numpy.zeros(3))
    assert error_of(db, "select give('it')").endswith("but received ndarray")


@given(
    st.one_of(
        st.none(),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=False),
        st.text(st.characters(exclude_categories=["Cs"])),
        st.binary(),
    )
)
def test_any_value_comes_back_as_it_went(value):
    db = connect(sqlite3)
    VALUES["argument"] = value
    identity = ScalarFunction("identity", 1, 1, identity_of)
    register(db, [identity])
    assert rows_of(
        db, "select identity(?), value, a from value_of('argument'), echo(?)", value, value
    ) == [(value, value, value)]
    db.close()


def identity_of(connection, value):
    return value


def test_a_value_longer_than_sqlites_limit(db, monkeypatch):
    monkeypatch.setitem(VALUES, "long", "x" * 1_000_001)
    if not hasattr(db, "setlimit"):
        pytest.skip("this driver cannot set limits")
    db.setlimit(0, 1_000_000)
    with pytest.raises(Exception, match="too big"):
        rows_of(db, "select value from value_of('long')")


def test_a_deterministic_function_is_called_once(db):
    rows_of(db, "select counted('a') from series(1, 5)")
    assert calls == ["a"]
    calls.clear()
    rows_of(db, "select recounted('a') from series(1, 5)")
    assert calls == ["a"] * 5


def test_the_function_has_ended_before_the_first_row(db):
    ended = []

    def rows(connection, limit=None):
        try:
            yield from [(1,), (2,)]
        finally:
            ended.append(True)

    register(db, [TableFunction("watched", {"n": ""}, (), 0, rows)])
    cursor = db.execute("select n from watched")
    assert ended == [True]
    assert cursor.fetchall() == [(1,), (2,)]


@pytest.mark.parametrize(
    "make", [list, tuple, iter, dict.fromkeys, lambda rows: (list(row) for row in rows)]
)
def test_any_iterable_of_rows(db, make):
    def rows(connection, limit=None):
        return make([(1,), (2,)])

    register(db, [TableFunction("given", {"n": ""}, (), 0, rows)])
    assert rows_of(db, "select n from given()") == [(1,), (2,)]


def test_view_and_trigger_and_table(db):
    db.execute("create view v as select value, describe(value) d from series(1, 2)")
    assert rows_of(db, "select * from v") == [(1, "(1,)"), (2, "(2,)")]
    db.execute("create table t as select * from series(1, 3)")
    db.execute("create table log(n)")
    db.execute(
        "create trigger tr after insert on t begin "
        "insert into log select value from series(1, new.value); end"
    )
    db.execute("insert into t select value + 3 from series(1, 2)")
    assert rows_of(db, "select count(*) from t, log") == [(5 * 9,)]
    db.execute("update t set value = (select max(value) from series(1, t.value * 2))")
    assert rows_of(db, "select sum(value) from t") == [(30,)]


def test_a_joined_table_is_looked_up_row_by_row(db):
    db.execute("create table images(id integer primary key, path text)")
    db.execute("insert into images select value, 'p' || value from series(0, 2000)")
    calls.clear()
    rows = rows_of(db, "select rank, path from top('a', 3) join images using (id) order by rank")
    assert len(rows) == 3
    assert len(calls) == 1


def test_columns_are_declared(db):
    columns = rows_of(db, "select name, type, hidden from pragma_table_xinfo('top')")
    assert columns == [
        ("rank", "INTEGER", 0),
        ("id", "INTEGER", 0),
        ("text", "TEXT", 0),
        ("score", "REAL", 0),
        ("query", "BLOB", 1),
        ("k", "BLOB", 1),
    ]


@pytest.mark.parametrize(
    ("condition", "kinds"),
    [
        ("a in ('12', 'b')", ["str", "str"]),
        ("a in (12, 1.5, '13')", ["float", "int", "str"]),
        ("a in (12, '12')", ["int", "str"]),
        ("a = '12' or a = 12", ["int", "str"]),
        ("a in (select '12' union all select null)", ["str"]),
        ("a in (select number from numbers)", ["str"]),
        ("a in (?, x'31')", ["bytes", "str"]),
        ("a = '12'", ["str"]),
        ("a = 12", ["int"]),
        ("a = (select number from numbers)", ["str"]),
    ],
)
def test_arguments_keep_their_types_however_they_are_given(db, condition, kinds):
    db.execute("create temp table numbers(number text)")
    db.execute("insert into numbers values ('12')")
    parameters = ["12"] * condition.count("?")
    found = rows_of(db, f"select x from echo where {condition} order by x", *parameters)
    assert [row[0] for row in found] == kinds


def test_row_and_text_factories_and_a_transaction_do_not_matter(driver):
    db = driver.connect(":memory:")
    db.row_factory = lambda cursor, row: {"row": row}
    db.text_factory = bytes
    db.execute("create table t(a)")
    db.execute("insert into t values (1)")
    assert db.in_transaction
    register(db, FUNCTIONS + SCALARS)
    assert db.in_transaction
    assert rows_of(db, "select text from top('a', 1)") == [{"row": (b"a0",)}]
    db.rollback()
    db.close()


def test_a_subclass_of_the_connection(driver):
    class Mixin:
        extra = None

    class Own(Mixin, driver.Connection):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            self.note = "mine"

        def cursor(self, *arguments, **options):
            raise AssertionError("register() uses the driver's own cursor")

        execute = cursor

        def select(self, sql):
            return driver.Connection.cursor(self).execute(sql).fetchall()

    class Slotted(driver.Connection):
        __slots__ = ("note", "other")

    seen = ScalarFunction("note", 0, 0, lambda connection: connection.note)
    own = driver.connect(":memory:", factory=Own)
    register(own, [seen, *FUNCTIONS])
    assert own.select("select note(), value from series(1, 1)") == [("mine", 1)]
    slotted = driver.connect(":memory:", factory=Slotted)
    slotted.note = "slot"
    register(slotted, [seen])
    assert rows_of(slotted, "select note()") == [("slot",)]
    own.close()
    slotted.close()


def test_a_closed_or_empty_connection_is_refused(driver):
    class Uninitialised(driver.Connection):
        def __init__(self, *arguments):
            pass

    closed = driver.connect(":memory:")
    closed.close()
    with pytest.raises(driver.ProgrammingError, match="closed"):
        register(closed, FUNCTIONS)
    with pytest.raises(driver.ProgrammingError, match="not called"):
        register(Uninitialised(":memory:"), FUNCTIONS)


@pytest.mark.parametrize("thing", [None, 3, "photos.db", object()])
def test_what_is_no_connection_is_refused(thing):
    with pytest.raises(NativeUnavailable, match="is not a connection of Python's sqlite3"):
        register(thing, FUNCTIONS)


def test_another_threads_connection_is_refused(driver):
    db = driver.connect(":memory:")
    with ThreadPoolExecutor(1) as pool, pytest.raises(driver.ProgrammingError, match="thread"):
        pool.submit(register, db, FUNCTIONS).result()
    db.close()


def test_registering_again_replaces(db):
    half = db.execute("select value from series(1, 3)")
    assert half.fetchone() == (1,)
    register(db, FUNCTIONS)
    changed = TableFunction("top", {"n": "INTEGER"}, (), 0, lambda connection, limit=None: [(42,)])
    register(db, [changed])
    assert rows_of(db, "select * from top") == [(42,)]
    assert half.fetchall() == [(2,), (3,)]
    # SQLite does not replace a scalar function while a statement runs.
    half = db.execute("select value from series(1, 3)")
    half.fetchone()
    with pytest.raises(NativeUnavailable, match=r"describe.*active statements"):
        register(db, SCALARS)
    half.close()
    register(db, SCALARS)


@pytest.mark.parametrize(
    "make",
    [
        lambda: TableFunction("a b", {"n": ""}, (), 0, top_rows),
        lambda: TableFunction("", {"n": ""}, (), 0, top_rows),
        lambda: TableFunction("a", {}, (), 0, top_rows),
        lambda: TableFunction("a", {"n": ""}, ("N",), 0, top_rows),
        lambda: TableFunction("a", {"n": ""}, ("q",), 2, top_rows),
        lambda: TableFunction("a", {"n": ""}, ("q",), -1, top_rows),
        lambda: TableFunction("a", {"n": ""}, tuple(f"p{i}" for i in range(24)), 0, top_rows),
        lambda: TableFunction("a", {"n": ""}, (), 0, top_rows, ordered_by="m"),
        lambda: TableFunction("a", {"n": ""}, (), 0, top_rows, costly="m"),
        lambda: TableFunction("a", {"n": ""}, (), 0, top_rows, descending=("m",)),
        lambda: TableFunction("a", {"n": ""}, ("q",), 1, top_rows, counted="q"),
        lambda: ScalarFunction("1a", 0, 0, raise_scalar),
        lambda: ScalarFunction("a", -1, 0, raise_scalar),
        lambda: ScalarFunction("a", 2, 1, raise_scalar),
    ],
)
def test_a_wrong_declaration_is_refused(make):
    with pytest.raises(ValueError, match=r"^a: |is no name"):
        make()


def test_twenty_three_parameters(db):
    names = tuple(f"p{number}" for number in range(23))

    def rows(connection, *arguments, limit=None):
        yield (sum(value for value in arguments if value is not MISSING), limit or 0)

    register(db, [TableFunction("many", {"total": "", "most": ""}, names, 0, rows)])
    assert rows_of(db, f"select total from many({', '.join('1' * 23)})") == [(23,)]
    assert rows_of(db, "select total from many where p22 = 5 and p7 = 1 limit 3") == [(6,)]


def costly_rows(connection, *arguments, limit=None, costly=None):
    calls.append(costly)
    return [(number, f"n{number}", 10 - number if costly else None) for number in range(3)]


@pytest.mark.parametrize(
    ("sql", "rows", "used"),
    [
        ("select n from {}", [(0,), (1,), (2,)], False),
        ("select count(*) from {}", [(3,)], False),
        ("select name from {} order by n desc limit 1", [("n2",)], False),
        ("select p22 is null, rowid is null from {} limit 1", [(1, 0)], False),
        ("select * from {} limit 1", [(0, "n0", 10)], True),
        ("select n from {} where dear < 10", [(1,), (2,)], True),
        ("select n from {} order by dear limit 1", [(2,)], True),
        ("select max(dear) from {}", [(10,)], True),
        ("select n from (select * from {}) where n = 1", [(1,)], False),
        ("select a.n from {} a join {} b on a.n = b.n where b.dear = 8", [(2,)], None),
        ("with t as materialized (select * from {}) select dear from t where n = 1", [(9,)], True),
        ("select n from {} where n = 7 or dear = 9", [(1,)], True),
        ("select (select sum(dear) from {}) from {} limit 1", [(27,)], None),
    ],
)
@pytest.mark.parametrize("parameters", [0, 22])
def test_a_costly_column_is_asked_for_where_it_is_used(db, sql, rows, used, parameters):
    names = tuple(f"p{number}" for number in range(23))
    columns = {"n": "INTEGER", "name": "TEXT", "dear": "INTEGER"}
    register(db, [TableFunction("dearly", columns, names, 0, costly_rows, costly="dear")])
    call = f"dearly({', '.join('?' * parameters)})" if parameters else "dearly"
    calls.clear()
    values = [1] * parameters * sql.count("{}")
    assert rows_of(db, sql.format(call, call), *values) == rows
    assert set(calls) == ({True, False} if used is None else {used})


# Lifetimes


def test_a_connection_is_freed(driver, request):
    class Own(driver.Connection):
        pass

    # pytest keeps what is logged, and with it every frame of a traceback.
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
    # As many as it takes until the rows that nobody read to the end are thrown away.
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
    """Bytes of memory in use, 0 where the system does not tell."""
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
def test_an_exception_passes_a_half_read_query_unharmed(db, way, sql):
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
    # The oldest lost its rows, and says so; all the others go on.
    with pytest.raises(Exception, match=r"series\(\) gave up its rows: more than 100 calls"):
        cursors[0].fetchall()
    assert [cursor.fetchall() for cursor in cursors[1:]] == [[(1,), (2,), (3,)]] * 100


def test_a_query_that_is_read_on_keeps_its_rows(db):
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
        # Only of its own.
        with pytest.raises(Exception, match="gave up its rows"):
            given_up[0].fetchall()
        with pytest.raises(Exception, match="or 64 MB of rows"):
            large[0].fetchall()
        assert large[2].fetchall() == [(1,)]


def test_of_all_connections_those_read_from_least_recently_lose_their_rows(driver):
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
        # Arguments, too long to be kept and just short enough.
        ("select x from echo(zeroblob(20000000)) cross join (values (1), (2))", 5, 0),
        ("select x from echo(zeroblob(60000)) cross join (values (1), (2))", 300, 6),
    ],
)
def test_half_read_queries_hold_little(driver, sql, count, kept):
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


def test_all_connections_hold_little(driver):
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


# Threads


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
    # Without it Python's own sqlite3 comes to a standstill, with any function written in Python.
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


# Any query gives what the same query gives over an ordinary table.

WORDS = ["a", "b", "dog", "cat"]
KS = [0, 1, 3, 8]
COLUMNS = ["rank", "id", "text", "score"]


def with_reference(driver):
    """Returns a connection with every answer of top() also in ordinary tables."""
    db = connect(driver)
    db.execute(
        "create temp table answers(rank integer, id integer, text text, score real, query, k)"
    )
    db.execute("create temp table defaults(rank integer, id integer, text text, score real, query)")
    for word in WORDS:
        for k in KS:
            rows = [(*row, word, k) for row in top_rows(db, word, k)]
            db.executemany("insert into answers values (?, ?, ?, ?, ?, ?)", rows)
        rows = [(*row, word) for row in top_rows(db, word, MISSING)]
        db.executemany("insert into defaults values (?, ?, ?, ?, ?)", rows)
    db.execute("create temp table q(word, k)")
    db.executemany("insert into q values (?, ?)", [("dog", 3), ("b", 8), ("dog", 1), ("cat", 0)])
    return db


@st.composite
def sources(draw, alias):
    """A FROM item, as the function and as the table, and the terms that bind its arguments."""
    word, k = draw(st.sampled_from(WORDS)), draw(st.sampled_from(KS))
    kind = draw(st.sampled_from(["call", "default", "constraint", "in", "or", "both"]))
    bound = f"{alias}.query = '{word}' and {alias}.k = {k}"
    if kind == "call":
        return f"top('{word}', {k}) {alias}", f"answers {alias}", "", bound
    if kind == "default":
        return f"top('{word}') {alias}", f"defaults {alias}", "", f"{alias}.query = '{word}'"
    if kind == "both":
        return f"top('{word}') {alias}", f"answers {alias}", f"{alias}.k = {k}", bound
    if kind == "in":
        words = draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=3))
        names = ", ".join(f"'{name}'" for name in words)
        bound = f"{alias}.query in ({names}) and {alias}.k = {k}"
    elif kind == "or":
        # With the same k: SQLite may take the word that both sides share for the argument, ask
        # once, and afterwards compare the k that it did not give, which is NULL.
        other = draw(st.sampled_from(WORDS))
        bound = f"({bound} or {alias}.query = '{other}' and {alias}.k = {k})"
    return f"top {alias}", f"answers {alias}", bound, bound


@st.composite
def predicates(draw, alias, depth=2):
    if depth and draw(st.integers(0, 3)) == 0:
        joiner = draw(st.sampled_from([" and ", " or "]))
        parts = draw(st.lists(predicates(alias, depth - 1), min_size=2, max_size=3))
        return f"({joiner.join(parts)})"
    column = f"{alias}.{draw(st.sampled_from(COLUMNS))}"
    return draw(
        st.sampled_from(
            [
                f"{column} > 2",
                f"{column} <= 4",
                f"{column} = 3",
                f"{column} != 1",
                f"{column} is null",
                f"{column} is not null",
                f"{column} between 1 and 3",
                f"{column} in (1, 2, 5)",
                f"{column} in (select rank from defaults)",
                f"{column} like '%1'",
                f"{alias}.text glob 'd*'",
                f"{alias}.query = 'dog'",
                f"{alias}.query like 'd%'",
                f"{alias}.rank = {alias}.id",
                f"not {column} = 2",
                f"abs({column}) > 1",
            ]
        )
    )


@st.composite
def orders(draw, aliases):
    terms = draw(
        st.lists(
            st.tuples(
                st.sampled_from(aliases),
                st.sampled_from([*COLUMNS, "rank", "rank + 0"]),
                st.sampled_from(["", " desc", " nulls last"]),
            ),
            max_size=3,
        )
    )
    return ", ".join(f"{alias}.{column}{way}" for alias, column, way in terms)


@st.composite
def queries(draw):
    """One SELECT over top(), and the same over tables; with the part that a LIMIT leaves out."""
    aliases = ["t", "u"][: draw(st.integers(1, 2))]
    parts = [draw(sources(alias)) for alias in aliases]
    where = [draw(predicates(alias)) for alias in aliases if draw(st.booleans())]
    here = [part[0] for part in parts]
    there = [part[1] for part in parts]
    terms_here = [part[2] for part in parts if part[2]] + where
    terms_there = [part[3] for part in parts] + where
    shape = draw(
        st.sampled_from(["plain", "plain", "plain", "correlated", "join", "left", "exists"])
    )
    if shape == "correlated":
        here.append("q join top(q.word, q.k) c")
        there.append("q join answers c on c.query = q.word and c.k = q.k")
        aliases = [*aliases, "c"]
    elif shape == "join":
        here.append("top('cat', 3) c")
        there.append("(select * from answers where query = 'cat' and k = 3) c")
        terms_here.append("c.rank = t.rank")
        terms_there.append("c.rank = t.rank")
        aliases = [*aliases, "c"]
    elif shape == "left":
        here[-1] += f" left join top('b', 3) c on c.id = {aliases[-1]}.id and c.rank > 1"
        there[-1] += (
            f" left join answers c on c.query = 'b' and c.k = 3 and c.id = {aliases[-1]}.id "
            "and c.rank > 1"
        )
        aliases = [*aliases, "c"]
    elif shape == "exists":
        terms_here.append("exists (select 1 from top(t.query, 8) e where e.id > t.id)")
        terms_there.append(
            "exists (select 1 from answers e where e.query = t.query and e.k = 8 and e.id > t.id)"
        )
    columns = [f"{alias}.{name}" for alias in aliases for name in [*COLUMNS, "query"]]
    chosen = draw(st.lists(st.sampled_from(columns), min_size=1, max_size=3))
    select = draw(
        st.sampled_from(
            [
                ", ".join(chosen),
                "distinct " + ", ".join(chosen),
                f"count(*), sum({chosen[0]})",
                f"row_number() over (order by {', '.join(columns)})",
            ]
        )
    )
    tail = ""
    if select.startswith("count") and draw(st.booleans()):
        tail = f" group by {chosen[0]}"
        order = draw(st.sampled_from(["", "1", "1 desc"]))
    elif select.startswith(("count", "distinct", "row_number")):
        order = draw(st.sampled_from(["", "1", "1 desc"]))
    else:
        order = draw(orders(aliases))
    limit = draw(st.one_of(st.none(), st.integers(-1, 9)))
    offset = draw(st.sampled_from([None, None, 0, 1, 4]))
    variable = draw(st.booleans())
    pair = []
    for tables, terms in ((here, terms_here), (there, terms_there)):
        sql = f"select {select} from {', '.join(tables)}"
        if terms:
            sql += f" where {' and '.join(terms)}"
        pair.append(sql + tail)
    ending, parameters = (f" order by {order}" if order else ""), []
    if limit is not None:
        ending += " limit ?" if variable else f" limit {limit}"
        parameters.append(limit)
        if offset is not None:
            ending += " offset ?" if variable else f" offset {offset}"
            parameters.append(offset)
    wrap = draw(st.sampled_from(["", "", "sub", "cte", "union", "in"]))
    return pair, order, limit, offset, ending, parameters if variable else [], wrap


def wrapped(sql, ending, wrap):
    if wrap == "sub":
        return f"select * from ({sql}{ending})"
    if wrap == "cte":
        return f"with w as ({sql}{ending}) select * from w"
    if wrap == "union":
        return f"select * from ({sql}{ending}) union all select * from ({sql}{ending})"
    if wrap == "in":
        return f"select word from q where k in (select 3 from ({sql}{ending}))"
    return sql + ending


def sort_key(row):
    return [(value is not None, isinstance(value, str), value) for value in row]


@pytest.mark.parametrize("name", DRIVERS)
def test_any_query_gives_what_a_table_gives(name):
    db = with_reference(importlib.import_module(name))

    @settings(
        max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    @given(queries())
    def compare(query):
        (here, there), order, limit, offset, ending, parameters, wrap = query
        if wrap == "union" and parameters:
            parameters = parameters * 2
        limited = limit is not None and limit >= 0
        received = rows_of(db, wrapped(here, ending, wrap), *parameters)
        expected = rows_of(db, wrapped(there, ending, wrap), *parameters)
        assert len(received) == len(expected)
        if not limited and not offset:
            assert sorted(received, key=sort_key) == sorted(expected, key=sort_key)
            return
        if wrap in ("union", "in"):
            return
        # Which rows a limit keeps among equals is SQLite's choice; they must be among all.
        everything = rows_of(db, there)
        for row in set(received):
            assert everything.count(row) >= received.count(row)
        if order in ("1", "1 desc"):
            assert [row[0] for row in received] == [row[0] for row in expected]

    compare()
    db.close()


@pytest.mark.parametrize("name", DRIVERS)
def test_any_order_and_limit_over_one_call(name):
    db = with_reference(importlib.import_module(name))

    @settings(max_examples=100, deadline=None, database=None)
    @given(
        st.sampled_from(WORDS),
        st.one_of(st.none(), predicates("t")),
        orders(["t"]),
        st.integers(-1, 9),
        st.integers(-1, 6),
    )
    def compare(word, predicate, order, limit, offset):
        # The rank at the end makes the order total, and so the answer one.
        where = f" and {predicate}" if predicate else ""
        order = f"{order}, t.rank" if order else "t.rank"
        ending = f"{where} order by {order} limit {limit} offset {offset}"
        select = "select t.rank, t.id, t.text, t.score from"
        assert rows_of(db, f"{select} top('{word}', 8) t where true{ending}") == rows_of(
            db, f"{select} answers t where t.query = '{word}' and t.k = 8{ending}"
        )

    compare()
    db.close()
