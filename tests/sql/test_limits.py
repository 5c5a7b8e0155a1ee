"""Size limits of arguments, and how soon the functions heed a time limit."""

import json
import sqlite3
import sys
import tracemalloc

import numpy as np
import pytest

from datasette_clip_search.common import interrupts
from datasette_clip_search.common.config import CONFIG
from datasette_clip_search.database import model
from datasette_clip_search.search import within
from datasette_clip_search.sql.table_function import ScalarFunction, TableFunction, register
from datasette_clip_search.sql.table_function.limits import Limit
from support.databases import make_database

pytest.importorskip("open_clip")

SIZE = 16_000_000
ROW = "with b(j) as materialized (select {argument}) select {columns} from b"


@pytest.fixture(scope="module")
def database(tmp_path_factory, tiny_model):
    return make_database(tmp_path_factory.mktemp("limits"), 12, tiny_model)


@pytest.fixture(autouse=True)
def forget():
    """Clear the cache of ids between tests."""
    within._read._kept.clear()


def refusal_and_memory(connection, sql):
    """Return the error of a statement, and the peak memory of Python objects in bytes."""
    connection.execute("select clip_vector(1)")
    tracemalloc.start()
    try:
        with pytest.raises(sqlite3.OperationalError) as caught:
            connection.execute(sql).fetchall()
        return str(caught.value), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


TEXT = f"replace(hex(zeroblob({SIZE // 2})), '0', ' ')"
BLOB = f"randomblob({SIZE})"


@pytest.mark.parametrize(
    ("call", "argument", "message"),
    [
        ("clip_vector(j)", TEXT, "the query has {} bytes and the limit is 2000 characters"),
        ("clip_vector(j)", BLOB, "the query has {} bytes and the limit is 10000000"),
        ("clip_vector(1, j)", TEXT, "the model has {} bytes and the limit is 10000"),
        ("clip_similarity(1, j)", TEXT, "the query has {} bytes and the limit is 2000 characters"),
        ("clip_similarity(1, 1, j)", BLOB, "the model has {} bytes and the limit is 10000"),
        ("clip_mix(1, 1, j, 1)", TEXT, "an argument has {} bytes and the limit is 2000 characters"),
        ("clip_mix(1, 1, 1, j)", BLOB, "an argument has {} bytes and the limit is 10000000"),
        ("clip_search_json(j)", TEXT, "the query has {} bytes and the limit is 2000 characters"),
        ("clip_search_json(1, j)", TEXT, "k has {} bytes and the limit is 10000"),
        ("clip_search_json(1, 1, j)", TEXT, "the model has {} bytes and the limit is 10000"),
        ("clip_search_json(1, 1, null, j)", TEXT, "within has {} bytes and the limit is 10000000"),
        ("clip_search_json(1, 1, null, j)", BLOB, "within has {} bytes and the limit is 10000"),
    ],
)
def test_large_arguments_are_refused_uncopied(database, connect, call, argument, message):
    sql = ROW.format(argument=argument, columns=call)
    told, most = refusal_and_memory(connect(database), sql)
    assert told == f"{call.partition('(')[0]}(): {message.format(SIZE)}"
    assert most < SIZE / 10


@pytest.mark.parametrize(
    ("call", "name"),
    [
        ("clip_search(b.j)", "the query"),
        ("clip_search(1, b.j)", "k"),
        ("clip_search(1, 1, b.j)", "the model"),
        ("clip_search(1, 1, null, b.j)", "within"),
        ("clip_tags(b.j, '[\"dog\"]')", "the query"),
        ("clip_tags(1, b.j)", "labels_json"),
        ("clip_tags(1, '[\"dog\"]', b.j)", "the model"),
        ("clip_duplicates(b.j)", "the threshold"),
        ("clip_duplicates(0.9, b.j)", "the model"),
    ],
)
@pytest.mark.parametrize("argument", [TEXT, BLOB], ids=["text", "blob"])
def test_large_arguments_of_tables_are_refused_uncopied(database, connect, call, name, argument):
    sql = f"with b(j) as materialized (select {argument}) select * from b, {call}"
    told, most = refusal_and_memory(connect(database), sql)
    assert told.startswith(f"{call.partition('(')[0]}(): {name} has {SIZE} bytes and the limit is ")
    assert most < SIZE / 10


def test_a_gigabyte_of_zeros_is_not_allocated(database, connect):
    sql = "select " + ", ".join(["clip_vector(zeroblob(999999000))"] * 50)
    told, most = refusal_and_memory(connect(database), sql)
    assert told.startswith("clip_vector(): the query has 999999000 bytes")
    assert most < 1_000_000


def test_arguments_have_a_total_limit(database, connect):
    pictures = ", ".join(f"randomblob({9_900_000 + n}), 1" for n in range(8))
    told, most = refusal_and_memory(connect(database), f"select clip_mix({pictures})")
    assert (
        told == "clip_mix(): the arguments have 79200028 bytes together and the limit is 67108864"
    )
    assert most < SIZE / 10


def test_text_of_the_most_bytes_is_taken(database, connect):
    connection = connect(database)
    connection.execute("select clip_vector(?)", ["🐕" * CONFIG.max_query_characters])
    for more in ("x", "🐕"):
        with pytest.raises(sqlite3.OperationalError, match="the limit is 2000"):
            connection.execute("select clip_vector(?)", [more * 2001])


def test_limits_of_a_function_of_ones_own():
    with pytest.raises(ValueError, match="every parameter needs a limit, or none"):
        TableFunction("t", {"n": "INTEGER"}, ("a", "b"), 1, list, limits=(Limit("a", 1, 1),))
    few = (Limit("the first", text=2, blob=3), Limit("another", text=1, blob=1))
    connection = sqlite3.connect(":memory:")
    register(connection, [ScalarFunction("count", 0, -1, lambda _, *a: len(a), limits=few)])
    for good in ("'ab', 'c', 12345, null", "x'010203', x'01'", "'é'", ""):
        connection.execute(f"select count({good})")
    for bad, told in [
        ("'abc'", "the first has 3 bytes and the limit is 2"),
        ("'éé'", "the first has 4 bytes and the limit is 2"),
        ("x'01020304'", "the first has 4 bytes and the limit is 3"),
        ("'a', 'b', 'c', 'de'", "another has 2 bytes and the limit is 1"),
    ]:
        with pytest.raises(sqlite3.OperationalError) as caught:
            connection.execute(f"select count({bad})")
        assert str(caught.value) == f"count(): {told}"
    connection.close()


def integers_read(monkeypatch):
    """Return a list that gets the length of each part of JSON that is parsed."""
    parts = []
    read = within._parse_integers

    def reading(part):
        parts.append(len(part))
        return read(part)

    monkeypatch.setattr(within, "_parse_integers", reading)
    return parts


def test_within_is_read_once_for_a_statement(database, connect, monkeypatch):
    parts = integers_read(monkeypatch)
    ids = json.dumps([*range(100_000)])
    calls = ", ".join(["clip_search_json(1, 3, null, j)"] * 14)
    connection = connect(database)
    sql = f"with b(j) as (select ?) select {calls} from b"
    [row] = connection.execute(sql, [ids]).fetchall()
    assert len(set(row)) == 1
    once = len(parts)
    assert sum(parts) <= len(ids)
    assert max(parts) < 60_000
    # Not again for other rows, nor for the table-valued function.
    sql = "with b(j) as (select ?) select s.id from images i, b, clip_search(i.id, 3, null, b.j) s"
    assert len(connection.execute(sql, [ids]).fetchall()) == 12 * 3
    assert len(parts) == once


def test_parts_are_joined_correctly(database, connect):
    connection = connect(database)
    random = np.random.default_rng(0)
    for length in (49_990, 50_000, 100_001, 300_000):
        given = random.integers(-(2**62), 2**62, length // 20)
        text = json.dumps(given.tolist(), indent=int(random.integers(0, 2)))
        assert within.read_ids(text, connection).tolist() == np.unique(given).tolist()


LONG = "[" + "7654321, " * 40_000


@pytest.mark.parametrize(
    ("end", "told"),
    [
        ("]", "or one soon after it, is not an id"),
        (" 1, ]", "number 38893, or one soon after it, is not an id"),
        ("1", "is not an array"),
        ("2.5]", "number 40001 is 2.5"),
        ("01]", "or one soon after it, is not an id"),
        ("1, true]", "number 40002 is True"),
        ("{}]", "number 40001 is an object"),
        ("1" * 20 + "]", "number 40001 has 20 digits, and an id 19 at most"),
        ("-" + "1" * 2000 + "]", "number 40001 has 2000 digits, and an id 19 at most"),
        ("1" * 300_000 + "]", "is not an id"),
        ('"' + "a" * 300_000 + '"]', "is not an id"),
        ("é]", "or one soon after it, is not an id"),
        ("1]]", "or one soon after it, is not an id"),
    ],
)
def test_errors_in_a_long_array(database, connect, end, told):
    connection = connect(database)
    with pytest.raises(sqlite3.OperationalError) as caught:
        connection.execute("select clip_search_json(1, 1, null, ?)", [LONG + end])
    assert str(caught.value).startswith("within must be a JSON array of ids, such as ")
    assert str(caught.value).endswith(told)


def test_long_numbers_are_never_converted(database, connect):
    """Conversion takes quadratic time."""
    numbers = ", ".join(["1" * 4000] * 2000)
    before = sys.get_int_max_str_digits()
    # A conversion would raise another error.
    sys.set_int_max_str_digits(640)
    try:
        for text in (f"[{numbers}]", f"[5, {numbers[:200_000]}]"):
            with pytest.raises(sqlite3.OperationalError, match="has 4000 digits, and an id 19 at"):
                connect(database).execute("select clip_search_json(1, 1, null, ?)", [text])
    finally:
        sys.set_int_max_str_digits(before)


# How many calls may run before SQLite checks: it takes some steps between two calls.
FEW = 60
SIDE_BY_SIDE = 250


@pytest.mark.parametrize(
    "call",
    [
        "clip_vector({n} % 12 + 1)",
        "clip_vector(null, {n} - {n} + 1)",
        "clip_similarity(1, {n} % 12 + 1)",
        "clip_mix(1, {n}, 2, 1)",
        "clip_search_json({n} % 12 + 1, 2)",
        "clip_search_json(1, 2, null, '[{n}, 5]')",
        "(select count(*) from clip_search({n} % 12 + 1, {n}))",
        "(select count(*) from clip_duplicates({n} / 1000.0 + 0.7))",
        """(select count(*) from clip_tags({n} % 12 + 1, '["dog {n}"]'))""",
    ],
)
def test_calls_side_by_side_heed_the_time_limit(database, connect, monkeypatch, call):
    """SQLite checks the time limit between its own steps, and such calls take few of them."""
    connection = connect(database)
    connection.execute("select " + call.replace("{n}", "1")).fetchall()
    calls = []
    choose = model.choose_model

    def counting(*arguments):
        calls.append(arguments)
        return choose(*arguments)

    monkeypatch.setattr(model, "choose_model", counting)
    sql = "select " + ", ".join(call.replace("{n}", str(n)) for n in range(SIDE_BY_SIDE))
    assert len(connection.execute(sql).fetchone()) == SIDE_BY_SIDE
    assert len(calls) >= SIDE_BY_SIDE
    calls.clear()
    # Interrupt from the first call on, like a time limit.
    connection.set_progress_handler(lambda: bool(calls), 1000)
    with pytest.raises(sqlite3.OperationalError, match=r"^interrupted$"):
        connection.execute(sql).fetchall()
    assert len(calls) <= FEW


def test_functions_of_ones_own_heed_it_too():
    connection = sqlite3.connect(":memory:")
    calls = []

    def counted(_, n):
        calls.append(n)
        return n

    def rows(_, n, limit=None):
        calls.append(n)
        return [(n,)]

    register(
        connection,
        [
            ScalarFunction("counted", 1, 1, counted),
            TableFunction("counting", {"n": "INTEGER"}, ("of",), 1, rows),
        ],
    )
    connection.set_progress_handler(lambda: bool(calls), 1000)
    one = ", ".join(f"counted({n})" for n in range(SIDE_BY_SIDE))
    many = ", ".join(f"counting({n}) as t{n}" for n in range(60))
    for sql, most in [(f"select {one}", FEW), (f"select count(*) from {many}", 60)]:
        calls.clear()
        with pytest.raises(sqlite3.OperationalError, match=r"^interrupted$"):
            connection.execute(sql).fetchall()
        assert 0 < len(calls) <= most
    connection.close()


def test_a_subclass_of_the_connection_heeds_it_with_the_drivers_own_cursor():
    class Mine(sqlite3.Connection):
        def cursor(self, *_):
            raise AssertionError("the driver's own cursor is used")

    connection = sqlite3.connect(":memory:", factory=Mine)
    interrupts.heed_time_limit(connection)
    connection.set_progress_handler(lambda: True, 1000)
    with pytest.raises(sqlite3.OperationalError, match=r"^interrupted$"):
        interrupts.heed_time_limit(connection)
    connection.close()


def test_long_lists_and_long_results_heed_it(database, connect):
    """While a million values of an IN are read, and while many rows are read."""
    connection = sqlite3.connect(":memory:")
    taken = []

    def rows(_, n, limit=None, within=None):
        for row in range(n):
            taken.append(row)
            yield (row,)

    table = TableFunction("counting", {"n": "INTEGER"}, ("of",), 1, rows, within="n")
    register(connection, [table])
    connection.set_progress_handler(lambda: len(taken) > 5000, 1000)
    with pytest.raises(sqlite3.OperationalError, match=r"^interrupted$"):
        connection.execute("select count(*) from counting(10000000)").fetchall()
    assert len(taken) < 500_000
    connection.close()


def test_reading_within_heeds_it(database, connect, monkeypatch):
    connection = connect(database)
    parts = integers_read(monkeypatch)
    monkeypatch.setattr(interrupts, "_SECONDS", 0)
    connection.set_progress_handler(lambda: len(parts) > 2, 1000)
    ids = json.dumps([*range(200_000)])
    with pytest.raises(sqlite3.OperationalError, match=r"^interrupted$"):
        connection.execute("select clip_search_json(1, 1, null, ?)", [ids])
    assert len(parts) == 3
    connection.set_progress_handler(None, 0)
    # A statement waits no longer for the parsing of another thread than its time limit.
    connection.set_progress_handler(lambda: True, 1000)
    with within._reading, pytest.raises(sqlite3.OperationalError, match=r"^interrupted$"):
        connection.execute("select clip_search_json(1, 1, null, ?)", [ids])


def test_json_of_many_hits_is_that_of_all_at_once(database, connect, monkeypatch):
    connection = connect(database)
    sql = "select clip_search_json('dog', 12), clip_search_json('dog', 0)"
    whole, none = connection.execute(sql).fetchone()
    assert (len(json.loads(whole)), none) == (12, "[]")
    monkeypatch.setattr("datasette_clip_search.sql.search._HITS_AT_A_TIME", 5)
    assert connection.execute(sql).fetchone() == (whole, none)
