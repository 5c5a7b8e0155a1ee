"""A picture that crashes, hangs, prints or fills memory while decoding costs only itself."""

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from datasette_clip_search.common.config import CONFIG
from datasette_clip_search.common.errors import ClipSearchError
from datasette_clip_search.pictures.processes import process
from datasette_clip_search.pictures.processes.messages import Job
from datasette_clip_search.pictures.processes.pool import (
    Decoded,
    DecodeFailure,
    DecoderPool,
    Settings,
    Unneeded,
)
from datasette_clip_search.pictures.processes.process import IsWanted
from datasette_clip_search.pictures.sources import DiskFile
from datasette_clip_search.search import query_decoder
from support.commands import run
from support.databases import rows
from support.embedding import summary
from support.pictures import make_picture
from support.processes import assert_ended, decoding_processes, is_running
from support.traps import PLUGIN, make_trap
from support.waiting import wait_until

REASONS = {
    "crash": "It crashes the decoder (Segmentation fault)",
    "hang": "Decoding it took longer than 1.5 seconds and was stopped",
    "memory": "There is not enough memory to decode it",
    "leave": "It crashes the decoder (exit status 3)",
    "exit": "It crashes the decoder (exit status 1)",
    "kill": "Its decoding process was killed, perhaps for lack of memory",
}
SETTINGS = Settings(None, 150, thumbnails=True)


@pytest.fixture(autouse=True)
def no_query_decoder() -> None:
    """End the decoding process that other tests' searches left, which is not one of a run."""
    query_decoder.close()


@pytest.fixture
def traps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Teach decoding processes the format of traps."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(PLUGIN)
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)


def source(path: Path) -> DiskFile:
    info = path.stat()
    return DiskFile(path.name, info.st_size, info.st_mtime, str(path.parent))


def test_traps_among_pictures(tmp_path, traps, tiny_model, configured):
    configured(decode_seconds=1.5)
    folder, database = tmp_path / "p", tmp_path / "d.db"
    ways = [*REASONS, "print", *REASONS, "print"]
    for number, way in enumerate(ways):
        make_trap(folder / f"{number:02} {way}.png", way)
        for beside in "ab":
            make_picture(folder / f"{number:02}{beside}.png", 10 * number + ord(beside))
    command = ["embed-images", database, folder, "--pretrained", tiny_model]
    result = run(*command)
    assert result.exit_code == 0, result.output
    assert "Hello" not in result.output
    told = summary(result.stdout)
    assert told["Embedded"] == str(2 * len(ways) + 2)
    assert told["Failed"].startswith(f"{2 * len(REASONS)} ")
    good = sorted(
        f"p/{path.name}"
        for path in folder.iterdir()
        if path.stem[-1] in "ab" or path.stem.endswith("print")
    )
    # Ids follow the order of the paths, whatever happened in between.
    assert [path for (path,) in rows(database, "select path from images order by id")] == good
    reasons = rows(database, "select path, reason from clip_failures order by path")
    assert dict(reasons) == {
        f"p/{number:02} {way}.png": REASONS[way]
        for number, way in enumerate(ways)
        if way in REASONS
    }
    for way in ("crash", "hang"):
        assert f"p/{ways.index(way):02} {way}.png: {REASONS[way]}" in result.stderr
    assert not decoding_processes(os.getpid())
    # Only lack of memory is tried again: another machine or another day can mend it.
    again = run(*command)
    tried = {line.split(" ")[1].split(".")[0] for line in again.stderr.splitlines() if "p/" in line}
    assert tried == {"kill", "memory"}


def test_processes_that_do_not_start(tmp_path, pictures, tiny_model, monkeypatch):
    (tmp_path / "site" / "PIL").mkdir(parents=True)
    (tmp_path / "site" / "PIL" / "__init__.py").write_text("raise ImportError('no Pillow')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"), prepend=os.pathsep)
    database = tmp_path / "d.db"
    result = run("embed-images", database, pictures, "--pretrained", tiny_model)
    assert result.exit_code == 1
    assert "Traceback" not in result.output
    errors = [line for line in result.stderr.splitlines() if "Error: " in line]
    assert len(errors) == 1
    assert errors[0].startswith(
        "Error: The process that decodes pictures does not start. To see why, run: "
    )
    assert not database.exists()


def test_the_suggested_command_shows_the_reason(tmp_path, monkeypatch):
    (tmp_path / "PIL").mkdir()
    (tmp_path / "PIL" / "__init__.py").write_text("raise ImportError('no Pillow')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    with DecoderPool(1) as decoders, pytest.raises(ClipSearchError) as raised:
        decoders.submit(source(tmp_path / "PIL" / "__init__.py"), None, SETTINGS).result(60)
    command = str(raised.value).split("To see why, run: ")[1].split()
    assert command[0] == sys.executable
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert "ImportError: no Pillow" in result.stderr


def test_each_outcome_belongs_to_its_picture(tmp_path):
    paths = [make_picture(tmp_path / f"{seed}.png", seed, (20 + seed, 10)) for seed in range(30)]
    with DecoderPool(3) as decoders:
        futures = [
            decoders.submit(source(path), path.read_bytes() if seed % 2 else None, SETTINGS)
            for seed, path in enumerate(paths)
        ]
        for seed, (path, future) in enumerate(zip(paths, futures, strict=True)):
            outcome = future.result(60)
            assert isinstance(outcome, Decoded)
            assert outcome.content_hash == sha256(path.read_bytes()).hexdigest()
            assert (outcome.width, outcome.pixels) == (20 + seed, None)
            assert outcome.thumbnail


def test_unwanted_pictures_are_not_decoded(tmp_path, traps):
    trap = make_trap(tmp_path / "a.png", "crash")
    asked: list[str] = []

    def is_wanted(content_hash: str) -> bool:
        asked.append(content_hash)
        return False

    with DecoderPool(1) as decoders:
        outcome = decoders.submit(source(trap), None, SETTINGS, is_wanted).result(60)
    assert asked == [sha256(trap.read_bytes()).hexdigest()]
    assert outcome == Unneeded(asked[0])


@pytest.fixture
def one_decoder(configured: Callable[..., None]) -> Iterator[process.DecoderProcess]:
    configured(decode_seconds=1.5)
    decoder = process.DecoderProcess()
    yield decoder
    decoder.close()


def job(path: Path) -> Job:
    return Job(SETTINGS, path.name, str(path), None)


def test_batched_pictures_are_told_apart(tmp_path, traps, one_decoder):
    """Whatever happens to some pictures, those before and after them are decoded once."""
    ways = ["good", "crash", "good", "not needed", "hang", "missing", "kill", "memory", "good"]
    paths, asked = [], []
    for number, way in enumerate(ways):
        path = tmp_path / f"{number}.png"
        paths.append(make_trap(path, way) if way in REASONS else make_picture(path, number))
    (tmp_path / f"{ways.index('missing')}.png").unlink()

    def wanted(way: str) -> IsWanted:
        return lambda content_hash: bool(asked.append(content_hash)) or way != "not needed"

    outcomes = one_decoder.answers([job(path) for path in paths], [wanted(way) for way in ways])
    closed = threading.Event()

    def stop_late_ones() -> None:
        while not closed.wait(0.1):
            one_decoder.stop_if_late()

    watch = threading.Thread(target=stop_late_ones)
    watch.start()
    try:
        for path, way, outcome in zip(paths, ways, outcomes, strict=True):
            if way == "good":
                assert isinstance(outcome, Decoded)
                assert outcome.content_hash == sha256(path.read_bytes()).hexdigest()
            elif way == "not needed":
                assert outcome == Unneeded(sha256(path.read_bytes()).hexdigest())
            elif way == "missing":
                assert isinstance(outcome, DecodeFailure)
                assert outcome.reason == "It can't be read: No such file or directory"
            else:
                assert isinstance(outcome, DecodeFailure)
                assert outcome.reason == REASONS[way]
    finally:
        closed.set()
        watch.join()
    assert set(asked) == {sha256(path.read_bytes()).hexdigest() for path in paths if path.exists()}


def test_process_that_ends_while_it_reads_some(pictures, one_decoder, monkeypatch):
    """Nobody can say which of them it was, so each is tried alone."""
    sent: list[int] = []
    send = process.DecoderProcess._send

    def die_of_several(decoder: process.DecoderProcess, value: object) -> None:
        if isinstance(value, list) and isinstance(value[0], Job):
            sent.append(len(value))
            if len(value) > 1:
                decoder._process.kill()
        send(decoder, value)

    monkeypatch.setattr(process.DecoderProcess, "_send", die_of_several)
    paths = sorted(pictures.glob("*.*"))
    wanted = [lambda _: True] * len(paths)
    outcomes = list(one_decoder.answers([job(path) for path in paths], wanted))
    assert all(isinstance(outcome, Decoded) for outcome in outcomes)
    assert sent == [len(paths)] + [1] * len(paths)


def test_small_pictures_are_batched(tmp_path, monkeypatch, configured):
    """But a batch leaves work for the other processes, and large pictures go alone."""
    given: list[int] = []
    answers = process.DecoderProcess.answers

    def spy(decoder: process.DecoderProcess, jobs: list[Job], wanted: list[IsWanted]) -> object:
        given.append(len(jobs))
        return answers(decoder, jobs, wanted)

    monkeypatch.setattr(process.DecoderProcess, "answers", spy)
    sources = [source(make_picture(tmp_path / f"{seed:02}.png", seed)) for seed in range(40)]
    decoders = DecoderPool(2)
    futures = [decoders.submit(each, None, SETTINGS) for each in sources]
    futures[3].cancel()
    with decoders:
        outcomes = [future.result(60) for number, future in enumerate(futures) if number != 3]
    assert all(isinstance(outcome, Decoded) for outcome in outcomes)
    assert sum(given) == 39
    assert max(given) == CONFIG.decoded_together
    # The last ones are shared among the processes.
    assert min(given) <= 2
    given.clear()
    configured(decoded_together_bytes=sources[0].size)
    with DecoderPool(1) as decoders:
        for future in [decoders.submit(each, None, SETTINGS) for each in sources[:5]]:
            future.result(60)
    assert given == [1] * 5


def test_files_that_are_not_there(tmp_path, pictures):
    there = source(pictures / "a.jpg")
    gone = source(make_picture(tmp_path / "gone.jpg"))
    (tmp_path / "gone.jpg").unlink()
    os.mkfifo(tmp_path / "gone.jpg")
    with DecoderPool(1) as decoders:
        refused = decoders.submit(gone, None, SETTINGS).result(60)
        assert refused == DecodeFailure("It is not a regular file", again=True, unread=True)
        assert isinstance(decoders.submit(there, None, SETTINGS).result(60), Decoded)


def test_process_that_is_killed_while_it_starts(pictures, monkeypatch):
    start = process.DecoderProcess._start
    killed: list[int] = []

    def start_in_vain(decoder: process.DecoderProcess) -> None:
        start(decoder)
        if len(killed) < 2:
            killed.append(decoder._process.pid)
            decoder._process.kill()

    monkeypatch.setattr(process.DecoderProcess, "_start", start_in_vain)
    with DecoderPool(1) as decoders:
        outcome = decoders.submit(source(pictures / "a.jpg"), None, SETTINGS).result(60)
    assert isinstance(outcome, Decoded)
    assert len(killed) == 2


def test_process_that_ended_between_two_pictures(pictures):
    with DecoderPool(1) as decoders:
        for _ in range(3):
            outcome = decoders.submit(source(pictures / "a.jpg"), None, SETTINGS).result(60)
            assert isinstance(outcome, Decoded)
            (decoder,) = decoders._all
            decoder._process.kill()
            decoder._process.wait()


def close_in_time(decoders: DecoderPool) -> None:
    """Close decoders in a thread, so that one that hangs fails the test instead of hanging it."""
    closing = threading.Thread(target=decoders.__exit__, args=(None, None, None), daemon=True)
    closing.start()
    closing.join(15)
    is_closed = not closing.is_alive()
    for left in decoding_processes(os.getpid()):
        os.kill(left, 9)
    assert is_closed, "closing takes for ever"


@pytest.mark.parametrize("moment", ["starting", "working"])
@pytest.mark.parametrize("delay", [0, 0.3])
def test_closing_ends_work_in_progress(tmp_path, traps, monkeypatch, moment, delay):
    """Even if threads go on to the next pictures before the last process is killed."""
    kill = process.DecoderProcess.kill

    def kill_slowly(decoder: process.DecoderProcess) -> None:
        kill(decoder)
        time.sleep(delay)

    monkeypatch.setattr(process.DecoderProcess, "kill", kill_slowly)
    trap = make_trap(tmp_path / "a.png", "hang")
    began = threading.Event()

    def is_wanted(_: str) -> bool:
        began.set()
        return True

    decoders = DecoderPool(2).__enter__()
    futures = [decoders.submit(source(trap), None, SETTINGS, is_wanted) for _ in range(9)]
    if moment == "working":
        assert began.wait(60)
    running = wait_until(lambda: decoding_processes(os.getpid()))
    # The thread must not start a new process, because nobody would end it.
    close_in_time(decoders)
    assert_ended(running)
    assert all(future.done() for future in futures)
    assert all(not is_running(decoder._process.pid) for decoder in decoders._all)


def test_nothing_is_decoded_in_a_pause(pictures):
    picture = source(pictures / "a.jpg")
    with DecoderPool(2) as decoders:
        before = [decoders.submit(picture, None, SETTINGS) for _ in range(20)]
        with decoders.paused():
            done = [future.done() for future in before]
            later = decoders.submit(picture, None, SETTINGS)
            time.sleep(0.3)
            assert not later.done()
            # Pictures that were being decoded are already done.
            assert [future.done() for future in before] == done
        assert all(isinstance(future.result(60), Decoded) for future in [*before, later])


def test_a_pause_does_not_wait_for_ever(tmp_path, traps):
    with DecoderPool(1) as decoders:
        hanging = decoders.submit(source(make_trap(tmp_path / "a.png", "hang")), None, SETTINGS)
        started = time.monotonic()
        with decoders.paused():
            assert time.monotonic() - started < 30
            assert not hanging.done()


def test_closing_without_work():
    decoders = DecoderPool(2).__enter__()
    close_in_time(decoders)
    assert not decoding_processes(os.getpid())


def test_error_inside_closes_too(pictures):
    def fail() -> None:
        with DecoderPool(2) as decoders:
            decoders.submit(source(pictures / "a.jpg"), None, SETTINGS)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not decoding_processes(os.getpid())


def test_names_and_folders_do_not_matter(tmp_path, pictures, monkeypatch):
    """Decoding processes import nothing from the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "PIL").mkdir()
    (tmp_path / "PIL" / "__init__.py").write_text("raise ImportError")
    odd = shutil.copy(pictures / "a.jpg", tmp_path / "ä 'quoted'\n.jpg")
    with DecoderPool(1) as decoders:
        outcome = decoders.submit(source(Path(odd)), None, SETTINGS).result(60)
    assert isinstance(outcome, Decoded)


def test_decoders_start_without_what_takes_long_to_import():
    code = (
        "import sys; import datasette_clip_search.pictures.processes.worker\n"
        "heavy = {'numpy', 'torch', 'open_clip', 'faiss', 'onnxruntime', 'sqlite3', 'click'}\n"
        "print(sorted(heavy.intersection(sys.modules)))"
    )
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, capture_output=True, text=True).stdout == "[]\n"
