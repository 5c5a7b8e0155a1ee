"""Every form of SQL around clip_search() against brute force over all vectors, on every driver.

The rows of a call are those that numpy ranks first. What is around it is run over tables of them.
"""

import importlib
import re
from contextlib import closing

import pytest

from datasette_clip_search.search import nearest as search
from datasette_clip_search.sql import add_functions
from datasette_clip_search.sql.table_function import row_limit
from support.drivers import DRIVERS
from support.vector_database import clustered, make, put, truth

COUNT = 300
QUERIES = clustered(4, seed=5)
VIEWS = """
    create view best as select rank, id, path from clip_search(
        (select embedding from clip_embeddings where image_id = 7), 12);
    create view uncounted as select rank, id, path from clip_search(
        (select embedding from clip_embeddings where image_id = 7));
    create view limited as select rank, id, path from clip_search(
        (select embedding from clip_embeddings where image_id = 7)) limit 15;
    create view outer_view as select * from best where id > 0;
    create view restricted as select rank, id, path from clip_search(
        (select embedding from clip_embeddings where image_id = 7), 12) where id in odd;
    create view odd as select id from images where id % 2 = 1;
    create view two as select * from best union all select rank, id, path from clip_search(
        (select embedding from clip_embeddings where image_id = 8), 12);
"""

# SQL, then the same over tables: `ranked` has all pictures, `odds` the odd ones, `five` those of
# (5, 10, 15, 20, 25), and `view7` and `view8` what the views search for.
S, K = "rank, id, path", "clip_search(:q, 12)"
FORMS = [
    # The call alone.
    (f"select {S} from {K}", f"select {S} from ranked where rank <= 12"),
    (f"select {S} from clip_search(:q)", f"select {S} from ranked where rank <= 10"),
    (f"select {S} from clip_search where query = :q and k = 12", "12"),
    (f"select {S} from {K} as x", "12"),
    (f"select x.rank, x.id, x.path from {K} x where x.rank > 3", "12 and rank > 3"),
    # One value of id, however it comes.
    (f"select {S} from {K} where id = 165", "12 and id = 165"),
    (f"select {S} from {K} where id = :id", "12 and id = :id"),
    (f"select {S} from {K} where :id = id", "12 and id = :id"),
    (f"select {S} from {K} where id = (select 165)", "12 and id = 165"),
    (f"select {S} from {K} where id = cast(:text as integer)", "12 and id = :id"),
    (f"select {S} from {K} where id = :text", "12 and id = :id"),
    (f"select {S} from {K} where id = (select max(id) from images)", "12 and id = 300"),
    (f"select {S} from {K} where id is :id", "12 and id = :id"),
    (f"select {S} from {K} where id = :id or id = 165", "12 and id in (:id, 165)"),
    (f"select {S} from {K} where id between 100 and 200", "12 and id between 100 and 200"),
    (f"select {S} from {K} where not id in (:id, 3)", "12 and id not in (:id, 3)"),
    (f"select {S} from {K} where id in (:id, 3) or rank = 1", "12 and (id in (:id, 3) or rank=1)"),
    (f"select {S} from {K} where +id in (5, 10, 15, 20, 25)", "12 and id in (5, 10, 15, 20, 25)"),
    # Search within.
    (f"select {S} from {K} where id in (5, 10, 15, 20, 25)", f"select {S} from five"),
    (f"select {S} from {K} where id in (:id)", "select 1, id, path from ranked where id = :id"),
    (f"select {S} from {K} where id in (165)", "select 1, id, path from ranked where id = 165"),
    (f"select {S} from {K} where id in (select 165)", "select 1, 165, '165.jpg'"),
    (f"select {S} from {K} where id in (select id from images where id % 2)", "odds 12"),
    (f"select {S} from {K} where id in odd", "odds 12"),
    (f"select {S} from {K} s where s.id in odd and rank > 2", "odds 12 and rank > 2"),
    (f"select {S} from clip_search(:q) where id in odd", "odds 10"),
    (f"select {S} from clip_search(:q) where id in odd limit 25", "odds 25"),
    (f"select {S} from clip_search(:q) where id in odd and score > -9 limit 25", "odds 25"),
    (f"select {S} from {K} where id in odd and id in (5, 10, 15, 20, 25)", "five odd"),
    (
        f"select {S} from clip_search(:q, 12, null, (select json_group_array(id) from odd))",
        "odds 12",
    ),
    (
        f"select {S} from clip_search(:q, 12, null, (select json_group_array(id) from odd)) "
        "where id in (5, 10, 15, 20, 25)",
        "five odd",
    ),
    (f"with o as (select id from odd) select {S} from {K} where id in o", "odds 12"),
    (f"select {S} from (select * from {K} where id in odd)", "odds 12"),
    (f"select {S} from (select * from {K} where id in odd) where id in (1, 3, :id)", "odds 12 3"),
    (f"select {S} from (select * from {K} where id in odd) where id = :id", "odds 12 id"),
    # From outside, nothing changes what was searched.
    (f"select {S} from (select * from {K}) where id in (:id, 165)", "12 and id in (:id, 165)"),
    (f"select {S} from (select * from {K}) where id in (:id)", "12 and id = :id"),
    (
        f"with c as (select * from {K}) select {S} from c where id in (:id, 165)",
        "12 and id in (:id, 165)",
    ),
    (f"with c as (select * from {K}) select {S} from c where id in odd", "12 and id % 2"),
    (
        f"with c as materialized (select * from {K}) select {S} from c where id in odd",
        "12 and id % 2",
    ),
    (
        f"with c as (select * from {K}), d as (select * from c) select {S} from d where id in odd",
        "12 and id % 2",
    ),
    (
        f"select {S} from (select * from {K} union all select * from clip_search(:q, 2)) "
        "where id in odd",
        f"select {S} from ranked where rank <= 12 and id % 2 union all select {S} from ranked "
        "where rank <= 2 and id % 2",
    ),
    ("select rank, id, path from best where id = 165", "view7 12 and id = 165"),
    ("select rank, id, path from best where id = :id", "view7 12 and id = :id"),
    ("select rank, id, path from best where id in (:id, 165)", "view7 12 and id in (:id, 165)"),
    ("select rank, id, path from best where id in odd", "view7 12 and id % 2"),
    ("select rank, id, path from outer_view where id in (select 165)", "view7 12 and id = 165"),
    ("select * from (select * from best limit 101) where id in odd", "view7 12 and id % 2"),
    ("select rank, id, path from two where id in odd", "two and id % 2"),
    ("select rank, id, path from two where id = :id", "two and id = :id"),
    ("select rank, id, path from restricted", "odd7 12"),
    ("select rank, id, path from restricted where id in (1, 3, 165)", "odd7 12 3"),
    ("select rank, id, path from restricted where id % 3 = 0 limit 2", "odd7 12 % 3"),
    ("select rank, id, path from uncounted", "view7 10"),
    ("select rank, id, path from uncounted limit 3", "view7 10 limit 3"),
    ("select rank, id, path from uncounted limit 100", "view7 10"),
    ("select rank, id, path from uncounted order by rank limit 100", "view7 10"),
    ("select rank, id, path from uncounted order by path limit 100", "view7 10"),
    ("select rank, id, path from uncounted where id > 0 limit 100", "view7 10"),
    ("select rank, id, path from uncounted limit 5 offset 8", "view7 10 8"),
    ("select count(*), 0, 0 from uncounted limit 5", "select 10, 0, 0"),
    ("select count(*), 0, 0 from (select * from uncounted limit 100)", "select 10, 0, 0"),
    ("select rank, id, path from limited", "view7 15"),
    ("select rank, id, path from limited limit 100", "view7 15"),
    ("select rank, id, path from limited where id in odd", "view7 15 odd"),
    ("select count(*), 0, 0 from limited", "select 15, 0, 0"),
    # Joins, both ways.
    (
        f"select s.{', i.'.join(['rank', 'id', 'path'])} from {K} s join images i using (id)",
        "12",
    ),
    (f"select rank, i.id, i.path from images i join {K} s on s.id = i.id", "12"),
    (f"select rank, i.id, i.path from images i, {K} s where s.id = i.id and i.id = :id", "12 id"),
    (f"select rank, i.id, i.path from {K} s join images i using (id) where i.id = 165", "12 165"),
    (f"select rank, i.id, i.path from {K} s join images i using (id) where i.id = :id", "12 id"),
    (f"select rank, i.id, i.path from {K} s join images i using (id) where s.id = :id", "12 id"),
    (
        f"select rank, i.id, i.path from {K} s join images i on i.id = s.id "
        "where i.path = (select path from images where id = 165)",
        "12 165",
    ),
    (
        f"select rank, i.id, i.path from {K} s join images i on i.id = s.id where i.id in odd",
        "12 and id % 2",
    ),
    (
        f"select rank, i.id, i.path from images i join {K} s using (id) where id in odd",
        "12 and id % 2",
    ),
    (f"select rank, i.id, i.path from {K} s join images i using (id) where id in odd", "odds 12"),
    (f"select rank, i.id, i.path from {K} s join images i using (id) where s.id in odd", "odds 12"),
    (f"select rank, i.id, i.path from images i join {K} s using (id) where s.id in odd", "odds 12"),
    (
        f"select s.rank, i.id, i.path from images i left join {K} s on s.id = i.id",
        "select s.rank, i.id, i.path from images i left join ranked s on s.id = i.id and s.rank "
        "<= 12",
    ),
    (
        f"select s.rank, i.id, i.path from images i left join {K} s on s.id = i.id and s.id in odd",
        "select s.rank, i.id, i.path from images i left join odds s on s.id = i.id and s.rank "
        "<= 12",
    ),
    (
        f"select s.rank, s.id, i.path from {K} s left join images i on i.id = s.id and i.id in odd",
        "select s.rank, s.id, i.path from ranked s left join images i on i.id = s.id and i.id % 2 "
        "where s.rank <= 12",
    ),
    (
        f"select a.rank, a.id, b.path from {K} a join clip_search(:q, 5) b using (id)",
        "12 and rank <= 5",
    ),
    (
        f"select a.rank, a.id, b.path from {K} a join clip_search(:q, 5) b using (id) "
        "where b.id in odd",
        "select a.rank, a.id, a.path from ranked a join odds b using (id) where a.rank <= 12 and "
        "b.rank <= 5",
    ),
    (
        f"select a.rank, a.id, b.path from {K} a join best b on b.id = a.id where b.id in odd",
        "select a.rank, a.id, a.path from ranked a join view7 b using (id) where a.rank <= 12 and "
        "b.rank <= 12 and a.id % 2",
    ),
    # Subqueries.
    (f"select 0, id, path from images where id in (select id from {K})", "12 0"),
    (f"select 0, id, path from images where id in (select id from {K} where id in odd)", "odd 0"),
    (
        f"select 0, id, path from images i where exists (select 1 from {K} s where s.id = i.id)",
        "12 0",
    ),
    (
        f"select 0, id, path from images i where exists (select 1 from {K} s where s.id = i.id "
        "limit 1)",
        "12 0",
    ),
    (
        "select 0, id, path from images i where exists (select 1 from clip_search(:q) s "
        "where s.id = i.id limit 1)",
        "10 0",
    ),
    (
        f"select 0, id, path from images i where not exists (select 1 from {K} s "
        "where s.id = i.id)",
        "select 0, id, path from ranked where rank > 12",
    ),
    (
        f"select (select rank from {K} s where s.id = i.id), id, path from images i",
        "select case when rank <= 12 then rank end, id, path from ranked",
    ),
    (
        "select (select rank from clip_search(:q) s where s.id = i.id limit 1), id, path "
        "from images i",
        "select case when rank <= 10 then rank end, id, path from ranked",
    ),
    # Limits without k.
    (f"select {S} from clip_search(:q) limit 20", "20"),
    (f"select {S} from clip_search where query = :q limit 20", "20"),
    (f"select {S} from clip_search(:q) limit 0", "0"),
    (f"select {S} from clip_search(:q) limit :n", "20"),
    (f"select {S} from clip_search(:q) limit -1", "300"),
    (f"select {S} from clip_search(:q) limit (-1)", "300"),
    (f"select {S} from clip_search(:q) limit -1 + 21", "20"),
    (f"select {S} from clip_search(:q) limit -20 + 40 offset -3 + 8", "25 and rank > 5"),
    (f"select {S} from clip_search(:q) limit 20 offset 10", "30 and rank > 10"),
    (f"select {S} from clip_search(:q) order by rank limit 20", "20"),
    (f"select {S} from clip_search(:q) order by score desc limit 20", "20"),
    (f"select {S} from clip_search(:q) order by z_score desc limit :n", "20"),
    (f"select {S} from clip_search(:q) s order by s.rank asc, path limit 20", "20"),
    (f"select {S} from clip_search(:q) order by 1 limit 20", "20"),
    (f"select {S} from clip_search(:q) where z_score > -100 limit 20", "20"),
    (f"select {S} from clip_search(:q) where id % 2 limit 20", "first odd"),
    (f"select {S} from clip_search(:q) where id % 2 order by score desc limit 20", "first odd"),
    (f"select {S} from clip_search(:q) where id = 165 limit 1", "300 and id = 165"),
    ("select rank, i.id, i.path from clip_search(:q) s join images i using (id) limit 20", "20"),
    ("select rank, i.id, i.path from images i join clip_search(:q) s using (id) limit 20", "20"),
    (
        "select rank, i.id, i.path from clip_search(:q) s join images i using (id) "
        "order by s.rank limit 20",
        "20",
    ),
    (
        "select rank, i.id, i.path from clip_search(:q) s join images i using (id) "
        "where i.id % 2 order by score desc limit 20",
        "first odd",
    ),
    (
        "select rank, i.id, i.path from clip_search(:q) s left join images i using (id) limit 20",
        "20",
    ),
    (f"select {S} from clip_search((select :q)) s, (values (1)) limit 20", "20"),
    (f"select {S} from (select * from clip_search(:q)) limit 20", "20"),
    (f"select {S} from (select * from clip_search(:q)) where id % 2 limit 20", "first odd"),
    (f"select {S} from (select * from clip_search(:q) limit 20)", "20"),
    (f"select {S} from (select * from clip_search(:q) limit 20) limit 5", "5"),
    (f"with c as (select * from clip_search(:q)) select {S} from c limit 20", "20"),
    (f"with c as (select * from clip_search(:q) limit 20) select {S} from c", "20"),
    (
        "with c as (select * from clip_search(:q)) select rank, i.id, i.path from c "
        "join images i using (id) order by rank limit 20",
        "20",
    ),
    (
        "select 0, id, path from images where id in (select id from clip_search(:q) limit 20)",
        "20 0",
    ),
    (
        "select distinct 0, 0, rank % 3 from clip_search(:q) limit 20",
        "select distinct 0, 0, rank % 3 from ranked",
    ),
    # And with it.
    (f"select {S} from {K} limit 20", "12"),
    (f"select {S} from {K} order by rank limit 5", "5"),
    (f"select {S} from {K} order by path limit 100", "12"),
    (f"select {S} from {K} where id % 2 limit 100", "12 and id % 2"),
    ("select count(*), 0, 0 from clip_search(:q)", "select 10, 0, 0"),
    ("select count(*), 0, 0 from clip_search(:q) limit 1", "select 10, 0, 0"),
    (
        "select count(*), max(rank), 0 from (select * from clip_search(:q)) limit 5",
        "select 10, 10, 0",
    ),
]
SHORT = {
    "odds 12 3": f"select {S} from odds where rank <= 12 and id in (1, 3, :id)",
    "odds 12 id": f"select {S} from odds where rank <= 12 and id = :id",
    "five odd": "select row_number() over (order by rank), id, path from five where id % 2",
    "first odd": f"select {S} from ranked where id % 2 order by rank limit 20",
    "two": f"select * from (select {S} from view7 where rank <= 12 union all "
    f"select {S} from view8 where rank <= 12) where true",
    "odd7 12": f"select {S} from odd7 where rank <= 12",
    "odd7 12 3": f"select {S} from odd7 where rank <= 12 and id in (1, 3, 165)",
    "odd7 12 % 3": f"select {S} from odd7 where rank <= 12 and id % 3 = 0 order by rank limit 2",
    "view7 15 odd": f"select {S} from view7 where rank <= 15 and id % 2",
    "view7 10 limit 3": f"select {S} from view7 where rank <= 3",
    "view7 10 8": f"select {S} from view7 where rank in (9, 10)",
    "12 id": f"select {S} from ranked where rank <= 12 and id = :id",
    "12 165": f"select {S} from ranked where rank <= 12 and id = 165",
    "12 0": "select 0, id, path from ranked where rank <= 12",
    "10 0": "select 0, id, path from ranked where rank <= 10",
    "20 0": "select 0, id, path from ranked where rank <= 20",
    "odd 0": "select 0, id, path from odds where rank <= 12",
}
UNCLEAR = [
    "select id from clip_search(:q) order by path limit 20",
    "select id from clip_search(:q) order by score limit 20",
    "select id from clip_search(:q) order by rank desc limit 20",
    "select id from clip_search(:q) order by rank + 1 limit 20",
    "select s.id from clip_search(:q) s join images i using (id) order by i.taken limit 20",
    "select s.id from images i left join clip_search(:q) s using (id) limit 20",
    "select s.id from images i, clip_search(iif(i.id, :q, :q)) s limit 20",
    "select id from clip_search where query in (:q, 7) limit 20",
    "select id from clip_search where (query = :q or query = 7) limit 20",
    "with v as (select :q as q) select s.id from v, clip_search s where s.query = v.q limit 20",
    "select id % 3, count(*) from clip_search(:q) group by 1 limit 20",
    "select id, row_number() over (order by id) from clip_search(:q) limit 20",
    "select id from clip_search(:q) union select id from clip_search(:q, 5) limit 20",
    "select id from clip_search(:q) union all select 7 limit 20",
    "select * from (select id from clip_search(:q) order by path) limit 20",
    "select * from (select path from clip_search(:q)) order by path limit 20",
    "with c as (select * from clip_search(:q)) select a.id from c a join c b using (id) limit 20",
]


def over_tables(short):
    """Writes the reference out."""
    if short in SHORT:
        return SHORT[short]
    first, _, rest = short.partition(" and ")
    if first in SHORT:
        return f"{SHORT[first]} and {rest}"
    words = first.split()
    if words[0].isdigit():
        words = ["ranked", *words]
    if len(words) != 2 or not words[1].isdigit():
        return short
    where = f"rank <= {words[1]}" + (f" and {rest}" if rest else "")
    return f"select {S} from {words[0]} where {where}"


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
    """A connection with the rankings by brute force in temporary tables."""
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
        # One that is found and one that is not, in a statement that runs again.
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
    from datasette_clip_search.sql.table_function import answers

    monkeypatch.setattr(answers, "MOST_UNCOUNTED", 100)
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
    found = search._found

    def counted(*arguments, **options):
        nonlocal count
        count += 1
        return found(*arguments, **options)

    monkeypatch.setattr(search, "_found", counted)
    values = {name: QUERIES[n].astype("<f4").tobytes() for n, name in enumerate("qp")}
    for _ in range(2):
        count = 0
        db.execute(sql, values).fetchall()
        assert count == wanted


NEAREST = "select i.id from images i left join clip_search(:q, 3) s on s.id = i.id where s.rank = 1"


@pytest.mark.parametrize("cached", [0, 100])
def test_what_is_kept_is_never_stale(driver, file, tmp_path, cached):
    """Also where a later statement, or connection, lies where an earlier one was."""
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
        # Which compiles both again, when they are next run.
        db.execute(f"create temp table t{number}(x)")
        assert [db.execute(sql, values).fetchall() for sql in (direct, viewed)] == expected
        for _ in db.execute(viewed):
            assert [db.execute(sql, values).fetchall() for sql in (direct, viewed)] == expected


def test_ctes_that_name_one_another_are_each_read_once(db, monkeypatch):
    """There are 2^30 ways from the last of them to the first."""
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
