"""When a function is called, and what it can return and declare."""

import pytest

from datasette_clip_search.sql.table_function import MISSING, TableFunction, register
from support.drivers import rows_of
from support.table_functions import calls


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
