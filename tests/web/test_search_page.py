"""The search page and its JSON, with the installed Datasette."""

import csv
import html
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from datasette_clip_search import web as plugin
from datasette_clip_search.common.config import CONFIG
from datasette_clip_search.common.errors import ClipSearchError
from support.commands import run
from support.databases import change
from support.paths import DEMO_MODEL, DEMO_PICTURES
from support.pictures import make_picture
from support.web import ONE, PAGE, ROOT_ACTOR, as_actor, images, links

pytest.importorskip("open_clip")


async def test_starts_with_the_newest_pictures(photos):
    response = await photos.client.get(PAGE)
    assert response.status_code == 200
    assert "30 pictures, embedded by tiny" in response.text
    assert images(response) == [f"{PAGE}/thumbnail/{id}" for id in range(30, 18, -1)]
    assert links(response, "More like this")[0] == f"{PAGE}?like=30"
    assert links(response, "photos") == ["/photos"]
    assert not links(response, "SQL")


async def test_style_sheet_is_served(photos):
    page = await photos.client.get(PAGE)
    [css] = re.findall(r'href="([^"]*clip-search.css)"', page.text)
    response = await photos.client.get(css)
    assert response.status_code == 200
    assert "prefers-color-scheme: dark" in response.text


def test_page_needs_no_inline_code():
    """A Content-Security-Policy without 'unsafe-inline' must not break it."""
    templates = list(Path(plugin.__file__).parent.glob("templates/*.html"))
    assert len(templates) == 3
    for template in templates:
        text = template.read_text()
        assert not re.search(
            r"<script(?! src=[^>]*></script>)|<style|\sstyle=|\son[a-z]+=|\|\s*safe", text
        )


@pytest.mark.parametrize(
    "asked", ["q=red+and+blue", "like=7", "q=%F0%9F%90%95&k=3", "like=7&k=100"]
)
async def test_page_and_json_show_what_sql_finds(folder, photos, connect, asked):
    parameters = {name: value for name, [value] in parse_qs(asked).items()}
    k = int(parameters.pop("k", CONFIG.results_per_page))
    [[name, value]] = parameters.items()
    query = int(value) if name == "like" else value
    sql = "select rank, id, path, score, z_score from clip_search(?, ?)"
    expected = connect(folder / "photos.db").execute(sql, [query, k]).fetchall()

    body = (await photos.client.get(f"{PAGE}.json?{asked}")).json()
    assert body["ok"] is True
    assert body["query"] == {name: query, "k": k}
    assert body["model"] == "tiny"
    found = [
        tuple(result[key] for key in ("rank", "id", "path", "score", "z_score"))
        for result in body["results"]
    ]
    assert found == expected
    assert body["results"][0].keys() == {
        "rank", "id", "path", "score", "z_score", "width", "height", "taken", "thumbnail"
    }  # fmt: skip

    page = await photos.client.get(f"{PAGE}?{asked}")
    assert page.status_code == 200
    shown = images(page)[1:] if name == "like" else images(page)
    assert shown == [f"{PAGE}/thumbnail/{id}" for _, id, *_ in expected]
    assert re.findall(r'clip-score"[^>]*>([^<]*)<', page.text) == [
        f"{score:.3f} · {round(z_score, 1) + 0:.1f}\N{GREEK SMALL LETTER SIGMA}"
        for *_, score, z_score in expected
    ]
    assert f'alt="{expected[0][2].rpartition("/")[2]}"' in page.text


async def test_links_of_a_result_lead_somewhere(photos):
    page = await photos.client.get(f"{PAGE}?q=red")
    row = re.search(r'class="clip-picture" href="([^"]*)"', page.text)[1]
    for href in [row, images(page)[0], *links(page, "More like this"), *links(page, "JSON")]:
        assert (await photos.client.get(html.unescape(href))).status_code == 200, href


async def test_show_more_doubles_k_up_to_all(photos):
    page = await photos.client.get(f"{PAGE}?q=red")
    [more] = links(page, "Show more")
    assert more == f"{PAGE}?q=red&k=48"
    page = await photos.client.get(more)
    assert len(images(page)) == 30
    assert not links(page, "Show more")
    assert 'type="hidden" name="k" value="48"' in page.text


@pytest.mark.parametrize("asked", ["q=red+%26+blue%27s", "like=7", "like=7&k=5"])
async def test_sql_link_gives_the_same_rows(photos, asked):
    page = await photos.client.get(f"{PAGE}?{asked}")
    [url] = links(page, "SQL")
    parts = urlsplit(url)
    assert parts.path == ("/photos/-/query" if ONE else "/photos")
    parameters = parse_qs(parts.query)
    asked_for = ":q" if "q=" in asked else "cast(:like as integer)"
    k = 5 if "k=5" in asked else 24
    assert parameters.pop("sql") == [
        f"select rank, id, path, score from clip_search({asked_for}, {k})"
    ]
    assert (await photos.client.get(url)).status_code == 200
    json_url = f"{parts.path}.json?{parts.query}&_shape=array"
    expected = (await photos.client.get(f"{PAGE}.json?{asked}")).json()["results"]
    assert [row["id"] for row in (await photos.client.get(json_url)).json()] == [
        result["id"] for result in expected
    ]


async def test_no_sql_link_for_those_who_may_not_execute_sql(folder, serve):
    datasette = serve(folder / "photos.db", config={"allow_sql": ROOT_ACTOR})
    assert not links(await datasette.client.get(f"{PAGE}?q=red"), "SQL")
    page = await datasette.client.get(f"{PAGE}?q=red", **as_actor(datasette, ROOT_ACTOR))
    assert links(page, "SQL")


@pytest.mark.parametrize("settings", [{"base_url": "/prefix/"}, {"num_sql_threads": 0}])
async def test_settings(folder, serve, settings):
    datasette = serve(folder / "photos.db", settings=settings)
    page = await datasette.client.get(f"{PAGE}?like=3")
    prefix = settings.get("base_url", "/").rstrip("/")
    assert page.status_code == 200
    assert images(page)
    for href in [*images(page), *links(page, "JSON"), *links(page, "SQL")]:
        assert href.startswith(f"{prefix}/")
    assert (await datasette.client.get(PAGE + "/thumbnail/3")).status_code == 200


async def test_immutable_without_index_file_answers_the_same(folder, serve, photos):
    expected = (await photos.client.get(f"{PAGE}.json?q=red&k=30")).json()
    for index in folder.glob("*.faiss"):
        index.unlink()
    datasette = serve(immutables=[str(folder / "photos.db")])
    answer = (await datasette.client.get(f"{PAGE}.json?q=red&k=30")).json()
    assert [result["id"] for result in answer["results"]] == [
        result["id"] for result in expected["results"]
    ]
    assert answer["results"][0]["score"] == pytest.approx(expected["results"][0]["score"])


async def test_changes_by_another_process_are_in_the_next_answer(folder, photos):
    """The other process embeds, deletes and rebuilds the index while this Datasette serves."""
    database = folder / "photos.db"

    async def found():
        answer = (await photos.client.get(f"{PAGE}.json?like=7&k=100")).json()
        return {result["path"] for result in answer["results"]}

    before = await found()
    assert len(before) == 29
    make_picture(folder / "pictures" / "new.png", 200)
    command = [sys.executable, "-m", "sqlite_utils", "embed-images", database, folder]
    subprocess.run(command, check=True, capture_output=True)
    assert await found() == {*before, "pictures/new.png"}
    gone = sorted(before)[0]
    (folder / gone).unlink()
    subprocess.run([*command, "--prune"], check=True, capture_output=True)
    assert await found() == {*before, "pictures/new.png"} - {gone}
    change(database, "delete from images where path = 'pictures/new.png'")
    assert await found() == before - {gone}
    command = [sys.executable, "-m", "sqlite_utils", "clip-index", database]
    subprocess.run(command, check=True, capture_output=True)
    assert await found() == before - {gone}
    [index] = folder.glob("*.faiss")
    index.write_bytes(index.read_bytes()[:-1])
    assert await found() == before - {gone}


async def test_database_in_memory_answers_the_same(folder, serve, photos):
    expected = (await photos.client.get(f"{PAGE}.json?like=7")).json()["results"]
    datasette = serve()
    memory = datasette.add_memory_database("copied")

    def copy(connection):
        source = sqlite3.connect(folder / "photos.db")
        source.backup(connection)
        source.close()

    await memory.execute_write_fn(copy, **({"transaction": False} if ONE else {}))
    answer = (await datasette.client.get("/-/clip-search/copied.json?like=7")).json()
    assert [result["id"] for result in answer["results"]] == [result["id"] for result in expected]


@pytest.mark.parametrize("name", ["odd näme.v2", "a ~c+d&e=f", "🐕", "photos.json"])
async def test_odd_database_names(folder, serve, name):
    deep = folder / "deep" / "er"
    deep.mkdir(parents=True)
    (folder / "photos.db").rename(deep / f"{name}.db")
    datasette = serve(deep / f"{name}.db")
    database = await datasette.client.get(datasette.urls.database(name))
    [url] = links(database, "Search pictures") or re.findall(
        r'href="(/-/clip-s[^"]*)"', database.text
    )
    page = await datasette.client.get(f"{url}?q=red")
    assert page.status_code == 200
    for href in [
        images(page)[0],
        links(page, "JSON")[0],
        links(page, "SQL")[0],
        *links(page, name),
    ]:
        assert (await datasette.client.get(href)).status_code == 200, href


async def test_index_goes_to_the_only_database(photos):
    response = await photos.client.get("/-/clip-search?q=red")
    assert response.status_code == 302
    assert response.headers["location"] == f"{PAGE}?q=red"


async def test_index_lists_databases(folder, serve):
    shutil.copy(folder / "photos.db", folder / "secret.db")
    shutil.copy(folder / "photos.db", folder / "more.db")
    config = {"databases": {"secret": {"allow": ROOT_ACTOR}}}
    datasette = serve(folder / "photos.db", folder / "secret.db", folder / "more.db", config=config)
    page = await datasette.client.get("/-/clip-search")
    assert links(page, "photos") == [PAGE]
    assert links(page, "more") == ["/-/clip-search/more"]
    assert "secret" not in page.text
    page = await datasette.client.get("/-/clip-search", **as_actor(datasette, ROOT_ACTOR))
    assert links(page, "secret") == ["/-/clip-search/secret"]


async def test_index_without_databases_says_what_to_run(serve):
    page = await serve(memory=True).client.get("/-/clip-search")
    assert page.status_code == 200
    assert "sqlite-utils embed-images" in page.text


WORDS = {
    "NUL": "red\0blue",
    "emoji": "🐕‍🦺🏖️",
    "right to left": "כלב על החוף \u202e",
    "odd spaces": "\u3000dog\u00a0",
    "percent": "100% %s %00",
    "quotes": "'; drop table images; --",
    "like a path": "/etc/passwd",
    "like an id": "7",
    "long": "dog " * 500,
    "not a character": "\ufffe\uffff",
}


@pytest.mark.parametrize("name", WORDS)
async def test_any_words_can_be_searched_for(photos, name):
    page = await photos.client.get(PAGE, params={"q": WORDS[name]})
    assert page.status_code == 200
    assert len(images(page)) == 24
    body = (await photos.client.get(f"{PAGE}.json", params={"q": WORDS[name]})).json()
    assert body["query"]["q"] == WORDS[name]


@pytest.mark.parametrize("asked", ["", "?q=", "?q=+%09", "?like="])
async def test_an_empty_box_is_the_start_page(photos, asked):
    page = await photos.client.get(PAGE + asked)
    assert page.status_code == 200
    assert "Newest" in page.text
    response = await photos.client.get(f"{PAGE}.json{asked}")
    assert response.status_code == 400
    told = response.json()["error"]
    assert told.startswith(
        "Say what to search for: q=WORDS, like=ID for a picture of this database, or a"
    )


async def test_another_model_can_be_chosen(folder, serve, connect, other_model):
    """Every link of the page keeps it."""
    assert "<select" not in (await serve(folder / "photos.db").client.get(PAGE)).text
    run("embed-images", folder / "photos.db", folder, "--pretrained", other_model)
    client = serve(folder / "photos.db").client
    page = await client.get(f"{PAGE}?like=7&model=2&k=5")
    assert re.search(r'<option value="2" selected>', page.text)
    sql = "select id from clip_search(7, 5, ?)"
    own, other = (
        [id for (id,) in connect(folder / "photos.db").execute(sql, [model])] for model in (1, 2)
    )
    assert own != other
    assert images(page)[1:] == [f"{PAGE}/thumbnail/{id}" for id in other]
    assert links(page, "More like this")[0] == f"{PAGE}?like={other[0]}&model=2"
    assert links(page, "Show more") == [f"{PAGE}?like=7&model=2&k=10"]
    [json_url] = links(page, "JSON")
    body = (await client.get(json_url)).json()
    assert [each["id"] for each in body["results"]] == other
    assert body["query"] == {"like": 7, "model": "2", "k": 5}
    [sql_url] = links(page, "SQL")
    assert parse_qs(urlsplit(sql_url).query)["model"] == ["2"]
    assert (await client.get(sql_url)).text.count("pictures/picture") >= 5
    default = await client.get(f"{PAGE}?like=7&model=&k=5")
    assert images(default)[1:] == [f"{PAGE}/thumbnail/{id}" for id in own]
    picture = (folder / "pictures" / "picture 06.png").read_bytes()
    sent = (await client.post(f"{PAGE}.json?model=2&k=1", content=picture)).json()
    assert [each["id"] for each in sent["results"]] == [7]
    unknown = await client.get(f"{PAGE}.json?like=7&model=third")
    assert unknown.status_code == 400
    assert "There is no model 'third' in this database" in unknown.json()["error"]


async def test_only_picture(tmp_path, tiny_model, serve):
    make_picture(tmp_path / "one.png")
    run("embed-images", tmp_path / "photos.db", tmp_path / "one.png", "--pretrained", tiny_model)
    page = await serve(tmp_path / "photos.db").client.get(f"{PAGE}?like=1")
    assert page.status_code == 200
    assert "There is no other picture here" in page.text


async def test_pictures_embedded_later_are_found(folder, photos, tiny_model):
    assert (await photos.client.get(f"{PAGE}.json?q=red&k=100")).json()["results"][29:30]
    make_picture(folder / "late.png", 99)
    run("embed-images", folder / "photos.db", folder / "late.png", "--pretrained", tiny_model)
    results = (await photos.client.get(f"{PAGE}.json?q=red&k=100")).json()["results"]
    assert len(results) == 31


async def test_searches_stay_off_the_sql_threads(photos, monkeypatch):
    threads = []

    def search(*_):
        threads.append(threading.current_thread().name)
        raise ClipSearchError

    monkeypatch.setattr("datasette_clip_search.search.nearest.search", search)
    await photos.client.get(f"{PAGE}?q=dog")
    assert [name.rpartition("_")[0] for name in threads] == ["clip-search"]


@pytest.mark.skipif(not DEMO_MODEL.is_dir(), reason="demo/model is not there")
async def test_words_find_what_they_mean(demo_database, serve):
    with open(DEMO_PICTURES.with_suffix(".csv"), newline="") as file:
        truth = {row["file"]: row for row in csv.DictReader(file)}
    client = serve(demo_database).client
    body = (await client.get("/-/clip-search/demo.json?q=dog+on+beach&k=3")).json()
    found = [truth[result["path"].partition("pictures/")[2]] for result in body["results"]]
    assert [(row["thing"], row["place"]) for row in found] == [("dog", "beach")] * 3
