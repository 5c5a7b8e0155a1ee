"""The processors that this process may use, and work spread over all of them."""

import math
import os
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

# numpy, FAISS and torch read these when they are imported, and start as many threads.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def cores() -> int:
    """Return how many processors this process may use at a time.

    A container's quota counts, which the number of processors in the system does not show.
    """
    shown, quota = _shown(), _own_quota()
    return shown if quota is None else max(1, min(shown, math.ceil(quota)))


def limit_threads() -> None:
    """Keep libraries that are not imported yet from starting more threads than cores().

    They count the processors in the system, which a quota does not change.
    """
    if cores() < _shown():
        for name in _THREADS:
            os.environ.setdefault(name, str(cores()))


def on_all_cores(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Yield what `work` returns for each item, in order, as many at a time as there are cores."""
    left, count = iter(items), cores()
    with ThreadPoolExecutor(count) as pool:
        while chunk := list(islice(left, 2 * count)):
            yield from pool.map(work, chunk)


def quota(root: str = "/") -> float | None:
    """Return the processors that the control groups of this process grant, None for all of them.

    A group has no more than the groups around it. `root` is the folder that holds /proc and /sys.
    """
    grants = [_grant(folder) for folder in _groups(root)]
    return min((grant for grant in grants if grant is not None), default=None)


_own_quota = cache(quota)


def _shown() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _groups(root: str) -> Iterator[str]:
    """Yield the folders of the control groups that this process is in, and those around them."""
    # The usual places, in case /proc does not name them.
    yield posixpath.join(root, "sys/fs/cgroup")
    yield posixpath.join(root, "sys/fs/cgroup/cpu")
    yield posixpath.join(root, "sys/fs/cgroup/cpu,cpuacct")
    own: dict[str, str] = {}
    for line in _read(posixpath.join(root, "proc/self/cgroup")).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            own["cgroup2"] = path
        elif "cpu" in controllers.split(","):
            own["cgroup"] = path
    for line in _read(posixpath.join(root, "proc/self/mountinfo")).splitlines():
        fields = line.split(" ")
        if "-" not in fields:
            continue
        kind, _, options = [*fields[fields.index("-") + 1 :], "", "", ""][:3]
        if kind not in own or (kind == "cgroup" and "cpu" not in options.split(",")):
            continue
        top, mount = (unescaped(field) for field in fields[3:5])
        # A container often sees only its own group of the whole tree.
        below = posixpath.relpath(own[kind], top) if own[kind].startswith(top) else "."
        parts = [] if below == "." or below.startswith("..") else below.split("/")
        for end in range(len(parts) + 1):
            yield posixpath.join(root, mount.lstrip("/"), *parts[:end])


def _grant(folder: str) -> float | None:
    """Return the processors that one control group grants, of version 2 or 1."""
    # "max 100000", or microseconds in each period.
    granted = _read(posixpath.join(folder, "cpu.max")).split() or [
        _read(posixpath.join(folder, "cpu.cfs_quota_us")).strip(),
        _read(posixpath.join(folder, "cpu.cfs_period_us")).strip(),
    ]
    try:
        time, period = int(granted[0]), int(granted[1])
    except (ValueError, IndexError):
        return None
    return time / period if time > 0 and period > 0 else None


def unescaped(field: str) -> str:
    """Decode a path in a field of /proc/self/mountinfo."""
    # It writes spaces, tabs, line ends and backslashes as three octal digits.
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), field)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""
