"""Runs of embed-images in processes of their own, their decoding processes, and full disks."""

import json
import resource
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.paths import TESTS
from support.waiting import wait_until


def start(
    database: Path, arguments: Sequence[object], disturbance: dict[str, Any]
) -> subprocess.Popen[str]:
    """Start a disturbed run in its own process group, as a terminal does."""
    module = ["-m", "programs.disturbed_run"]
    command = [sys.executable, *module, json.dumps(disturbance), database, *arguments]
    return subprocess.Popen(
        [str(part) for part in command],
        cwd=TESTS,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def decoding_processes(parent: int) -> set[int]:
    """Return the ids of the decoding processes that a process runs."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        process = int(folder.name)
        if is_running(process) and _status(process)[1] == str(parent):
            found.add(process)
    return found


def is_running(process: int) -> bool:
    """Return whether this id is that of a decoding process, other than a zombie."""
    try:
        command = Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return False
    return b"pictures.processes.worker" in command and _status(process)[0] not in ("Z", "")


def _status(process: int) -> list[str]:
    """Return the state and the parent's id of a process."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return ["", ""]


def wait_for_decoders(process: subprocess.Popen[str]) -> set[int]:
    """Return the decoding processes of a run as soon as there are two, or none if it ends."""
    found: set[int] = set()

    def is_over() -> bool:
        nonlocal found
        found = decoding_processes(process.pid)
        return len(found) >= 2 or process.poll() is not None

    wait_until(is_over)
    return found if len(found) >= 2 else set()


def assert_ended(processes: set[int]) -> None:
    """Fail unless decoding processes end by themselves, before any limit could end them."""
    what = f"Some of {processes} are still running"
    wait_until(lambda: not any(map(is_running, processes)), what=what, seconds=50)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Limit the size of every file, as a full disk does; decoding processes inherit the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
