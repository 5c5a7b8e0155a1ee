"""Towers from strangers: an answer always comes in time, and other databases are not affected."""

import contextlib
import http.client
import json
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import urllib.request

import pytest

from support.commands import run
from support.databases import make_database
from support.hostile_towers import (
    DAMAGED,
    IMAGE,
    execute,
    graph,
    heavy,
    make_all,
    make_images,
    make_parts,
    rewrite,
)
from support.pictures import make_picture
from support.servers import wait_until_up
from support.waiting import PATIENCE

pytest.importorskip("open_clip")

# Asks each database as SQL does where torch is not installed, under a time limit that our code
# can't lift, and a memory limit that ends the process.
ASK = """
import json, re, resource, sqlite3, sys, time
sys.modules["torch"] = sys.modules["open_clip"] = None
from datasette_clip_search.sql import add_functions
# On a busy machine, the first answer would take its whole time for these.
import faiss, ftfy, numpy, onnxruntime, regex
from datasette_clip_search.models.queries import text_encoder, picture_encoder
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
for name, path in json.load(sys.stdin):
    connection = sqlite3.connect(path)
    add_functions(connection)
    latest = time.monotonic() + float(sys.argv[1])
    connection.set_progress_handler(lambda: time.monotonic() > latest, 1000)
    try:
        answer = connection.execute(sys.argv[2]).fetchone()[0]
    except sqlite3.Error as error:
        answer = str(error)
    connection.close()
    peak = int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) // 1024
    print(json.dumps([name, answer, peak]), flush=True)
"""
VECTOR = "select hex(clip_vector('dog'))"


def ask(databases, seconds=30, sql=VECTOR):
    """Return each database's answer, and the peak of the process's memory by then."""
    result = subprocess.run(
        [sys.executable, "-c", ASK, str(seconds), sql],
        input=json.dumps([(name, str(path)) for name, path in databases.items()]),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    # No name from a file is written there.
    assert "onnxruntime" not in result.stderr
    lines = map(json.loads, result.stdout.splitlines())
    return {name: (answer, peak) for name, answer, peak in lines}


@pytest.fixture(scope="module")
def sound(tiny_model, tmp_path_factory):
    return make_database(tmp_path_factory.mktemp("sound"), 3, tiny_model)


@pytest.fixture(scope="module")
def answers(sound, tmp_path_factory):
    """The answers of all hostile databases in one process, between two sound ones."""
    folder = tmp_path_factory.mktemp("hostile")
    made = make_all(sound, folder)
    # Below the working directory of whoever asks.
    (folder / "secret.bin").write_bytes(b"TOPSECRET" * 1_000_000)
    parts = make_parts(sound, folder)
    shutil.copy(sound, folder / "last.db")
    hostile = {name: path for name, (path, _) in made.items()}
    # First those that could affect a database with the same manifest.
    databases = {**parts, "first": sound, **hostile, "last": folder / "last.db"}
    return made, parts, ask(databases)


def test_every_kind_is_refused_in_one_sentence(answers):
    made, parts, found = answers
    wrong = {
        name: found[name][0]
        for name, (_, says) in made.items()
        if says not in found[name][0] or not found[name][0].isprintable()
    }
    assert not wrong
    assert {found[name][0].split(". ")[0] for name in parts} == {DAMAGED}
    for name, (path, _) in made.items():
        assert str(path.parent) not in found[name][0]
        assert "embed-images" in found[name][0] or "upgrade" in found[name][0]


def test_memory_stays_bounded(answers):
    *_, found = answers
    assert found["last"][1] - found["first"][1] < 300, found


def test_sound_databases_answer_as_before(answers):
    *_, found = answers
    assert len(found["first"][0]) == 2 * 4 * 16
    assert found["last"] == (found["first"][0], found["last"][1])


@pytest.fixture(scope="module")
def pictured(tiny_model, tmp_path_factory):
    """A database with an image tower, and a picture to search with."""
    folder = tmp_path_factory.mktemp("pictured")
    picture = make_picture(folder / "pictures" / "0.png")
    options = ["--pretrained", tiny_model, "--with-image-search"]
    result = run("embed-images", folder / "photos.db", picture, *options)
    assert result.exit_code == 0, result.output
    return folder / "photos.db", picture


def test_image_towers_are_refused_as_well(pictured, tmp_path):
    database, picture = pictured
    made = make_images(database, tmp_path)
    last = shutil.copy(database, tmp_path / "last.db")
    sql = f"select hex(clip_vector(x'{picture.read_bytes().hex()}'))"
    hostile = {name: path for name, (path, _) in made.items()}
    found = ask({"first": database, **hostile, "last": last}, sql=sql)
    wrong = {
        name: found[name][0]
        for name, (_, says) in made.items()
        if says not in found[name][0] or not found[name][0].isprintable()
    }
    assert not wrong
    assert len(found["first"][0]) == 2 * 4 * 16
    assert found["last"][0] == found["first"][0]
    assert found["last"][1] - found["first"][1] < 300


@pytest.mark.parametrize("kind", IMAGE)
def test_runs_refuse_what_would_embed(pictured, kind):
    """That is true for the database's own image tower, and for its int8 one."""
    from datasette_clip_search.database.model import default_model
    from datasette_clip_search.models.towers.image import ImageTower
    from datasette_clip_search.models.towers.int8 import Int8Tower
    from datasette_clip_search.models.towers.stored import (
        StoredTower,
        TowerUnusable,
        read_manifest,
        read_tower,
    )

    change, _ = IMAGE[kind]
    with contextlib.closing(sqlite3.connect(pictured[0])) as connection:
        _, model = default_model(connection)
        kept = read_tower(connection, model, read_manifest(connection, model, "image"), "image")
    facts, sections = json.loads(json.dumps(kept.facts)), dict(kept.sections)
    change(facts, sections)
    with pytest.raises(TowerUnusable, match="To make it again"):
        ImageTower(StoredTower("x", facts, sections))
    sections["of_noise"] = bytes(2 * 4 * 16)
    if kind not in ("picture_short", "vector_short", "precision"):
        with pytest.raises(TowerUnusable, match="--precision int8"):
            Int8Tower(StoredTower("x", facts, sections))


@pytest.fixture(scope="module")
def slow(sound, tmp_path_factory):
    """A database whose tower holds only allowed operators, and takes most of a minute."""
    path = tmp_path_factory.mktemp("slow") / "a_stranger.db"
    rewrite(shutil.copy(sound, path), graph(heavy(100)))
    return path


def test_towers_heed_the_time_limit(slow, sound):
    found = ask({"slow": slow, "again": slow, "sound": sound}, seconds=1)
    assert found["slow"][0] == found["again"][0] == "interrupted"


SERVE = """
import sys
sys.modules["torch"] = sys.modules["open_clip"] = None
from datasette.cli import cli
cli()
"""


def test_servers_answer_for_others_and_end(slow, sound):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-c", SERVE, "serve", slow, sound, "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until_up(f"http://127.0.0.1:{port}", server)
        root = f"http://127.0.0.1:{port}/-/clip-search"
        vain = f"{root}/a_stranger.json?q=dog"
        threading.Thread(target=_ask_in_vain, args=[vain], daemon=True).start()
        for number in range(3):
            with urllib.request.urlopen(
                f"{root}/photos.json?q=dog{number}", timeout=PATIENCE
            ) as answer:
                assert len(json.load(answer)["results"]) == 3
        server.send_signal(signal.SIGINT)
        _, errors = server.communicate(timeout=PATIENCE)
        assert "Traceback" not in errors
        assert "terminate" not in errors
    finally:
        server.kill()
        server.wait()


def _ask_in_vain(address):
    with contextlib.suppress(OSError, http.client.HTTPException):
        urllib.request.urlopen(address, timeout=PATIENCE)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "[1]",
        "7",
        '{"a": 1}',
        '{"a": [1, 2]}',
        '{"a": [0, Infinity, []]}',
        '{"a": [0, NaN, []]}',
        '{"a": [0, 1, [1000000000]]}',
        '{"a": [0, 1, "x"]}',
        b"\xff",
    ],
)
def test_invalid_ranges_are_ignored(text):
    from datasette_clip_search.models.towers.int8_ranges import read_ranges

    assert read_ranges('{"a": [-1.5, 2, [0, -3]]}') == {"a": (-1.5, 2.0, [0, -3])}
    assert read_ranges(text) is None


@pytest.mark.parametrize("text", ["[" * 9000, "[]", "{}", '{"height": 1e9}', "\x1b"])
def test_invalid_settings_are_explained_in_one_sentence(pictured, tmp_path, text):
    database, _ = pictured
    copy = shutil.copy(database, tmp_path / "photos.db")
    execute(copy, "update clip_models set preprocess = ?", text)
    another = make_picture(tmp_path / "new.png", 7)
    result = run("embed-images", copy, another)
    assert result.exit_code == 1
    assert "is damaged in clip_models.preprocess" in result.stderr
