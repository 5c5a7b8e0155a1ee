"""Any SQL over the functions: never a crash, and the rows of the same SQL over tables.

CLIP_SEARCH_FUZZ_EXAMPLES sets how many statements are tried. Run as a program, with a database and
a number, this tries that many.
"""

import gc
import os
import sqlite3
import subprocess
import sys
import tracemalloc
from contextlib import closing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.commands import run
from support.paths import ROOT, TESTS
from support.pictures import make_picture

EXAMPLES = int(os.environ.get("CLIP_SEARCH_FUZZ_EXAMPLES", 150))
PICTURES = 12
KS = [0, 1, 3, 20]

# Queries in SQL, by the numbers that they have in the tables: the id of each picture, and
# some texts and other values.
QUERIES = {number: str(number) for number in range(1, PICTURES + 1)} | {
    100: "'dog on beach'",
    101: "'blue'",
    102: "clip_vector(3)",
    103: "(select embedding from clip_embeddings where image_id = 5)",
    104: "null",
}
SETS = {
    "some": "id in (1, 2, 3, 5, 8, 99)",
    "one": "id in (7)",
    "wide": "id in (select id from images where id % 2)",
    "none": "id in ('x', null)",
}


@pytest.fixture(scope="module")
def database(tmp_path_factory, tiny_model):
    folder = tmp_path_factory.mktemp("fuzz")
    for seed in range(PICTURES):
        make_picture(folder / "pictures" / f"{seed:02}.png", seed)
    result = run("embed-images", folder / "photos.db", folder, "--pretrained", tiny_model)
    assert result.exit_code == 0, result.output
    return folder / "photos.db"


def connect(database):
    """Open a database with each answer of the functions also in temporary tables."""
    from datasette_clip_search.sql import add_functions

    db = sqlite3.connect(database)
    add_functions(db)
    db.execute("create temp table answers(query, k, within, rank, id, path, score)")
    db.execute("create temp table likeness(a, b, value)")
    for number, query in QUERIES.items():
        for within, terms in [(None, "true"), *SETS.items()]:
            for k in KS:
                db.execute(
                    f"insert into answers select {number}, {k}, ?, rank, id, path, score "
                    f"from clip_search({query}, {k}) where {terms}",
                    [within],
                )
        db.execute(
            f"insert into answers select {number}, null, null, rank, id, path, score "
            f"from clip_search({query})"
        )
        for other in (1, 2, 100):
            sql = f"insert into likeness select {number}, {other}, clip_similarity({query}, "
            db.execute(sql + f"{QUERIES[other]})")
    db.commit()
    return db


@st.composite
def sources(draw, alias, limited):
    """Draw a FROM item over the functions, and the same over the tables.

    If it is `limited`, a call without k could make more than ten rows.
    """
    number, k = draw(st.sampled_from(list(QUERIES))), draw(st.sampled_from(KS))
    query = QUERIES[number]
    table = f"(select * from answers where query = {number} and k = {k} and within is null) {alias}"
    within = draw(st.sampled_from(list(SETS)))
    return draw(
        st.sampled_from(
            [
                (f"clip_search({query}, {k}) {alias}", table),
                (
                    f"clip_search({query}{', 10' * limited}) {alias}",
                    f"(select * from answers where query = {number} and k is null) {alias}",
                ),
                (
                    f"(select * from clip_search where query = {query} and k = {k}) {alias}",
                    table,
                ),
                (f"(select * from clip_search({query}, '{k}') order by score) {alias}", table),
                (
                    f"(select * from clip_search({query}, {k}) where {SETS[within]}) {alias}",
                    f"(select * from answers where query = {number} and k = {k} "
                    f"and within = '{within}') {alias}",
                ),
                (
                    f"clip_search({query}, {k}, null, (select json_group_array(id) from images "
                    f"where {SETS[within]})) {alias}",
                    f"(select * from answers where query = {number} and k = {k} "
                    f"and within = '{within}') {alias}",
                ),
                # A search for a picture that another search found.
                (
                    f"clip_search((select id from clip_search({query}, 1)), {k}) {alias}",
                    f"(select * from answers where query = (select id from answers where "
                    f"query = {number} and k = 1 and within is null) and k = {k} "
                    f"and within is null) {alias}",
                ),
                # One search for each row of another.
                (
                    f"(select b.* from clip_search({query}, 3) a, clip_search(a.id, {k}) b) "
                    f"{alias}",
                    f"(select b.* from answers a join answers b on b.query = a.id where "
                    f"a.query = {number} and a.k = 3 and a.within is null and b.k = {k} "
                    f"and b.within is null) {alias}",
                ),
                (
                    f"(select c.* from images o, clip_search(o.id, {k}) c where o.id < 5) {alias}",
                    f"(select c.* from images o join answers c on c.query = o.id where o.id < 5 "
                    f"and c.k = {k} and c.within is null) {alias}",
                ),
                (
                    f"(select a.* from clip_search({query}, {k}) a union all "
                    f"select b.* from clip_search(1, 3) b) {alias}",
                    f"(select rank, id, path, score from answers where query = {number} and "
                    f"k = {k} and within is null union all select rank, id, path, score "
                    f"from answers where query = 1 and k = 3 and within is null) {alias}",
                ),
            ]
        )
    )


@st.composite
def terms(draw, alias):
    """Draw a condition that does not change which rows a call chooses."""
    number, other = draw(st.sampled_from(list(QUERIES))), draw(st.sampled_from([1, 2, 100]))
    similarity = (
        f"clip_similarity({QUERIES[number]}, {QUERIES[other]})",
        f"(select value from likeness where a = {number} and b = {other})",
    )
    plain = draw(
        st.sampled_from(
            [
                f"{alias}.rank < 3",
                f"{alias}.rank = 2",
                f"{alias}.rank in (1, 2, 5)",
                f"{alias}.rank = 1 or {alias}.score > 0.2",
                f"{alias}.id > 4",
                f"{alias}.id not in (1, 2, 3)",
                f"{alias}.id = 3 or {alias}.rank = 1",
                f"{alias}.id + 0 in (1, 2, 3)",
                f"{alias}.path like '%0%'",
                f"{alias}.score between -0.5 and 0.3",
                f"{alias}.score is not null",
                f"not {alias}.rank = 1",
                f"exists (select 1 from images i where i.id = {alias}.id and i.path > 'p')",
                f"{alias}.id = (select id from images where id = 4)",
            ]
        )
    )
    return draw(
        st.sampled_from(
            [
                (plain, plain),
                (
                    f"{alias}.score > {similarity[0]}",
                    f"{alias}.score > {similarity[1]}",
                ),
                (
                    f"exists (select 1 from clip_search(2, 3) e where e.id = {alias}.id)",
                    f"exists (select 1 from answers e where e.query = 2 and e.k = 3 and "
                    f"e.within is null and e.id = {alias}.id)",
                ),
                (
                    f"(select e.rank from clip_search({alias}.id, 3) e limit 1) = 1",
                    f"(select e.rank from answers e where e.query = {alias}.id and e.k = 3 and "
                    "e.within is null) = 1",
                ),
            ]
        )
    )


JOINS = [
    "",
    "join images using (id)",
    "left join images on images.id = s.id and images.id > 4",
    "join clip_models on clip_models.id = 1",
    ", (values (1), (2)) v",
]
SHAPES = [
    "select s.rank, s.id, s.path, s.score from {source} where {where}",
    "select distinct s.id from {source} where {where}",
    "select count(*), min(s.rank), max(s.score), sum(distinct s.id) from {source} where {where}",
    "select s.rank, count(*) from {source} where {where} group by s.rank having count(*) > 0",
    "select s.id, row_number() over (order by s.rank, s.id, s.score) from {source} where {where}",
    "select * from (select s.rank r, s.id i from {source} where {where}) where r < 4",
    "with w as ({plain}) select a.id, b.rank from w a, w b where a.id = b.id",
    "with w as materialized ({plain}) select * from w where id in (1, 2, 3)",
    "{plain} union all {plain}",
    "{plain} except select 1, 2, 'x', 0.5",
    "select path from images where id in (select s.id from {source} where {where})",
    "select id, (select count(*) from {source} where {where} and s.id > images.id) from images",
    "select s.rank, s.id from {source} where {where} order by s.rank, s.id limit 3",
    "select s.rank from {source} where {where} order by s.rank desc limit 2 offset 1",
    "with recursive r(n) as (select 1 union select s.id from r, {source} where {where} and "
    "s.rank = 1) select n from r",
]


@st.composite
def statements(draw):
    """Draw SQL over the functions, the same over the tables, and the way to run them."""
    shape = draw(st.sampled_from(SHAPES))
    limited = " limit " in shape
    real, copy = draw(sources("s", limited))
    join = draw(st.sampled_from(JOINS))
    if draw(st.integers(0, 3)) == 0:
        other = draw(sources("u", limited))
        real, copy = (
            f"{real} join {other[0]} on u.id = s.id",
            f"{copy} join {other[1]} on u.id = s.id",
        )
        join = ""
    where = draw(st.lists(terms("s"), max_size=2))
    pair = []
    for place, source in enumerate((real, copy)):
        conditions = " and ".join(f"({term[place]})" for term in where) or "true"
        source = f"{source} {join}"
        plain = SHAPES[0].format(source=source, where=conditions)
        pair.append(shape.format(source=source, where=conditions, plain=plain))
    return pair, draw(st.sampled_from(["", "", "", "view", "table", "trigger", "cursors"]))


def rows_of(db, sql, way):
    """Return the rows with rounded numbers, because sums in another order differ a little."""
    if way == "view":
        db.execute(f"create temp view v as {sql}")
        rows = db.execute("select * from v").fetchall()
        db.execute("drop view v")
    elif way == "table":
        db.execute(f"create temp table made as {sql}")
        rows = db.execute("select * from made").fetchall()
        db.execute("drop table made")
    elif way == "trigger":
        db.execute("create temp table log(n)")
        db.execute("create temp table probe(n)")
        db.execute(
            "create temp trigger fires after insert on probe begin "
            f"insert into log select count(*) from ({sql}); end"
        )
        db.execute("insert into probe values (1), (2)")
        rows = db.execute("select n from log").fetchall()
        db.execute("drop table probe")
        db.execute("drop table log")
    elif way == "cursors":
        half = db.execute(sql)
        half.fetchone()
        rows = db.execute(sql).fetchall()
    else:
        rows = db.execute(sql).fetchall()
    return sorted(
        repr([round(value, 4) if isinstance(value, float) else value for value in row])
        for row in rows
    )


LEFT = [("view", "v"), ("table", "made"), ("table", "probe"), ("table", "log")]


def many(examples):
    checks = list(HealthCheck)
    return settings(
        max_examples=examples, deadline=None, database=None, suppress_health_check=checks
    )


def compare_any(database, examples):
    with closing(connect(database)) as db:

        @many(examples)
        @given(statements())
        def compare(statement):
            (real, copy), way = statement
            expected = rows_of(db, copy, way)
            try:
                assert rows_of(db, real, way) == expected
            except sqlite3.OperationalError as error:
                # Two calls have the same arguments, and one has the condition in its SELECT.
                assert "cannot tell whether this id in (...) restricts it" in str(error)
                assert real.count("clip_search") > 1
                assert any(terms in real for terms in SETS.values())
                for kind, name in LEFT:
                    db.execute(f"drop {kind} if exists {name}")

        compare()


# Values of every kind, in every place where SQL can have one.
VALUES = st.one_of(
    st.sampled_from(["0", "1", "2", "3", "7", "'3'", "'dog'", ":v"]),
    st.sampled_from(["null", "-1", "99", "1.5", "9e999", "''", "x''", "x'00'", "zeroblob(64)"]),
    st.sampled_from(["randomblob(64)", "clip_vector(2)", "clip_vector('red')"]),
    st.sampled_from(["clip_search_json(1, 2)", "clip_similarity(1, 2)", "clip_similarity(2, '')"]),
    st.sampled_from(["(select id from clip_search(2, 1))", "(select max(id) from images)"]),
    st.integers(-(2**63), 2**63 - 1).map(str),
    st.text("ab\u00e9\U0001f415%_", max_size=4).map("'{}'".format),
)


@st.composite
def anything(draw):
    """Draw a statement that may be an error."""
    aliases = draw(st.permutations(["a", "b", "images"]))[: draw(st.integers(1, 3))]
    columns = [f"{alias}.{name}" for alias in aliases for name in ("id", "path", "rowid")]
    for alias in {"a", "b"} & set(aliases):
        columns += [f"{alias}.{name}" for name in ("rank", "score", "query", "k", "model")]
    columns.sort()
    value = st.one_of(VALUES, VALUES, st.sampled_from(columns))
    sql = ""
    for alias in aliases:
        kind = draw(st.sampled_from([", ", " join ", " left join ", " cross join "]))
        arguments = ", ".join(draw(st.lists(value, min_size=1, max_size=3)))
        table = alias if alias == "images" else f"clip_search({arguments}) {alias}"
        if alias != "images" and draw(st.integers(0, 9)) == 9:
            table = f"clip_search {alias}"
        if sql and kind != ", " and draw(st.booleans()):
            table += draw(st.sampled_from([" using (id)", f" on {alias}.id = {aliases[0]}.id"]))
        sql += kind + table if sql else table
    conditions = draw(
        st.lists(
            st.builds(
                "{} {}".format,
                st.sampled_from(columns),
                st.one_of(
                    value.map("= {}".format),
                    value.map("in ({0}, {0})".format),
                    value.map("in (select {})".format),
                    value.map("> {}".format),
                    value.map("in (select id from clip_search({}, 2))".format),
                    st.just("is not null"),
                ),
            ),
            max_size=3,
        )
    )
    chosen = ", ".join(draw(st.lists(st.sampled_from(columns), min_size=1, max_size=3)))
    sql = f"select {draw(st.sampled_from(['*', 'count(*)', chosen]))} from {sql}"
    if conditions:
        sql += " where " + draw(st.sampled_from([" and ", " or "])).join(conditions)
    if draw(st.booleans()):
        sql += f" order by {chosen}"
    return sql + draw(st.sampled_from(["", " limit 3", " limit :v", " limit -1 offset 2"]))


def run_anything(database, examples):
    with closing(connect(database)) as db:

        @many(examples)
        @given(anything(), st.sampled_from([None, 3, "dog", b"x", -1, 2.5]))
        def answer(sql, value):
            for _ in range(2):
                try:
                    db.execute(sql, {"v": value}).fetchmany(500)
                except sqlite3.Error as error:
                    assert " failed: " not in str(error)
                    assert len(str(error)) > 5

        answer()


def test_any_statement_gives_what_tables_give(database):
    compare_any(database, EXAMPLES)


def test_anything_has_an_answer_or_a_message(database):
    run_anything(database, EXAMPLES)


def test_nothing_crashes_a_process(database):
    code = [sys.executable, "-X", "faulthandler", __file__, database, str(2 * EXAMPLES)]
    path = os.pathsep.join([str(ROOT), str(TESTS)])
    env = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(code, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "survived\n"), done.stderr[-3000:]


def test_a_hundred_connections_leave_nothing(database, monkeypatch):
    from datasette_clip_search.sql import add_functions
    from datasette_clip_search.sql.table_function import scans

    # Otherwise rows are dropped only after a thousand connections.
    monkeypatch.setattr(scans, "MOST_CALLS_IN_ALL", scans.MOST_CALLS)

    def use_and_close():
        db = sqlite3.connect(database)
        add_functions(db)
        db.execute("select * from clip_search(1, 3) where id in (2, 3, 4)").fetchall()
        db.execute("select clip_similarity(1, 2), clip_search_json('dog', 2)").fetchall()
        with pytest.raises(sqlite3.OperationalError, match="k must be 0 or more"):
            db.execute("select * from clip_search(1, -1)")
        half = db.execute("select * from clip_search('dog')")
        half.fetchone()
        db.close()

    def state():
        gc.collect()
        return len(gc.get_objects()), tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    # Enough to fill the limit of half-read rows, so that old ones are dropped.
    for _ in range(120):
        use_and_close()
    before = state()
    for _ in range(100):
        use_and_close()
    objects, traced = (now - then for now, then in zip(state(), before, strict=True))
    tracemalloc.stop()
    assert objects < 100
    assert traced < 20_000


if __name__ == "__main__":
    compare_any(sys.argv[1], int(sys.argv[2]))
    run_anything(sys.argv[1], int(sys.argv[2]))
    print("survived")
