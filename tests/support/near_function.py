"""near(), a table function that can be restricted, with tables and statements to test it."""

import pytest

from datasette_clip_search.sql.table_function import MISSING, TableFunction, register

IDS = range(1, 41)
calls = []


def near_rows(connection, query, k, limit=None, within=None):
    """Return the ids in an order that depends on the query, ranked among those of `within`."""
    calls.append((query, k, limit, within))
    seed = 1 + sum(query.encode()) % 40
    ids = sorted(
        (number for number in IDS if within is None or number in within),
        key=lambda number: number * seed % 41,
    )
    wanted = (10 if limit is None else limit) if k is MISSING else k
    return [(rank, n, f"p{n}", -rank / 4) for rank, n in enumerate(ids[:wanted], 1)]


NEAR = TableFunction(
    "near",
    {"rank": "INTEGER", "id": "INTEGER", "path": "TEXT", "closeness": "REAL"},
    ("query", "k"),
    1,
    near_rows,
    ordered_by="rank",
    descending=("closeness",),
    within="id",
    counted="k",
    example="select * from near('a', 100)",
)
TOP_THREE = [row[1] for row in near_rows(None, "a", 3)]


def need_lists(driver):
    if driver.sqlite_version_info < (3, 38):
        pytest.skip("this SQLite hands no list to a function")


def connect(driver):
    db = driver.connect(":memory:")
    register(db, [NEAR])
    db.execute("create table images(id integer primary key, taken, number text)")
    db.executemany(
        "insert into images values (?, ?, ?)", [(n, n * 7 % 41, f"{n}.0") for n in (*IDS, 99)]
    )
    db.execute("create table few as select id, taken, number from images where id < 4")
    db.execute("create view ids as select id from few")
    db.execute("create view found as select * from near('a', 3)")
    db.execute("create view nested as select rank, id from (select * from found)")
    db.execute("create view some as select * from near('a', 3) where id in (1, 5)")
    db.execute(
        "create view both as select 'a' as query, * from found "
        "union all select 'b', * from near('b', 3)"
    )
    return db


RESTRICTED = [
    # One value.
    ("select id from near('a', 3) where id in (5)", {5}),
    ("select id from near('a', 3) where id in (?)", {5}),
    ("select id from near('a', 3) where id in (-5)", {-5}),
    ("select id from near('a', 3) where id in (cast('5' as integer))", {5}),
    ("select id from near('a', 3) where id in (abs(5))", {5}),
    ("select id from near('a', 3) where id in (1, 5) and id in (abs(5)) and id in (5, 7)", {5}),
    ("select id from near('a', 3) where id in (select 5)", {5}),
    ("select id from near('a', 3) where id in ((select 5))", {5}),
    # Several.
    ("select id from near('a', 3) where id in (1, 2, ?, 6)", {1, 2, 5, 6}),
    ("select id from near('a', 3) where id in (1,2,3,4,5,6,7,8,9,10)", {*range(1, 11)}),
    ("select id from near('a', 3) where id in (1, cast(x'31ff' as text), '5')", {1, 5}),
    ("select id from near('a', 3) where id in (select id from images where id < 4)", {1, 2, 3}),
    ("select id from near('a', 3) where id in (values (1), (5))", {1, 5}),
    ("select id from near('a', 3) where id in ids", {1, 2, 3}),
    ("select id from near('a', 3) where id in (select id from near('b', 2))", "near b"),
    (
        "with b as (select id from near('b', 2)) select id from near('a', 3) where id in b",
        "near b",
    ),
    ("select id from near('a', 3) where id in (select id from images where false)", set()),
    # Other spellings.
    ('SELECT "id" FROM Near(\'a\', 3) WHERE "ID" In (1, 5)', {1, 5}),
    ("select [id] from [near]('a', 3) where `id` in (1, 5) -- where id in (2)", {1, 5}),
    ("select id/**/from/* ' */near('a', 3)where(id)in(1,5)", {1, 5}),
    ("select x.id from near('a', 3) as x where x.id in (1, 5)", {1, 5}),
    ("select x.id from near('a', 3) 'x' where x.id in (1, 5)", {1, 5}),
    ("select near.id from near('a', 3) where near.id in (1, 5)", {1, 5}),
    ("select id from near('a', 3) where ((id in (1, 5)) and (rank < 2))", {1, 5}),
    ("select id from near where query = 'a' and k = 3 and id in (1, 5)", {1, 5}),
    ("select id from near where id in (1, 5) and k = 3 and query = 'a'", {1, 5}),
    ("select id from near('a', 3) where path > ' and id in (2)' and id in (1, 5)", {1, 5}),
    # Several lists, and conditions that filter beside them.
    ("select id from near('a', 3) where id in (1, 2, 5) and id in (2, 5, 6)", {2, 5}),
    ("select id from near('a', 3) where id in (1, 2, 5) and id in (?)", {5}),
    ("select id from near('a', 3) where id in (1, 5) and rank < 2", {1, 5}),
    ("select id from near('a', 3) where rank between 1 and 2 and id in (1, 5)", {1, 5}),
    ("select id from near('a', 3) where id in (1, 5) and (rank = 1 or path > 'p')", {1, 5}),
    ("select id from near('a', 3) where id in (1, 5) and (id = 7 or id = 5)", {1, 5}),
    ("select id from near('a', 3) where id in (5) and id = 2 + 3", {5}),
    ("select id from near('a', 3) where id = (select 5) and id in (?)", {5}),
    # Conditions on a view, a CTE or a subquery filter the rows of the call inside.
    ("select id from (select * from near('a', 3) where id in (1, 5)) where id in (1, 7)", {1, 5}),
    ("select id from some where id in (1, 7)", {1, 5}),
    ("select id from some where id = 1", {1, 5}),
    (
        "with s as (select * from near('a', 3) where id in (1, 5)) select id from s "
        "where id in (1, 7) and id in (1, 2)",
        {1, 5},
    ),
    # Joins.
    ("select s.id from near('a', 3) s join images using (id) where s.id in (1, 5)", {1, 5}),
    ("select id from near('a', 3) s join images using (id) where id in (1, 5)", {1, 5}),
    ("select s.id from images join near('a', 3) s using (id) where s.id in (1, 5)", {1, 5}),
    ("select s.id from images join near('a', 3) s using (id) where s.id in (?)", {5}),
    ("select s.id from images i join near('a', 3) s on s.id = i.id and s.id in (1, 5)", {1, 5}),
    (
        "select s.id from images i join near('a', 3) s on s.id = i.id "
        "where s.id in (1, 5) and i.id in (5, 7)",
        {1, 5},
    ),
    ("select s.id from images i, near('a', 3) s where s.id = i.id and s.id in (5)", {5}),
    (
        "select s.id from images left join near('a', 3) s on s.id in (1, 5) where images.id = 1",
        {1, 5},
    ),
    (
        "select s.id from near('a', 3) s join near('b', 3) t using (id) where s.id in (1, 5)",
        {1, 5},
    ),
    (
        "select s.id from near(:a, 3) s join near('b', 3) t on t.id = s.id where s.id in (1, 5)",
        {1, 5},
    ),
    ("select id from near('a', 3) where id in (1, 5) order by id desc", {1, 5}),
    ("select count(*) from near('a', 3) where id in (1, 5)", {1, 5}),
    ("select (select count(*) from near('a', 3) where id in (1, 5)) from few", {1, 5}),
    ("select 1 from few where id in (select id from near('a', 3) where id in (1, 5))", {1, 5}),
    ("select id from near('a', 3) where id in (1, 5) union all select 7", {1, 5}),
    (
        "with recursive c(n) as (select 1 union all select n + 1 from c limit 2) "
        "select id from near('a', 3) where id in c",
        {1, 2},
    ),
]
UNRESTRICTED = [
    # A single value, not in a list.
    "select id from near('a', 3) where id = 5",
    "select id from near('a', 3) where 5 = id",
    "select id from near('a', 3) where id = ?",
    "select id from near('a', 3) where ? = id",
    "select id from near('a', 3) where (id, rank) = (5, 1)",
    "select id from near('a', 3) where id = 2 + 3",
    "select id from near('a', 3) where id = (select 5)",
    "select id from near('a', 3) where id = rank",
    "select id from near('a', 3) where (id, rank) in (select 5, 1 union select 6, 1)",
    "select id from near('a', 3) where id = 1 or id = 2 or id = ?",
    "select id from near where query = 'a' and k = 3 and (id = 1 or id = 5)",
    # Conditions that not all rows must meet.
    "select id from near('a', 3) where id in (1, 5) or rank = 1",
    "select id from near where query = 'a' and (id in (1, 5) and k = 3 or id in (2) and k = 3)",
    # One call serves both sides of an OR.
    "select id from near where query = 'a' and (id = 1 and k = 3 or id = 5 and k = 3)",
    "select 1 from near where query = 'a' and id = 1 and k = 3 or query = 'a' and id = 5 and k = 3",
    "select id from near('a', 3) where id not in (1, 5)",
    "select id from near('a', 3) where not id in (1, 5)",
    "select id in (1, 5) from near('a', 3)",
    "select id from near('a', 3) where case when rank > 1 and id in (1, 5) then 1 else 0 end",
    # Other conditions.
    "select id from near('a', 3) where id is 5",
    "select id from near('a', 3) where id > 5",
    "select id from near('a', 3) where id between 5 and 5",
    "select id from near('a', 3) where id + 0 in (1, 5)",
    "select id from near('a', 3) where +id = 5",
    "select id from near('a', 3) where +id in (1, 5)",
    "select id from near('a', 3) where rank in (1, 5)",
    "select id from near('a', 3) where path = 'where id in (1, 5)'",
    # Conditions on a view, a CTE or a subquery.
    "select id from found where id in (1, 5)",
    "select id from found where id in (?)",
    "select id from found where id = ?",
    "select id from nested where id in (1, 5)",
    "select id from both where id in (1, 5) and query = 'a'",
    "select id from (select * from near('a', 3)) where id in (1, 5)",
    "select id from (select * from near('a', 3)) near where near.id in (1, 5)",
    "select id from (select * from near('a', 3) union all select *, 'x' from few) where id in (5)",
    "with s as (select * from near('a', 3)) select id from s where id in (1, 5)",
    "with near_a as (select * from near('a', 3)) select a.id from near_a a, near_a b "
    "where a.id in (1, 5) and b.id in (2, 5)",
    "with s as materialized (select * from near('a', 3)) select id from s where id in (1, 5)",
    "select id from (select * from near('a', 3) limit 9) where id in (1, 5)",
    "select id from images where id in (select id from found where id in (1, 5))",
    "select (select id from near('a', 3) s where s.id = images.id) from images",
    "select 1 from images where exists (select 1 from near('a', 3) s where s.id = images.id)",
    "select 1 from images where not exists (select 1 from found where id in (images.id, 5))",
    "select 1 from images where id in (select id from near('a', 3))",
    # Joins, and conditions on the other table.
    "select 1 from near('a', 3) join images using (id)",
    "select 1 from images, near('a', 3) s where s.id = images.id",
    "select 1 from images left join near('a', 3) using (id)",
    "select 1 from images cross join near('a', 3) using (id)",
    "select 1 from images join near('a', 3) using (id) where images.id in (1, 5)",
    "select 1 from images join near('a', 3) using (id) where id in (1, 5)",
    "select 1 from images join near('a', 3) using (id) where id in (5)",
    "select 1 from images join near('a', 3) using (id) where images.id = 5",
    "select s.id from images join near('a', 3) s using (id) where s.id = ?",
    "select s.id from images join near('a', 3) s using (id) where images.id = ?",
    "select s.id from images join near('a', 3) s using (id) where images.id in (?)",
    "select s.id from near('a', 3) s join images i on i.id = s.id where i.id in (?)",
    "select s.id from near('a', 3) s left join images i on s.id in (1, 5)",
    "select 1 from images, near('a', 3) s where s.id in (images.id, images.taken)",
    "select 1 from near('a', 3) s join found on found.id = s.id where found.id in (1, 5)",
]


def parameters_of(sql):
    return {"a": "a"} if ":a" in sql else [5] * sql.count("?")
