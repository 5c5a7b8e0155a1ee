"""The hooks of the plugin: menus, SQL functions, preloading."""

import inspect
import json
import logging
import subprocess
import sys
from collections import OrderedDict

import pytest

from datasette_clip_search import web as plugin
from datasette_clip_search.models.queries import text_encoder, torch_models
from support.databases import change
from support.web import PAGE, wait_for_loading

pytest.importorskip("open_clip")


@pytest.mark.parametrize("path", ["/photos", "/photos/images"])
async def test_menus_lead_to_the_page(photos, path):
    response = await photos.client.get(path)
    assert f'href="{PAGE}"' in response.text
    assert f'href="{PAGE}"' not in (await photos.client.get("/photos/clip_models")).text


async def test_unprepared_connections_still_work(folder, serve, monkeypatch, caplog):
    def add_functions(_):
        raise OSError("no SQLite")

    monkeypatch.setattr("datasette_clip_search.sql.add_functions", add_functions)
    assert (await serve(folder / "photos.db").client.get("/photos")).status_code == 200
    assert "no SQLite" in caplog.text


async def test_memory_database_has_no_functions(serve):
    datasette = serve(memory=True)
    await datasette.invoke_startup()
    sql = "select count(*) from pragma_function_list where name like 'clip%'"
    assert (await datasette.get_database("_memory").execute(sql)).rows[0][0] == 0


async def test_startup_loads_in_the_background(folder, serve, monkeypatch, caplog):
    monkeypatch.setattr(torch_models._encoders, "_loaded", OrderedDict())
    monkeypatch.setattr(text_encoder._towers._loading, "_loaded", OrderedDict())
    datasette = serve(folder / "photos.db", memory=True)
    await datasette.invoke_startup()
    wait_for_loading()
    assert len(text_encoder._towers._loading._loaded) == 1
    assert not torch_models._encoders._loaded
    assert not caplog.records


async def test_startup_logs_one_line_about_what_fails(folder, serve, caplog):
    change(folder / "photos.db", "delete from clip_towers")
    change(folder / "photos.db", "update clip_models set pretrained = '/gone', fingerprint = 'x'")
    (folder / "photos.db.clip-1.faiss").unlink()
    datasette = serve(folder / "photos.db")
    with caplog.at_level(logging.WARNING):
        await datasette.invoke_startup()
        wait_for_loading()
    [record] = caplog.records
    assert record.getMessage().startswith("Searching the pictures of photos may fail: The weights")
    assert record.exc_info is None


def test_importing_the_plugin_is_light():
    """numpy is allowed, because Datasette's own units library imports it if it is installed."""
    code = (
        "import sys, datasette.app, datasette_clip_search.web, datasette_clip_search.web.pages\n"
        "heavy = {'torch', 'open_clip', 'faiss', 'onnxruntime', 'PIL'}\n"
        "print(sorted(heavy.intersection(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr


def test_hooks_only_take_what_both_versions_offer():
    offered = {
        "prepare_connection": {"conn", "database", "datasette"},
        "register_routes": {"datasette"},
        "database_actions": {"datasette", "actor", "database", "request"},
        "table_actions": {"datasette", "actor", "database", "table", "request"},
        "render_cell": {"row", "value", "column", "table", "database", "datasette"},
        "startup": {"datasette"},
    }
    hooks = {
        name: set(inspect.signature(function).parameters)
        for name, function in vars(plugin).items()
        if hasattr(function, "datasette_impl")
    }
    assert hooks.keys() == offered.keys()
    for name, parameters in hooks.items():
        assert parameters <= offered[name]


def test_json_is_json(thirty_embedded):
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "datasette",
            thirty_embedded / "photos.db",
            "--get",
            f"{PAGE}.json?q=red&k=1",
        ],
        capture_output=True,
        text=True,
    )
    assert len(json.loads(result.stdout)["results"]) == 1, result.stderr
    assert result.returncode == 0
