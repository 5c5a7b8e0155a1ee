"""The rows, arguments and limits of statements that call a table function."""

import pytest

from datasette_clip_search.sql.table_function import MISSING
from support.drivers import rows_of
from support.table_functions import calls

QUERIES = [
    # Arguments by position, by name, optional, and read back.
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
    # Several calls.
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
    # The two sides of an OR are two plans with separate arguments.
    ("select value from series(1, 9) where value = 2 or value = 5", [2, 5]),
    ("select query from top where k = 2 and query = 'a' or query = 'b' and k = 1", ["a", "a", "b"]),
    ("select rank from top where (query = 'a' and k = 3) or (query = 'a' and k = 3)", [1, 2, 3]),
    ("select rank from top where query = 'a' and k = 0 or query = 'a' and k = 1", [1]),
    ("select query from top where query in ('a', 'b') and k = 2", ["a", "a", "b", "b"]),
    # Values with equal hashes in Python.
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
    # Arguments that are too long to keep.
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
    # Re-entrancy: the function runs SQL with functions on the connection that calls it.
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
    # With a literal 0, SQLite does not call the function.
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
