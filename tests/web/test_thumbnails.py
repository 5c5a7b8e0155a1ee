"""Thumbnails: serving, caching, refusing."""

import re
import sqlite3
from contextlib import closing

import pytest

from support.databases import change, rows
from support.web import PAGE, images

pytest.importorskip("open_clip")


async def test_thumbnail(folder, photos):
    url = f"{PAGE}/thumbnail/7"
    response = await photos.client.get(url)
    assert response.status_code == 200
    assert (
        response.content
        == rows(folder / "photos.db", "select data from clip_thumbnails where image_id = 7")[0][0]
    )
    assert response.headers["content-type"] == "image/jpeg"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["cache-control"] == "private, max-age=3600"
    again = await photos.client.get(url, headers={"If-None-Match": response.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    other = await photos.client.get(url, headers={"If-None-Match": '"other"'})
    assert other.status_code == 200
    head = await photos.client.request("HEAD", url)
    assert head.status_code == 200
    assert head.headers["etag"] == response.headers["etag"]


@pytest.mark.parametrize("id", ["0", "31", "999999999999999999", "x", "7.webp", "", "-1", "7/8"])
async def test_no_such_thumbnail(photos, id):
    response = await photos.client.get(f"{PAGE}/thumbnail/{id}")
    assert response.status_code == (302 if id == "" else 404)


@pytest.mark.parametrize(
    ("format", "data"),
    [("svg+xml", b"<svg onload='alert(1)'/>"), ("html", b"<script>"), ("webp", "text"), ("", b"")],
)
async def test_only_pictures_are_served_as_thumbnails(folder, serve, format, data):
    change(folder / "photos.db", "update clip_thumbnails set format = ?, data = ?", [format, data])
    response = await serve(folder / "photos.db").client.get(f"{PAGE}/thumbnail/7")
    assert response.status_code == 404


CELL = re.compile(r'<a href="([^"]*)" title="More like this"><img src="([^"]*)"')


async def test_pictures_are_seen_in_their_table_and_on_their_rows(folder, serve):
    with closing(sqlite3.connect(folder / "photos.db")) as connection, connection:
        connection.execute("create table files (id integer primary key, path, content_hash)")
        connection.execute("insert into files values (7, 'a', 'b')")
        connection.execute("delete from clip_thumbnails where image_id = 8")
        connection.execute("update images set path = '<b>.png' where id = 7")
    client = serve(folder / "photos.db").client
    page = await client.get("/photos/images")
    assert page.status_code == 200
    assert len(CELL.findall(page.text)) == 29
    page = await client.get("/photos/images/7")
    [(like, source)] = CELL.findall(page.text)
    assert source == f"{PAGE}/thumbnail/7"
    assert (await client.get(source)).status_code == 200
    assert like == f"{PAGE}?like=7"
    assert "&lt;b&gt;.png" in page.text
    assert "<b>" not in page.text
    for other in ("/photos/images/8", "/photos/files", "/photos?sql=select+*+from+images"):
        page = await client.get(other, follow_redirects=True)
        assert page.status_code == 200
        assert not CELL.findall(page.text)
    body = (await client.get("/photos/images/7.json?_shape=array")).json()
    assert (body if isinstance(body, list) else body["rows"])[0]["path"] == "<b>.png"


async def test_picture_without_thumbnail(folder, serve):
    change(folder / "photos.db", "delete from clip_thumbnails where image_id = 7")
    datasette = serve(folder / "photos.db")
    page = await datasette.client.get(f"{PAGE}?q=red&k=30")
    assert len(images(page)) == 29
    results = (await datasette.client.get(f"{PAGE}.json?q=red&k=30")).json()["results"]
    assert [result["id"] for result in results if result["thumbnail"] is None] == [7]
