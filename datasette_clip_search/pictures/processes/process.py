"""One decoding process, which is restarted whenever a picture brings it down.

- One thread at a time uses a DecoderProcess, except for stop_if_late(), stop() and kill(), which
  any thread may call. `_lock` guards starting and killing the process.
- The process answers each batch twice: with the hashes of all files, then with each wanted picture
  in order. If anything ends it in between, the picture whose answer is due counts as the cause.
- If it ends while reading a batch of several files, any of them may be the cause: each is sent
  again by itself.
- Reading and decoding have separate time limits. Reading is given up after `read_seconds`, or when
  no byte arrives for `read_pause_seconds`; decoding after `decode_seconds` or the job's own limit.
- After kill(), no new process is started, because nobody would be left to end it.
"""

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

from ...common.config import CONFIG
from ...common.errors import ClipSearchError
from .messages import ARRIVING, DecodeFailure, Job, Outcome, Settings, Unneeded

IsWanted = Callable[[str], bool]
"""Returns, for the hash of a content, whether to decode it."""

# By signal 9, which has no name on some systems.
_KILLED = -9
# How many times to start a process that ends before it is ready.
_STARTS = 3
_MODULE = "datasette_clip_search.pictures.processes.worker"
# Makes glibc keep up to 64 MB of freed memory for the next picture. Returning it to the system, and
# getting it back page by page, can take a tenth of the time of a large JPEG.
_KEPT_MEMORY = {"MALLOC_MMAP_THRESHOLD_": f"{32 << 20}", "MALLOC_TRIM_THRESHOLD_": f"{64 << 20}"}
# Holds the whole answer for a picture; with the usual 64 KB, both sides wait for each other.
_PIPE_BYTES = 1 << 20


class DecoderProcess:
    """A process that decodes one picture at a time, for one thread at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._began: float | None = None
        self._seconds = CONFIG.decode_seconds
        # When the current files began to be read.
        self._reading_since: float | None = None
        self._is_ended = False
        self._start()

    def _start(self) -> None:
        # In a session of its own, so that Ctrl-C only reaches the parent; with -P, so that nothing
        # is imported from the working directory.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", _MODULE],
            bufsize=_PIPE_BYTES,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_KEPT_MEMORY | os.environ,
            start_new_session=True,
        )
        if sys.platform == "linux":
            import fcntl

            assert self._process.stdout is not None
            # The system limits the total size of a user's pipes.
            with contextlib.suppress(OSError):
                fcntl.fcntl(self._process.stdout, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._is_ready = False
        self._late: DecodeFailure | None = None

    def make_ready(self) -> bool:
        """Wait until the process is ready, and restart it first if it has ended.

        Return False after kill(), when it must not be restarted. Raise ClipSearchError if no
        process can be started.
        """
        for number in range(_STARTS):
            if self._process.poll() is not None:
                with self._lock:
                    # Nobody would be left to end a new process.
                    if self._is_ended:
                        return False
                    self._start()
            try:
                self._wait_until_ready()
                break
            except ClipSearchError:
                # It may have been killed from outside, which must not end a long run.
                if number == _STARTS - 1:
                    raise
        return True

    def answer(self, job: Job) -> Outcome:
        """Decode one picture, as answers() does."""
        (outcome,) = self.answers([job], [lambda _: True])
        return outcome

    def answers(self, jobs: Sequence[Job], wanted: Sequence[IsWanted]) -> Iterator[Outcome]:
        """Yield the outcome of each picture, in order; `wanted` decides whether to decode it.

        A picture that crashes the process, or that stop_if_late() or stop() ends, has a
        DecodeFailure like any other that can't be decoded, and the process is restarted.

        Raise ClipSearchError if no process can be started.
        """
        left = deque(zip(jobs, wanted, strict=True))
        together = len(left)
        while left:
            if not self.make_ready():
                left.popleft()
                yield DecodeFailure("Decoding was stopped", again=True, unread=True)
                continue
            asked = list(islice(left, together))
            is_read = False
            try:
                hashes = self._read([job for job, _ in asked])
                is_read = True
                needed = [
                    isinstance(each, str) and is_wanted(each)
                    for each, (_, is_wanted) in zip(hashes, asked, strict=True)
                ]
                self._send(needed)
                for (job, _), content_hash, is_needed in zip(asked, hashes, needed, strict=True):
                    if is_needed:
                        with self._limited(job.settings):
                            outcome = self._receive()
                    elif isinstance(content_hash, str):
                        outcome = Unneeded(content_hash)
                    else:
                        outcome = content_hash
                    left.popleft()
                    yield outcome
            except (EOFError, OSError, pickle.UnpicklingError):
                refused = self._failure_of_dead_process()
                if len(asked) > 1 and not is_read:
                    # Any of them may be the cause.
                    together = 1
                    continue
                left.popleft()
                yield refused

    def stop_if_late(self) -> None:
        """Kill the process if its picture has taken too long; any thread may call it."""
        with self._lock:
            if late := self._failure_if_late():
                self._late = late
                self._process.kill()
                # The next picture must not go to a process that is about to end.
                self._process.wait()

    def stop(self) -> None:
        """Give up the picture that is being decoded; any thread may call it."""
        with self._lock:
            self._process.kill()
            self._process.wait()

    def kill(self) -> None:
        """End the process for good, whatever it is doing; any thread may call it."""
        with self._lock:
            self._is_ended = True
            self._process.kill()

    def close(self) -> None:
        """End the process and close its pipes."""
        self._process.kill()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            # A half-sent job may be left in the buffer, which no longer matters.
            with contextlib.suppress(OSError):
                stream.close()
        self._process.wait()

    def _failure_if_late(self) -> DecodeFailure | None:
        """Return the failure of the current picture if it has taken too long, else None."""
        now, began, since = time.monotonic(), self._began, self._reading_since
        is_late = began is not None and now - began > self._seconds
        if since is not None and now - since > CONFIG.read_seconds:
            return _unread(f"it did not arrive within {CONFIG.read_seconds:g} seconds")
        if is_late and since is not None:
            return _unread(f"no byte of it arrived for {self._seconds:g} seconds")
        if is_late:
            reason = f"Decoding it took longer than {self._seconds:g} seconds and was stopped"
            return DecodeFailure(reason, too_slow=True)
        return None

    def _read(self, jobs: Sequence[Job]) -> Any:
        """Let the process read some files; return the hash or the failure of each.

        How long that takes depends on the disk, not on the pictures: give up only if nothing
        arrives.
        """
        if all(job.data is not None for job in jobs):
            with self._limited(jobs[0].settings):
                self._send(list(jobs))
                return self._receive()
        self._seconds = CONFIG.read_pause_seconds
        self._reading_since = self._began = time.monotonic()
        try:
            self._send(list(jobs))
            while (answer := self._receive()) == ARRIVING:
                self._began = time.monotonic()
            return answer
        finally:
            self._reading_since = self._began = None

    @contextlib.contextmanager
    def _limited(self, settings: Settings) -> Iterator[None]:
        """Let stop_if_late() end a picture that takes longer than the settings allow."""
        self._seconds = settings.seconds or CONFIG.decode_seconds
        self._began = time.monotonic()
        try:
            yield
        finally:
            self._began = None

    def _wait_until_ready(self) -> None:
        if self._is_ready:
            return
        try:
            self._receive()
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            self.close()
            raise ClipSearchError(
                "The process that decodes pictures does not start. To see why, run: "
                f"{sys.executable} -m {_MODULE}"
            ) from error
        self._is_ready = True

    def _failure_of_dead_process(self) -> DecodeFailure:
        """Clean up after a dead process, and return the failure of its picture."""
        with self._lock:
            # If an exception ends it, its streams close before it has ended.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(2)
            self.close()
            if self._late:
                return self._late
        status = self._process.returncode
        if status == _KILLED:
            return DecodeFailure(
                "Its decoding process was killed, perhaps for lack of memory", again=True
            )
        how = signal.strsignal(-status) if status < 0 else f"exit status {status}"
        return DecodeFailure(f"It crashes the decoder ({how})")

    def _send(self, value: object) -> None:
        assert self._process.stdin is not None
        pickle.dump(value, self._process.stdin, protocol=pickle.HIGHEST_PROTOCOL)
        self._process.stdin.flush()

    def _receive(self) -> Any:
        assert self._process.stdout is not None
        return pickle.load(self._process.stdout)


def _unread(why: str) -> DecodeFailure:
    return DecodeFailure(
        f"It can't be read: {why}. The next run tries again", again=True, unread=True
    )
