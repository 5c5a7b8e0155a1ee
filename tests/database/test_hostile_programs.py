"""Programs that open a stranger's database: commands, and a server beside an honest database."""

import asyncio
import re
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from datasette_clip_search.common.config import CONFIG
from support.hostile_tables import ENDLESS, SHADOWS, shadow, view
from support.web import wait_for_loading

pytest_plugins = ["support.hostile_tables"]
# The model of these made-up vectors has no weights to look for.
pytestmark = pytest.mark.usefixtures("no_torch")


HOSTILE = {
    "models": view("clip_models", ENDLESS),
    "migrations": view("_sqlite_migrations", ENDLESS),
    "images": view("images", ENDLESS),
    "functions": tuple(shadow(name, ENDLESS) for name in SHADOWS),
}


@pytest.mark.parametrize("kind", HOSTILE)
async def test_next_to_an_honest_database(bad, honest, serve, tmp_path, wired, kind):
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
def test_commands_on_a_hostile_database_end_with_one_sentence(bad, tmp_path, command):
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


async def test_a_huge_thumbnail_is_not_shown(bad, serve):
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


async def test_a_value_that_is_not_a_path_is_left_to_datasette(bad, serve):
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


async def test_damage_is_explained_in_a_sentence(bad, serve, caplog):
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
