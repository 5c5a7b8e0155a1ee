"""A published file served alone, by both release series of Datasette."""

import re
import sqlite3
import sys
from collections import OrderedDict
from contextlib import closing
from pathlib import Path

import pytest
import yaml

from datasette_clip_search.database.changes import moment_of
from datasette_clip_search.database.publication import original_url, originals_template
from datasette_clip_search.models.queries import torch_models
from support.commands import run
from support.databases import rows
from support.paths import DEMO_MODEL, DEMO_PICTURES
from support.web import ONE, images, links

PAGE = "/-/clip-search/pictures"
URL = "https://example.org/my photos/{path}".replace(" ", "%20")


@pytest.fixture(scope="module")
def site(demo_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo database as a server folder. For reading only."""
    site = tmp_path_factory.mktemp("published") / "site"
    options = ["--relative-to", DEMO_PICTURES, "--vectors", "fp16", "--originals-url", URL]
    result = run("clip-publish", demo_database, "--to-folder", site, *options)
    assert result.exit_code == 0, result.output
    return site


@pytest.fixture
def client(site, serve):
    metadata = yaml.safe_load((site / "metadata.yaml").read_text("utf-8"))
    # As for --metadata; Datasette 1.0 turns the relevant parts into configuration.
    how = {"metadata" if ONE else "config": metadata}
    return serve(immutables=[str(site / "pictures.db")], **how).client


async def test_pages(client, demo_database):
    page = await client.get(PAGE)
    assert page.status_code == 200
    assert "160 pictures" in page.text
    # torch is installed here, but the weights that it would load were not published.
    assert "This site does not accept other pictures" in page.text
    page = await client.get(f"{PAGE}?like=7")
    assert page.status_code == 200
    assert len(images(page)) == 25
    for source in images(page)[:3]:
        thumbnail = await client.get(source)
        assert thumbnail.headers["content-type"] == "image/jpeg"
        image_id = int(source.rpartition("/")[2])
        sql = "select data from clip_thumbnails where image_id = ?"
        assert rows(demo_database, sql, image_id) == [(thumbnail.content,)]


async def test_answers_match_the_private_database(client, demo_database, connect):
    sql = "select id from clip_search(7, 5)"
    expected = [{"id": image_id} for (image_id,) in connect(demo_database).execute(sql)]
    body = (await client.get(f"{PAGE}.json?like=7&k=5")).json()
    assert [{"id": result["id"]} for result in body["results"]] == expected
    path = "/pictures/-/query.json" if ONE else "/pictures.json"
    answer = await client.get(path, params={"sql": sql, "_shape": "array"})
    assert answer.json() == expected


async def test_searching_with_other_pictures_says_that_it_was_not_published(
    site, connect, monkeypatch
):
    # Another test of this process may have loaded the same model for the database at home.
    monkeypatch.setattr(torch_models._encoders, "_loaded", OrderedDict())
    connection = connect(site / "pictures.db")
    sql = "select clip_vector(data) from clip_thumbnails where image_id = 3"
    with pytest.raises(sqlite3.OperationalError) as caught:
        connection.execute(sql).fetchone()
    assert "not published" in str(caught.value)
    assert "--pretrained" not in str(caught.value)


async def test_only_the_pictures_are_listed(client):
    page = await client.get("/pictures")
    assert page.status_code == 200
    shown = page.text.partition("hidden-tables")[0]
    assert ">images<" in shown
    assert "One row for each picture" in (await client.get("/pictures/images")).text
    assert not re.search(r"<h\d><a href=\"[^\"]*\">clip_", shown)
    body = (await client.get("/pictures.json")).json()
    hidden = {table["name"]: table["hidden"] for table in body["tables"]}
    assert not hidden.pop("images")
    assert all(hidden.values())


async def test_links_to_originals(client):
    [result] = (await client.get(f"{PAGE}.json?like=7&k=1")).json()["results"]
    assert result["original"] == f"https://example.org/my%20photos/{result['path']}"
    page = await client.get(f"{PAGE}?like=7")
    assert len(links(page, "Original")) == 25
    assert result["original"] in links(page, "Original")
    page = await client.get(PAGE)
    assert len(links(page, "Original")) == 12


OURS = [
    "",
    "?q=dog",
    "?like=7",
    "?like=999999",
    "?k=1000&q=dog",
    "?model=other&q=dog",
    "?vector=abc",
    ".json?q=dog",
    ".json",
    ".json?like=x",
    "/thumbnail/1",
    "/thumbnail/999999",
]


@pytest.mark.parametrize("address", OURS)
async def test_reveals_no_place_on_any_machine(client, site, demo_database, address):
    response = await client.get(PAGE + address)
    assert response.status_code in (200, 400, 404)
    for told in (response.content, str(response.headers).encode()):
        for place in (site, demo_database, DEMO_MODEL, DEMO_PICTURES, Path(sys.prefix)):
            assert str(place.parent).encode() not in told
        assert b"Traceback" not in told
    assert not {"last-modified"} & set(response.headers)


ANSWERS = [
    "select * from clip_models",
    "select * from clip_publication",
    "select tower, data from clip_towers where part = 0",
    "select clip_vector(data) from clip_thumbnails where image_id = 3",
    "select * from clip_search('dog', 1, 'other')",
    "select * from clip_search(zeroblob(7))",
    "select sql from sqlite_master",
]


@pytest.mark.parametrize("sql", ANSWERS)
async def test_sql_reveals_no_place_on_any_machine(client, demo_database, sql):
    path = "/pictures/-/query.json" if ONE else "/pictures.json"
    told = (await client.get(path, params={"sql": sql, "_shape": "array"})).text
    for place in (demo_database, DEMO_MODEL.parent, DEMO_PICTURES, Path(sys.prefix)):
        assert str(place.parent) not in told


EVIL = [
    "javascript:alert(1)//{path}",
    "data:text/html,{path}",
    "//example.org/{path}",
    "/photos/{path}",
    "https:///{path}",
    "https://{path}",
    "https://example.org{path}",
    "https://me@example.org/{path}",
    "https://example.org/photos",
    "https://example.org/{path}/{secret}",
    'https://example.org/"><script>/{path}',
    "https://example.org/{path}\n",
    "https://example.org/ {path}",
    "https://[example/{path}",
    "https://example.org:port/{path}",
    "https://example.org/" + "x" * 3000 + "{path}",
]


@pytest.mark.parametrize("template", EVIL)
def test_other_addresses_are_refused(demo_database, tmp_path, template):
    result = run("clip-publish", demo_database, tmp_path / "p.db", "--originals-url", template)
    assert result.exit_code == 1
    assert "--originals-url is " in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("template", [*EVIL, b"https://example.org/{path}", 7, None])
async def test_other_addresses_are_not_shown(site, tmp_path, serve, template):
    """Someone has changed the published file."""
    copy = tmp_path / "pictures.db"
    copy.write_bytes((site / "pictures.db").read_bytes())
    with closing(sqlite3.connect(copy)) as connection, connection:
        connection.execute("update clip_publication set originals_url = ?", (template,))
        assert originals_template(connection) is None
    page = await serve(immutables=[str(copy)]).client.get(f"{PAGE}?like=7")
    assert page.status_code == 200
    assert not links(page, "Original")


async def test_facts_of_other_types_are_shown(site, tmp_path, serve):
    """Someone has changed the published file."""
    copy = tmp_path / "pictures.db"
    copy.write_bytes((site / "pictures.db").read_bytes())
    with closing(sqlite3.connect(copy)) as connection, connection:
        connection.execute("update images set path = x'ff' || id, taken = x'ff', width = '<b>'")
        connection.execute("update images set path = x'00ff' where id = 8")
    client = serve(immutables=[str(copy)]).client
    for end in ("", ".json"):
        answer = await client.get(f"{PAGE}{end}?like=7&k=100")
        assert answer.status_code == 200
        assert "<b>" not in answer.text or end


def test_addresses_of_originals():
    path = "a b/ü?#&\"'<%2e>/c;d.jpg"
    assert original_url("https://example.org/{path}?{id}#{name}", 7, path) == (
        "https://example.org/a%20b/%C3%BC%3F%23%26%22%27%3C%252e%3E/c%3Bd.jpg?7#c%3Bd.jpg"
    )
    assert original_url("https://example.org/{path}", 1, "{id}.jpg").endswith("/%7Bid%7D.jpg")


FILES = {"Dockerfile", "README.txt", "metadata.yaml", "pictures.db", "requirements.txt"}


def test_folder(site, tmp_path, demo_database):
    assert {file.name for file in site.iterdir()} == {*FILES, ".dockerignore"}
    assert [path.name for path in site.parent.iterdir()] == ["site"]
    for file in site.iterdir():
        assert str(demo_database.parent).encode() not in file.read_bytes()
    result = run("clip-publish", demo_database, "--to-folder", tmp_path / "missing" / "site")
    assert result.exit_code == 1
    assert "There is no folder" in result.stderr


def test_folder_is_rewritten(demo_database, tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    assert run("clip-publish", demo_database, "--to-folder", site).exit_code == 0
    (site / "fly.toml").write_text("mine")
    (site / "Dockerfile").write_text("mine, too")
    (site / "requirements.txt").write_text(
        (site / "requirements.txt").read_text().replace("datasette-clip-search", "outdated")
    )
    result = run("clip-publish", demo_database, "--to-folder", site, "--where", "id < 4")
    assert result.exit_code == 0, result.output
    assert rows(site / "pictures.db", "select count(*) from images") == [(3,)]
    assert (site / "fly.toml").read_text() == "mine"
    assert (site / "Dockerfile").read_text() == "mine, too"
    assert "outdated" not in (site / "requirements.txt").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


def test_folder_of_many_pictures_has_an_index(demo_database, tmp_path, configured):
    from datasette_clip_search.database.index import open_index
    from datasette_clip_search.database.model import models

    configured(index_at_least=100)
    assert run("clip-publish", demo_database, "--to-folder", tmp_path / "site").exit_code == 0
    database, file = (tmp_path / "site" / f"pictures.db{end}" for end in ("", ".clip-1.faiss"))
    with closing(sqlite3.connect(database)) as connection:
        [model] = models(connection)
        _, facts = open_index(file, model.fingerprint, model.dimension)
        assert (facts.count, facts.moment) == (160, moment_of(connection, model))
    # An index of the previous database does no harm, and is removed.
    options = ["--to-folder", tmp_path / "site", "--where", "id < 50"]
    assert run("clip-publish", demo_database, *options).exit_code == 0
    assert not file.exists()


@pytest.mark.parametrize("held", ["notes.txt", "pictures.db", "Dockerfile"])
def test_folder_of_other_things_is_refused(demo_database, tmp_path, held):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / held).write_text("mine")
    options = [[], ["--replace"]]
    for option in options:
        result = run("clip-publish", demo_database, "--to-folder", tmp_path / "site", *option)
        assert result.exit_code == 1
        assert f"contains {held}, and was not written by clip-publish" in result.stderr
        assert [path.name for path in (tmp_path / "site").iterdir()] == [held]
    result = run("clip-publish", demo_database, "--to-folder", tmp_path / "site" / held)
    assert "is a file. Expected a folder" in result.stderr
