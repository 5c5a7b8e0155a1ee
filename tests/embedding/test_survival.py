"""Runs that are killed, or meet a full disk: nothing done is lost."""

import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.databases import rows
from support.processes import (
    assert_ended,
    decoding_processes,
    largest_file,
    start,
    wait_for_decoders,
)
from support.undisturbed import (
    EAGER,
    PICTURES,
    Undisturbed,
    assert_is_part,
    assert_one_sentence,
    committed,
    embed_by_command,
)
from support.waiting import PATIENCE

pytest.importorskip("open_clip")


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_every_state_on_disk_is_consistent(tmp_path, undisturbed, monkeypatch, configured, journal):
    """SIGKILL leaves the files as they are before an SQL statement.

    A cache of few pages has SQLite write pages in the middle of transactions.
    """
    from datasette_clip_search.embedding import run as embed

    database = undisturbed.place(tmp_path / "run")
    connection = sqlite3.connect(database)
    connection.execute(f"pragma journal_mode = {journal}")
    connection.close()
    states: list[tuple[Path, int]] = []
    last: object = None
    written = 0

    def look(_: str) -> None:
        nonlocal last
        files = [path for path in sorted(database.parent.iterdir()) if path.is_file()]
        seen = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
        if seen != last:
            last = seen
            state = tmp_path / f"state{len(states)}"
            undisturbed.place(state)
            for path in files:
                shutil.copyfile(path, state / path.name)
            states.append((state, written))

    real = embed.connect

    def connect(path: Path) -> sqlite3.Connection:
        opened = real(path)
        opened.execute("pragma cache_size = 2")
        opened.set_trace_callback(look)
        return opened

    class Told(embed.Store):
        def write(self, results):  # type: ignore[no-untyped-def]
            nonlocal written
            answer = super().write(results)
            written += len(answer[0])
            return answer

    monkeypatch.setattr(embed, "connect", connect)
    monkeypatch.setattr(embed, "Store", Told)
    configured(commit_seconds=0.0)
    undisturbed.complete(database)
    monkeypatch.undo()
    assert len(states) > 2 * PICTURES / 4
    for number, (state, at_least) in enumerate(states):
        held = committed(state / "p.db")
        assert len(held) >= at_least
        assert_is_part(held, undisturbed.contents)
        if number % (len(states) // 4) == 0:
            undisturbed.complete(state / "p.db")


KILLS = [
    ("after:tables", 1),
    ("vector", 6),
    ("after:write", 3),
    ("prune", 1),
    ("replace", 1),
    ("after:replace", 1),
]


def test_killed_at_each_step(tmp_path, undisturbed):
    """The process sends itself SIGKILL; two processes run at a time."""
    with ThreadPoolExecutor(2) as threads:
        for future in [
            threads.submit(_kill_at, undisturbed, tmp_path / str(number), step, time_)
            for number, (step, time_) in enumerate(KILLS)
        ]:
            database, step, held = future.result()
            assert_is_part(held, undisturbed.contents)
            if step in ("prune", "replace", "after:replace"):
                assert held == undisturbed.contents
            elif step == "after:write":
                assert len(held) >= 3
            undisturbed.complete(database)


def _kill_at(
    undisturbed: Undisturbed, folder: Path, step: str, time_: int
) -> tuple[Path, str, dict[str, tuple]]:
    database = undisturbed.place(folder)
    disturbance = {"config": EAGER, "signals": [[step, time_, signal.SIGKILL, False]]}
    process = start(database, undisturbed.arguments(database), disturbance)
    decoders = wait_for_decoders(process)
    _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == -signal.SIGKILL, (step, stderr)
    assert decoders
    assert_ended(decoders)
    return database, step, committed(database)


def test_killed_at_any_time(tmp_path, undisturbed):
    """SIGKILL from outside, at random times, again and again over one database."""
    random_ = random.Random(5)
    database = undisturbed.place(tmp_path / "run")
    before: dict[str, tuple] = {}
    for _ in range(3):
        process = start(database, undisturbed.arguments(database), {"config": EAGER})
        # There are rows from here on: the model takes seconds, the pictures less than one.
        while process.poll() is None and len(_rows_now(database)) <= len(before):
            time.sleep(0.005)
        time.sleep(random_.random() * 0.1)
        decoders = decoding_processes(process.pid)
        process.kill()
        process.communicate(timeout=PATIENCE)
        assert_ended(decoders)
        held = committed(database)
        assert_is_part(held, undisturbed.contents)
        assert before.keys() <= held.keys()
        before = held
    undisturbed.complete(database)


def _rows_now(database: Path) -> list[tuple]:
    try:
        return rows(database, "select id from images") if database.exists() else []
    except sqlite3.OperationalError:
        return []


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_full_disk(tmp_path, undisturbed, configured, journal):
    """At sizes from 0 to enough, so that each file meets the limit once."""

    whole = undisturbed.folder.parent / "p.db"
    configured(commit_seconds=0.0)
    sizes = [0, 33_000, 100_000, 180_000, whole.stat().st_size - 1]
    refused = []
    for number, size in enumerate(sizes):
        database = undisturbed.place(tmp_path / str(number))
        connection = sqlite3.connect(database)
        connection.execute("pragma page_size = 32768")
        connection.execute(f"pragma journal_mode = {journal}")
        connection.execute("create table mine (text)")
        connection.close()
        with largest_file(size):
            result = embed_by_command(database, undisturbed.model)
        if result.exit_code:
            refused.append(size)
            # Not "cannot rollback": SQLite itself has rolled back.
            assert_one_sentence(result)
        assert_is_part(committed(database), undisturbed.contents)
        undisturbed.complete(database)
    assert refused[:3] == sizes[:3]


@pytest.mark.parametrize("size", [0, 100, 3000])
def test_disk_that_is_full_for_the_index(tmp_path, undisturbed, monkeypatch, size):
    """The database has room, and its index has none."""
    from datasette_clip_search.database.index import maintenance as indexing

    database = undisturbed.place(tmp_path / "run")
    undisturbed.complete(database)
    database.with_name("p.db.clip-1.faiss").unlink()
    write = indexing.write_index

    def write_within(*arguments) -> None:  # type: ignore[no-untyped-def]
        with largest_file(size):
            write(*arguments)

    monkeypatch.setattr(indexing, "write_index", write_within)
    result = embed_by_command(database, undisturbed.model)
    assert_one_sentence(result)
    assert "The pictures are embedded" in result.stderr
    assert {path.name for path in database.parent.iterdir()} == {"pictures", "p.db"}
    monkeypatch.undo()
    undisturbed.complete(database)


def test_full_disk_in_a_process_of_its_own(tmp_path, undisturbed):
    database = undisturbed.place(tmp_path / "run")
    command = [sys.executable, "-m", "sqlite_utils", "embed-images", database]
    command += map(str, undisturbed.arguments(database))

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    result = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert "Error: " in result.stderr
    assert_is_part(committed(database), undisturbed.contents)
    undisturbed.complete(database)


def test_write_ahead_log_is_in_the_database_afterwards(tmp_path, undisturbed):
    """datasette -i opens databases as immutable, and does not see the log."""
    database = undisturbed.place(tmp_path / "run")
    writer = sqlite3.connect(database)
    writer.execute("pragma journal_mode = wal")
    writer.execute("create table mine (text)")
    assert embed_by_command(database, undisturbed.model).exit_code == 0
    reader = sqlite3.connect(f"file:{database}?immutable=1", uri=True)
    counts = reader.execute("select count(*), count(embedding) from images, clip_embeddings")
    assert counts.fetchall() == [(PICTURES**2, PICTURES**2)]
    reader.close()
    writer.close()


def test_temporary_files_of_killed_runs_are_removed(tmp_path, undisturbed):
    """A run that was killed while it wrote its index leaves one."""
    database = undisturbed.place(tmp_path / "run")
    left = database.with_name(".p.db.clip-1.faiss.abcdefgh")
    left.write_bytes(b"half an index")
    hour = 3600
    os.utime(left, (time.time() - hour, time.time() - hour))
    undisturbed.complete(database)
    assert not left.exists()
