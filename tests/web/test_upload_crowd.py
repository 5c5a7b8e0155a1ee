"""Searching by a picture while others upload slow pictures, or very many."""

import asyncio
import io
import random
from dataclasses import replace

import pytest
from PIL import Image

from datasette_clip_search.common.config import CONFIG, Config
from datasette_clip_search.common.errors import TooBusy
from datasette_clip_search.pictures.cost import expected_seconds
from datasette_clip_search.pictures.processes.pool import Settings
from datasette_clip_search.search import query_decoder
from datasette_clip_search.web import upload
from support import bombs
from support.commands import run
from support.pictures import make_picture
from support.web import PAGE

pytest.importorskip("open_clip")

JSON = f"{PAGE}.json"
SETTINGS = Settings(None, 50, thumbnails=False, formats=("JPEG", "PNG"), seconds=100)


@pytest.fixture(scope="module")
def database(tmp_path_factory, tiny_model):
    folder = tmp_path_factory.mktemp("crowd")
    make_picture(folder / "1.png", 1)
    result = run("embed-images", folder / "photos.db", folder, "--pretrained", tiny_model)
    assert result.exit_code == 0, result.output
    return folder / "photos.db"


@pytest.fixture(autouse=True)
def patient(configured, monkeypatch):
    """Raise the time limit, for busy machines; slow pictures still count as before."""
    usual = CONFIG.query_decode_seconds
    monkeypatch.setattr(query_decoder, "_longest", lambda limit: min(limit, usual))
    configured(query_decode_seconds=100)
    yield
    query_decoder.close()


@pytest.fixture
def decoder():
    """A decoder with two lanes for one test."""
    decoder = query_decoder.QueryDecoder()
    submitted = []
    submit = decoder.submit

    def submitting(*arguments):
        submitted.append(submit(*arguments))
        return submitted[-1]

    decoder.submit = submitting
    yield decoder
    for picture in submitted:
        decoder.give_up(picture)
    decoder._end()


def picture(size=(64, 48), seed=0, format="JPEG", **options):
    file = io.BytesIO()
    noise = Image.frombytes("RGB", (16, 16), random.Random(seed).randbytes(768))
    noise.resize(size).save(file, format, **options)
    return file.getvalue()


def is_current(decoder, lane, expected):
    """Wait until a lane works on a picture."""
    with decoder._changed:
        return decoder._changed.wait_for(lambda: lane.current is expected, 100)


def test_quick_ones_are_decoded_while_slow_ones_wait(decoder):
    bomb = bombs.scans(3000)
    slow = [decoder.submit(bomb + bytes([n]), SETTINGS, "them") for n in range(4)]
    assert is_current(decoder, decoder._slow, slow[0])
    for n in range(3):
        outcome = decoder.submit(picture(seed=n), SETTINGS, "them").outcome.result(100)
        assert (outcome.width, outcome.height) == (64, 48)
    assert decoder._slow.current is slow[0]
    assert not any(each.outcome.done() for each in slow)


def test_a_picture_that_is_slower_than_expected_makes_room(decoder, monkeypatch, configured):
    """It moves to the slow lane, and the quick lane serves the next picture at once."""
    configured(quick_decode_seconds=0.2)
    monkeypatch.setattr(query_decoder, "expected_seconds", lambda data: 0)
    bomb = bombs.scans(3000)
    slow = decoder.submit(bomb, SETTINGS, "them")
    assert is_current(decoder, decoder._slow, slow)
    assert decoder.submit(picture(), SETTINGS, "them").outcome.result(100).width == 64
    assert not slow.outcome.done()
    # The same picture goes straight to the slow lane the next time.
    again = decoder.submit(bomb, SETTINGS, "them")
    assert again in decoder._slow.waiting


def test_a_picture_stopped_at_the_limit_is_refused_at_once(decoder, configured):
    short = replace(SETTINGS, seconds=0.1)
    bomb = bombs.scans(3000)
    first = decoder.submit(bomb, short, "them").outcome.result(100)
    process = decoder._slow.decoder._process
    second = decoder.submit(bomb, short, "them")
    assert second.outcome.done()
    assert second.outcome.result() == first
    assert first.too_slow
    assert first.reason == "Decoding it took longer than 0.1 seconds and was stopped"
    assert decoder._slow.decoder._process is process
    # The verdict holds only for a while, and not for a longer time limit.
    configured(slow_pictures_refused_seconds=0)
    assert decoder.submit(bomb, short, "them").outcome.result(100) == first
    longer = decoder.submit(bomb, SETTINGS, "them")
    assert is_current(decoder, decoder._slow, longer)


def test_quick_and_fair_pictures_go_first(decoder, monkeypatch, configured):
    bomb = bombs.scans(3000)
    first = decoder.submit(bomb, SETTINGS, "them")
    assert is_current(decoder, decoder._slow, first)
    seconds = {}
    monkeypatch.setattr(query_decoder, "expected_seconds", lambda data: seconds[data])
    configured(max_slow_seconds_waiting=100)
    for number, (sender, expected) in enumerate(
        [("them", 2), ("them", 0.9), ("them", 0.9), ("them", 0.9), ("her", 0.9), ("her", 0.6)]
    ):
        data = bomb + bytes([number])
        seconds[data] = expected
        decoder.submit(data, SETTINGS, sender).number = number
    waiting = [each.number for each in sorted(decoder._slow.waiting)]
    # Picture 4 came after three of the same cost, but it is the first of its sender.
    assert waiting[0] == 5
    assert waiting[-1] == 0
    assert waiting.index(4) < waiting.index(3)


def test_where_too_many_slow_ones_wait_the_slowest_is_refused(decoder, monkeypatch, configured):
    bomb = bombs.scans(3000)
    first = decoder.submit(bomb, SETTINGS, "them")
    assert is_current(decoder, decoder._slow, first)
    configured(max_slow_seconds_waiting=3.5)
    slowest = [decoder.submit(bomb + bytes([n]), SETTINGS, "them") for n in range(3)]
    assert isinstance(slowest[2].outcome.exception(100), TooBusy)
    monkeypatch.setattr(query_decoder, "expected_seconds", lambda data: 0.6)
    better = decoder.submit(bomb + b"better", SETTINGS, "them")
    assert better in decoder._slow.waiting
    assert isinstance(slowest[1].outcome.exception(100), TooBusy)
    configured(max_slow_seconds_waiting=20, max_slow_bytes_waiting=10)
    assert isinstance(decoder.submit(bomb + b"x", SETTINGS, "x").outcome.exception(100), TooBusy)


def test_expected_seconds():
    """The estimates are in the right order, and on the right side of the quick lane's limit."""
    quick = [
        picture((500, 375)),
        picture((500, 375), format="PNG"),
        picture((2000, 1500), format="WEBP"),
        picture((4000, 3000)),
        picture((4000, 3000), progressive=True),
        b"",
        b"\xff\xd8",
        b"\xff\xd8\xff",
        b"\x89PNG\r\n\x1a\n",
        b"no picture",
    ]
    slow = [bombs.scans(), bombs.scans(60), bombs.exif()]
    assert max(map(expected_seconds, quick)) < CONFIG.quick_decode_seconds
    assert min(map(expected_seconds, slow)) > Config().query_decode_seconds
    assert expected_seconds(picture((4000, 3000))) > expected_seconds(picture((500, 375)))


def test_slow_pictures_in_sql_do_not_hold_up_others(database, connect, decoder, monkeypatch):
    """They end with their statements, and an upload is decoded in the meantime."""
    connection = connect(database)
    monkeypatch.setattr(query_decoder, "decode_query_picture", decoder.decode)
    decoded = []

    def is_to_end():
        if decoder._slow.current and not decoded:
            decoded.append(decoder.submit(picture(), SETTINGS, "her").outcome.result(100))
        return bool(decoded)

    connection.set_progress_handler(is_to_end, 1000)
    with pytest.raises(Exception, match=r"^interrupted$"):
        connection.execute("select clip_vector(?)", [bombs.scans(3000)])
    assert decoded[0].width == 64


async def test_a_hundred_tiny_pictures_at_once_are_served(photos):
    tiny = [picture((8, 6), seed) for seed in range(100)]
    answers = await asyncio.gather(*(photos.client.post(JSON, content=data) for data in tiny))
    assert [answer.status_code for answer in answers] == [200] * 100
    assert len({answer.json()["query"]["vector"] for answer in answers}) > 50
    assert upload._waiting == []


async def test_honest_pictures_among_slow_ones(photos, configured):
    """Twelve clients send slow pictures, and the decoder is still busy when others are answered."""
    configured(slow_pictures_refused_seconds=0)
    bomb = bombs.scans(3000)
    slow = [
        asyncio.create_task(photos.client.post(JSON, content=bomb + bytes([n]))) for n in range(12)
    ]
    shared = query_decoder._shared
    while shared._slow.current is None:
        await asyncio.sleep(0.01)
    try:
        for seed in range(27):
            answer = await photos.client.post(JSON, content=picture((640, 480), seed))
            assert answer.status_code == 200
        assert shared._slow.current is not None
        refused = [task.result() for task in slow if task.done()]
        for answer in refused:
            assert answer.status_code == 503
            assert "Too many slow pictures" in answer.json()["error"]
        assert 0 < len(refused) < 12
    finally:
        for task in slow:
            task.cancel()
        await asyncio.gather(*slow, return_exceptions=True)
    # Clients that leave free the decoder.
    while shared._slow.current or shared._slow.waiting:
        await asyncio.sleep(0.01)


async def test_pictures_of_clients_who_leave_are_not_decoded(photos, monkeypatch):
    submitted = []
    submit = query_decoder.submit

    def submitting(*arguments):
        submitted.append(submit(*arguments))
        return submitted[-1]

    monkeypatch.setattr(query_decoder, "submit", submitting)
    task = asyncio.create_task(photos.client.post(JSON, content=bombs.scans(3000)))
    while not submitted:
        await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task])
    async with asyncio.timeout(60):
        while not submitted[0].is_given_up:
            await asyncio.sleep(0.01)
