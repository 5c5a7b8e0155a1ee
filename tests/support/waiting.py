"""Wait for conditions, not for fixed times, so that tests also pass on a busy machine."""

import time
from collections.abc import Callable
from subprocess import Popen
from typing import TypeVar

Value = TypeVar("Value")

# Longer than any step takes on a busy machine: a wait that lasts this long has failed.
PATIENCE = 240


def wait_until(
    holds: Callable[[], Value],
    process: Popen[str] | None = None,
    what: str = "The condition does not hold",
    seconds: float = PATIENCE,
) -> Value:
    """Return the first true value of `holds`.

    Fail after `seconds`, or when `process` ends first.
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
