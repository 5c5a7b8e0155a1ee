"""A slow database delays no other database, and its work ends with the server."""

import asyncio
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from datasette_clip_search.common.config import CONFIG
from datasette_clip_search.common.errors import TookTooLong
from datasette_clip_search.common.interrupts import heed_time_limit
from datasette_clip_search.database import deadline
from datasette_clip_search.database.connection import main_file
from datasette_clip_search.database.index import snapshot_cache as loaded
from datasette_clip_search.database.model import default_model
from datasette_clip_search.web import answer, lookup
from support.vector_database import clustered, make, snapshot_of
from support.waiting import PATIENCE, wait_until
from support.web import ONE

# The vectors are invented, so there are no weights to look for.
pytestmark = pytest.mark.usefixtures("no_torch")

ENDLESS = "with recursive r(n) as (select 1 union all select n + 1 from r) select max(n) from r"


@pytest.fixture
def two(tmp_path):
    """Two databases of twenty pictures."""
    return [make(tmp_path / name, clustered(20)) for name in ("bad.db", "good.db")]


@pytest.fixture
def memory():
    with closing(sqlite3.connect(":memory:")) as connection:
        yield connection


@pytest.mark.parametrize("what", [lambda db: db.execute(ENDLESS).fetchall(), heed_time_limit])
def test_a_deadline_ends_a_statement(memory, what):

    def work():
        with deadline.bounded(memory, 0.05):
            while True:
                what(memory)

    with pytest.raises(TookTooLong, match=r"^The database takes longer to read than 0\.05 sec"):
        work()
    # The next user of the connection notices nothing.
    assert memory.execute("select 1").fetchone() == (1,)
    assert not deadline._running


def test_fast_statements_are_not_interrupted(memory):
    with deadline.bounded(memory, 60):
        assert memory.execute("select 1").fetchone() == (1,)
        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            memory.execute("select * from t")


def test_a_huge_value_is_not_read(memory):
    sql = f"select zeroblob({CONFIG.max_value_bytes + 1})"
    with deadline.bounded(memory, 60), pytest.raises(sqlite3.DataError, match="too big"):
        memory.execute(sql).fetchone()
    assert len(memory.execute(sql).fetchone()[0]) > CONFIG.max_value_bytes


def test_the_end_of_a_server_ends_statements(memory):
    ended = threading.Timer(0.1, deadline.end_all)
    ended.start()
    with (
        pytest.raises(TookTooLong, match="the server is shutting down"),
        deadline.bounded(memory, 60),
    ):
        memory.execute(ENDLESS).fetchall()
    ended.join()


def test_signals_end_statements_and_reach_the_former_handler(memory, monkeypatch):
    monkeypatch.setattr(deadline, "_ending", deadline._Work())
    told = []

    def work():
        with deadline.bounded(memory, 60):
            os.kill(os.getpid(), signal.SIGTERM)
            memory.execute(ENDLESS).fetchall()

    before = signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
    try:
        for _ in range(3):
            deadline.end_with_signals()
        with pytest.raises(TookTooLong, match="the server is shutting down"):
            work()
        assert told == [signal.SIGTERM]
        # Nor does anything begin that waited for its turn.
        with (
            pytest.raises(TookTooLong, match="the server is shutting down"),
            deadline.bounded(memory, 60),
        ):
            memory.execute(ENDLESS).fetchall()
    finally:
        signal.signal(signal.SIGTERM, before)
        interrupt = signal.getsignal(signal.SIGINT)
        assert isinstance(interrupt, deadline._Ending)
        signal.signal(signal.SIGINT, interrupt._before)


def test_an_interrupt_that_is_caught_ends_only_what_runs(memory, monkeypatch):
    monkeypatch.setattr(deadline, "_ending", deadline._Work())

    def work():
        with deadline.bounded(memory, 60):
            os.kill(os.getpid(), signal.SIGINT)
            memory.execute(ENDLESS).fetchall()

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        deadline.end_with_signals()
        with pytest.raises(KeyboardInterrupt):
            work()
        many = "with recursive n(i) as (select 1 union all select i + 1 from n limit 50000)"
        with deadline.bounded(memory, 60):
            assert memory.execute(f"{many} select count(*) from n").fetchone() == (50000,)
    finally:
        signal.signal(signal.SIGINT, before)


def test_loading_does_not_block_other_databases(two, connect):
    bad, good = map(connect, two)
    _, model = default_model(bad)
    _, key = loaded._place(main_file(bad), model.id)
    with loaded._loading.setdefault(key, threading.Lock()):
        assert len(good.execute("select id from clip_search(1, 5)").fetchall()) == 5
        end = time.monotonic() + 0.2
        bad.set_progress_handler(lambda: time.monotonic() > end, 1000)
        # A search of the same database waits, but no longer than its statement may take.
        with pytest.raises(sqlite3.OperationalError, match=r"^interrupted$"):
            bad.execute("select id from clip_search(1, 5)").fetchall()
        bad.set_progress_handler(None, 0)
    assert len(bad.execute("select id from clip_search(1, 5)").fetchall()) == 5


def test_one_database_does_not_evict_another_from_the_cache(monkeypatch):
    snapshot = snapshot_of([1], clustered(1))
    monkeypatch.setattr(loaded, "_snapshots", type(loaded._snapshots)())
    loaded._keep(("good", 1), snapshot)
    loaded._keep(("fair", 1), snapshot)
    for model_id in range(100):
        loaded._keep(("bad", model_id), snapshot)
    kept = list(loaded._snapshots)
    assert len(kept) == CONFIG.snapshot_cache_entries
    assert kept[:2] == [("good", 1), ("fair", 1)]
    assert kept[-1] == ("bad", 99)


async def test_searches_do_not_block_other_databases(two, serve, monkeypatch):
    go_on, found = threading.Event(), answer._search

    def slow(database, *arguments):
        if database.name == "bad":
            assert go_on.wait(60)
        return found(database, *arguments)

    monkeypatch.setattr(answer, "_search", slow)
    client = serve(*two).client
    searches = [
        asyncio.ensure_future(client.get("/-/clip-search/bad.json?like=1")) for _ in range(5)
    ]
    response = await asyncio.wait_for(client.get("/-/clip-search/good.json?like=1"), 60)
    assert response.status_code == 200
    assert not any(search.done() for search in searches)
    go_on.set()
    assert [(await search).status_code for search in searches] == [200] * 5


async def test_a_search_ends_at_its_deadline(two, serve, monkeypatch, configured):
    monkeypatch.setattr(answer, "_search", lambda _, db, *others: db.execute(ENDLESS).fetchall())
    configured(search_seconds=0.1)
    client = serve(*two).client
    for path in ("/-/clip-search/bad.json?like=1", "/-/clip-search/bad?like=1"):
        response = await client.get(path)
        assert response.status_code == 503
        assert "takes longer to read than 0.1 seconds" in response.text


async def test_a_slow_database_is_not_asked_again(two, serve, monkeypatch, configured):
    """Its pages have no links or thumbnails of ours, and later cells do not ask it again."""
    asked = []

    def slow(connection):
        asked.append(connection)
        return connection.execute(ENDLESS).fetchall()

    configured(hook_seconds=0.1)
    database = serve(*two).get_database("bad")
    for _ in range(5):
        assert await lookup.if_quick(database, slow) is None
    assert len(asked) == 1
    with pytest.raises(TookTooLong):
        await lookup.look_up(database, slow, 0.1)


PLUGIN = f"""
import sys

sys.modules["torch"] = None
from datasette_clip_search.database.connection import database_path
from datasette_clip_search.database.connection import main_file
from datasette_clip_search.database.index import snapshot_cache as loaded

snapshot_for = loaded.snapshot_for


def slow(connection, model):
    if database_path(connection).name == "bad.db":
        print("begun", flush=True)
        connection.execute({ENDLESS!r}).fetchall()
    return snapshot_for(connection, model)


loaded.snapshot_for = slow
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_server_ends_while_a_database_is_searched(two, tmp_path, number):
    """The server's preloading and one visitor both wait for a statement that never ends."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "slow.py").write_text(PLUGIN)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    port = url.rpartition(":")[2]
    options = ["--plugins-dir", tmp_path / "plugins", "--port", port]
    server = subprocess.Popen(
        [sys.executable, "-m", "datasette", *two, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        # The preloading.
        assert b"begun\n" in server.stdout
        answers = []
        visitor = threading.Thread(
            target=lambda: answers.append(_get(f"{url}/-/clip-search/bad.json?like=1"))
        )
        visitor.start()
        good = _get(f"{url}/-/clip-search/good.json?like=1&k=5")
        assert len(good["results"]) == 5
        query = "good/-/query.json" if ONE else "good.json"
        assert _get(f"{url}/{query}?sql=select+1&_shape=array") == [{"1": 1}]
        # Follows lines of the server's own log.
        assert b"begun\n" in server.stdout
        server.send_signal(number)
        server.wait(PATIENCE)
        visitor.join(PATIENCE)
        assert "the server is shutting down" in answers[0]["error"]
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


def _get(url):
    def answer():
        try:
            with urlopen(url) as response:
                return json.load(response)
        except HTTPError as error:
            with error:
                return json.load(error)
        except OSError:
            return None

    return wait_until(answer, what=f"No answer from {url}")
