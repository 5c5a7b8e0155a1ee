"""Databases by strangers: what replaces one of our tables is not read, and the error says so.

A hostile view or column calls the function `tripwire()`, so that a test notices the first row that
is computed. Where a database meets a program of its own, it calls a query that never ends.
"""

import asyncio
import re
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from datasette import hookimpl
from datasette.plugins import pm

from datasette_clip_search.common.config import CONFIG
from datasette_clip_search.common.errors import DatabaseError, NoEmbeddings
from datasette_clip_search.database.model import choose_model
from datasette_clip_search.database.recognition import images_table
from datasette_clip_search.database.schema import OWN_TABLES
from datasette_clip_search.embedding.store import Store
from datasette_clip_search.sql import add_functions
from support.vector_database import clustered, make
from support.web import wait_for_loading

# The model of these made-up vectors has no weights to look for.
pytestmark = pytest.mark.usefixtures("no_torch")

ENDLESS = "(with recursive r(n) as (select 1 union all select n + 1 from r) select max(n) from r)"
TABLES = (*OWN_TABLES, "_sqlite_migrations", "images")
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
def test_a_view_by_the_name_of_a_function_is_not_asked(bad, wired, name):
    connection = wired(bad(shadow(name)))
    found = connection.execute("select id from clip_search(1, 15)").fetchall()
    assert len(found) == 15
    assert connection.execute("select count(*) from clip_duplicates(0.9)").fetchone()[0] >= 0
    assert wired.calls == 0


def test_a_declaration_of_great_length(bad, wired):
    text = "/* " + "x" * 200_000 + " */"
    path = bad(f"alter table images add column notes text {text} default 'x'")
    with pytest.raises(DatabaseError, match="images in this database is no ordinary table"):
        choose_model(wired(path), None)


@pytest.mark.parametrize("table", ["clip_models", "clip_towers"])
def test_a_key_that_is_none(bad, wired, table):
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
def test_a_model_that_nobody_made(bad, wired, column, value, said):
    path = bad("drop trigger clip_model_inserted", f"update clip_models set {column} = {value}")
    with pytest.raises(DatabaseError, match=f"^The table clip_models has a row .* {said}"):
        choose_model(wired(path), None)


def test_more_models_than_anybody_has(bad, wired):
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


def test_a_schema_that_changes_is_looked_at_again(bad, wired):
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


def test_a_table_of_another_name_is_looked_at_too(bad, wired):
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


def test_a_database_without_our_tables_is_anybodys(tmp_path, wired):
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


HOSTILE = {
    "models": view("clip_models", ENDLESS),
    "migrations": view("_sqlite_migrations", ENDLESS),
    "images": view("images", ENDLESS),
    "functions": tuple(shadow(name, ENDLESS) for name in SHADOWS),
}


@pytest.mark.parametrize("kind", HOSTILE)
async def test_beside_an_honest_database(bad, honest, serve, tmp_path, wired, kind):
    """Datasette's own pages and those of the honest database are as they would be without it."""
    (tmp_path / "good.db").write_bytes(honest)
    hostile = [statement.replace(ENDLESS, "tripwire()") for statement in HOSTILE[kind]]
    datasette = serve(bad(*hostile), tmp_path / "good.db")
    await datasette.invoke_startup()
    wait_for_loading()
    get = datasette.client.get
    for path in ("/", "/bad", "/good", "/good/images", "/-/clip-search/good?like=1"):
        assert (await get(path)).status_code == 200
    good = await get("/-/clip-search/good.json?like=1&k=5")
    assert len(good.json()["results"]) == 5
    for path in ("/-/clip-search/bad.json?like=1&k=5", "/-/clip-search/bad?like=1"):
        response = await get(path)
        if kind == "functions":
            assert response.status_code == 200
        else:
            assert response.status_code == 400
            assert "in this database is a view, not the table of that name" in response.text
    index = await get("/-/clip-search", follow_redirects=True)
    assert index.status_code == 200
    assert wired.calls == 0


COMMANDS = {
    "tables": (["tables"], []),
    "query": (["query"], ["select 1"]),
    "search by SQL": (["query"], ["select id from clip_search(1, 3)"]),
    "clip-search": (["clip-search"], ["--like", "1"]),
    "clip-index": (["clip-index"], ["--status"]),
    "embed-images": (["embed-images"], ["."]),
    "clip-publish": (["clip-publish"], ["published"]),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_end_with_a_sentence(bad, tmp_path, command):
    """In a program of their own, because a test can't end what hangs otherwise."""
    path = bad(*view("clip_models", ENDLESS), *(shadow(name, ENDLESS) for name in SHADOWS))
    before, after = COMMANDS[command]
    result = subprocess.run(
        [sys.executable, "-m", "sqlite_utils", *before, path, *after],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
    )
    if command in ("tables", "query"):
        assert result.returncode == 0, result.stderr
        return
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last.lower().startswith("error: clip_models in this database is a view, not the table")
    assert "Traceback" not in result.stderr


async def test_a_thumbnail_that_fills_the_memory_is_none(bad, serve):
    statements = [
        f"insert into clip_thumbnails (image_id, format, data) values ({id}, '{kind}', {data})"
        for id, kind, data in [
            (1, "webp", f"zeroblob({CONFIG.max_thumbnail_bytes + 1})"),
            (2, "WEBP", "x'00'"),
            (3, "webp", "'text'"),
            (4, "webp", "x'00'"),
        ]
    ]
    datasette = serve(bad(*statements))
    found = [
        (await datasette.client.get(f"/-/clip-search/bad/thumbnail/{id}")).status_code
        for id in range(1, 5)
    ]
    assert found == [404, 404, 404, 200]


async def test_a_path_that_is_none_is_left_to_datasette(bad, serve):
    statements = [
        "insert into clip_thumbnails (image_id, format, data) values (1, 'webp', x'00')",
        "insert into clip_thumbnails (image_id, format, data) values (2, 'webp', x'00')",
        "insert into clip_thumbnails (image_id, format, data) values (3, 'webp', x'00')",
        "update images set path = zeroblob(3000000) where id = 1",
        "update images set path = hex(zeroblob(3000000)) where id = 2",
    ]
    page = await serve(bad(*statements)).client.get("/bad/images")
    assert re.findall(r"/bad/thumbnail/(\d+)", page.text) == ["3"]
    found = await asyncio.wait_for(
        serve(bad(*statements)).client.get("/-/clip-search/bad.json?like=4&k=19"), 60
    )
    assert max(len(str(hit["path"])) for hit in found.json()["results"]) < 50_000


async def test_damage_is_told_in_a_sentence(bad, serve, caplog):
    path = bad()
    whole = path.read_bytes()
    with closing(sqlite3.connect(path)) as connection:
        sql = "select rootpage from sqlite_master where name = 'clip_embeddings'"
        (page,) = connection.execute(sql).fetchone()
        (size,) = connection.execute("pragma page_size").fetchone()
    start = (page - 1) * size
    path.write_bytes(whole[:start] + b"\xff" * size + whole[start + size :])
    datasette = serve(path)
    for asked in ("/-/clip-search/bad.json?like=1", "/-/clip-search/bad?like=1"):
        response = await datasette.client.get(asked)
        assert response.status_code == 500
        assert re.search("This database can(&#39;|')t be searched: .*malformed", response.text)
    assert "Traceback" not in caplog.text
