"""The text and the code of SQL errors, and what is logged."""

import sqlite3
import sys

import pytest

from support.drivers import error_of, rows_of
from support.table_functions import MESSAGES, connect


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
        # An older SQLite creates it again when it is next named.
        db.execute("drop table top")
    else:
        assert error_of(db, "drop table top") == "table top may not be dropped"
    assert len(rows_of(db, "select * from top('a', 3)")) == 3
