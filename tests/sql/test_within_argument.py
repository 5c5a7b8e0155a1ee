"""The argument `within` of clip_search(), which restricts a search on every SQLite."""

import json
import re
import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasette_clip_search.sql import add_functions
from support.databases import make_database

pytest.importorskip("open_clip")

TAKES_LISTS = sqlite3.sqlite_version_info >= (3, 38)
TABLE = "select id from clip_search(?, ?, null, ?)"
JSON = "select clip_search_json(?, ?, null, ?)"


@pytest.fixture(scope="module")
def database(tmp_path_factory, tiny_model):
    database = make_database(tmp_path_factory.mktemp("within"), 60, tiny_model)
    with sqlite3.connect(database) as connection:
        connection.execute("update images set taken = 2000 + id")
    connection.close()
    return database


def found(connection, *arguments):
    """Return the ids that a search finds, in both forms."""
    ids = [row[0] for row in connection.execute(TABLE, arguments)]
    (text,) = connection.execute(JSON, arguments).fetchone()
    assert [hit["id"] for hit in json.loads(text)] == ids
    return ids


IDS = st.one_of(st.integers(0, 65), st.sampled_from([-1, 2**63 - 1, -(2**63)]))


def test_same_as_id_in(database):
    """The same ids as with `id in`, in the order of the ranking of all."""
    connection = sqlite3.connect(database)
    add_functions(connection)
    ranking = {
        query: [row[0] for row in connection.execute(TABLE, [query, 60, None])]
        for query in ("dog", 7)
    }

    @settings(max_examples=150, deadline=None, database=None)
    @given(
        st.sampled_from(list(ranking)),
        st.integers(0, 70),
        st.lists(IDS, max_size=80),
        st.none() | st.lists(IDS, max_size=80),
        st.sampled_from([None, 0, 1]),
    )
    def compare(query, k, ids, others, indent):
        given = json.dumps(ids, indent=indent)
        expected = [id for id in ranking[query] if id in ids]
        assert found(connection, query, k, given) == expected[:k]
        if TAKES_LISTS:
            listed = ", ".join(map(str, ids))
            sql = f"select * from clip_search(?, ?) where id in ({listed})"
            same = connection.execute(sql, [query, k]).fetchall()
            sql = "select * from clip_search(?, ?, null, ?)"
            assert connection.execute(sql, [query, k, given]).fetchall() == same
        if TAKES_LISTS and others is not None:
            sql = f"{TABLE} where id in ({', '.join(map(str, others))})"
            both = [row[0] for row in connection.execute(sql, [query, k, given])]
            assert both == [id for id in expected if id in others][:k]

    compare()
    connection.close()


def test_ids_from_sql(database, connect):
    """As a subquery, by the name of the column, and for each row of another table."""
    connection = connect(database)
    some = "(select json_group_array(id) from images where taken > 2040)"
    expected = [id for id in found(connection, "dog", 60, None) if id > 40]
    assert len(expected) == 20
    for sql, count in [
        (f"clip_search('dog', 7, null, {some})", 7),
        (f"clip_search('dog', 100, null, {some})", 20),
        (f"clip_search where query = 'dog' and k = 7 and within = {some}", 7),
        (f"clip_search('dog') where within = {some}", 10),
    ]:
        assert [row[0] for row in connection.execute(f"select id from {sql}")] == expected[:count]
    sql = (
        "select i.id, s.id from images i, clip_search('dog', 1, null, json_array(i.id, i.id + 30)) "
        "s where i.id <= 30 order by i.id"
    )
    for first, nearest in connection.execute(sql):
        pair = {first, first + 30}
        assert nearest == next(id for id in found(connection, "dog", 60, None) if id in pair)
    none = "(select json_group_array(id) from images where false)"
    assert connection.execute(f"select * from clip_search('dog', 7, null, {none})").fetchall() == []


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, 10),
        ("[]", 0),
        ("", 0),
        (" \n", 0),
        (" [ ] ", 0),
        ("[1,1,2,1]", 2),
        ("[99, -5, 1]", 1),
        (f"[{2**63}, {-(2**63) - 1}, {10**19 - 1}, 1]", 1),
        ("[-0, 1]", 1),
    ],
)
def test_odd_arrays(database, connect, given, expected):
    assert len(found(connect(database), "dog", 10, given)) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("dog", "'dog' is not JSON"),
        ("[1, 2", "'[1, 2' is not JSON"),
        ("[1,]", "'[1,]' is not JSON"),
        ("1, 2", "'1, 2' is not JSON"),
        ("[01]", "'[01]' is not JSON"),
        ("[" * 100_000, "'[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[ is not JSON"),
        ("[" * 100_000 + "]" * 100_000, "'[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[ is not JSON"),
        ("{}", "'{}' is not an array"),
        ("42", "'42' is not an array"),
        ("null", "'null' is not an array"),
        ('[1, "2", true]', "number 2 is '2'"),
        ("[1, 2.0]", "number 2 is 2.0"),
        ("[1e3]", "number 1 is 1000.0"),
        ("[NaN]", "number 1 is nan"),
        (f"[7, {10**19}]", "number 2 has 20 digits, and an id 19 at most"),
        (f"[-{10**400}]", "number 1 has 401 digits, and an id 19 at most"),
        ("[true]", "number 1 is True"),
        ("[5, null]", "number 2 is NULL"),
        ("[[1]]", "number 1 is an array"),
        ("[" * 600 + "]" * 600, "number 1 is an array"),
        ('[{"id": 1}]', "number 1 is an object"),
        ('["\\ud800"]', "number 1 is '\\ud800'"),
        (42, "it is 42"),
        (4.5, "it is 4.5"),
        (b"[1]", "it is a blob"),
    ],
)
def test_values_that_are_not_arrays_of_ids(database, connect, given, message):
    connection = connect(database)
    expected = (
        "within must be a JSON array of ids, such as (select json_group_array(id) from images), "
        f"but {message}"
    )
    for query in ("dog", None):
        for sql in (TABLE, JSON):
            with pytest.raises(sqlite3.OperationalError) as caught:
                connection.execute(sql, [query, 10, given]).fetchall()
            assert str(caught.value) == expected


def test_how_many(database, connect, configured):
    configured(max_within_ids=50, max_within_characters=1000)
    connection = connect(database)
    assert len(found(connection, "dog", 60, json.dumps([*range(1, 51)]))) == 50
    for many in ([*range(51)], [[]] * 26, [{"a": 1}] * 26, ["["] * 26):
        with pytest.raises(sqlite3.OperationalError, match=r"^within has more than 50 ids$"):
            found(connection, "dog", 60, json.dumps(many))
    assert len(found(connection, "dog", 60, "[1]".ljust(1000))) == 1
    message = "^within has 1001 characters of JSON and the limit is 1000$"
    with pytest.raises(sqlite3.OperationalError, match=message):
        found(connection, "dog", 60, "[1]".ljust(1001))


def test_hundreds_of_thousands_are_allowed(database, connect):
    ids = json.dumps([*range(59, 400_000)])
    assert sorted(found(connect(database), "dog", 10, ids)) == [59, 60]


def test_the_error_before_sqlite_3_38_says_what_to_run(database, connect, monkeypatch):
    """The statement that it shows gives the same answer as the restriction on a newer SQLite."""
    connection = connect(database)
    expected = found(connection, "dog", 10, json.dumps([*range(20, 61)]))
    if TAKES_LISTS:
        from datasette_clip_search.sql.table_function.connections import library_of

        monkeypatch.setattr(library_of(connection), "takes_lists", False)
    sql = (
        "select id from clip_search('dog', 10) "
        "where id in (select id from images where taken >= '2020')"
    )
    with pytest.raises(sqlite3.OperationalError, match=r"before SQLite 3\.38") as caught:
        connection.execute(sql).fetchall()
    (told,) = re.findall(r"To restrict it: (select .*\))\. For a newer", str(caught.value))
    assert [row[1] for row in connection.execute(told)] == expected


def test_without_table_valued_functions(database, connect, monkeypatch):
    from datasette_clip_search import sql

    def refuse(*arguments, **options):
        raise sql.NativeUnavailable("for this test")

    expected = connect(database).execute(JSON, ["dog", 3, "[5, 6, 7, 8]"]).fetchone()
    monkeypatch.setattr(sql, "register", refuse)
    assert connect(database).execute(JSON, ["dog", 3, "[5, 6, 7, 8]"]).fetchone() == expected
