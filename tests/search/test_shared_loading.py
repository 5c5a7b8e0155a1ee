"""Loading towers from databases: shared, within the time limit of the statement, and apart."""

import gc
import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
import weakref
from contextlib import contextmanager

import pytest

from datasette_clip_search.common.config import CONFIG
from datasette_clip_search.common.errors import ClipSearchError
from datasette_clip_search.common.shared_loading import SharedLoading
from datasette_clip_search.common.stopping import Stopped
from support.databases import make_database


class Interrupted(Exception):
    "The statement is to end"


class Slow(ClipSearchError):
    "It takes too long"


def nothing():
    return None


def interrupt():
    raise Interrupted


@pytest.fixture
def loading():
    return SharedLoading(Slow, ClipSearchError)


@contextmanager
def stuck(loading, owner="stranger", key="x"):
    """Let a database load until the end of the block; yield the event that ends it."""
    begun, let_go = threading.Event(), threading.Event()
    given = []

    def load(_, stopping):
        given.append(stopping)
        begun.set()
        let_go.wait(60)
        stopping.heed()
        return f"{key} at last"

    with pytest.raises(Interrupted):
        loading.load(owner, key, nothing, load, interrupt)
    assert begun.wait(60)
    try:
        yield given[0]
    finally:
        let_go.set()


def quick(value):
    return lambda _, stopping: value


def test_slow_loading_does_not_block_other_databases(loading):
    with stuck(loading):
        assert loading.load("other", "y", nothing, quick("y"), interrupt_after(60)) == "y"
    # The next request finds what the first did not wait for.
    assert loading.load("stranger", "x", nothing, quick("no"), interrupt_after(60)) == "x at last"


def interrupt_after(seconds):
    latest = time.monotonic() + seconds

    def heed():
        if time.monotonic() > latest:
            raise Interrupted

    return heed


def test_waiting_statements_can_be_interrupted(loading):
    with stuck(loading):
        for key in ("x", "another of the same database"):
            with pytest.raises(Interrupted):
                loading.load("stranger", key, nothing, quick("no"), interrupt)


def test_one_thread_loads_for_all_waiting(loading):
    loads, answers = [], []

    def load(_, stopping):
        loads.append(1)
        time.sleep(0.2)
        return "x"

    def ask(owner):
        answers.append(loading.load(owner, "x", nothing, load, interrupt_after(60)))

    threads = [threading.Thread(target=ask, args=["same"]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == ["x"] * 8
    assert len(loads) == 1


def test_failures_are_of_one_database(loading):
    tries = []

    def fail(_, stopping):
        tries.append(1)
        raise ClipSearchError("broken")

    for _ in range(3):
        with pytest.raises(ClipSearchError, match="broken"):
            loading.load("stranger", "x", nothing, fail, interrupt_after(60))
    assert len(tries) == 1
    assert loading.load("other", "x", nothing, quick("x"), interrupt_after(60)) == "x"


def test_failures_keep_no_objects(loading):
    class Read:
        "What was read of a tower"

    read = weakref.WeakSet()

    def prepare():
        read.add(one := Read())
        return one

    def fail(prepared, stopping):
        raise ClipSearchError("broken")

    with pytest.raises(ClipSearchError, match="broken"):
        loading.load("stranger", "x", prepare, fail, interrupt_after(60))
    latest = time.monotonic() + 60
    while len(read):
        gc.collect()
        assert time.monotonic() < latest


def test_interrupted_loading_starts_again(loading):
    with pytest.raises(Interrupted):
        loading.load("one", "x", interrupt, quick("x"), nothing)
    assert loading.load("one", "x", nothing, quick("x"), interrupt_after(60)) == "x"


def test_loading_ends_when_it_is_too_late():
    loading = SharedLoading(Slow, Slow, seconds=0.1)
    with stuck(loading) as stopping:
        with pytest.raises(Slow):
            loading.load("stranger", "x", nothing, quick("no"), nothing)
        assert stopping.is_set
        with pytest.raises(Stopped):
            stopping.heed()
    # It is not tried again.
    with pytest.raises(Slow):
        loading.load("stranger", "x", nothing, quick("no"), nothing)


def test_many_models_of_one_database_leave_others_theirs(loading):
    loading.load("mine", "mine", nothing, quick("mine"), interrupt_after(60))
    for number in range(3 * CONFIG.encoder_cache_entries):
        loading.load("stranger", f"{number}", nothing, quick(number + 1), interrupt_after(60))
    assert loading.get("mine") == "mine"


def test_the_least_used_goes_first(loading):
    for name in map(str, range(CONFIG.encoder_cache_entries)):
        loading.load(name, name, nothing, quick(name), interrupt_after(60))
    assert loading.get("0") == "0"
    loading.load("new", "new", nothing, quick("new"), interrupt_after(60))
    assert loading.get("0") == "0"
    assert loading.get("1") is None


# Weights that a database names.

PRETRAINED = """
import json, sqlite3, sys
from datasette_clip_search.sql import add_functions
for value in json.load(sys.stdin):
    other = sqlite3.connect(sys.argv[1])
    with other:
        other.execute("update clip_models set pretrained = ?", [value])
    other.close()
    connection = sqlite3.connect(sys.argv[1])
    add_functions(connection)
    try:
        connection.execute("select clip_vector('dog')").fetchone()
        print("an answer")
    except sqlite3.OperationalError as error:
        print(error)
    connection.close()
"""


def test_messages_reveal_no_files(tmp_path, tiny_model, other_model):
    """One message for all cases, whether the weights exist or not, and whatever they contain."""
    database = make_database(tmp_path, 2, tiny_model)
    with sqlite3.connect(database) as connection:
        connection.execute("delete from clip_towers")
    connection.close()
    os.mkfifo(tmp_path / "pipe.safetensors")
    (tmp_path / "device.pt").symlink_to("/dev/zero")
    (tmp_path / "pickle.pt").write_bytes(b"cos\nsystem\n(S'touch /tmp/x'\ntR.")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "open_clip_config.json").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "folder" / "open_clip_model.safetensors")
    values = [
        "./gone.safetensors",
        "/etc/passwd",
        "/etc",
        "/dev/zero",
        "../../../../../../etc/hostname",
        "./pipe.safetensors",
        "./device.pt",
        "./pickle.pt",
        "./folder",
        "photos.db",
        "./photos.db",
        str(other_model),
        str(other_model / "open_clip_model.safetensors"),
        "tag-of-nobody",
        "C:\\weights.pt",
        "\0/x",
        "x" * 5000,
        "./" + "x" * 5000,
        # The right file is used.
        str(tiny_model),
    ]
    result = subprocess.run(
        [sys.executable, "-c", PRETRAINED, database],
        input=json.dumps(values),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    answers = result.stdout.splitlines()
    assert len(answers) == len(values)
    *others, right = answers
    assert len(set(others)) == 1, dict(zip(values, others, strict=False))
    answer = others[0]
    assert "are not where they were" in answer
    assert right == "an answer"


@pytest.mark.parametrize(
    ("name", "file", "torch", "is_refused"),
    [
        ("mine", "weights.pt", "2.5.1", True),
        ("mine", "weights.bin", "2.4.0+cu121", True),
        ("mine", "weights.pt", "2.6.0", False),
        ("mine", "weights.safetensors", "2.5.1", False),
    ],
)
def test_weights_of_strangers_run_no_code(monkeypatch, tmp_path, name, file, torch, is_refused):
    """Before torch 2.6, files other than safetensors could run code."""
    import importlib.metadata

    from datasette_clip_search.common.errors import EncoderUnavailable
    from datasette_clip_search.models.checkpoint import check_unpickling, resolve

    monkeypatch.setattr(importlib.metadata, "version", lambda _: torch)
    (tmp_path / file).write_bytes(b"x")
    checkpoint = resolve(name, str(tmp_path / file))
    if is_refused:
        with pytest.raises(EncoderUnavailable, match="could run code"):
            check_unpickling(checkpoint)
    else:
        check_unpickling(checkpoint)
