"""Ctrl-C, handled between two batches."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupt:
    """A request to stop; `tell` is called when it comes."""

    def __init__(self, tell: Callable[[], None]):
        self.requested = False
        self._tell = tell

    def request(self, number: int, frame: FrameType | None) -> None:
        """Note the first signal; end the program at the second."""
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        self._tell()


@contextmanager
def interruptible(tell: Callable[[], None]) -> Iterator[Interrupt]:
    """Catch Ctrl-C and SIGTERM; call `tell` at the first one.

    Python delivers signals to the main thread. In any other, nothing is caught.
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
