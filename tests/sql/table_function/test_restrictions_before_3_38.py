"""Restrictions before SQLite 3.38, which passes no list to a function."""

from contextlib import closing

import pytest

from datasette_clip_search.sql.table_function.connections import library_of
from support.drivers import rows_of
from support.near_function import (
    RESTRICTED,
    TOP_THREE,
    UNRESTRICTED,
    calls,
    connect,
    near_rows,
    parameters_of,
)


@pytest.fixture
def old(driver, monkeypatch):
    with closing(connect(driver)) as db:
        monkeypatch.setattr(library_of(db), "takes_lists", False)
        calls.clear()
        yield db


@pytest.mark.parametrize("analyzed", [False, True])
def test_an_old_sqlite_says_what_it_lacks(driver, old, analyzed):
    if analyzed:
        old.execute("analyze")
    message = (
        f"near() cannot be restricted by its id before SQLite 3.38; this is "
        f"{driver.sqlite_version}. For a newer SQLite: pip install pysqlite3-binary"
    )
    for sql, expected in RESTRICTED:
        if expected:
            calls.clear()
            with pytest.raises(driver.OperationalError) as caught:
                old.execute(sql, parameters_of(sql)).fetchall()
            assert str(caught.value) == message
            assert "a" not in {call[0] for call in calls}


@pytest.mark.parametrize("analyzed", [False, True])
def test_an_old_sqlite_filters(driver, old, analyzed):
    """Conditions that do not restrict work without an error, with the rows of a newer SQLite."""
    if analyzed:
        old.execute("analyze")
    newer = connect(driver) if driver.sqlite_version_info >= (3, 38) else None
    for sql in UNRESTRICTED:
        rows = rows_of(old, sql, *parameters_of(sql))
        library_of(old).takes_lists = newer is not None
        if newer is not None:
            expected = rows_of(newer, sql, *parameters_of(sql))
            assert sorted(map(repr, rows)) == sorted(map(repr, expected))
        library_of(old).takes_lists = False
    assert {call[3] for call in calls} == {None}
    if newer is not None:
        newer.close()


@pytest.mark.parametrize("table", ["images", "few"])
@pytest.mark.parametrize("analyzed", [False, True])
def test_an_old_sqlite_joins(old, analyzed, table):
    if analyzed:
        old.execute("analyze")
    chosen = {row[1] for row in near_rows(old, "a", 30)}
    expected = chosen & {row[0] for row in rows_of(old, f"select id from {table}")}
    for sql in [
        f"select s.id from near('a', 30) s join {table} using (id)",
        f"select s.id from {table} join near('a', 30) s using (id)",
        f"select s.id from {table} t, near('a', 30) s where s.id = t.id",
        f"select s.id from near('a', 30) s cross join {table} using (id)",
        f"select id from {table} where id in (select id from near('a', 30))",
        f"select s.id from near('a', 30) s left join {table} t using (id) where t.id is not null",
    ]:
        assert {row[0] for row in rows_of(old, sql)} == expected
    assert rows_of(old, "select id from near('a', 3) where rank = 1") == [(TOP_THREE[0],)]


def test_an_old_sqlite_joins_two_calls(old):
    first, second = near_rows(old, "a", 9), {row[1] for row in near_rows(old, "b", 9)}
    for kind in ("join", "left join"):
        # Before SQLite 3.31, arguments on the right side turn an outer join into an inner one.
        sql = (
            "select a.id, b.id from near('a', 9) a "
            f"{kind} (select * from near('b', 9)) b on a.id = b.id order by a.rank"
        )
        rows = [(row[1], row[1] if row[1] in second else None) for row in first]
        assert rows_of(old, sql) == [row for row in rows if row[1] or kind == "left join"]
    sql = "select t.id, s.id from few t left join (select * from near('a', 9)) s on s.id = t.id"
    found = {row[1] for row in first}
    assert rows_of(old, sql) == [(n, n if n in found else None) for n in (1, 2, 3)]
