"""Tell work in another thread to end."""

import threading
from collections.abc import Callable


class Stopping:
    """A request to end, and the functions to call for it: libraries have switches of their own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: list[Callable[[], object]] = []
        self._is_set = False

    @property
    def is_set(self) -> bool:
        """Whether the work should end."""
        return self._is_set

    def set(self) -> None:
        """Request the end of the work."""
        with self._lock:
            self._is_set = True
            calls = self._calls
        for call in calls:
            call()

    def call(self, function: Callable[[], object]) -> None:
        """Add a function to call when the work should end; call it now if it already should."""
        with self._lock:
            self._calls.append(function)
            is_set = self._is_set
        if is_set:
            function()

    def heed(self) -> None:
        """Raise Stopped if the work should end."""
        if self._is_set:
            raise Stopped


class Stopped(Exception):
    "The work was asked to end"
