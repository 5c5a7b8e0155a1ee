"""What SQL asks of the column that a table function can be restricted by."""

import importlib
from contextlib import closing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datasette_clip_search.sql.table_function import MISSING, TableFunction, register
from datasette_clip_search.sql.table_function import in_lists as within
from datasette_clip_search.sql.table_function.connections import library_of
from support.drivers import DRIVERS, error_of, rows_of

IDS = range(1, 41)
calls = []


def near_rows(connection, query, k, limit=None, within=None):
    """The ids in an order that depends on the query, ranked among those asked for."""
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


@pytest.fixture(params=DRIVERS)
def driver(request):
    return importlib.import_module(request.param)


@pytest.fixture
def db(driver):
    need_lists(driver)
    with closing(connect(driver)) as connection:
        calls.clear()
        yield connection


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
    # However it is written.
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
    # All of them, and what filters beside them.
    ("select id from near('a', 3) where id in (1, 2, 5) and id in (2, 5, 6)", {2, 5}),
    ("select id from near('a', 3) where id in (1, 2, 5) and id in (?)", {5}),
    ("select id from near('a', 3) where id in (1, 5) and rank < 2", {1, 5}),
    ("select id from near('a', 3) where rank between 1 and 2 and id in (1, 5)", {1, 5}),
    ("select id from near('a', 3) where id in (1, 5) and (rank = 1 or path > 'p')", {1, 5}),
    ("select id from near('a', 3) where id in (1, 5) and (id = 7 or id = 5)", {1, 5}),
    ("select id from near('a', 3) where id in (5) and id = 2 + 3", {5}),
    ("select id from near('a', 3) where id = (select 5) and id in (?)", {5}),
    # What is asked of a view, a CTE or a subquery filters the rows of the call inside.
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
    # One value that is no list.
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
    # Not all rows have to have such an id.
    "select id from near('a', 3) where id in (1, 5) or rank = 1",
    "select id from near where query = 'a' and (id in (1, 5) and k = 3 or id in (2) and k = 3)",
    # One call serves both sides of an OR.
    "select id from near where query = 'a' and (id = 1 and k = 3 or id = 5 and k = 3)",
    "select 1 from near where query = 'a' and id = 1 and k = 3 or query = 'a' and id = 5 and k = 3",
    "select id from near('a', 3) where id not in (1, 5)",
    "select id from near('a', 3) where not id in (1, 5)",
    "select id in (1, 5) from near('a', 3)",
    "select id from near('a', 3) where case when rank > 1 and id in (1, 5) then 1 else 0 end",
    # Conditions of other kinds.
    "select id from near('a', 3) where id is 5",
    "select id from near('a', 3) where id > 5",
    "select id from near('a', 3) where id between 5 and 5",
    "select id from near('a', 3) where id + 0 in (1, 5)",
    "select id from near('a', 3) where +id = 5",
    "select id from near('a', 3) where +id in (1, 5)",
    "select id from near('a', 3) where rank in (1, 5)",
    "select id from near('a', 3) where path = 'where id in (1, 5)'",
    # What is asked of a view, a CTE or a subquery.
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
    # Joins, and what is asked of the other table.
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


@pytest.mark.parametrize(("sql", "expected"), RESTRICTED)
def test_what_restricts(db, sql, expected):
    if expected == "near b":
        expected = {row[1] for row in near_rows(db, "b", 2)}
    calls.clear()
    db.execute(sql, parameters_of(sql)).fetchall()
    assert [call for call in calls if call[0] == "a"] == [("a", 3, None, expected)]


@pytest.mark.parametrize("sql", UNRESTRICTED)
def test_what_does_not_restrict(db, sql):
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
    # More are asked for where all of so many are read.
    assert calls[0][1:3] == (k, limit)
    assert len(calls) == 1 or (limit == 10 and "= ?" in sql)


def test_two_sides_of_an_or_filter_and_what_is_beside_them_restricts(db):
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
    """However cheap a call for every row may be, the rows are chosen once, before the join."""
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


# A restriction means what it means for a table.

NUMBERS = st.one_of(
    st.sampled_from(IDS),
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([0.0, 5.0, 5.5, -0.0, 2.0**63, -(2.0**63), float("inf"), 1e300]),
)
TEXTS = st.one_of(
    st.builds(
        "{}{}{}{}".format,
        *[st.sampled_from(["", " ", "\t\n", "+", "\x0b"])] * 1,
        NUMBERS,
        st.sampled_from(["", ".", ".0", "e0", "E+0", "e1", "e-1", "x", "_0", "\0"]),
        st.sampled_from(["", " ", "\r\f", "\xa0", "\u0665"]),
    ),
    st.sampled_from(
        ["", ".", "5", "05", "0x5", "five", ".5e1", "50e-1", "e5", "\u0665", "1" * 400]
    ),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
)
VALUES = st.one_of(NUMBERS, TEXTS, st.none(), st.binary(max_size=2), st.sampled_from([b"5"]))


def literal(value):
    if value is None:
        return "null"
    if isinstance(value, bytes):
        return f"x'{value.hex()}'"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return {float("inf"): "9e999"}.get(value) or repr(value)


@st.composite
def conditions(draw):
    """A condition on id, its parameters, and whether it restricts."""
    kind = draw(st.sampled_from(["=", "in", "in", "select", "column"]))
    if kind == "column":
        column = draw(st.sampled_from(["taken", "number", "id", "cast(id as text)", "-id"]))
        sql = f"id in (select {column} from images where taken > ?)"
        return sql, [draw(st.sampled_from(IDS))], True
    values = draw(st.lists(VALUES, min_size=int(kind != "in"), max_size=1 if kind == "=" else 12))
    terms, parameters = [], []
    for value in values:
        if draw(st.booleans()) or (isinstance(value, str) and "\0" in value):
            terms.append("?")
            parameters.append(value)
        else:
            terms.append(literal(value))
    if kind == "=":
        return f"id = {terms[0]}", parameters, False
    inner = ", ".join(terms)
    if kind == "select":
        inner = f"select {' union all select '.join(terms)}"
    return f"id in ({inner})", parameters, True


@pytest.mark.parametrize("name", DRIVERS)
def test_any_restriction_is_that_of_a_table(name):
    driver = importlib.import_module(name)
    need_lists(driver)
    with closing(connect(driver)) as db:
        db.execute("create table chosen(rank integer, id integer, path text)")

        @settings(max_examples=300, deadline=None, database=None)
        @given(st.lists(conditions(), min_size=1, max_size=3), st.integers(0, 12))
        def compare(terms, k):
            def joined(restricting):
                some = [term for term in terms if restricting in (term[2], None)]
                parameters = [value for term in some for value in term[1]]
                return " and ".join(term[0] for term in some) or "true", parameters

            where, parameters = joined(None)
            restriction, values = joined(True)
            ids = None
            if restriction != "true":
                sql = f"select id from images where {restriction}"
                ids = {row[0] for row in rows_of(db, sql, *values)}
            db.execute("delete from chosen")
            rows = [row[:3] for row in near_rows(db, "a", k, None, ids)]
            db.executemany("insert into chosen values (?, ?, ?)", rows)
            condition, values = joined(False)
            expected = rows_of(db, f"select * from chosen where {condition}", *values)
            sql = f"select rank, id, path from near('a', ?) where {where}"
            try:
                assert rows_of(db, sql, k, *parameters) == expected
            except driver.OperationalError as error:
                # SQLite puts the 5 of an `id = 5` into the other conditions.
                assert "can't tell" in str(error)
                assert ids is not None
                assert condition != "true"

        compare()


# A join is that of the rows that the function chose before.


@st.composite
def joins(draw, newest):
    """The FROM and WHERE of a join of s and images on their ids."""
    kinds = ["join", "inner join", "left join", "cross join", "natural", ",", "where"]
    if newest:
        # Older ones lose a function's arguments on the right side of these.
        kinds += ["right join", "full join", "natural left", "natural full"]
    kind = draw(st.sampled_from(kinds))
    tables = draw(st.permutations(["{} s", draw(st.sampled_from(["images", "few images"]))]))
    equal = draw(st.sampled_from(["s.id = images.id", "images.id = s.id", "s.id == +images.id"]))
    where = draw(
        st.lists(
            st.sampled_from(
                [
                    "images.id in (1, 5, 7)",
                    "images.id = 5",
                    f"images.id = {TOP_THREE[1]}",
                    "images.id in (select id from images where taken > 20)",
                    "images.taken > 12",
                    "images.number > '2'",
                    "s.rank < 3",
                    "s.rank = 2",
                    "s.path like 'p%'",
                    "(s.id = 5 or images.taken > 30)",
                    "s.id is not null",
                    "s.id not in (1, 5)",
                    "images.id = s.id",
                    "images.id = 2 + 3",
                    "images.id = (select 5)",
                    "exists (select 1 from images i where i.id = s.id and i.taken > 5)",
                ]
            ),
            max_size=2,
        )
    )
    if kind.startswith("natural"):
        text = f"{tables[0]} {kind} join {tables[1]}"
    elif kind in (",", "where"):
        equal = draw(st.sampled_from([equal, "s.id in (images.id, images.taken)"]))
        text, where = f"{tables[0]}, {tables[1]}", [*where, equal]
    elif draw(st.booleans()):
        text = f"{tables[0]} {kind} {tables[1]} using (id)"
    else:
        extra = draw(st.sampled_from(["", " and images.taken > 3", " and s.rank < 3"]))
        text = f"{tables[0]} {kind} {tables[1]} on {equal}{extra}"
    if draw(st.integers(0, 3)) == 0:
        text += (
            draw(st.sampled_from([" left join", " join", " cross join"])) + " few on few.id = s.id"
        )
    return text, " and ".join(where) or "true"


SHAPES = [
    "select s.rank, s.id, s.path, images.id from {join} where {where}",
    "select distinct s.id from {join} where {where} order by s.rank",
    "select count(*), max(s.rank), sum(images.taken) from {join} where {where}",
    "select images.taken > 20, count(s.id) from {join} where {where} group by 1",
    "select * from (select s.rank r, s.id i from {join} where {where}) where r < 3",
    "with j as (select s.rank, images.id i from {join} where {where}) select * from j, j as other",
    "select (select count(*) from {join} where {where} and images.id <= o.id) from few o",
    "select o.id from few o where exists (select 1 from {join} where {where} and s.id = o.id)",
    "select o.id from few o where o.id in (select s.id from {join} where {where})",
    "select s.rank from {join} where {where} union all select s.id from {join} where {where}",
    "select s.id from {join} where {where} order by s.rank desc, images.id limit 2",
]


@pytest.mark.parametrize("name", DRIVERS)
def test_any_join_is_that_of_the_chosen_rows(name):
    driver = importlib.import_module(name)
    need_lists(driver)
    with closing(connect(driver)) as db:
        db.execute("delete from few")
        db.execute(f"insert into few select * from images where id in (1, 5, {TOP_THREE[0]}, 99)")
        if name == DRIVERS[-1]:
            db.execute("analyze")
        sources = {
            "near('a', 3)": "(select * from near('a', 3))",
            "found": "(select * from found)",
            "near('a', 9)": "(select * from near('a', 9))",
            "(select * from near('a', 3))": "(select * from near('a', 3))",
            "(select rank, id, path from near('a', 3) where id in (1, 5, 7, 9, 99))": (
                "(select * from near('a', 3) where id in (1, 5, 7, 9, 99))"
            ),
        }

        @settings(
            max_examples=300, deadline=None, database=None, suppress_health_check=list(HealthCheck)
        )
        @given(
            st.sampled_from(list(sources)),
            joins(driver.sqlite_version_info >= (3, 51)),
            st.sampled_from(SHAPES),
        )
        def compare(source, join, shape):
            text, where = join
            sql = shape.format(join=text, where=where)
            chosen = f"with chosen as materialized (select rank, id, path from {sources[source]}) "
            received = rows_of(db, sql.replace("{} s", f"{source} s"))
            if sql.startswith("with j"):
                expected_sql = chosen + ", " + sql.removeprefix("with ").replace("{} s", "chosen s")
            else:
                expected_sql = chosen + sql.replace("{} s", "chosen s")
            assert sorted(map(repr, received)) == sorted(map(repr, rows_of(db, expected_sql)))

        compare()


# SQLite before 3.38.


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
    """All that is no restriction, without an error; and as on a newer one, where this is one."""
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
        # Before SQLite 3.31, arguments on the right of an outer join make an inner one of it.
        sql = (
            "select a.id, b.id from near('a', 9) a "
            f"{kind} (select * from near('b', 9)) b on a.id = b.id order by a.rank"
        )
        rows = [(row[1], row[1] if row[1] in second else None) for row in first]
        assert rows_of(old, sql) == [row for row in rows if row[1] or kind == "left join"]
    sql = "select t.id, s.id from few t left join (select * from near('a', 9)) s on s.id = t.id"
    found = {row[1] for row in first}
    assert rows_of(old, sql) == [(n, n if n in found else None) for n in (1, 2, 3)]
