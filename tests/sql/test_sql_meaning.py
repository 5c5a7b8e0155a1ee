"""Every form of SQL around clip_search() against brute force, on every driver.

numpy ranks the rows of a call, and the SQL around it then runs over tables of these rows.
"""

import importlib
import re
from contextlib import closing

import pytest

from datasette_clip_search.search import nearest as search
from datasette_clip_search.sql import add_functions
from datasette_clip_search.sql.table_function import row_limit
from support.drivers import DRIVERS
from support.sql_forms import FORMS, UNCLEAR, VIEWS, over_tables
from support.vector_database import clustered, make, put, truth

COUNT = 300
QUERIES = clustered(4, seed=5)


@pytest.fixture(scope="module")
def vectors():
    return clustered(COUNT)


@pytest.fixture(scope="module")
def file(tmp_path_factory, vectors):
    return make(tmp_path_factory.mktemp("meaning") / "photos.db", vectors)


@pytest.fixture(params=DRIVERS)
def driver(request):
    return importlib.import_module(request.param)


@pytest.fixture
def db(driver, file, tmp_path, vectors):
    """Return a connection with the rankings by brute force in temporary tables."""
    copy = tmp_path / "photos.db"
    copy.write_bytes(file.read_bytes())
    with closing(driver.connect(copy)) as db:
        add_functions(db)
        db.executescript(VIEWS)
        for name in ("ranked", "odds", "five", "view7", "view8", "odd7"):
            db.execute(f"create temp table {name}(rank integer, id integer, path text)")
        odd = set(range(1, COUNT + 1, 2))
        rank(db, "view7", vectors[6])
        rank(db, "view8", vectors[7])
        rank(db, "odd7", vectors[6], odd)
        db.commit()
        yield db


def rank(db, table, query, within=None):
    ids, _ = truth(db, query, COUNT, within)
    db.execute(f"delete from {table}")
    rows = [(place, id, f"{id}.jpg") for place, id in enumerate(ids, 1)]
    db.executemany(f"insert into {table} values (?, ?, ?)", rows)


@pytest.mark.parametrize(("sql", "reference"), FORMS)
def test_a_form_against_brute_force(driver, db, sql, reference):
    expected_sql = over_tables(reference)
    compared = 0
    for number, query in enumerate(QUERIES):
        rank(db, "ranked", query)
        rank(db, "odds", query, set(range(1, COUNT + 1, 2)))
        rank(db, "five", query, {5, 10, 15, 20, 25})
        ids, _ = truth(db, query, 40)
        # An id that is found and one that is not, in a statement that runs again.
        for id in (ids[number], ids[30]):
            values = {"id": id, "q": query.astype("<f4").tobytes(), "n": 20, "text": str(id)}
            expected = db.execute(expected_sql, values).fetchall()
            try:
                received = db.execute(sql, values).fetchall()
            except driver.OperationalError as error:
                assert driver.sqlite_version_info < (3, 38)
                assert "before SQLite 3.38" in str(error)
                return
            assert sorted(map(repr, received)) == sorted(map(repr, expected))
            compared += 1
    assert compared == 2 * len(QUERIES)


@pytest.mark.parametrize("sql", UNCLEAR)
def test_an_unclear_limit_names_k(driver, db, sql):
    query = QUERIES[0].astype("<f4").tobytes()
    with pytest.raises(driver.OperationalError) as caught:
        db.execute(sql, {"q": query}).fetchall()
    assert str(caught.value) == (
        "clip_search() got no k, and it is unclear how many rows this LIMIT takes from it. "
        "Give k: select * from clip_search('dog', 100)"
    )
    counted = re.sub(r"clip_search\((:q|iif\(.*?\))\)", r"clip_search(\1, 20)", sql)
    counted = counted.replace("query ", "k = 20 and query ").replace("(k =", "k = 20 and (k =")
    assert db.execute(counted, {"q": query}).fetchall()


@pytest.mark.parametrize("join", ["full join", "right join", "full outer join"])
@pytest.mark.parametrize("among", ["(165, 166)", "(select id from odd)", "(165)"])
def test_a_restriction_that_sqlite_keeps_back_names_within(driver, db, join, among):
    if driver.sqlite_version_info < (3, 39):
        pytest.skip("this SQLite has no such joins")
    values = {"q": QUERIES[0].astype("<f4").tobytes()}
    sql = f"select s.id from clip_search(:q, 3) s {join} images i on i.id = s.id"
    assert len(db.execute(f"{sql} where s.rank <= 2", values).fetchall()) == 2
    with pytest.raises(driver.OperationalError, match="To restrict it: select"):
        db.execute(f"{sql} where s.id in {among}", values).fetchall()


def test_too_many_rows_for_a_limit_without_k(driver, db, monkeypatch):
    from datasette_clip_search.sql.table_function import function_calls

    monkeypatch.setattr(function_calls, "MOST_UNCOUNTED", 100)
    query = QUERIES[0].astype("<f4").tobytes()
    sql = "select id from clip_search(?) where rank >= 0 limit ?"
    assert len(db.execute(sql, [query, 100]).fetchall()) == 100
    with pytest.raises(driver.OperationalError) as caught:
        db.execute(sql, [query, 101]).fetchall()
    assert str(caught.value) == (
        "clip_search() got no k, and SQLite reads more than 100 rows. "
        "Give k: select * from clip_search('dog', 100)"
    )


SEARCHES = [
    (1, "select id from clip_search(:q, 20)"),
    (2, "select a.id from clip_search(:q, 20) a join clip_search(:p, 20) b using (id)"),
    (1, "select a.id from clip_search(:q, 20) a join clip_search(:q, 20) b using (id)"),
    (1, "select i.id, s.rank from images i left join clip_search(:q, 20) s on s.id = i.id"),
    (1, "select 1 from images i where exists (select 1 from clip_search(:q, 9) s "
        "where s.id = i.id)"),
    (1, "select 1 from images i where not exists (select 1 from clip_search(:q, 9) s "
        "where s.id = i.id)"),
    (1, "select (select rank from clip_search(:q, 9) s where s.id = i.id) from images i"),
    (1, "select (select count(*) from clip_search(:q, 9) s where s.id < i.id) from images i"),
    (1, "select 1 from images i where i.id in (select id from clip_search(:q, 9) s "
        "where s.rank < i.id)"),
    (1, "select 1 from images i left join best on best.id = i.id"),
    (2, "select 1 from images i left join two on two.id = i.id"),
    (3, "with t(n) as (values (3), (4), (5), (3), (4)) select n, s.id from t, images i "
        "left join clip_search(:q, n) s on s.id = i.id"),
    (1, "with c as (select * from clip_search(:q, 20)) select a.id from c a, c b, c d limit 9"),
    (1, "select 1 from images where json_array_length(clip_search_json(:q, 3)) > id"),
    (1, "select clip_search_json(:q, 3) from images"),
    (2, "select clip_search_json(:q, 3), clip_search_json(:p, 3) from images"),
    (1 + COUNT, "select clip_search_json(:q, 3), clip_search_json(id, 3) from images"),
]  # fmt: skip


@pytest.mark.parametrize(("wanted", "sql"), SEARCHES)
def test_one_search_for_the_same_arguments(db, monkeypatch, wanted, sql):
    count = 0
    found = search._find_nearest

    def counted(*arguments, **options):
        nonlocal count
        count += 1
        return found(*arguments, **options)

    monkeypatch.setattr(search, "_find_nearest", counted)
    values = {name: QUERIES[n].astype("<f4").tobytes() for n, name in enumerate("qp")}
    for _ in range(2):
        count = 0
        db.execute(sql, values).fetchall()
        assert count == wanted


NEAREST = "select i.id from images i left join clip_search(:q, 3) s on s.id = i.id where s.rank = 1"


@pytest.mark.parametrize("cached", [0, 100])
def test_cached_results_are_never_stale(driver, file, tmp_path, cached):
    """Also if a later statement or connection has the address of an earlier one."""
    copy = tmp_path / "photos.db"
    copy.write_bytes(file.read_bytes())
    vector = QUERIES[0]
    values = {"q": vector.astype("<f4").tobytes()}
    with closing(driver.connect(copy, cached_statements=cached)) as db:
        add_functions(db)
        (first,) = db.execute(NEAREST, values).fetchone()
        for id in (1000, 1001, 1002):
            with closing(driver.connect(copy)) as other:
                put(other, [id], vector[None])
                other.commit()
                assert db.execute(NEAREST, values).fetchall() == [(id,)]
                other.execute("delete from images where id = ?", [id])
                other.commit()
                assert db.execute(NEAREST, values).fetchall() == [(first,)]
        for start, end in (("begin", "rollback"), ("savepoint s", "rollback to s")):
            for id in (1000, 1001):
                db.execute(start)
                put(db, [id], vector[None])
                assert db.execute(NEAREST, values).fetchall() == [(id,)]
                db.execute(end)
                assert db.execute(NEAREST, values).fetchall() == [(first,)]
                db.rollback()
        sql = (
            "select path, (select path from clip_search(:q, 1) where id + 0 * i.id = id) "
            "from images i"
        )
        reading = db.execute(sql, values)
        reading.fetchmany(5)
        db.execute("update images set path = 'moved' where id = ?", [first])
        # A row may have been read ahead.
        assert [row[1] for row in reading.fetchmany(5)][1:] == ["moved"] * 4
        reading.close()
        db.rollback()


def test_calls_of_several_running_statements_are_told_apart(driver, db):
    if driver.sqlite_version_info < (3, 38):
        pytest.skip("this SQLite hands no list to a function")
    values = {"q": QUERIES[0].astype("<f4").tobytes()}
    direct = "select id from clip_search(:q, 2) where id in odd"
    viewed = "select id from best where id in odd"
    expected = [db.execute(sql, values).fetchall() for sql in (direct, viewed)]
    assert expected[0]
    for number, _ in enumerate(db.execute(direct, values)):
        # SQLite then compiles both again, at their next run.
        db.execute(f"create temp table t{number}(x)")
        assert [db.execute(sql, values).fetchall() for sql in (direct, viewed)] == expected
        for _ in db.execute(viewed):
            assert [db.execute(sql, values).fetchall() for sql in (direct, viewed)] == expected


def test_mutually_naming_ctes_are_read_once_each(db, monkeypatch):
    """There are 2^30 paths from the last CTE to the first."""
    read = []
    first = row_limit._find_mode

    def counting(*arguments):
        read.append(arguments)
        return first(*arguments)

    monkeypatch.setattr(row_limit, "_find_mode", counting)
    ctes = [f"c{n} as (select * from c{n - 1} x join c{n - 1} y using (id))" for n in range(1, 31)]
    sql = f"with c0 as (select id from clip_search(1)), {', '.join(ctes)} select count(*) from c1"
    assert db.execute(sql).fetchone() == (10,)
    assert 30 <= len(read) <= 64
