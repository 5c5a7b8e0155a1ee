"""One process that decodes, started anew whenever a picture brings it down."""

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from ..config import CONFIG
from ..errors import ClipSearchError, PictureError
from ..pictures.messages import Job, Outcome, Refused, Settings, Unneeded
from ..sources import Source

# By signal 9, which not every system has a name for.
_KILLED = -9
_MODULE = "datasette_clip_search.pictures.worker"
# Has glibc keep up to 64 MB of freed memory for the next picture. To give it back, and to get it
# anew page by page, can take a tenth of the time of a large JPEG.
_KEPT_MEMORY = {"MALLOC_MMAP_THRESHOLD_": f"{32 << 20}", "MALLOC_TRIM_THRESHOLD_": f"{64 << 20}"}
# Holds all that a picture is answered with; one of 64 KB has both sides wait for each other.
_PIPE_BYTES = 1 << 20


class Decoder:
    """A process that decodes one picture at a time, for one thread at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._began: float | None = None
        self._seconds = CONFIG.decode_seconds
        self._is_ended = False
        self._start()

    def _start(self) -> None:
        # In a session of its own, so that Ctrl-C is for the run alone; -P, so that nothing is
        # imported from the working directory.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", _MODULE],
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
        self._is_late = False

    def decode(
        self,
        source: Source,
        data: bytes | None,
        settings: Settings,
        is_wanted: Callable[[str], bool],
    ) -> Outcome:
        """Decodes one picture; `is_wanted` tells by a content's hash whether that is needed.

        `data` is the file's content where that has been read already.

        Raises ClipSearchError where no process can be started.
        """
        try:
            if data is None and source.path is None:
                data = source.read()
        except PictureError as error:
            return Refused.of(error)
        return self.answer(Job(settings, source.stored, source.path, data), is_wanted)

    def make_ready(self) -> bool:
        """Starts the process anew if it has ended; tells whether it may, and waits until it is up.

        Raises ClipSearchError where no process can be started.
        """
        if self._process.poll() is not None:
            with self._lock:
                # Else nobody would be left to end the new process.
                if self._is_ended:
                    return False
                self._start()
        self._wait_until_ready()
        return True

    def answer(self, job: Job, is_wanted: Callable[[str], bool] = lambda _: True) -> Outcome:
        """Does what decode() does, for a job.

        A picture that crashes its decoder, or that stop_if_late() or stop() end, is refused like
        any other that can't be decoded, and the process is started anew.
        """
        if not self.make_ready():
            return Refused("Decoding was ended", again=True, unread=True)
        try:
            self._seconds = job.settings.seconds or CONFIG.decode_seconds
            self._began = time.monotonic()
            self._send(job)
            reply = self._receive()
            if isinstance(reply, str):
                wanted = is_wanted(reply)
                self._send(wanted)
                reply = self._receive() if wanted else Unneeded(reply)
        except (EOFError, OSError, pickle.UnpicklingError):
            return self._bury()
        finally:
            self._began = None
        return reply  # type: ignore[no-any-return]

    def stop_if_late(self) -> None:
        """Kills the process where its picture has kept it too long; for another thread to call."""
        with self._lock:
            began = self._began
            if began is not None and time.monotonic() - began > self._seconds:
                self._is_late = True
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

    def _bury(self) -> Refused:
        """Says what became of the process."""
        with self._lock:
            # Its streams close before it has ended, when it ends by an exception.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(2)
            self.close()
            if self._is_late:
                return Refused(
                    f"Decoding it took longer than {self._seconds:g} seconds and was stopped",
                    too_slow=True,
                )
        status = self._process.returncode
        if status == _KILLED:
            return Refused("Decoding it was killed, perhaps for lack of memory", again=True)
        how = signal.strsignal(-status) if status < 0 else f"exit status {status}"
        return Refused(f"It crashes its decoder ({how})")

    def _send(self, value: object) -> None:
        assert self._process.stdin is not None
        pickle.dump(value, self._process.stdin, protocol=pickle.HIGHEST_PROTOCOL)
        self._process.stdin.flush()

    def _receive(self) -> Any:
        assert self._process.stdout is not None
        return pickle.load(self._process.stdout)
