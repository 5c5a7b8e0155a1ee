"""--watch listens to the folders that it can, and polls the rest."""

import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from datasette_clip_search.embedding import listen
from datasette_clip_search.embedding.listen import Listener
from datasette_clip_search.pictures.sources.mounts import Mount
from support.commands import run
from support.databases import rows
from support.paths import PROGRAMS
from support.pictures import make_picture
from support.processes import start
from support.waiting import PATIENCE, wait_until

pytest.importorskip("watchfiles")

SCRIPT = PROGRAMS / "listening.py"


class Listening:
    """A Listener in its own process."""

    def __init__(self, command: Sequence[str], *arguments: object):
        whole = [*command, sys.executable, str(SCRIPT), *map(str, arguments)]
        self.process = subprocess.Popen(
            whole, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.lines: queue.Queue[str] = queue.Queue()
        self.notes: list[str] = []
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line.strip())

    def next_run(self, seconds: float = PATIENCE) -> None:
        """Wait for a run, and collect the notes that come first."""
        while True:
            try:
                line = self.lines.get(timeout=seconds)
            except queue.Empty:
                self.process.kill()
                raise AssertionError(f"no run: {self.process.communicate()}") from None
            if line.startswith("run"):
                return
            self.notes.append(line)

    def is_quiet(self) -> bool:
        """Return whether no run starts for longer than changes are collected."""
        try:
            while not self.lines.get(timeout=3).startswith("run"):
                pass
        except queue.Empty:
            return True
        return False

    def end(self) -> None:
        self.process.kill()
        _, stderr = self.process.communicate()
        assert "Traceback" not in stderr, stderr


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[Callable[..., Listening]]:
    made: list[Listening] = []
    for name in "abcde":
        (tmp_path / "p" / name).mkdir(parents=True)

    def start(*command: str, seconds: float = 0.5, way: str = "listen") -> Listening:
        made.append(Listening(command, seconds, way, tmp_path / "p"))
        return made[-1]

    yield start
    for each in made:
        each.end()


def limited(limit: str, value: int) -> list[str]:
    """Return a command that runs another with a low limit of inotify, if that is possible."""
    command = ["unshare", "-Ur", "sh", "-c", f"echo {value} > /proc/sys/user/{limit} && exec $@"]
    command[4] = f'echo {value} > /proc/sys/user/{limit} && exec "$@"'
    try:
        subprocess.run([*command, "sh", "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("No user namespace can be made here")
    return [*command, "sh"]


def test_changes_are_noticed(listening, tmp_path):
    heard = listening(seconds=1000)
    heard.next_run()
    (tmp_path / "p" / "e" / "ours.db").touch()
    assert heard.is_quiet()
    (tmp_path / "p" / "e" / "x.jpg").touch()
    heard.next_run()
    assert heard.notes == []


def test_a_folder_that_cannot_be_listed(listening, tmp_path):
    shut = tmp_path / "p" / "c"
    command: list[str] = []
    if os.getuid() == 0:
        if not shutil.which("setpriv"):
            pytest.skip("There is no setpriv here")
        os.chown(shut, 65534, -1)
        command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    shut.chmod(0o700 if command else 0)
    try:
        heard = listening(*command, seconds=1000)
        heard.next_run()
        # Changes in all other folders are noticed, also in new ones.
        for name in ("a/x.jpg", "e/x.jpg", "new/x.jpg", "new/y.jpg"):
            (tmp_path / "p" / name).parent.mkdir(exist_ok=True)
            (tmp_path / "p" / name).touch()
            heard.next_run()
            while not heard.is_quiet():
                pass
        assert heard.notes == []
    finally:
        shut.chmod(0o755)


@pytest.mark.parametrize(
    ("limit", "value", "name"),
    [
        ("max_inotify_watches", 3, "fs.inotify.max_user_watches = 3"),
        ("max_inotify_instances", 0, "fs.inotify.max_user_instances = 0"),
    ],
)
def test_limits_of_the_system(listening, limit, value, name):
    heard = listening(*limited(limit, value))
    for _ in range(3):
        heard.next_run()
    (note,) = heard.notes
    assert name in note
    assert f"sudo sysctl {name.split()[0]}=" in note
    assert "checked every 0.5 seconds" in note
    assert "--poll SECONDS" in note


def test_a_limit_that_is_reached_later(listening, tmp_path):
    heard = listening(*limited("max_inotify_watches", 8), seconds=0.5)
    heard.next_run()
    assert heard.notes == []
    (tmp_path / "p" / "f" / "g" / "h" / "i").mkdir(parents=True)
    for _ in range(4):
        heard.next_run()
    (note,) = heard.notes
    assert "fs.inotify.max_user_watches = 8" in note


def test_polling_by_choice(listening):
    heard = listening(way="poll")
    for _ in range(3):
        heard.next_run()
    assert heard.notes == []


class Told:
    """A Listener over an imitation of watchfiles, in this process."""

    def __init__(self, roots: Sequence[str], watch: Callable[..., object], seconds: float = 0.2):
        self.stop = threading.Event()
        self.notes: list[str] = []
        listener = Listener(roots, lambda _: False, self.stop, seconds, watch, self.notes.append)
        self.runs = listener.changes()


PANIC = type("PanicException", (BaseException,), {})


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("error in underlying watcher: whatever"),
        OSError(5, "Input/output error"),
        ValueError("?"),
        PANIC("called `Result::unwrap()` on an `Err` value"),
        PermissionError(13, "Permission denied (os error 13) about [...]"),
    ],
)
def test_any_error_of_watchfiles(tmp_path, error):
    calls = []

    def watch(*roots, recursive, **_):
        calls.append(recursive)
        raise error
        yield

    told = Told([str(tmp_path)], watch)
    for _ in range(3):
        next(told.runs)
    expected = "The system does not report changes here; the files are checked every 0.2 seconds"
    assert [note.split(". ")[0] for note in told.notes] == [expected]
    assert calls == ([True, False] if isinstance(error, PermissionError) else [True])


def test_an_interrupt_is_not_a_failure_of_watchfiles(tmp_path):
    def watch(*_, **__):
        raise KeyboardInterrupt
        yield

    with pytest.raises(KeyboardInterrupt):
        next(Told([str(tmp_path)], watch).runs)


def quiet(*roots, stop_event, **_):
    """An imitation of watchfiles that reports nothing."""
    while not stop_event.wait(0.05):
        yield set()


@pytest.mark.parametrize(
    ("kind", "is_network"),
    [
        *((kind, True) for kind in ("nfs4", "cifs", "9p", "fuse.sshfs", "fuse", "vboxsf")),
        *((kind, False) for kind in ("ext4", "btrfs", "fuseblk", "overlay", "tmpfs")),
    ],
)
@pytest.mark.parametrize("where", [".", "below"])
def test_network_drives_are_polled(tmp_path, monkeypatch, kind, is_network, where):
    mounted = [Mount("/", "ext4", "8:1", "/")]
    mounted.append(Mount(os.path.realpath(tmp_path / where), kind, "0:9", "/"))
    monkeypatch.setattr(listen, "mounts", lambda: mounted)
    told = Told([str(tmp_path)], quiet)
    next(told.runs)
    # What is not looked at comes to nothing, in the time of three looks.
    timer = threading.Timer(PATIENCE if is_network else 0.7, told.stop.set)
    timer.start()
    assert (next(told.runs, "none") is None) == is_network
    timer.cancel()
    assert bool(told.notes) == is_network
    if is_network:
        assert (
            f"has files on {kind}, which does not report changes by other machines" in told.notes[0]
        )


def test_mounting_a_disk_is_a_change(tmp_path, monkeypatch):
    mounted = [Mount("/", "ext4", "8:1", "/")]
    monkeypatch.setattr(listen, "mounts", lambda: list(mounted))
    told = Told([str(tmp_path)], quiet, seconds=1000)
    next(told.runs)
    for change in (
        lambda: mounted.append(Mount(os.path.realpath(tmp_path / "disk"), "ext4", "8:2", "/")),
        mounted.pop,
    ):
        threading.Timer(0.2, change).start()
        next(told.runs)
    told.stop.set()


def test_poll_is_for_watch(tmp_path):
    result = run("embed-images", tmp_path / "d.db", tmp_path, "--poll", "5")
    assert result.exit_code == 2
    assert "--poll is an option of --watch. Add --watch" in result.output


def test_a_watched_disk_that_is_unmounted_and_comes_back(tmp_path, tiny_model):
    home, disk, away = tmp_path / "home", tmp_path / "disk", tmp_path / "away"
    for number in range(2):
        make_picture(home / f"{number}.png", number)
        make_picture(disk / f"{number}.png", 10 + number)
    database = tmp_path / "d.db"
    options = ["--pretrained", tiny_model, "--text-tower", "none", "--watch", "--poll", "0.3"]
    process = start(database, [home, disk, *options], {})

    def held() -> list[tuple]:
        try:
            return rows(database, "select id, path from images order by id")
        except Exception:
            return []

    try:
        wait_until(lambda: len(held()) == 4, process)
        before = held()
        # Its folder goes, too, as when a desktop unmounts a disk.
        disk.rename(away)
        make_picture(home / "new.png", 20)
        wait_until(lambda: len(held()) == 5, process)
        (home / "0.png").unlink()
        wait_until(lambda: len(held()) == 4, process)
        make_picture(away / "newer.png", 30)
        away.rename(disk)
        wait_until(lambda: len(held()) == 5, process)
        assert {row for row in before if "disk" in row[1]} < set(held())
    finally:
        os.killpg(process.pid, signal.SIGINT)
        _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, stderr
    assert "Traceback" not in stderr
    assert stderr.count(f"2 kept: not found in {disk}") == 1
