"""Registration of functions, and declarations that are refused."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from datasette_clip_search.sql.table_function import (
    NativeUnavailable,
    ScalarFunction,
    TableFunction,
    register,
)
from support.drivers import rows_of
from support.table_functions import FUNCTIONS, SCALARS, raise_scalar, top_rows


def test_row_and_text_factories_and_a_transaction_do_not_matter(driver):
    db = driver.connect(":memory:")
    db.row_factory = lambda cursor, row: {"row": row}
    db.text_factory = bytes
    db.execute("create table t(a)")
    db.execute("insert into t values (1)")
    assert db.in_transaction
    register(db, FUNCTIONS + SCALARS)
    assert db.in_transaction
    assert rows_of(db, "select text from top('a', 1)") == [{"row": (b"a0",)}]
    db.rollback()
    db.close()


def test_a_subclass_of_the_connection(driver):
    class Mixin:
        extra = None

    class Own(Mixin, driver.Connection):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            self.note = "mine"

        def cursor(self, *arguments, **options):
            raise AssertionError("register() uses the driver's own cursor")

        execute = cursor

        def select(self, sql):
            return driver.Connection.cursor(self).execute(sql).fetchall()

    class Slotted(driver.Connection):
        __slots__ = ("note", "other")

    seen = ScalarFunction("note", 0, 0, lambda connection: connection.note)
    own = driver.connect(":memory:", factory=Own)
    register(own, [seen, *FUNCTIONS])
    assert own.select("select note(), value from series(1, 1)") == [("mine", 1)]
    slotted = driver.connect(":memory:", factory=Slotted)
    slotted.note = "slot"
    register(slotted, [seen])
    assert rows_of(slotted, "select note()") == [("slot",)]
    own.close()
    slotted.close()


def test_a_closed_or_empty_connection_is_refused(driver):
    class Uninitialised(driver.Connection):
        def __init__(self, *arguments):
            pass

    closed = driver.connect(":memory:")
    closed.close()
    with pytest.raises(driver.ProgrammingError, match="closed"):
        register(closed, FUNCTIONS)
    with pytest.raises(driver.ProgrammingError, match="not called"):
        register(Uninitialised(":memory:"), FUNCTIONS)


@pytest.mark.parametrize("thing", [None, 3, "photos.db", object()])
def test_non_connections_are_refused(thing):
    with pytest.raises(NativeUnavailable, match="is not a connection of Python's sqlite3"):
        register(thing, FUNCTIONS)


def test_another_threads_connection_is_refused(driver):
    db = driver.connect(":memory:")
    with ThreadPoolExecutor(1) as pool, pytest.raises(driver.ProgrammingError, match="thread"):
        pool.submit(register, db, FUNCTIONS).result()
    db.close()


def test_registering_again_replaces(db):
    half = db.execute("select value from series(1, 3)")
    assert half.fetchone() == (1,)
    register(db, FUNCTIONS)
    changed = TableFunction("top", {"n": "INTEGER"}, (), 0, lambda connection, limit=None: [(42,)])
    register(db, [changed])
    assert rows_of(db, "select * from top") == [(42,)]
    assert half.fetchall() == [(2,), (3,)]
    # SQLite does not replace a scalar function while a statement runs.
    half = db.execute("select value from series(1, 3)")
    half.fetchone()
    with pytest.raises(NativeUnavailable, match=r"describe.*active statements"):
        register(db, SCALARS)
    half.close()
    register(db, SCALARS)


@pytest.mark.parametrize(
    "make",
    [
        lambda: TableFunction("a b", {"n": ""}, (), 0, top_rows),
        lambda: TableFunction("", {"n": ""}, (), 0, top_rows),
        lambda: TableFunction("a", {}, (), 0, top_rows),
        lambda: TableFunction("a", {"n": ""}, ("N",), 0, top_rows),
        lambda: TableFunction("a", {"n": ""}, ("q",), 2, top_rows),
        lambda: TableFunction("a", {"n": ""}, ("q",), -1, top_rows),
        lambda: TableFunction("a", {"n": ""}, tuple(f"p{i}" for i in range(24)), 0, top_rows),
        lambda: TableFunction("a", {"n": ""}, (), 0, top_rows, ordered_by="m"),
        lambda: TableFunction("a", {"n": ""}, (), 0, top_rows, costly="m"),
        lambda: TableFunction("a", {"n": ""}, (), 0, top_rows, descending=("m",)),
        lambda: TableFunction("a", {"n": ""}, ("q",), 1, top_rows, counted="q"),
        lambda: ScalarFunction("1a", 0, 0, raise_scalar),
        lambda: ScalarFunction("a", -1, 0, raise_scalar),
        lambda: ScalarFunction("a", 2, 1, raise_scalar),
    ],
)
def test_a_wrong_declaration_is_refused(make):
    with pytest.raises(ValueError, match=r"^a: |is not a name"):
        make()
