"""Refusals of the search page: permissions, invalid queries, and hostile text."""

import html

import pytest

from datasette_clip_search.database.schema import KNOWN_MIGRATIONS
from support.commands import run
from support.databases import change
from support.models import make_model
from support.pictures import make_picture
from support.web import ONE, PAGE, ROOT_ACTOR, as_actor, images

pytest.importorskip("open_clip")

DENIED = {
    "instance": {"allow": ROOT_ACTOR},
    "database": {"databases": {"photos": {"allow": ROOT_ACTOR}}},
    "table": {"databases": {"photos": {"tables": {"images": {"allow": ROOT_ACTOR}}}}},
    "nobody's table": {"databases": {"photos": {"tables": {"images": {"allow": False}}}}},
    "table of an open database": {
        "databases": {"photos": {"allow": True, "tables": {"images": {"allow": ROOT_ACTOR}}}}
    },
}


@pytest.mark.parametrize("what", DENIED)
async def test_refused_visitors_learn_nothing(folder, serve, what):
    datasette = serve(folder / "photos.db", config=DENIED[what])
    paths = [
        PAGE,
        f"{PAGE}?q=red",
        f"{PAGE}?like=7",
        f"{PAGE}?k=x",
        f"{PAGE}?model=x",
        f"{PAGE}/thumbnail/7",
    ]
    for path in [*paths, f"{PAGE}/thumbnail/700"]:
        response = await datasette.client.get(path)
        assert response.status_code == 403
        for told in ["picture 0", "tiny", "images", "30 pictures"]:
            assert told not in response.text
    for path in [f"{PAGE}.json?q=red", f"{PAGE}.json?like=7000", f"{PAGE}.json"]:
        response = await datasette.client.get(path)
        assert response.status_code == 403
        assert response.json().keys() == {"ok", "error"}
        assert response.json()["ok"] is False
    index = await datasette.client.get("/-/clip-search")
    assert index.status_code == (403 if what == "instance" else 200)
    assert PAGE not in index.text
    for path in ["/photos", "/photos/images"]:
        assert PAGE not in (await datasette.client.get(path)).text
    if what != "nobody's table":
        for path in paths[:3]:
            response = await datasette.client.get(path, **as_actor(datasette, ROOT_ACTOR))
            assert response.status_code == 200


async def test_a_table_opened_in_a_closed_database(folder, serve):
    config = {"databases": {"photos": {"allow": False, "tables": {"images": {"allow": True}}}}}
    datasette = serve(folder / "photos.db", config=config)
    table = await datasette.client.get("/photos/images")
    assert (await datasette.client.get(PAGE)).status_code == table.status_code


async def test_renamed_table_keeps_its_permission(folder, serve):
    change(folder / "photos.db", 'alter table images rename to "my pictures"')
    config = {"databases": {"photos": {"tables": {"my pictures": {"allow": ROOT_ACTOR}}}}}
    datasette = serve(folder / "photos.db", config=config)
    assert (await datasette.client.get(f"{PAGE}?q=red")).status_code == 403
    page = await datasette.client.get(f"{PAGE}?q=red", **as_actor(datasette, ROOT_ACTOR))
    assert len(images(page)) == 24


@pytest.mark.parametrize("path", ["nope", "nope.json?q=red", "nope/thumbnail/1", "_internal"])
async def test_no_such_database(photos, path):
    response = await photos.client.get(f"/-/clip-search/{path}")
    # 0.65 lists _internal among its databases, and shows it only to root.
    assert response.status_code == (403 if path == "_internal" and not ONE else 404)
    if ".json" in path:
        assert response.json() == {"ok": False, "error": "There is no such database"}


async def test_database_without_pictures_says_what_to_run(folder, serve):
    config = {"databases": {"secret": {"allow": ROOT_ACTOR}}}
    for name in ["empty", "secret"]:
        change(folder / f"{name}.db", "create table t (id integer)")
    datasette = serve(folder / "empty.db", folder / "secret.db", config=config, memory=True)
    for name in ["empty", "_memory"]:
        response = await datasette.client.get(f"/-/clip-search/{name}")
        assert response.status_code == 404
        assert "sqlite-utils embed-images DATABASE FOLDER" in response.text
    response = await datasette.client.get("/-/clip-search/empty.json?q=red")
    assert response.status_code == 404
    assert "sqlite-utils embed-images DATABASE FOLDER" in response.json()["error"]
    assert (await datasette.client.get("/-/clip-search/empty/thumbnail/1")).status_code == 404
    response = await datasette.client.get("/-/clip-search/secret")
    assert response.status_code == 403
    assert "embed-images" not in response.text
    for path in ["/empty", "/_memory"]:
        assert "Search pictures" not in (await datasette.client.get(path)).text


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"q": "x" * 2001}, "The query has 2001 characters and the limit is 2000"),
        ({"q": "red", "k": "0"}, "pictures to show, from 1 to 100. The address has '0'"),
        ({"q": "red", "k": "101"}, "pictures to show, from 1 to 100. The address has '101'"),
        ({"q": "red", "k": "-1"}, "pictures to show, from 1 to 100. The address has '-1'"),
        ({"q": "red", "k": "1e3"}, "pictures to show, from 1 to 100. The address has '1e3'"),
        ({"q": "red", "k": "ten"}, "pictures to show, from 1 to 100. The address has 'ten'"),
        (
            {"q": "red", "k": "9" * 5000},
            "pictures to show, from 1 to 100. The address has '9",
        ),
        ({"q": "red", "k": "٣"}, "pictures to show, from 1 to 100. The address has '٣'"),
        ({"like": "dog"}, "id of a picture, a number such as 12. The address has 'dog'"),
        ({"like": "1.5"}, "id of a picture, a number such as 12. The address has '1.5'"),
        ({"like": "9" * 30}, "id of a picture, a number such as 12. The address has '9999"),
        ({"like": "4000"}, "There is no picture with the id 4000 in images"),
        ({"like": "-1"}, "There is no picture with the id -1 in images"),
        ({"q": "red", "like": "1"}, "Search by one thing at a time: words (q), a picture of this"),
    ],
)
async def test_invalid_questions(photos, asked, says):
    page = await photos.client.get(PAGE, params=asked)
    assert page.status_code == 400
    assert says in html.unescape(page.text)
    assert 'role="search"' in page.text
    response = await photos.client.get(f"{PAGE}.json", params=asked)
    assert response.status_code == 400
    assert response.json()["ok"] is False
    assert says in response.json()["error"]


async def test_moved_checkpoint(tmp_path, serve):
    model = make_model(tmp_path / "weights of mine", seed=5)
    make_picture(tmp_path / "one.png")
    options = ["--pretrained", model, "--text-tower", "none"]
    run("embed-images", tmp_path / "photos.db", tmp_path / "one.png", *options)
    model.rename(tmp_path / "elsewhere")
    client = serve(tmp_path / "photos.db").client
    for path in [f"{PAGE}?q=dog", f"{PAGE}.json?q=dog"]:
        response = await client.get(path)
        assert response.status_code == 400
        assert "Search by words is not available here" in response.text
        assert "For the administrator of this site: The weights of" in response.text
        assert "are not where they were" in response.text
        assert str(tmp_path) not in response.text
    assert (await client.get(f"{PAGE}?like=1")).status_code == 200
    assert (await client.get(PAGE)).status_code == 200


async def test_unexpected_errors_stay_in_the_log(photos, monkeypatch, caplog):
    def search(*_):
        raise RuntimeError("/home/owner/secret")

    monkeypatch.setattr("datasette_clip_search.search.nearest.search", search)
    for path in [f"{PAGE}?q=dog", f"{PAGE}.json?q=dog"]:
        response = await photos.client.get(path)
        assert response.status_code == 500
        assert "The reason is in the log of the server" in response.text
        assert "secret" not in response.text
    assert "/home/owner/secret" in caplog.text


async def test_database_of_a_newer_release(folder, serve):
    sql = "update _sqlite_migrations set name = 'm999_later' where name = ?"
    change(folder / "photos.db", sql, [KNOWN_MIGRATIONS[-1]])
    response = await serve(folder / "photos.db").client.get(PAGE)
    assert response.status_code == 400
    assert "pip install --upgrade datasette-clip-search" in response.text


HTML = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{ 7*7 }}"


@pytest.mark.parametrize("parameter", ["q", "like", "k"])
async def test_html_in_the_query_string_stays_text(photos, parameter):
    for path in [PAGE, f"{PAGE}.json"]:
        response = await photos.client.get(path, params={parameter: HTML})
        if path == PAGE:
            assert "<script>alert" not in response.text
            assert "<img src=x" not in response.text
            assert "<script>alert(1)</script>" in html.unescape(response.text)
        else:
            assert response.headers["content-type"].startswith("application/json")


async def test_html_in_a_path_and_a_model_stays_text(folder, serve):
    change(folder / "photos.db", "update images set path = ? || id, taken = ?", ["a/" + HTML, HTML])
    change(folder / "photos.db", "update clip_models set name = ?", [HTML])
    page = await serve(folder / "photos.db").client.get(f"{PAGE}?like=1")
    assert page.status_code == 200
    assert "<script>alert" not in page.text
    assert "<img src=x" not in page.text
