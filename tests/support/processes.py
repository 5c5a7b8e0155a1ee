"""Runs in processes of their own, what they leave behind, and disks that are full."""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.paths import TESTS


def start(
    database: Path, arguments: Sequence[object], disturbance: dict[str, Any]
) -> subprocess.Popen[str]:
    """Starts a disturbed run, in a process group of its own as a terminal does."""
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
    """Returns the decoding processes that a process has running."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        process = int(folder.name)
        if is_running(process) and _status(process)[1] == str(parent):
            found.add(process)
    return found


def is_running(process: int) -> bool:
    """Tells whether there is a decoding process of this id, and not only what is left of it."""
    try:
        command = Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return False
    return b"pictures.processes.worker" in command and _status(process)[0] not in ("Z", "")


def _status(process: int) -> list[str]:
    """Returns a process's state and its parent."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return ["", ""]


def wait_for_decoders(process: subprocess.Popen[str]) -> set[int]:
    """Returns the decoding processes of a run as soon as they are two, or none if it ends."""
    while process.poll() is None:
        if len(found := decoding_processes(process.pid)) >= 2:
            return found
        time.sleep(0.02)
    return set()


def assert_ended(processes: set[int]) -> None:
    """Fails unless decoding processes end by themselves within some seconds."""
    deadline = time.monotonic() + 20
    while alive := {process for process in processes if is_running(process)}:
        assert time.monotonic() < deadline, f"{alive} are still running"
        time.sleep(0.05)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Lets no file grow beyond a size, as a full disk does; decoding processes inherit it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
