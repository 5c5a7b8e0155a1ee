"""Any query over a table function returns what it returns over an ordinary table."""

import importlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datasette_clip_search.sql.table_function import MISSING
from support.drivers import DRIVERS, rows_of
from support.table_functions import connect, top_rows

WORDS = ["a", "b", "dog", "cat"]
KS = [0, 1, 3, 8]
COLUMNS = ["rank", "id", "text", "score"]


def with_reference(driver):
    """Return a connection with each answer of top() also in ordinary tables."""
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
    """Draw a FROM item over top() and one over the table, with the terms that bind arguments."""
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
    """Draw a SELECT over top(), and the same over tables, with and without its LIMIT."""
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
        # SQLite may choose which of equal rows a limit keeps; they must be among all rows.
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
        # The rank at the end makes the order total, so there is one answer.
        where = f" and {predicate}" if predicate else ""
        order = f"{order}, t.rank" if order else "t.rank"
        ending = f"{where} order by {order} limit {limit} offset {offset}"
        select = "select t.rank, t.id, t.text, t.score from"
        assert rows_of(db, f"{select} top('{word}', 8) t where true{ending}") == rows_of(
            db, f"{select} answers t where t.query = '{word}' and t.k = 8{ending}"
        )

    compare()
    db.close()
