"""Measures one process and all it starts: seconds from start to end, and memory at its peak."""

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from contestants import Contestant, Job
from environments import Unusable

SAMPLE_SECONDS = 0.2
# Walking the page tables of a gigabyte takes milliseconds of the measured process's own time.
SHARED_SAMPLE_SECONDS = 2.0


@dataclass(frozen=True)
class Measured:
    seconds: float
    megabytes: float


def measure(contestant: Contestant, job: Job, log: Path, seconds: float) -> Measured:
    """Run a contestant once, in a fresh folder, and count what it made.

    Raises Unusable when it fails, takes longer than `seconds`, or has not made one vector for
    every picture: an invalid run must never count.
    """
    if job.folder.exists():
        shutil.rmtree(job.folder)
    job.folder.mkdir(parents=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    run = contestant.run(job)
    # Nobody asks the network for anything: an answer's delay would be measured as work.
    variables = {**os.environ, "HF_HUB_OFFLINE": "1", **run.variables}
    if contestant.environment:
        # Packages of ours have no place in an environment of its own.
        variables.pop("PYTHONPATH", None)
    with open(log, "wb") as output:
        started = time.perf_counter()
        # A session of its own, by which all that it starts is known.
        process = subprocess.Popen(
            run.command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=variables,
            cwd=run.folder,
            start_new_session=True,
        )
        memory = _Memory(process.pid)
        memory.start()
        timer = threading.Timer(seconds, _kill, [process.pid])
        timer.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
            elapsed = time.perf_counter() - started
        except BaseException:
            _kill(process.pid)
            raise
        finally:
            timer.cancel()
            memory.done.set()
            memory.join()
        process.returncode = os.waitstatus_to_exitcode(status)
    if elapsed >= seconds:
        raise Unusable(f"it was stopped after {seconds:.0f} seconds")
    if process.returncode:
        raise Unusable(_reason(log) or f"it ended with status {process.returncode}")
    expected = sum(1 for _ in job.pictures.iterdir())
    try:
        made = contestant.count(job)
    except Unusable:
        raise
    except Exception as error:
        # Each kind of output is missing or broken in its own way.
        raise Unusable(f"its output can't be read: {type(error).__name__}: {error}") from error
    if made != expected:
        raise Unusable(f"it made {made} different vectors of {expected} pictures")
    return Measured(elapsed, max(memory.peak, usage.ru_maxrss / _ru_maxrss_per_megabyte()))


def _ru_maxrss_per_megabyte() -> int:
    # Kilobytes on Linux, bytes on macOS.
    return 1 << 20 if os.uname().sysname == "Darwin" else 1 << 10


def _kill(session: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(session, signal.SIGKILL)


def _reason(log: Path) -> str:
    """Return what a failed command said last: from its error message on, else its last line."""
    text = log.read_text("utf-8", "replace").replace("\r", "\n")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    starts = [number for number, line in enumerate(lines) if line.startswith("Error:")]
    return " ".join(lines[starts[-1] :] if starts else lines[-1:])[:400]


class _Memory(threading.Thread):
    """Watches what the processes of one session hold together, in megabytes.

    Of one process that is its resident memory. Of several it is their proportional share, which
    counts what they share once: workers forked from a process with a model share the model.
    """

    def __init__(self, session: int):
        super().__init__(daemon=True)
        self.session = session
        self.done = threading.Event()
        self.peak = 0.0
        self.shares_read = 0.0

    def run(self) -> None:
        page = os.sysconf("SC_PAGE_SIZE")
        while not self.done.wait(SAMPLE_SECONDS):
            processes = _processes(self.session)
            if len(processes) == 1:
                fields = _read(f"/proc/{processes[0]}/statm").split()
                size = int(fields[1]) * page if fields else 0
            elif processes and time.monotonic() - self.shares_read > SHARED_SAMPLE_SECONDS:
                size = sum(map(_share, processes))
                self.shares_read = time.monotonic()
            else:
                continue
            self.peak = max(self.peak, size / (1 << 20))


def _processes(session: int) -> list[int]:
    """Return the processes of a session; none where there is no /proc."""
    try:
        names = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except FileNotFoundError:
        return []
    # After the name in parentheses: state, parent, group, session.
    stats = ((name, _read(f"/proc/{name}/stat").rpartition(")")[2].split()) for name in names)
    return [name for name, fields in stats if len(fields) > 3 and int(fields[3]) == session]


def _share(process: int) -> int:
    for line in _read(f"/proc/{process}/smaps_rollup").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) << 10
    return 0


def _read(file: str) -> str:
    try:
        with open(file, encoding="utf-8", errors="replace") as opened:
            return opened.read()
    except OSError:
        # A process that has just ended.
        return ""
