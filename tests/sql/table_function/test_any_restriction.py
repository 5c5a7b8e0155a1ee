"""Any restriction and any join of a call returns what it returns for a table of its rows."""

import importlib
from contextlib import closing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.drivers import DRIVERS, rows_of
from support.near_function import IDS, TOP_THREE, connect, near_rows, need_lists

# Restrictions

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
    """Draw a condition on id, its parameters, and whether it restricts."""
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
                # SQLite substitutes the 5 of `id = 5` in the other conditions.
                assert "can't tell" in str(error)
                assert ids is not None
                assert condition != "true"

        compare()


# Joins, of rows that the function chose before


@st.composite
def joins(draw, newest):
    """Draw the FROM and WHERE of a join of s and images by id."""
    kinds = ["join", "inner join", "left join", "cross join", "natural", ",", "where"]
    if newest:
        # An older SQLite loses the arguments of a function on the right side of these.
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
