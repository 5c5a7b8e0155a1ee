"""The process that decodes the pictures of queries: one for all threads of a server.

Such pictures come from anyone who can run SQL. What a decoder does with them can't be interrupted,
but its process can be ended.
"""

import atexit
import logging
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor, wait

from .decoding import Decoded, Refused, Settings
from .decoding.process import Decoder
from .errors import ClipSearchError, EncoderUnavailable
from .pictures.messages import Job
from .terminal_text import visible
from .time_limit import heed_time_limit

log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.02


class QueryDecoder:
    """A decoding process that is started when it is first needed, and anew when it has ended."""

    def __init__(self) -> None:
        self._decoder: Decoder | None = None
        # One picture at a time: a file of 2 KB can take 100 MB while it is decoded.
        self._turn = threading.Lock()
        # It starts the process, which on Linux ends with the thread that started it.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="query-pictures")

    def decode(
        self, connection: sqlite3.Connection, data: bytes, settings: Settings
    ) -> Decoded | Refused:
        """Decodes the bytes of a picture file; the process is killed at the limit of `settings`.

        Raises sqlite3.OperationalError "interrupted" when the statement of `connection` is to
        end, whatever it waits for, and EncoderUnavailable where no process can be started.
        """
        while not self._turn.acquire(timeout=_LOOK_SECONDS):
            heed_time_limit(connection)
        try:
            return self._decode(connection, self._ready(connection), data, settings)
        finally:
            self._turn.release()

    def close(self) -> None:
        """Ends the process, for when no picture is under way; the next one has it started anew."""
        if self._decoder is not None:
            self._decoder.close()

    def _ready(self, connection: sqlite3.Connection) -> Decoder:
        # Goes on when the statement is ended, so that asking again gets further.
        starting = self._thread.submit(self._start)
        while not wait([starting], _LOOK_SECONDS).done:
            heed_time_limit(connection)
        try:
            return starting.result()
        except (ClipSearchError, OSError) as error:
            # What it says names files, which are no visitor's business.
            log.warning("%s", visible(str(error)))
            raise EncoderUnavailable(
                "Query images can't be decoded here, because the process for it does not start; "
                "the log says why. Search with words, or with the id of a picture"
            ) from error

    def _start(self) -> Decoder:
        if self._decoder is None:
            self._decoder = Decoder()
            atexit.register(self.close)
        self._decoder.make_ready()
        return self._decoder

    def _decode(
        self, connection: sqlite3.Connection, decoder: Decoder, data: bytes, settings: Settings
    ) -> Decoded | Refused:
        decoding = self._thread.submit(decoder.answer, Job(settings, "", None, data))
        try:
            while not wait([decoding], _LOOK_SECONDS).done:
                decoder.stop_if_late()
                heed_time_limit(connection)
        except BaseException:
            while not wait([decoding], _LOOK_SECONDS).done:
                decoder.stop()
            raise
        outcome = decoding.result()
        assert isinstance(outcome, Decoded | Refused)
        return outcome


_shared = QueryDecoder()
decode = _shared.decode
close = _shared.close
