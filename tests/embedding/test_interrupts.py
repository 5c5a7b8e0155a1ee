"""Ctrl-C in the middle of a run, twice, while the model loads, and in --watch."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from datasette_clip_search.models.queries.text_encoder import NO_TOWER
from support.commands import run
from support.contents import contents
from support.databases import rows
from support.models import make_model
from support.pictures import make_picture
from support.processes import assert_ended, decoding_processes, start, wait_for_decoders
from support.waiting import PATIENCE, wait_until

pytest.importorskip("open_clip")

INT, TERM = signal.SIGINT, signal.SIGTERM
EAGER = {"commit_seconds": 0.0, "cpu_batch_size": 4, "gpu_batch_size": 4}
PICTURES = 60
GO_ON = "Error: Interrupted. Finished pictures are stored; run the same command again to continue"

# Signals as disturbed_run.py takes them: before which step, which time, what, to the group?
INTERRUPTIONS = {
    "in the middle": [["advance", 2, INT, True]],
    "by a service": [["advance", 2, TERM, False]],
    "while it writes": [["row", 9, INT, True]],
    "twice": [["row", 9, INT, True], ["row", 10, INT, True]],
    "while the model loads": [["load", 1, INT, True]],
    "in the index": [["replace", 1, INT, True]],
}
WITHOUT_TORCH = """
import importlib.util, sys
for name in ("torch", "open_clip"):
    sys.modules[name] = None
from sqlite_utils.cli import cli
cli(["clip-search", sys.argv[1], "a dog"])
"""
# Where nothing more is finished, and nothing told.
AT_ONCE = ("twice", "in the index")


@dataclass(frozen=True)
class Interrupted:
    database: Path
    status: int
    stdout: str
    stderr: str
    decoders: set[int]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pictures, and a model."""
    folder = tmp_path_factory.mktemp("interrupted")
    make_model(folder / "tiny")
    for number in range(PICTURES):
        make_picture(folder / "pictures" / f"{number:03}.png", number)
    return folder


def arguments(place: Path) -> list[object]:
    """Return the arguments of the command."""
    return [place / "pictures", "--pretrained", place / "tiny", "--batch-size", "4"]


@pytest.fixture(scope="module")
def runs(place: Path) -> Iterator[dict[str, Future[Interrupted]]]:
    """All interruptions, two at a time."""

    def interrupt(number: int, signals: list[list[object]]) -> Interrupted:
        database = place / f"{number}.db"
        process = start(database, arguments(place), {"config": EAGER, "signals": signals})
        decoders = wait_for_decoders(process)
        stdout, stderr = process.communicate(timeout=PATIENCE)
        return Interrupted(database, process.returncode, stdout, stderr, decoders)

    with ThreadPoolExecutor(2) as threads:
        yield {
            name: threads.submit(interrupt, number, signals)
            for number, (name, signals) in enumerate(INTERRUPTIONS.items())
        }


@pytest.fixture(scope="module")
def undisturbed(place: Path) -> dict[str, tuple]:
    database = place / "undisturbed.db"
    result = run("embed-images", database, *arguments(place))
    assert result.exit_code == 0, result.output
    return contents(database)


@pytest.mark.parametrize("name", INTERRUPTIONS)
def test_interruption(place, runs, undisturbed, name):
    interrupted = runs[name].result()
    assert interrupted.status == 1, interrupted.stderr
    assert "Traceback" not in interrupted.stderr
    assert "Exception" not in interrupted.stderr
    assert interrupted.decoders
    assert_ended(interrupted.decoders)
    held = {}
    if interrupted.database.exists():
        has_tables = rows(interrupted.database, "select 1 from sqlite_master")
        held = contents(interrupted.database) if has_tables else {}
    assert {path: undisturbed[path] for path in held} == held
    if name in AT_ONCE:
        assert "Aborted!" in interrupted.stderr
    else:
        assert interrupted.stderr.count("Finishing the pictures in progress and the index.") == 1
        last = interrupted.stderr.splitlines()[-1]
        assert last.startswith(GO_ON)
        assert ("The database has no text tower yet" in last) == bool(held)
    if "model" in name:
        assert held == {}
    elif "index" in name:
        assert held == undisturbed
    else:
        assert 0 < len(held) < PICTURES
    if held and name not in AT_ONCE:
        # Words find the kept pictures here. Without torch, an error names what is missing.
        found = run("clip-search", interrupted.database, "a dog", "--csv")
        assert len(found.stdout.splitlines()) == min(len(held), 10) + 1, found.output
        assert without_torch(interrupted.database).endswith(NO_TOWER + "\n")
        # The index holds the pictures that were embedded before the interrupt.
        again = run("embed-images", interrupted.database, place / next(iter(held)))
        assert "(up to date)" in again.stdout, again.output
    result = run("embed-images", interrupted.database, *arguments(place))
    assert result.exit_code == 0, result.output
    assert contents(interrupted.database) == undisturbed
    assert not list(place.glob(f".{interrupted.database.name}*"))
    assert not list(place.glob(f"{interrupted.database.name}-*"))


def without_torch(database: Path) -> str:
    """Return the answer to a search for words in an install without torch."""
    command = [sys.executable, "-c", WITHOUT_TORCH, str(database)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    return result.stderr


def test_messages_while_it_finishes(runs):
    stderr = runs["in the middle"].result().stderr
    assert "\\n" not in stderr
    assert (
        "\nFinishing the pictures in progress and the index. Press Ctrl-C again to stop at once\n"
        in stderr
    )


def test_interrupt_from_outside(place, undisturbed):
    """At no particular step, but as soon as there are rows."""
    database = place / "outside.db"
    process = start(database, arguments(place), {"config": EAGER})
    wait_until(lambda: process.poll() is not None or _count(database) > 0)
    decoders = decoding_processes(process.pid)
    os.killpg(process.pid, INT)
    _, stderr = process.communicate(timeout=PATIENCE)
    assert_ended(decoders)
    assert "Traceback" not in stderr
    if process.returncode:
        assert "Aborted!" in stderr or GO_ON in stderr
    result = run("embed-images", database, *arguments(place))
    assert result.exit_code == 0, result.output
    assert contents(database) == undisturbed


def _count(database: Path) -> int:
    try:
        return len(rows(database, "select id from images")) if database.exists() else 0
    except sqlite3.OperationalError:
        return 0


def runs_ended(lines: Path) -> int:
    """Return how many runs of a --watch have ended, by the lines of a disturbed run."""
    return lines.read_text().count("end") if lines.exists() else 0


class Watch:
    """--watch in its own process, with database and index among the pictures."""

    def __init__(self, folder: Path, model: Path, *options: object):
        self.folder = folder / "photos"
        self.database = self.folder / "photos.db"
        for number in range(4):
            make_picture(self.folder / f"{number}.png", number)
        self.lines = folder / "runs"
        arguments = [self.folder, "--pretrained", model, "--watch", *options]
        config = {"first_write_wait_seconds": 0.5}
        self.process = start(self.database, arguments, {"runs": str(self.lines), "config": config})

    def paths(self) -> set[str]:
        try:
            return {path for (path,) in rows(self.database, "select path from images")}
        except sqlite3.OperationalError:
            return set()

    def failures(self) -> set[str]:
        return {path for (path,) in rows(self.database, "select path from clip_failures")}

    def runs(self) -> int:
        return self.lines.read_text().count("run")

    def wait_for_end(self, before: int = 0) -> None:
        """Wait until more runs have ended than `before`."""
        wait_until(lambda: runs_ended(self.lines) > before, self.process)

    def wait_for(self, *paths: str) -> None:
        """Wait until the database has exactly these rows."""

        wait_until(lambda: self.paths() == set(paths), self.process)

    def settle(self) -> None:
        """Wait until no run has started for longer than changes are collected."""
        before = -1
        while before != self.runs():
            before = self.runs()
            time.sleep(3)

    def end(self, number: int) -> tuple[int, str, str]:
        os.killpg(self.process.pid, number)
        stdout, stderr = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, stdout, stderr


@pytest.fixture
def watch(tmp_path: Path, tiny_model: Path) -> Iterator[Watch]:
    pytest.importorskip("watchfiles")
    watch = Watch(tmp_path, tiny_model)
    yield watch
    if watch.process.poll() is None:
        watch.process.kill()
        watch.process.communicate()


def test_watch(watch):
    folder = watch.folder
    watch.wait_for("0.png", "1.png", "2.png", "3.png")
    watch.settle()
    first = watch.runs()
    assert first <= 2, "a run's own files start another one, and so on"
    id = rows(watch.database, "select id from images where path = '1.png'")
    make_picture(folder / "deep" / "new.png", 10)
    watch.wait_for("0.png", "1.png", "2.png", "3.png", "deep/new.png")
    watch.settle()
    # The temporary file of the index, whose name begins with a dot, starts no run.
    assert watch.runs() == first + 1
    (folder / "1.png").rename(folder / "renamed.png")
    watch.wait_for("0.png", "renamed.png", "2.png", "3.png", "deep/new.png")
    assert rows(watch.database, "select id from images where path = 'renamed.png'") == id
    (folder / "2.png").unlink()
    watch.wait_for("0.png", "renamed.png", "3.png", "deep/new.png")
    (folder / "broken.png").write_bytes(b"nonsense")
    wait_until(lambda: watch.failures() == {"broken.png"})
    decoders = decoding_processes(watch.process.pid)
    status, stdout, stderr = watch.end(INT)
    assert status == 0, stderr
    assert "Traceback" not in stderr
    assert "broken.png: " in stderr
    done = [line.split("  ")[1] for line in stdout.splitlines() if line[2:3] == ":"]
    assert done == ["1 embedded", "1 moved", "1 deleted", "1 failed"]
    assert "watch" in (stdout.splitlines()[-1] + stderr.splitlines()[-1]).lower()
    assert_ended(decoders)
    again = run("embed-images", watch.database, folder)
    assert "(up to date)" in again.stdout


def test_watch_that_a_service_ends(watch):
    watch.wait_for_end()
    watch.settle()
    status, _, stderr = watch.end(TERM)
    assert status == 0
    assert "Traceback" not in stderr


def test_watch_sees_what_came_during_the_first_run(watch):
    """The first run of a large folder takes hours."""
    wait_for_decoders(watch.process)
    make_picture(watch.folder / "late.png", 20)
    watch.wait_for("0.png", "1.png", "2.png", "3.png", "late.png")


def test_watch_continues_when_the_folder_is_empty_for_a_while(watch):
    """The folder of an unmounted disk is empty; the rows of its pictures are kept."""
    watch.wait_for("0.png", "1.png", "2.png", "3.png")
    watch.settle()
    before = runs_ended(watch.lines)
    for path in watch.folder.glob("*.png"):
        path.unlink()
    watch.wait_for_end(before)
    assert len(watch.paths()) == 4
    make_picture(watch.folder / "new.png", 20)
    watch.wait_for("new.png")
    _, _, stderr = watch.end(INT)
    assert "There are no pictures in " in stderr
    assert "The 4 that the database has from there are kept, as a disk may not be" in stderr


@pytest.mark.parametrize("pause", [False, True])
def test_watch_of_a_folder_that_is_recreated(tmp_path, tiny_model, pause):
    pytest.importorskip("watchfiles")
    folder, database = tmp_path / "p", tmp_path / "d.db"
    for number in range(2):
        make_picture(folder / f"{number}.png", number)
    lines = tmp_path / "runs"
    arguments = [folder, "--pretrained", tiny_model, "--watch"]
    process = start(database, arguments, {"runs": str(lines)})
    try:
        wait_until(lambda: runs_ended(lines), process)
        # Until it listens again.
        time.sleep(1)
        before = runs_ended(lines)
        shutil.rmtree(folder)
        if pause:
            wait_until(lambda: runs_ended(lines) > before, process)
        for number in range(5):
            make_picture(folder / f"new{number}.png", 10 + number)
        wait_until(lambda: _count(database) == 5, process)
        # Its changes are noticed again.
        make_picture(folder / "another.png", 20)
        wait_until(lambda: _count(database) == 6, process)
    finally:
        os.killpg(process.pid, INT)
        _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, stderr
    if pause:
        assert stderr.count(f"There are no pictures in {folder} any more") == 1


def test_watch_continues_when_the_database_is_busy(watch):
    watch.wait_for("0.png", "1.png", "2.png", "3.png")
    watch.settle()
    other = sqlite3.connect(watch.database, isolation_level=None)
    other.execute("begin immediate")
    before = runs_ended(watch.lines)
    make_picture(watch.folder / "new.png", 20)
    # The run that finds the database busy.
    watch.wait_for_end(before)
    other.execute("rollback")
    other.close()
    make_picture(watch.folder / "newer.png", 21)
    wait_until(lambda: "newer.png" in watch.paths(), watch.process)
    assert {"new.png", "newer.png"} < watch.paths()


def test_watch_of_a_glob(tmp_path, tiny_model):
    """watchfiles takes folders and files, but no globs."""
    pytest.importorskip("watchfiles")
    for number in range(2):
        make_picture(tmp_path / "p" / f"{number}.png", number)
    arguments = [tmp_path / "p" / "*.png", "--pretrained", tiny_model, "--watch"]
    lines = tmp_path / "runs"
    process = start(tmp_path / "d.db", arguments, {"runs": str(lines)})
    wait_until(lambda: process.poll() is not None or runs_ended(lines))
    time.sleep(1)
    make_picture(tmp_path / "p" / "2.png", 2)
    wait_until(lambda: process.poll() is not None or _count(tmp_path / "d.db") == 3)
    if process.poll() is None:
        process.kill()
        process.communicate()
        return
    # An error that says so is also an answer.
    _, stderr = process.communicate()
    assert "None" not in stderr
    assert "Traceback" not in stderr
    assert "--watch" in stderr


def test_watch_of_a_missing_folder(tmp_path, tiny_model):
    result = run("embed-images", tmp_path / "d.db", tmp_path / "no", "--watch")
    assert result.exit_code == 1
    assert f"There is no file or folder {tmp_path / 'no'}" in result.stderr


def test_processes_survive_only_as_long_as_their_run(tmp_path, tiny_model, monkeypatch):
    """A decoder that hangs ends with its run."""
    from support.traps import PLUGIN, make_trap

    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(PLUGIN)
    for number in range(2):
        make_trap(tmp_path / "p" / f"{number}.png", "hang")
    make_picture(tmp_path / "p" / "good.png")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"), prepend=os.pathsep)
    process = start(tmp_path / "d.db", [tmp_path / "p", "--pretrained", tiny_model], {})
    decoders = wait_for_decoders(process)
    time.sleep(2)
    process.kill()
    process.communicate()
    try:
        assert_ended(decoders)
    finally:
        for decoder in decoders:
            if os.path.exists(f"/proc/{decoder}"):
                os.kill(decoder, signal.SIGKILL)
