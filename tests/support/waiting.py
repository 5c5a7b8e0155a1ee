"""Waits for conditions, never for seconds: a busy machine takes longer and is right as well."""

import time
from collections.abc import Callable
from subprocess import Popen
from typing import TypeVar

Value = TypeVar("Value")

# Longer than anything takes, also on a machine that does much else: who waits so long has failed.
PATIENCE = 240


def wait_until(
    holds: Callable[[], Value],
    process: Popen[str] | None = None,
    what: str = "The condition does not hold",
    seconds: float = PATIENCE,
) -> Value:
    """Return the first true value of `holds`.

    Fails after so many seconds, and when `process` ends before.
    """
    deadline = time.monotonic() + seconds
    while not (value := holds()):
        if process is not None and process.poll() is not None:
            # It may have ended just after it made the condition true.
            value = holds()
            assert value, f"The process ended: {process.communicate()}"
            return value
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
    return value
