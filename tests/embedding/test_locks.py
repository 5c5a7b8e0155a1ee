"""Runs that meet a lock, or one another: nothing done is lost."""

import sqlite3
import threading
from pathlib import Path

import pytest

from support.processes import start
from support.undisturbed import (
    BATCH,
    EAGER,
    PICTURES,
    assert_is_part,
    assert_one_sentence,
    committed,
    embed_by_command,
)
from support.waiting import PATIENCE, wait_until

pytest.importorskip("open_clip")


@pytest.mark.parametrize("lets_go", [True, False])
def test_lock_in_the_middle(tmp_path, undisturbed, monkeypatch, configured, lets_go):
    """From the third batch on, another program writes: briefly, or for too long."""
    from datasette_clip_search.embedding import run as embed

    seconds = 30.0 if lets_go else 0.2
    configured(commit_seconds=0.0, write_wait_seconds=seconds)
    database = undisturbed.place(tmp_path / "run")
    other = sqlite3.connect(database, isolation_level=None, check_same_thread=False)
    timers: list[threading.Timer] = []
    calls = [0]
    real = embed.Store.write

    def write(store, results):  # type: ignore[no-untyped-def]
        calls[0] += 1
        if calls[0] == 3:
            other.execute("begin exclusive")
            if lets_go:
                timers.append(threading.Timer(0.7, other.execute, ("rollback",)))
                timers[0].start()
        return real(store, results)

    monkeypatch.setattr(embed.Store, "write", write)
    result = embed_by_command(database, undisturbed.model)
    for timer in timers:
        timer.join()
    other.close()
    if lets_go:
        assert result.exit_code == 0, result.output
        assert calls[0] > 3
        undisturbed.check(database)
        return
    assert_one_sentence(result)
    assert f"{database} is in use by another program" in result.stderr
    held = committed(database)
    assert 2 <= len(held) < PICTURES
    assert_is_part(held, undisturbed.contents)
    monkeypatch.undo()
    undisturbed.complete(database)


def test_lock_at_the_start_that_is_released(tmp_path, undisturbed):
    database = undisturbed.place(tmp_path / "run")
    other = sqlite3.connect(database, isolation_level=None, check_same_thread=False)
    other.execute("begin immediate")
    timer = threading.Timer(1, other.execute, ("rollback",))
    timer.start()
    undisturbed.complete(database)
    timer.join()
    other.close()


def test_reader_does_not_stop_a_write_for_long(tmp_path, undisturbed, configured):
    """A reader of a database without a write-ahead log keeps a commit waiting."""

    configured(commit_seconds=0.0, write_wait_seconds=0.2)
    database = undisturbed.place(tmp_path / "run")
    reader = sqlite3.connect(database, isolation_level=None)
    reader.execute("create table mine (text)")
    reader.execute("insert into mine values ('a')")
    reader.execute("begin")
    reader.execute("select * from mine").fetchall()
    result = embed_by_command(database, undisturbed.model)
    reader.close()
    assert_one_sentence(result)
    assert "is in use by another program" in result.stderr
    undisturbed.complete(database)


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_two_at_once(tmp_path, undisturbed, journal):
    """Two runs over one folder and database start together, and write every batch."""
    database = undisturbed.place(tmp_path / "run")
    if journal == "wal":
        connection = sqlite3.connect(database)
        connection.execute("pragma journal_mode = wal")
        connection.close()
    folder = database.parent / "pictures"
    _race(tmp_path, database, undisturbed.model, [folder, folder])
    # Check the result before another run can repair it.
    undisturbed.check(database)


def test_two_at_once_on_two_folders(tmp_path, undisturbed):
    database = undisturbed.place(tmp_path / "run")
    folders = [database.parent / "pictures" / "copies", database.parent / "pictures"]
    _race(tmp_path, database, undisturbed.model, folders)
    undisturbed.check(database)


def _race(folder: Path, database: Path, model: Path, folders: list[Path]) -> None:
    gate = folder / "gate"
    disturbance = {"config": EAGER, "wait_for": str(gate)}
    processes = [
        start(database, [pictures, "--pretrained", model, "--batch-size", BATCH], disturbance)
        for pictures in folders
    ]
    wait_until(lambda: len(list(folder.glob("gate.*"))) == len(processes), processes[0])
    gate.touch()
    said = [process.communicate(timeout=PATIENCE)[1] for process in processes]
    for process, stderr in zip(processes, said, strict=True):
        assert process.returncode == 0, stderr
        assert "Traceback" not in stderr
