"""Turn failures into the text of an SQL error, and limit calls within calls."""

import logging
import threading

from .library import FunctionError
from .structures import SQLITE_ERROR, SQLITE_INTERRUPT

MOST_NESTED = 20
"""How deep functions may call one another through SQL. Python's own limit is far away: at the entry
of a callback a RecursionError could not be caught."""

logger = logging.getLogger(__name__)


class Failures:
    """Turns exceptions into the text and the code of an SQL error."""

    def __init__(self, name: str, expected: tuple[type[BaseException], ...]) -> None:
        self._name = name
        self._expected = (*expected, FunctionError)
        self._log = logger

    def describe(self, error: BaseException) -> tuple[bytes, int]:
        try:
            if isinstance(error, KeyboardInterrupt) or _is_interrupted(error):
                return b"interrupted", SQLITE_INTERRUPT
            if isinstance(error, self._expected):
                text = str(error) or type(error).__name__
                return text.replace("\0", "\\0").encode("utf-8", "replace"), SQLITE_ERROR
            self._log.error("%s failed", self._name, exc_info=error)
            return f"{self._name} failed: {type(error).__name__}".encode(), SQLITE_ERROR
        except BaseException:
            return b"an SQL function failed", SQLITE_ERROR


def _is_interrupted(error: BaseException) -> bool:
    # An interrupt or time limit that ends a statement inside the function is meant for the
    # statement that called it. Programs recognize it by this text.
    return type(error).__name__ == "OperationalError" and error.args == ("interrupted",)


class Nesting(threading.local):
    """Counts the functions that run inside one another in a thread."""

    depth = 0

    def __enter__(self) -> None:
        if self.depth >= MOST_NESTED:
            raise FunctionError(f"SQL functions call one another more than {MOST_NESTED} deep")
        self.depth += 1

    def __exit__(self, *error: object) -> None:
        self.depth -= 1


nesting = Nesting()
