"""Searching by an uploaded picture, with the installed Datasette."""

import asyncio
import re

import pytest
from datasette.utils.asgi import Request

from datasette_clip_search.web import upload
from datasette_clip_search.web.upload import UploadRefused, received
from support.commands import run
from support.databases import change
from support.models import make_model
from support.web import PAGE, ROOT_ACTOR, images, links

pytest.importorskip("open_clip")

JSON = f"{PAGE}.json"
BYTES = {"content-type": "application/octet-stream"}


@pytest.fixture
def picture(folder):
    """The bytes of picture 8."""
    return (folder / "pictures" / "picture 07.png").read_bytes()


async def test_finds_the_picture_itself_and_what_sql_finds(folder, photos, picture, connect):
    body = (await photos.client.post(f"{JSON}?k=5", content=picture, headers=BYTES)).json()
    assert body["ok"] is True
    assert body["query"]["k"] == 5
    assert body["results"][0]["id"] == 8
    assert body["results"][0]["score"] == pytest.approx(1, abs=1e-4)
    sql = "select id, score from clip_search(?, 5)"
    expected = connect(folder / "photos.db").execute(sql, [picture]).fetchall()
    assert [each["id"] for each in body["results"]] == [id for id, _ in expected]
    scores = [each["score"] for each in body["results"]]
    assert scores == pytest.approx([score for _, score in expected], abs=1e-3)


async def test_its_address_holds_the_whole_search(photos, picture):
    sent = (await photos.client.post(JSON, content=picture)).json()
    vector = sent["query"]["vector"]
    again = (await photos.client.get(JSON, params={"vector": vector})).json()
    assert again == sent
    page = await photos.client.get(PAGE, params={"vector": vector})
    assert page.status_code == 200
    assert "Like your picture" in page.text
    ids = [each["id"] for each in sent["results"]]
    assert images(page) == [f"{PAGE}/thumbnail/{id}" for id in ids]
    [json_url] = links(page, "JSON")
    assert (await photos.client.get(json_url)).json() == sent
    [more] = links(page, "Show more")
    assert images(await photos.client.get(more))[: len(ids)] == images(page)
    [sql] = links(page, "SQL")
    table = await photos.client.get(sql)
    assert table.status_code == 200
    shown = re.findall(r'class="col-id">(?:<a[^>]*>)?(\d+)<', table.text)
    assert [int(id) for id in shown] == ids


async def test_a_browser_sends_what_its_datasette_asks_for(photos, picture):
    page = await photos.client.get(PAGE)
    [token] = re.findall(r'data-token="([^"]+)"', page.text)
    cookies = {"other": "1", **dict(page.cookies)}
    origin = {"origin": "http://localhost", "sec-fetch-site": "same-origin", **BYTES}
    sent = {**origin, "x-csrftoken": token}
    response = await photos.client.post(JSON, content=picture, headers=sent, cookies=cookies)
    assert response.json()["ok"] is True
    foreign = {**BYTES, "origin": "https://example.org", "sec-fetch-site": "cross-site"}
    response = await photos.client.post(JSON, content=picture, headers=foreign, cookies=cookies)
    assert response.status_code == 403


async def test_the_page_offers_it_after_every_search(photos):
    for asked in ["", "?q=red", "?like=7", "?vector=old", "?like=99"]:
        assert 'type="file"' in (await photos.client.get(PAGE + asked)).text


@pytest.mark.parametrize(
    ("content", "asked", "status", "told"),
    [
        (b"", "", 400, "The body of the request is empty. Expected a picture"),
        (b"no picture", "", 400, "This file can't be used for a search: It is not a picture"),
        (b"no picture", "", 400, "Send a JPEG, PNG, WebP, GIF, AVIF or BMP"),
        (b"%PDF-1.7", "", 400, "It is a PDF document, not a picture"),
        (b"x" * 10_000_001, "", 413, "The picture is larger than the limit of 10,000,000 bytes"),
        (b"x", "?q=red", 400, "Send either a picture, or one of q, like and vector"),
        (b"x", "?k=0", 400, "k is the number of pictures to show, from 1 to 100"),
    ],
)
async def test_refuses_with_a_reason(photos, content, asked, status, told):
    response = await photos.client.post(JSON + asked, content=content, headers=BYTES)
    assert response.status_code == status
    assert response.json()["ok"] is False
    assert told in response.json()["error"]


async def test_a_truncated_picture_is_searched_with_or_refused(photos, picture):
    response = await photos.client.post(JSON, content=picture[: len(picture) // 2])
    assert response.status_code in (200, 400)
    assert response.json()["ok"] is (response.status_code == 200)


async def test_only_the_json_takes_pictures(photos, picture):
    for path in [PAGE, f"{PAGE}/thumbnail/8"]:
        assert (await photos.client.post(path, content=picture)).status_code == 404
    assert (await photos.client.put(JSON, content=picture)).status_code == 404


async def test_forbidden_pictures_are_not_searched(folder, serve, picture):
    config = {"databases": {"photos": {"tables": {"images": {"allow": ROOT_ACTOR}}}}}
    datasette = serve(folder / "photos.db", config=config)
    response = await datasette.client.post(JSON, content=picture, headers=BYTES)
    assert response.status_code == 403
    assert "results" not in response.json()


@pytest.mark.parametrize("vector", ["x", "x.y", "0123456789ab.AAAA", ".", "é.é", "a" * 5000])
async def test_an_invalid_vector_is_refused(photos, vector):
    for path in [PAGE, JSON]:
        response = await photos.client.get(path, params={"vector": vector})
        assert response.status_code == 400
        assert "is not a vector that this page made with tiny" in response.text


async def test_a_vector_of_another_model_is_refused(folder, serve, picture, tmp_path):
    datasette = serve(folder / "photos.db")
    vector = (await datasette.client.post(JSON, content=picture)).json()["query"]["vector"]
    other = make_model(tmp_path / "other", seed=1)
    result = run("embed-images", folder / "photos.db", folder, "--pretrained", other)
    assert result.exit_code == 0, result.output
    change(folder / "photos.db", "update clip_models set is_default = id = 2")
    response = await datasette.client.get(JSON, params={"vector": vector})
    assert response.status_code == 400
    assert (
        f"vector of your picture was made with the model {vector.partition('.')[0]}"
        in response.json()["error"]
    )


async def test_only_one_question_at_a_time(photos, picture):
    vector = (await photos.client.post(JSON, content=picture)).json()["query"]["vector"]
    for other in [{"q": "red"}, {"like": "7"}]:
        response = await photos.client.get(JSON, params={"vector": vector, **other})
        assert response.status_code == 400
        assert "Search by one thing at a time" in response.json()["error"]


def request_of(*messages, **headers):
    """Return a request whose body arrives in ASGI messages; None never arrives."""
    arriving = list(messages)

    async def receive():
        message = arriving.pop(0)
        if message is None:
            await asyncio.Event().wait()
        return message

    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "headers": pairs}, receive)


def part(body, more_body=True):
    return {"type": "http.request", "body": body, "more_body": more_body}


async def refusal(request):
    with pytest.raises(UploadRefused) as caught:
        async with received(request):
            pass
    return caught.value.status


@pytest.fixture
def limits(configured):
    """Set limits that small bodies reach; afterwards no upload may be counted."""
    configured(max_query_image_bytes=100, max_uploads_bytes=200, least_upload_bytes=50)
    yield
    assert upload._arriving == {}
    assert upload._waiting == []


async def test_uploads_are_counted_until_their_search_ends(limits):
    assert await refusal(request_of(part(b"x" * 60), part(b"x" * 60))) == 413
    assert await refusal(request_of(**{"content-length": "101"})) == 413
    assert await refusal(request_of(part(b"x"), {"type": "http.disconnect"})) == 400
    assert await refusal(request_of(part(b"", more_body=False))) == 400
    async with received(request_of(part(b"x" * 40), part(b"y" * 50, more_body=False))) as data:
        assert data == b"x" * 40 + b"y" * 50
        assert await refusal(request_of(part(b"x" * 61, more_body=False))) == 503
    async with received(request_of(part(b"x" * 100, more_body=False))):
        pass


async def test_a_picture_that_does_not_arrive_is_given_up(limits, configured):
    configured(upload_seconds=0.05)
    assert await refusal(request_of(part(b"x" * 60), None)) == 408


async def test_slow_uploads_make_room_for_new_ones(limits):
    first, second = (
        asyncio.create_task(refusal(request_of(part(b"x" * 75), None))) for _ in range(2)
    )
    await asyncio.sleep(0)
    async with received(request_of(part(b"y" * 60, more_body=False))) as data:
        assert data == b"y" * 60
        assert await first == 503
        assert not second.done()
    second.cancel()
    await asyncio.wait([second])


async def test_the_largest_upload_makes_room(limits):
    small, large = (
        asyncio.create_task(refusal(request_of(part(b"x" * size), None))) for size in (50, 100)
    )
    await asyncio.sleep(0.01)
    async with received(request_of(part(b"y" * 60, more_body=False))) as data:
        assert data == b"y" * 60
        assert await large == 503
        assert not small.done()
    small.cancel()
    await asyncio.wait([small])


async def test_small_pictures_count_as_larger_ones(limits):
    def small():
        return request_of(part(b"x", more_body=False))

    async with received(small()), received(small()), received(small()):
        assert await refusal(small()) == 503
    async with received(small()):
        pass
