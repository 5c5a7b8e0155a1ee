"""Time limits tell a file that arrives slowly from a picture that is slow to decode."""

import os
import signal
import sqlite3
import time
from pathlib import Path

import pytest

from datasette_clip_search.pictures.processes import process
from support.commands import run
from support.databases import rows
from support.pictures import make_picture
from support.processes import start
from support.waiting import PATIENCE, wait_until

# In a decoding process, these files arrive in pieces, after a pause, or never.
SHARE = """
import builtins, sys, time

real_open = builtins.open

class Slow:
    def __init__(self, file, pause):
        self.file, self.pause = file, pause
    def __enter__(self):
        return self
    def __exit__(self, *_):
        self.file.close()
    def read(self, size=-1):
        time.sleep(self.pause)
        return self.file.read(min(size, 30) if size > 0 else size)

def slow_open(file, mode="r", *arguments, **named):
    opened = real_open(file, mode, *arguments, **named)
    name = str(file).rpartition("/")[2]
    if mode != "rb" or not name.endswith(".png"):
        return opened
    if "late" in name:
        time.sleep(5)
    if "never" in name:
        time.sleep(600)
    return Slow(opened, 0.3) if "trickle" in name else opened

if "datasette_clip_search.pictures.processes.worker" in sys.orig_argv:
    builtins.open = slow_open
"""


@pytest.fixture
def share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SHARE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"), prepend=os.pathsep)
    for number, name in enumerate(("a", "late", "trickle", "z")):
        make_picture(tmp_path / "p" / f"{name}.png", number)
    return tmp_path


def use_a_fast_disk(share: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let decoding processes open files as they are: an empty sitecustomize comes first."""
    (share / "fast").mkdir()
    (share / "fast" / "sitecustomize.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(share / "fast"), prepend=os.pathsep)


def embed(folder: Path, model: Path, *options: str) -> str:
    options = ("--pretrained", str(model), "--text-tower", "none", *options)
    result = run("embed-images", folder / "d.db", folder / "p", *options)
    assert result.exit_code == 0, result.output
    return result.output


def test_only_decoding_is_timed(share, tiny_model, configured):
    configured(decode_seconds=2)
    assert (share / "p" / "trickle.png").stat().st_size > 300
    assert "Embedded:     4" in embed(share, tiny_model)


def test_unreadable_files_are_tried_again(share, tiny_model, configured, monkeypatch):
    configured(read_pause_seconds=2)
    make_picture(share / "p" / "never.png", 9)
    told = embed(share, tiny_model)
    reason = "It can't be read: no byte of it arrived for 2 seconds. The next run tries again"
    assert f"p/never.png: {reason}" in told
    assert f"p/late.png: {reason}" in told
    # A file that trickles has a limit of its own.
    assert "Embedded:     3" in told
    use_a_fast_disk(share, monkeypatch)
    again = embed(share, tiny_model)
    assert "Embedded:     2" in again
    assert "Failed:       0" in again


def test_embedded_pictures_survive_becoming_unreadable(share, tiny_model, configured, monkeypatch):
    with monkeypatch.context() as patch:
        use_a_fast_disk(share, patch)
        embed(share, tiny_model)
    before = rows(share / "d.db", "select id, path, content_hash from images order by id")
    os.utime(share / "p" / "late.png")
    configured(read_pause_seconds=2)
    assert "no byte of it arrived" in embed(share, tiny_model)
    assert rows(share / "d.db", "select id, path, content_hash from images order by id") == before


def test_a_file_that_only_trickles(share, tiny_model, configured):
    configured(read_seconds=1.2)
    told = embed(share, tiny_model)
    assert "p/trickle.png: It can't be read: it did not arrive within 1.2 seconds. " in told
    assert "p/a.png" not in told


def test_no_interrupt_waits_for_a_slow_file(share, tiny_model):
    make_picture(share / "p" / "never.png", 9)
    # Files in the same batch wait for the slow one.
    for number in range(40):
        make_picture(share / "p" / f"b{number}.png", 10 + number)
    arguments = [share / "p", "--pretrained", tiny_model, "--text-tower", "none"]
    config = {"commit_seconds": 0.0, "cpu_batch_size": 1}
    run_ = start(share / "d.db", arguments, {"config": config})
    try:
        wait_until(lambda: _count(share / "d.db"), run_)
        run_.send_signal(signal.SIGINT)
        _, stderr = run_.communicate(timeout=PATIENCE)
    finally:
        run_.kill()
    assert "Finished pictures are stored" in stderr


def _count(database: Path) -> int:
    try:
        return len(rows(database, "select id from images")) if database.exists() else 0
    except sqlite3.OperationalError:
        return 0


def test_sent_pictures_have_the_decoding_limit(tmp_path, monkeypatch):
    """Bytes that strangers send are already in memory, so reading needs no limit."""
    assert process.CONFIG.decode_seconds < process.CONFIG.read_pause_seconds
    decoder = process.DecoderProcess()
    try:
        with decoder._limited(process.Settings(None, 150, thumbnails=False, seconds=0.001)):
            time.sleep(0.01)
            decoder.stop_if_late()
        assert decoder._late == process.DecodeFailure(
            "Decoding it took longer than 0.001 seconds and was stopped", too_slow=True
        )
    finally:
        decoder.close()
