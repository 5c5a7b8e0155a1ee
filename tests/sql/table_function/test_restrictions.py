"""Which conditions restrict a table function, and which filter its rows."""

from contextlib import closing

import pytest

from datasette_clip_search.sql.table_function import MISSING, TableFunction
from datasette_clip_search.sql.table_function import in_lists as within
from support.drivers import error_of, rows_of
from support.near_function import (
    NEAR,
    RESTRICTED,
    UNRESTRICTED,
    calls,
    connect,
    near_rows,
    need_lists,
    parameters_of,
)


@pytest.fixture
def db(driver):
    need_lists(driver)
    with closing(connect(driver)) as connection:
        calls.clear()
        yield connection


@pytest.mark.parametrize(("sql", "expected"), RESTRICTED)
def test_conditions_that_restrict(db, sql, expected):
    if expected == "near b":
        expected = {row[1] for row in near_rows(db, "b", 2)}
    calls.clear()
    db.execute(sql, parameters_of(sql)).fetchall()
    assert [call for call in calls if call[0] == "a"] == [("a", 3, None, expected)]


@pytest.mark.parametrize("sql", UNRESTRICTED)
def test_conditions_that_do_not_restrict(db, sql):
    rows_of(db, sql, *[5] * sql.count("?"))
    assert calls
    assert {call[3] for call in calls} == {None}


@pytest.mark.parametrize(
    ("sql", "k", "limit", "count"),
    [
        ("select id from near('a') where id in (select id from images)", MISSING, None, 10),
        ("select id from near('a') where id in (select id from images) limit 4", MISSING, 4, 4),
        ("select id from near('a') where id in (select id from images) limit 25", MISSING, 25, 25),
        ("select id from near('a') where id = ? limit 4", MISSING, 10, 1),
        ("select id from near('a') where id in (?) limit 4", MISSING, 4, 1),
        (
            "select id from near('a') where id in (1, 2, 3) order by rank limit 1 offset 1",
            MISSING,
            2,
            1,
        ),
        ("select id from near('a', 3) where id in (select id from images) limit 25", 3, 25, 3),
        ("select id from near('a', 3) where id in (select id from images) limit 2", 3, 2, 2),
        ("select id from near('a') where id in (1, 2, 3) and path > '' limit 2", MISSING, 10, 2),
        ("select id from near('a') where path > '' limit 7, 5", MISSING, 12, 5),
        ("select id from near('a') where path > '' limit 5 + 6", MISSING, 40, 11),
        ("select id from near('a', 3) where id = 2 + 3 limit 2", 3, None, 0),
    ],
)
def test_limit_and_k(db, sql, k, limit, count):
    assert len(rows_of(db, sql, *[5] * sql.count("?"))) == count
    # SQLite reads all of these, so more are requested.
    assert calls[0][1:3] == (k, limit)
    assert len(calls) == 1 or (limit == 10 and "= ?" in sql)


def test_sides_of_an_or_filter_and_conditions_beside_it_restrict(db):
    sql = (
        "select query, id from near where k = 9 and (query = 'a' and id in (1, 2, 7) "
        "or query = 'a' and id in (3, 4) or query = 'b' and id = 3)"
    )
    expected = [
        (query, row[1])
        for query, ids in (("a", {1, 2, 3, 4, 7}), ("b", {3}))
        for row in near_rows(db, query, 9)
        if row[1] in ids
    ]
    assert sorted(rows_of(db, sql)) == sorted(expected)
    sql = (
        "select query, id from near where k = 2 and (query = 'a' or query = 'b') "
        "and id in (1, 2, 3)"
    )
    expected = [(q, row[1]) for q in "ab" for row in near_rows(db, q, 2, None, {1, 2, 3})]
    assert sorted(rows_of(db, sql)) == sorted(expected)


def test_a_list_from_a_table_of_one_row(db):
    """The rows are chosen once, before the join, however cheap a call for each row seems."""
    db.execute("create table one(id integer primary key, other)")
    db.execute("insert into one values (5, 6)")
    db.execute("analyze")
    sql = "select s.id from one, near('a', 3) s where s.id in (one.id, other)"
    assert rows_of(db, sql) == []
    assert calls == [("a", 3, None, None)]


def test_every_query_of_a_list_is_restricted(db):
    sql = "select query, id from near where query in ('a', 'b') and k = 2 and id in (1, 2, 3)"
    expected = [
        (query, row[1]) for query in "ab" for row in near_rows(db, query, 2, None, {1, 2, 3})
    ]
    assert sorted(rows_of(db, sql)) == sorted(expected)


def test_arguments_from_a_table_and_a_restriction(db):
    sql = (
        "select q.column1, s.id from (values ('a'), ('b'), ('c')) q, near(q.column1, 2) s "
        "where s.id in (select id from images where taken > 20)"
    )
    ids = {row[0] for row in rows_of(db, "select id from images where taken > 20")}
    assert sorted(rows_of(db, sql)) == sorted(
        (query, row[1]) for query in "abc" for row in near_rows(db, query, 2, None, ids)
    )


def test_a_statement_runs_again_with_other_values(db):
    sql = "select id from near('a', 2) where id in (?, ?)"
    for pair in [(1, 2), (3, None), ("7", 7.5), (None, None), (1, 2)]:
        calls.clear()
        rows_of(db, sql, *pair)
        assert [call[3] for call in calls] == [{int(v) for v in pair if v not in (None, 7.5)}]


def test_a_trigger(db):
    db.execute("create table log(id)")
    db.execute(
        "create trigger t after update on images begin insert into log "
        "select id from near('a', 2) where id in (select id from images where taken = -1); end"
    )
    db.execute("update images set taken = -1 where id in (8, 9)")
    assert set(rows_of(db, "select id from log")) == {(8,), (9,)}


def test_too_many(db, monkeypatch):
    sql = "select id from near('a', 3) where id in (select value from c)"
    numbers = "with recursive c(value) as (select 1 union all select value + 1 from c limit ?) "
    monkeypatch.setattr(within, "MOST_VALUES", 100)
    rows_of(db, numbers + sql, 100)
    assert len(calls[0][3]) == 100
    assert error_of(db, numbers + sql, 101) == "in (...) has more than 100 values"
    terms = " and ".join(f"id < {number}" for number in range(50, 100))
    sql = f"select id from near('a', 3) where {terms} and id in (1, 2)"
    assert error_of(db, sql).startswith("near() cannot tell whether this id in (...) restricts it")
    sql = f"select id from near('a', 3) where {terms} and id = 1"
    assert rows_of(db, sql) == []


def test_a_wrong_declaration_is_refused():
    for column in ("nothing", "path", "k"):
        with pytest.raises(ValueError, match=f"^near: there is no INTEGER column '{column}'"):
            TableFunction("near", NEAR.columns, ("query", "k"), 1, near_rows, within=column)
