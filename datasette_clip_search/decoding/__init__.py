"""Decoding pictures in processes of their own, one for each core."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from ..pictures.messages import Decoded, Outcome, Refused, Settings, Unneeded
from ..sources import Source
from .process import Decoder

__all__ = ["Decoded", "Decoders", "Outcome", "Refused", "Settings", "Unneeded"]

_WATCH_SECONDS = 0.5
# How long a pause waits for what is being decoded, and how often it looks.
_PAUSE_SECONDS, _LOOK_SECONDS = 1, 0.005


class Decoders:
    """A pool of decoding processes; a context manager."""

    def __init__(self, count: int):
        """Starts `count` processes, and does not wait for them."""
        self._all = [Decoder() for _ in range(count)]
        self._idle: queue.SimpleQueue[Decoder] = queue.SimpleQueue()
        for decoder in self._all:
            self._idle.put(decoder)
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="decoding")
        # Held while a process is taken, and by a pause.
        self._taking = threading.Lock()
        self._closed = threading.Event()
        self._watch = threading.Thread(target=self._stop_late_ones, daemon=True)

    def __enter__(self) -> "Decoders":
        self._watch.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._closed.set()
        # First, so that no thread goes on to the next picture, with a new process.
        self._threads.shutdown(wait=False, cancel_futures=True)
        # Those at work are ended too; then their threads end by themselves.
        for decoder in self._all:
            decoder.kill()
        self._threads.shutdown()
        for decoder in self._all:
            decoder.close()
        self._watch.join()

    def submit(
        self,
        source: Source,
        data: bytes | None,
        settings: Settings,
        is_wanted: Callable[[str], bool] = lambda _: True,
    ) -> Future[Outcome]:
        """Has a picture decoded as soon as a process is free; see Decoder.decode."""
        return self._threads.submit(self._decode, source, data, settings, is_wanted)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Has no picture decoded meanwhile, so that what is timed has the processor for itself.

        A picture that takes a second or more is not waited for.
        """
        with self._taking:
            late = time.monotonic() + _PAUSE_SECONDS
            while self._idle.qsize() < len(self._all) and time.monotonic() < late:
                time.sleep(_LOOK_SECONDS)
            yield

    def _decode(
        self,
        source: Source,
        data: bytes | None,
        settings: Settings,
        is_wanted: Callable[[str], bool],
    ) -> Outcome:
        with self._taking:
            # There are no more threads than processes, so that none waits here.
            decoder = self._idle.get()
        try:
            return decoder.decode(source, data, settings, is_wanted)
        finally:
            self._idle.put(decoder)

    def _stop_late_ones(self) -> None:
        while not self._closed.wait(_WATCH_SECONDS):
            for decoder in self._all:
                decoder.stop_if_late()
