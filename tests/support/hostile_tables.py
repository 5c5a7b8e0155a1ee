"""Hostile databases: views, virtual tables and columns in place of our tables.

A hostile view or column calls the function `tripwire()`, so that a test notices the first row that
is computed. Where a database meets a program of its own, it calls a query that never ends.
"""

import sqlite3
from contextlib import closing

import pytest
from datasette import hookimpl
from datasette.plugins import pm

from datasette_clip_search.sql import add_functions
from support.vector_database import clustered, make

ENDLESS = "(with recursive r(n) as (select 1 union all select n + 1 from r) select max(n) from r)"
SHADOWS = (
    "json_each",
    "json_tree",
    "pragma_database_list",
    "pragma_foreign_key_list",
    "pragma_function_list",
    "pragma_table_info",
    "pragma_table_list",
    "pragma_table_xinfo",
)
PICTURES = clustered(20)


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    """A database of twenty pictures, to be copied only."""
    return make(tmp_path_factory.mktemp("honest") / "honest.db", PICTURES).read_bytes()


@pytest.fixture
def bad(tmp_path, honest):
    """Make a hostile database with SQL."""
    path = tmp_path / "bad.db"

    def bad(*statements):
        path.write_bytes(honest)
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            # A renamed table then keeps its old name in references to it.
            connection.execute("pragma legacy_alter_table = on")
            connection.execute("pragma writable_schema = on")
            for statement in statements:
                connection.execute(statement)
        return path

    return bad


def view(name, calls):
    """Return SQL that replaces a table with a view, whose name has any case."""
    return (
        f"alter table {name} rename to kept",
        f"create view {name.upper() if name < 'clip_g' else name} as "
        f"select * from kept where 1 or {calls}",
    )


def shadow(name, calls="tripwire()"):
    """Return SQL that makes a view with the name of one of SQLite's own functions."""
    columns = """1 as value, 1 as key, 'id' as name, 0 as hidden, 'images' as "table", 1 as type"""
    return f"""create view {name} as select {columns}, 'image_id' as "from" where 1 or {calls}"""


@pytest.fixture
def wired(monkeypatch):
    """Open connections with a tripwire; `wired.calls` counts its calls."""
    opened = []

    class Wired:
        __name__ = "tripwire"
        calls = 0

        def step(self):
            self.calls += 1
            return 1

        def __call__(self, path):
            connection = sqlite3.connect(path)
            opened.append(connection)
            connection.create_function("tripwire", 0, self.step, deterministic=True)
            add_functions(connection)
            return connection

        @hookimpl
        def prepare_connection(self, conn):
            conn.create_function("tripwire", 0, self.step, deterministic=True)

    wired = Wired()
    pm.register(wired, "tripwire")
    yield wired
    pm.unregister(name="tripwire")
    for connection in opened:
        connection.close()
