"""One process that decodes, started anew whenever a picture brings it down."""

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
"""Tells by a content's hash whether its picture is to be decoded."""

# By signal 9, which not every system has a name for.
_KILLED = -9
# How often a process is started that ends before it is up.
_STARTS = 3
_MODULE = "datasette_clip_search.pictures.processes.worker"
# Has glibc keep up to 64 MB of freed memory for the next picture. To give it back, and to get it
# anew page by page, can take a tenth of the time of a large JPEG.
_KEPT_MEMORY = {"MALLOC_MMAP_THRESHOLD_": f"{32 << 20}", "MALLOC_TRIM_THRESHOLD_": f"{64 << 20}"}
# Holds all that a picture is answered with; one of 64 KB has both sides wait for each other.
_PIPE_BYTES = 1 << 20


class DecoderProcess:
    """A process that decodes one picture at a time, for one thread at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._began: float | None = None
        self._seconds = CONFIG.decode_seconds
        # Since when files are being read.
        self._reading_since: float | None = None
        self._is_ended = False
        self._start()

    def _start(self) -> None:
        # In a session of its own, so that Ctrl-C is for the run alone; -P, so that nothing is
        # imported from the working directory.
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
            # There is a limit to what the pipes of a user may hold together.
            with contextlib.suppress(OSError):
                fcntl.fcntl(self._process.stdout, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._is_ready = False
        self._late: DecodeFailure | None = None

    def make_ready(self) -> bool:
        """Starts the process anew if it has ended; tells whether it may, and waits until it is up.

        Raises ClipSearchError where no process can be started.
        """
        for number in range(_STARTS):
            if self._process.poll() is not None:
                with self._lock:
                    # Else nobody would be left to end the new process.
                    if self._is_ended:
                        return False
                    self._start()
            try:
                self._wait_until_ready()
                break
            except ClipSearchError:
                # It may have been killed, as any other process, which is not to end a long run.
                if number == _STARTS - 1:
                    raise
        return True

    def answer(self, job: Job) -> Outcome:
        """Does what answers() does, for one picture that is wanted."""
        (outcome,) = self.answers([job], [lambda _: True])
        return outcome

    def answers(self, jobs: Sequence[Job], wanted: Sequence[IsWanted]) -> Iterator[Outcome]:
        """Yields what becomes of each picture, in order; `wanted` tells for each if it is needed.

        A picture that crashes its decoder, or that stop_if_late() or stop() end, is refused like
        any other that can't be decoded, and the process is started anew.

        Raises ClipSearchError where no process can be started.
        """
        left = deque(zip(jobs, wanted, strict=True))
        together = len(left)
        while left:
            if not self.make_ready():
                left.popleft()
                yield DecodeFailure("Decoding was ended", again=True, unread=True)
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
                refused = self._bury()
                if len(asked) > 1 and not is_read:
                    # Any of them may be the one.
                    together = 1
                    continue
                left.popleft()
                yield refused

    def stop_if_late(self) -> None:
        """Kills the process where its picture has kept it too long; for another thread to call."""
        with self._lock:
            if late := self._lateness():
                self._late = late
                self._process.kill()
                # The next picture must not be given to a process that is about to end.
                self._process.wait()

    def stop(self) -> None:
        """Has the picture that is being decoded given up; for another thread to call."""
        with self._lock:
            self._process.kill()
            self._process.wait()

    def kill(self) -> None:
        """Ends the process for good, whatever it does; any thread may call it."""
        with self._lock:
            self._is_ended = True
            self._process.kill()

    def close(self) -> None:
        """Ends the process and forgets it."""
        self._process.kill()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            # A job may be half sent, of which nobody wants to know any more.
            with contextlib.suppress(OSError):
                stream.close()
        self._process.wait()

    def _lateness(self) -> DecodeFailure | None:
        """Return what to say of a picture that has taken the process too long, if one has."""
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
        """Have the process read some files; return their hashes, or why there are none.

        How long that takes is a matter of the disk, not of the pictures: it is given up only
        where nothing arrives.
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
        """Lets stop_if_late() end what takes longer than the settings allow."""
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
                "The process that decodes pictures does not start. To see why: "
                f"{sys.executable} -m {_MODULE}"
            ) from error
        self._is_ready = True

    def _bury(self) -> DecodeFailure:
        """Says what became of the process."""
        with self._lock:
            # Its streams close before it has ended, when it ends by an exception.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(2)
            self.close()
            if self._late:
                return self._late
        status = self._process.returncode
        if status == _KILLED:
            return DecodeFailure("Decoding it was killed, perhaps for lack of memory", again=True)
        how = signal.strsignal(-status) if status < 0 else f"exit status {status}"
        return DecodeFailure(f"It crashes its decoder ({how})")

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
