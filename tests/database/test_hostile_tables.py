"""Databases from strangers: what replaces one of our tables is not read, and the error says so."""

import re
import sqlite3
from contextlib import closing

import pytest

from datasette_clip_search.common.config import CONFIG
from datasette_clip_search.common.errors import DatabaseError, NoEmbeddings
from datasette_clip_search.database.model import choose_model
from datasette_clip_search.database.recognition import images_table
from datasette_clip_search.database.schema import OWN_TABLES
from datasette_clip_search.embedding.store import Store
from support.hostile_tables import SHADOWS, shadow, view

pytest_plugins = ["support.hostile_tables"]
# The model of these made-up vectors has no weights to look for.
pytestmark = pytest.mark.usefixtures("no_torch")

TABLES = (*OWN_TABLES, "_sqlite_migrations", "images")


@pytest.mark.parametrize("table", TABLES)
def test_a_view_in_place_of_a_table(bad, wired, table):
    connection = wired(bad(*view(table, "tripwire()")))
    for ask in (images_table, lambda connection: choose_model(connection, None)):
        with pytest.raises(DatabaseError, match=f"(?i)^{table} in this database is a view, not"):
            ask(connection)
    for sql in ("select * from clip_search(1)", "select * from clip_duplicates"):
        with pytest.raises(sqlite3.OperationalError, match=f"(?i){table} in .* is a view, not"):
            connection.execute(sql).fetchall()
    assert wired.calls == 0


@pytest.mark.parametrize("module", ["fts5(x)", "rtree(x, y, z)"])
@pytest.mark.parametrize("table", TABLES)
def test_a_virtual_table_in_place_of_a_table(bad, wired, table, module):
    virtual = f"create virtual table {table} using {module}"
    # A virtual table makes a table with this index's name.
    freed = "drop index if exists clip_pruned_content"
    connection = wired(bad(f"alter table {table} rename to kept", freed, virtual))
    with pytest.raises(DatabaseError, match=f"^{table} in this database is a virtual table, not"):
        choose_model(connection, None)


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("images", "path"),
        ("images", "width"),
        ("images", "taken"),
        ("clip_models", "name"),
        ("clip_models", "preprocess"),
        ("clip_embeddings", "embedding"),
        ("clip_thumbnails", "data"),
        ("clip_changes", "image_id"),
        ("clip_towers", "data"),
        ("clip_publication", "originals_url"),
        ("_sqlite_migrations", "name"),
    ],
)
def test_a_column_that_is_computed(bad, wired, table, column):
    path = bad()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        sql = "select sql from sqlite_master where name = ?"
        (declared,) = connection.execute(sql, (table,)).fetchone()
        pattern = rf'"?\b{column}\b"? (\w+)[^,\n]*?( unique)?(?=[,\n])'
        made = re.sub(pattern, f"{column} \\1 as (tripwire())\\2", declared)
        assert made != declared
        connection.execute("pragma writable_schema = on")
        connection.execute("update sqlite_master set sql = ? where name = ?", (made, table))
        connection.execute("update sqlite_master set type = type")
    connection = wired(path)
    with pytest.raises(DatabaseError, match=f"column {column} of the table {table} .* is computed"):
        choose_model(connection, None)
    assert wired.calls == 0


@pytest.mark.parametrize("name", SHADOWS)
def test_a_view_named_like_a_function_is_not_queried(bad, wired, name):
    connection = wired(bad(shadow(name)))
    found = connection.execute("select id from clip_search(1, 15)").fetchall()
    assert len(found) == 15
    assert connection.execute("select count(*) from clip_duplicates(0.9)").fetchone()[0] >= 0
    assert wired.calls == 0


def test_a_very_long_declaration(bad, wired):
    text = "/* " + "x" * 200_000 + " */"
    path = bad(f"alter table images add column notes text {text} default 'x'")
    with pytest.raises(DatabaseError, match="images in this database is no ordinary table"):
        choose_model(wired(path), None)


@pytest.mark.parametrize("table", ["clip_models", "clip_towers"])
def test_a_table_without_its_key(bad, wired, table):
    """Without a key, each lookup would read all rows."""
    statements = [f"alter table {table} rename to kept"]
    statements += [f"create table {table} as select * from kept"]
    with pytest.raises(DatabaseError, match=f"key of the table {table} .* is not .*id"):
        choose_model(wired(bad(*statements)), None)


@pytest.mark.parametrize("table", ["clip_thumbnails", "clip_changes"])
def test_keys_that_owners_may_have_changed(bad, wired, table):
    """Programs that rebuild tables may change the keys, and searches still work."""
    statements = [f"alter table {table} rename to kept"]
    statements += [f"create table {table} as select * from kept"]
    connection = wired(bad(*statements))
    assert connection.execute("select count(*) from clip_search(1, 3)").fetchone() == (3,)


@pytest.mark.parametrize("target", ["json_each", "sqlite_master", "nowhere", "clip_search"])
def test_pictures_that_are_elsewhere(bad, wired, target):
    replaced = f"update sqlite_master set sql = replace(sql, '\"images\"', '{target}')"
    path = bad(f"{replaced} where name = 'clip_embeddings'")
    with pytest.raises(DatabaseError, match=f"no table {target}, which its vectors refer to"):
        choose_model(wired(path), None)


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("dimension", "1 << 40", "dimension is not an integer from 1 to 4096"),
        ("dimension", "0", "dimension is not an integer"),
        ("dimension", "-1", "dimension is not an integer"),
        ("dimension", "'many'", "dimension is not an integer"),
        ("dimension", "32.5", "dimension is not an integer"),
        ("revision", "x'00'", "id or revision is not an integer"),
        ("name", "zeroblob(40)", "name or pretrained is not text"),
        ("name", "hex(zeroblob(5000))", "name or fingerprint is longer than 1000 characters"),
        ("pretrained", "hex(zeroblob(9000))", "longer than 1000 characters, or another 10000"),
        ("preprocess", "x'00'", "fingerprint or preprocess is not text"),
        ("fingerprint", "hex(zeroblob(5000))", "name or fingerprint is longer"),
    ],
)
def test_an_impossible_model(bad, wired, column, value, said):
    path = bad("drop trigger clip_model_inserted", f"update clip_models set {column} = {value}")
    with pytest.raises(DatabaseError, match=f"^The table clip_models has a row .* {said}"):
        choose_model(wired(path), None)


def test_more_models_than_the_limit(bad, wired):
    path = bad(
        "drop trigger clip_model_inserted",
        f"""insert into clip_models
            (name, pretrained, dimension, fingerprint, preprocess, is_default, revision)
            with recursive r(n) as (
                select 1 union all select n + 1 from r limit {CONFIG.max_models}
            ) select 'm', '', 32, n, '{{}}', 0, n from r""",
    )
    with pytest.raises(DatabaseError, match="more than 1000 models"):
        choose_model(wired(path), None)


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        (
            "update clip_embeddings set image_id = 'x' where image_id = 3",
            "image_id is no whole number",
        ),
        ("insert into clip_changes values (1, 'x', 'y', 'z')", "values other than integers"),
        ("insert into clip_changes values (1, 1e300, 1, 'z')", "values other than integers"),
    ],
)
def test_values_of_other_types(bad, wired, statement, said):
    triggers = [f"drop trigger clip_embedding_{what}" for what in ("updated", "moved")]
    connection = wired(bad(*triggers, statement))
    with pytest.raises(sqlite3.OperationalError, match=said):
        connection.execute("select * from clip_search(1)").fetchall()


def test_a_history_too_long_to_read(bad, wired, configured):
    """The vectors are read instead, as without a history."""
    connection = wired(bad())
    before = connection.execute("select * from clip_search(1, 5)").fetchall()
    for _ in range(3):
        connection.execute("update clip_embeddings set embedding = embedding")
    configured(max_changes_read=10)
    assert connection.execute("select * from clip_search(1, 5)").fetchall() == before


def test_a_changed_schema_is_checked_again(bad, wired):
    """An ordinary table may become a view between two reads."""
    path = bad()
    connection = wired(path)
    assert len(connection.execute("select * from clip_search(1, 5)").fetchall()) == 5
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("pragma legacy_alter_table = on")
        for statement in view("images", "tripwire()"):
            other.execute(statement)
    with pytest.raises(sqlite3.OperationalError, match="images in this database is a view"):
        connection.execute("select * from clip_search(1, 5)").fetchall()
    assert wired.calls == 0


def test_a_renamed_table_is_checked_too(bad, wired):
    path = bad("pragma legacy_alter_table = off", "alter table images rename to [my pictures]")
    connection = wired(path)
    assert len(connection.execute("select * from clip_search(1, 5)").fetchall()) == 5
    assert images_table(connection) == "my pictures"
    connection.execute("pragma legacy_alter_table = on")
    connection.execute("alter table [my pictures] rename to kept")
    connection.execute("create view [my pictures] as select * from kept where tripwire()")
    with pytest.raises(DatabaseError, match="my pictures in this database is a view"):
        images_table(connection)
    assert wired.calls == 0


def test_a_database_without_our_tables_may_hold_anything(tmp_path, wired):
    connection = wired(tmp_path / "other.db")
    connection.execute("create view images as select tripwire() as id")
    assert images_table(connection) is None
    with pytest.raises(NoEmbeddings):
        choose_model(connection, None)
    assert wired.calls == 0


def test_nothing_is_noted_in_a_view(tmp_path, wired):
    connection = wired(tmp_path / "other.db")
    connection.execute("create view _sqlite_migrations as select tripwire() as name")
    assert images_table(connection) is None
    with pytest.raises(DatabaseError, match="_sqlite_migrations in this database is a view"):
        Store(connection, tmp_path / "other.db", None)
    assert wired.calls == 0
