"""Query pictures that take too long, crash their decoder, or come all at once."""

import io
import os
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from datasette_clip_search.common.config import CONFIG
from datasette_clip_search.pictures.processes.pool import Settings
from datasette_clip_search.search import query_decoder
from support import bombs
from support.commands import run
from support.paths import TESTS
from support.pictures import make_picture
from support.processes import assert_ended, decoding_processes, is_running

SQL = "select clip_vector(?)"
TOO_SLOW = "The query picture takes longer than 0.3 seconds to decode"


@pytest.fixture(scope="module")
def database(tmp_path_factory, tiny_model):
    folder = tmp_path_factory.mktemp("decoder")
    for seed in range(3):
        make_picture(folder / f"{seed}.png", seed)
    result = run("embed-images", folder / "photos.db", folder, "--pretrained", tiny_model)
    assert result.exit_code == 0, result.output
    return folder / "photos.db"


@pytest.fixture(autouse=True)
def patient(configured):
    """Let nothing take too long on a busy machine, and start every test without a process."""
    # Both fifty times the default, so that as many slow pictures may wait as ever.
    configured(query_decode_seconds=100, max_slow_seconds_waiting=1000)
    query_decoder.close()
    yield
    query_decoder.close()


def assert_finds_itself(connection, database, seed=1):
    data = (database.parent / f"{seed}.png").read_bytes()
    sql = "select path, score from clip_search(?, 1)"
    assert connection.execute(sql, [data]).fetchall() == [(f"{seed}.png", pytest.approx(1))]


def the_process() -> int:
    """Return the id of the process for quick pictures."""
    process = query_decoder._shared._quick.decoder._process.pid
    assert process in decoding_processes(os.getpid())
    return process


def slow_process():
    """Return the process for slow pictures."""
    return query_decoder._shared._slow.decoder._process


@pytest.mark.parametrize("bomb", [bombs.scans, bombs.exif])
def test_bombs_are_stopped_and_the_next_picture_is_decoded(database, connect, configured, bomb):
    connection, data = connect(database), bomb()
    assert len(data) < CONFIG.max_query_image_bytes
    assert_finds_itself(connection, database)
    before = the_process()
    for sql in (SQL, "select * from clip_search(?)"):
        configured(query_decode_seconds=0.3)
        with pytest.raises(sqlite3.OperationalError, match=TOO_SLOW):
            connection.execute(sql, [data])
    configured(query_decode_seconds=100)
    assert_ended({slow_process().pid})
    assert_finds_itself(connection, database)
    # The process for quick pictures was still there for them.
    assert the_process() == before


def test_interrupt_ends_the_statement_and_the_decoding(database, connect):
    connection = connect(database)
    began = []

    def is_decoding():
        began.append(query_decoder._shared._slow.current is not None)
        # A few checks later, when the bomb is being decoded.
        return sum(began) > 5

    connection.set_progress_handler(is_decoding, 1000)
    with pytest.raises(sqlite3.OperationalError, match=r"^interrupted$"):
        connection.execute(SQL, [bombs.scans()])
    connection.set_progress_handler(None, 0)
    assert_ended({slow_process().pid})
    assert_finds_itself(connection, database)


def test_interrupt_while_waiting_for_a_turn(database, connect):
    """It ends only its own statement."""
    working, waiting = (connect(database, check_same_thread=False) for _ in range(2))
    with ThreadPoolExecutor(1) as threads:
        bombed = threads.submit(working.execute, SQL, [bombs.scans()])
        while query_decoder._shared._slow.current is None:
            assert not bombed.done()
        before = slow_process().pid
        waiting.set_progress_handler(lambda: True, 1000)
        with pytest.raises(sqlite3.OperationalError, match=r"^interrupted$"):
            waiting.execute(SQL, [bombs.scans(301)])
        assert not bombed.done()
        assert slow_process().pid == before
        assert is_running(before)
        # From another thread, as a person does who gives up.
        working.interrupt()
        with pytest.raises(sqlite3.OperationalError, match=r"^interrupted$"):
            bombed.result()
    waiting.set_progress_handler(None, 0)
    assert_finds_itself(waiting, database)


def test_interrupt_while_the_process_starts_lets_it_start(database, connect):
    connection = connect(database)
    data = (database.parent / "1.png").read_bytes()
    connection.execute("select clip_vector('dog')")
    lane = query_decoder._shared._quick
    connection.set_progress_handler(lambda: lane.thread is not None, 1000)
    with pytest.raises(sqlite3.OperationalError, match=r"^interrupted$"):
        connection.execute(SQL, [data])
    connection.set_progress_handler(None, 0)
    while lane.decoder is None or not lane.decoder._is_ready:
        assert lane.thread.is_alive()
    before = the_process()
    assert connection.execute(SQL, [data]).fetchone()
    assert the_process() == before


def test_threads_share_one_process_and_get_their_own_picture(database, connect):
    connections = [connect(database, check_same_thread=False) for _ in range(4)]

    def search(place):
        for seed in (place, 0, 1, 2):
            assert_finds_itself(connections[place], database, seed % 3)

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(search, range(4))) == [None] * 4
    assert the_process()


def test_bombs_beside_ordinary_pictures(database, connect):
    ordinary, bombed = (connect(database, check_same_thread=False) for _ in range(2))
    assert_finds_itself(ordinary, database)
    settings = Settings(None, 50, thumbnails=False, formats=("JPEG",), seconds=0.3)
    data = bombs.scans()

    def search_with_bombs():
        return [query_decoder.decode_query_picture(bombed, data, settings) for _ in range(2)]

    with ThreadPoolExecutor(1) as threads:
        searching = threads.submit(search_with_bombs)
        while not searching.done():
            assert_finds_itself(ordinary, database)
    assert [outcome.too_slow for outcome in searching.result()] == [True, True]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_process_that_ended_is_restarted(database, connect, how):
    connection = connect(database)
    for _ in range(2):
        assert_finds_itself(connection, database)
        before = the_process()
        os.kill(before, how)
        # Wait until it has ended, a little later than it stops reading.
        query_decoder._shared._quick.decoder._process.wait()


def test_limits_of_size_and_format(database, connect):
    connection = connect(database)
    for size, format, message in [
        (
            (3000, 3000),
            "PNG",
            r"too large: It has 9 megapixels \(3000 x 3000\) and the limit is 6$",
        ),
        ((8000, 8000), "JPEG", r"too large: It has 64 megapixels .* and the limit is 50$"),
        ((8, 8), "TIFF", "neither an embedding of tiny, which has 64 bytes, nor a picture"),
    ]:
        file = io.BytesIO()
        Image.new("L", size).save(file, format)
        with pytest.raises(sqlite3.OperationalError, match=message):
            connection.execute(SQL, [file.getvalue()])
    with pytest.raises(sqlite3.OperationalError, match="has 10000001 bytes and the limit is 10000"):
        connection.execute(SQL, [bytes(10_000_001)])
    file = io.BytesIO()
    Image.new("L", (7000, 7000)).save(file, "JPEG")
    found = np.frombuffer(connection.execute(SQL, [file.getvalue()]).fetchone()[0], "<f4")
    assert np.linalg.norm(found) == pytest.approx(1)


@pytest.mark.parametrize("reason", ["no program", "no Pillow"])
def test_process_that_does_not_start(database, connect, tmp_path, monkeypatch, caplog, reason):
    connection = connect(database)
    with monkeypatch.context() as patched:
        if reason == "no program":
            patched.setattr(sys, "executable", str(tmp_path / "python"))
        else:
            (tmp_path / "PIL").mkdir()
            (tmp_path / "PIL" / "__init__.py").write_text("raise ImportError('no Pillow')")
            patched.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
        refused = pytest.raises(sqlite3.OperationalError, match="Query pictures cannot be decoded")
        with refused as said:
            assert_finds_itself(connection, database)
    for path in (str(tmp_path), sys.executable):
        assert path not in str(said.value)
    assert str(tmp_path) in caplog.text or "To see why" in caplog.text
    assert_finds_itself(connection, database)


SERVER = """
import sqlite3, sys
from support import bombs
from datasette_clip_search.search import query_decoder
from datasette_clip_search.pictures.processes.pool import Settings

settings = Settings(None, 50, thumbnails=False, formats=("JPEG",))
connection = sqlite3.connect(":memory:")
query_decoder.decode_query_picture(connection, bombs.scans(1, (8, 8)), settings)
print(query_decoder._shared._quick.decoder._process.pid, flush=True)
if sys.argv[1] == "killed":
    # Called while the bomb is being decoded.
    connection.set_progress_handler(lambda: print("decoding", flush=True), 1000)
    query_decoder.decode_query_picture(connection, bombs.scans(3000), settings)
connection.close()
"""


@pytest.mark.parametrize("ending", ["by itself", "killed"])
def test_process_ends_with_the_server(ending):
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    server = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", SERVER, ending],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    process = int(server.stdout.readline())
    if ending == "killed":
        assert server.stdout.readline() == "decoding\n"
        assert is_running(process)
        server.kill()
    _, said = server.communicate()
    assert_ended({process})
    assert (server.returncode, said) == (-9 if ending == "killed" else 0, "")
