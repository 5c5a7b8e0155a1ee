"""The processors that this process may use, and work for all of them."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def cores() -> int:
    """Returns how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def on_all_cores(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Yields what `work` returns for each item, in order; as many at a time as there are cores."""
    left = iter(items)
    with ThreadPoolExecutor(cores()) as pool:
        while chunk := list(islice(left, 2 * cores())):
            yield from pool.map(work, chunk)
