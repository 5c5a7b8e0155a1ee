"""A pool of decoding processes, one for each core.

- Each process belongs to one thread, which sends it a few pictures at a time and waits for them.
- Every future that submit() returns gets an outcome, an exception, or is cancelled.
- `_changed` guards the tasks, the number of busy threads and the pause. A thread that waits for it
  waits for tasks, for the end of a pause, or for the end of the pool.
- A picture that crashes, hangs or fills memory costs only itself: its process is killed, and the
  thread starts a new one for the next picture.
- Another thread looks at all processes every half second, and kills those over their time limit.
- Leaving the context sets `_closed` first, so that no thread starts a new process; then it kills
  the processes, which ends what their threads wait for, and joins the threads.
"""

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ...common.config import CONFIG
from ...common.errors import PictureError
from ..sources import Source
from .messages import Decoded, DecodeFailure, Job, Outcome, Settings, Unneeded
from .process import DecoderProcess, IsWanted

__all__ = ["DecodeFailure", "Decoded", "DecoderPool", "Outcome", "Settings", "Unneeded"]

_WATCH_SECONDS = 0.5
# How long a pause waits for pictures that are being decoded, and how often it checks.
_PAUSE_SECONDS, _LOOK_SECONDS = 1, 0.005


@dataclass
class _Task:
    """A picture to decode, and the future of its outcome."""

    source: Source
    data: bytes | None
    settings: Settings
    is_wanted: IsWanted
    future: Future[Outcome] = field(default_factory=Future)


class DecoderPool:
    """A context manager for decoding processes, each with a thread that waits for it."""

    def __init__(self, count: int):
        """Start `count` processes, without waiting until they are ready."""
        self._all = [DecoderProcess() for _ in range(count)]
        # Guards the next three.
        self._changed = threading.Condition()
        self._tasks: deque[_Task] = deque()
        self._busy = 0
        self._is_paused = False
        self._closed = threading.Event()
        self._threads = [
            threading.Thread(target=self._serve, args=[decoder], name="decoding", daemon=True)
            for decoder in self._all
        ]
        self._threads.append(threading.Thread(target=self._stop_late_ones, daemon=True))

    def __enter__(self) -> "DecoderPool":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        # First, so that no thread goes on to the next picture in a new process.
        self._closed.set()
        with self._changed:
            for task in self._tasks:
                task.future.cancel()
            self._tasks.clear()
            self._changed.notify_all()
        # Once their processes are dead, the threads end by themselves.
        for decoder in self._all:
            decoder.kill()
        for thread in self._threads:
            thread.join()
        for decoder in self._all:
            decoder.close()

    def submit(
        self,
        source: Source,
        data: bytes | None,
        settings: Settings,
        is_wanted: IsWanted = lambda _: True,
    ) -> Future[Outcome]:
        """Queue a picture, to decode it as soon as a process is free.

        `data` is the file's content if it has already been read. `is_wanted` gets the hash of the
        content, and returns whether to decode it.
        """
        task = _Task(source, data, settings, is_wanted)
        with self._changed:
            self._tasks.append(task)
            self._changed.notify()
        return task.future

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Pause decoding, so that a measurement has the processor to itself.

        Wait for the pictures that are being decoded, but for no more than a second.
        """
        with self._changed:
            self._is_paused = True
        try:
            late = time.monotonic() + _PAUSE_SECONDS
            while self._busy and time.monotonic() < late:
                time.sleep(_LOOK_SECONDS)
            yield
        finally:
            with self._changed:
                self._is_paused = False
                self._changed.notify_all()

    def _serve(self, decoder: DecoderProcess) -> None:
        while tasks := self._take():
            try:
                self._decode(decoder, tasks)
            except BaseException as error:
                for task in tasks:
                    if not task.future.done():
                        task.future.set_exception(error)
            with self._changed:
                self._busy -= 1

    def _take(self) -> list[_Task]:
        """Wait for pictures to decode, and return a batch for one process.

        Small pictures are taken several at a time: with fewer turns, threads wait less for each
        other. Return an empty list when the pool is closed.
        """
        taken: list[_Task] = []
        with self._changed:
            while not taken:
                while not self._closed.is_set() and (self._is_paused or not self._tasks):
                    self._changed.wait()
                if self._closed.is_set():
                    break
                most = min(CONFIG.decoded_together, -(-len(self._tasks) // len(self._all)))
                size = 0
                while self._tasks and len(taken) < most:
                    size += self._tasks[0].source.size
                    if taken and size > CONFIG.decoded_together_bytes:
                        break
                    task = self._tasks.popleft()
                    if task.future.set_running_or_notify_cancel():
                        taken.append(task)
            self._busy += bool(taken)
        return taken

    def _decode(self, decoder: DecoderProcess, tasks: Sequence[_Task]) -> None:
        """Resolve the futures of a batch. Raise ClipSearchError if no process can be started."""
        readable, jobs = [], []
        for task in tasks:
            source, data = task.source, task.data
            try:
                if data is None and source.path is None:
                    data = source.read()
            except PictureError as error:
                task.future.set_result(DecodeFailure.of(error))
                continue
            readable.append(task)
            jobs.append(Job(task.settings, source.stored, source.path, data))
        outcomes = decoder.answers(jobs, [task.is_wanted for task in readable])
        for task, outcome in zip(readable, outcomes, strict=True):
            task.future.set_result(outcome)

    def _stop_late_ones(self) -> None:
        while not self._closed.wait(_WATCH_SECONDS):
            for decoder in self._all:
                decoder.stop_if_late()
