"""Ctrl-C as a wish that is granted between two batches."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupt:
    """Whether the person has asked to stop."""

    def __init__(self, tell: Callable[[], None]):
        self.requested = False
        self._tell = tell

    def request(self, number: int, frame: FrameType | None) -> None:
        """Handles the first signal; the second one ends the program at once."""
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        self._tell()


@contextmanager
def interruptible(tell: Callable[[], None]) -> Iterator[Interrupt]:
    """Catches Ctrl-C, and the signal that ends services; `tell` is called at the first one.

    Signals belong to the main thread: in any other, nothing is caught.
    """
    interrupt = Interrupt(tell)
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, interrupt.request) for number in numbers}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
