"""Runs that are killed, meet a full disk or a lock, or one another: nothing done is lost."""

import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.commands import run
from support.contents import contents
from support.databases import rows
from support.models import make_model
from support.pictures import make_picture
from support.processes import (
    assert_ended,
    decoding_processes,
    largest_file,
    start,
    wait_for_decoders,
)
from support.waiting import PATIENCE, wait_until

pytest.importorskip("open_clip")

# Here runs write every batch. All have the same size: others sum in another order.
EAGER = {"commit_seconds": 0.0, "cpu_batch_size": 4, "gpu_batch_size": 4}
BATCH = 4
PICTURES = 60


@dataclass(frozen=True)
class Undisturbed:
    """Pictures, a model that is loaded already, and what a run makes of them."""

    folder: Path
    model: Path
    contents: dict[str, tuple]
    loaded: object

    def place(self, folder: Path) -> Path:
        """Returns where a database can be made, with these pictures beside it."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "pictures").symlink_to(self.folder)
        return folder / "p.db"

    def arguments(self, database: Path) -> list[object]:
        """Returns how the command is told of these pictures, for a database from `place`."""
        return [database.parent / "pictures", "--pretrained", self.model, "--batch-size", BATCH]

    def complete(self, database: Path) -> None:
        """Runs to the end, and fails unless the result is as if nothing had happened."""
        from datasette_clip_search.embedding import EmbedOptions, embed_images

        chosen = EmbedOptions(pretrained=str(self.model), batch_size=BATCH)
        embed_images(database, [database.parent / "pictures"], chosen, cache=self.loaded)
        self.check(database)

    def check(self, database: Path) -> None:
        """Fails unless database and index are those of an undisturbed run."""
        from datasette_clip_search.database.changes import moment_of
        from datasette_clip_search.database.index import index_path, open_index
        from datasette_clip_search.database.model import models

        assert contents(database) == self.contents
        connection = sqlite3.connect(database)
        try:
            (model,) = models(connection)
            file = index_path(database, model.id)
            base, facts = open_index(file, model.fingerprint, model.dimension)
            assert facts.moment == moment_of(connection, model)
        finally:
            connection.close()
        assert len(base) == len(self.contents)
        left = {path.name for path in database.parent.iterdir() if path.name[0] != "."}
        assert left == {"pictures", database.name, file.name}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    from datasette_clip_search.embedding import EmbedOptions, embed_images
    from datasette_clip_search.embedding.model_loading import RunCache

    folder = tmp_path_factory.mktemp("undisturbed")
    model = make_model(folder / "tiny")
    for number in range(PICTURES - 6):
        make_picture(folder / "pictures" / f"{number:03}.jpg", number)
    for number in range(6):
        make_picture(folder / "pictures" / "copies" / f"{number:03}.jpg", number)
    loaded = RunCache()
    database = folder / "p.db"
    options = EmbedOptions(pretrained=str(model), batch_size=BATCH)
    embed_images(database, [folder / "pictures"], options, cache=loaded)
    held = contents(database)
    assert len(held) == PICTURES
    return Undisturbed(folder / "pictures", model, held, loaded)


def committed(database: Path) -> dict[str, tuple]:
    """Returns what a database holds that may not have its tables yet."""
    if not database.exists():
        return {}
    assert rows(database, "pragma integrity_check") == [("ok",)]
    has_tables = rows(database, "select 1 from sqlite_master where name = 'images'")
    return contents(database) if has_tables else {}


def assert_is_part(held: dict[str, tuple], whole: dict[str, tuple]) -> None:
    """Fails unless every row there is as it will be in the end, with vector and thumbnail."""
    for path, row in held.items():
        assert row == whole[path], path


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_every_state_on_the_disk_is_sound(tmp_path, undisturbed, monkeypatch, configured, journal):
    """The files as they are before each SQL statement are what SIGKILL leaves at that moment.

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


def test_killed_at_a_step(tmp_path, undisturbed):
    """SIGKILL, sent by the process to itself; two at a time."""
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
    """From outside, at random times while it writes; the same database goes on and on."""
    random_ = random.Random(5)
    database = undisturbed.place(tmp_path / "run")
    before: dict[str, tuple] = {}
    for _ in range(3):
        process = start(database, undisturbed.arguments(database), {"config": EAGER})
        # Rows from here on; the model takes seconds, and the pictures less than one.
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
    """At sizes from nothing to all that is needed, so that each of the files meets its limit."""

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
            result = _embed(database, undisturbed.model)
        if result.exit_code:
            refused.append(size)
            # Not "cannot rollback": SQLite has rolled back by itself.
            _assert_one_sentence(result)
        assert_is_part(committed(database), undisturbed.contents)
        undisturbed.complete(database)
    assert refused[:3] == sizes[:3]


@pytest.mark.parametrize("size", [0, 100, 3000])
def test_disk_that_is_full_for_the_index(tmp_path, undisturbed, monkeypatch, size):
    """The database is written; there is no room for the index beside it."""
    from datasette_clip_search.database.index import maintenance as indexing

    database = undisturbed.place(tmp_path / "run")
    undisturbed.complete(database)
    database.with_name("p.db.clip-1.faiss").unlink()
    write = indexing.write

    def write_within(*arguments) -> None:  # type: ignore[no-untyped-def]
        with largest_file(size):
            write(*arguments)

    monkeypatch.setattr(indexing, "write", write_within)
    result = _embed(database, undisturbed.model)
    _assert_one_sentence(result)
    assert "The pictures are embedded" in result.stderr
    assert {path.name for path in database.parent.iterdir()} == {"pictures", "p.db"}
    monkeypatch.undo()
    undisturbed.complete(database)


def _embed(database: Path, model: Path):  # type: ignore[no-untyped-def]
    folder = database.parent / "pictures"
    return run("embed-images", database, folder, "--pretrained", model, "--batch-size", str(BATCH))


def _assert_one_sentence(result) -> None:  # type: ignore[no-untyped-def]
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert "Error: " in result.stderr
    assert "Traceback" not in result.output


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


@pytest.mark.parametrize("lets_go", [True, False])
def test_lock_in_the_middle(tmp_path, undisturbed, monkeypatch, configured, lets_go):
    """Another program writes from the third batch on: for a while, or for too long."""
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
    result = _embed(database, undisturbed.model)
    for timer in timers:
        timer.join()
    other.close()
    if lets_go:
        assert result.exit_code == 0, result.output
        assert calls[0] > 3
        undisturbed.check(database)
        return
    _assert_one_sentence(result)
    assert f"{database} is in use by another program" in result.stderr
    held = committed(database)
    assert 2 <= len(held) < PICTURES
    assert_is_part(held, undisturbed.contents)
    monkeypatch.undo()
    undisturbed.complete(database)


def test_lock_at_the_start_that_is_let_go(tmp_path, undisturbed):
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
    result = _embed(database, undisturbed.model)
    reader.close()
    _assert_one_sentence(result)
    assert "is in use by another program" in result.stderr
    undisturbed.complete(database)


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_two_at_once(tmp_path, undisturbed, journal):
    """On the same folder and database; they begin at the same moment and write every batch."""
    database = undisturbed.place(tmp_path / "run")
    if journal == "wal":
        connection = sqlite3.connect(database)
        connection.execute("pragma journal_mode = wal")
        connection.close()
    folder = database.parent / "pictures"
    _race(tmp_path, database, undisturbed.model, [folder, folder])
    # What they left, before anything mends it.
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


def test_write_ahead_log_is_in_the_database_afterwards(tmp_path, undisturbed):
    """datasette -i opens databases as immutable, and then sees no log."""
    database = undisturbed.place(tmp_path / "run")
    writer = sqlite3.connect(database)
    writer.execute("pragma journal_mode = wal")
    writer.execute("create table mine (text)")
    assert _embed(database, undisturbed.model).exit_code == 0
    reader = sqlite3.connect(f"file:{database}?immutable=1", uri=True)
    counts = reader.execute("select count(*), count(embedding) from images, clip_embeddings")
    assert counts.fetchall() == [(PICTURES**2, PICTURES**2)]
    reader.close()
    writer.close()


def test_temporary_files_of_killed_runs_are_removed(tmp_path, undisturbed):
    """What a run leaves that is killed while it writes its index."""
    database = undisturbed.place(tmp_path / "run")
    left = database.with_name(".p.db.clip-1.faiss.abcdefgh")
    left.write_bytes(b"half an index")
    hour = 3600
    os.utime(left, (time.time() - hour, time.time() - hour))
    undisturbed.complete(database)
    assert not left.exists()
