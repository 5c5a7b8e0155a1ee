"""Decode query pictures in processes that all threads of a server share.

Anyone who can send a picture or run SQL can send a slow one. Python cannot interrupt a decoder, but
it can kill its process. Invariants, so that nobody blocks the others:

- There is one process for quick pictures and one for slow ones. A picture goes to the second if it
  looks slow, was slow before, or took longer than the quick process allows.
- Pictures that look quick go first, and every picture gains priority while it waits. Between two
  that look alike, the sender with fewer waiting pictures goes first. All visitors behind one proxy
  are one sender.
- If too many slow pictures wait, the slowest is refused. A picture that was stopped at the limit is
  refused at once for a while.
"""

import atexit
import heapq
import logging
import sqlite3
import threading
import time
from collections import Counter
from concurrent.futures import Future, wait
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import count

from ..common.cache import LRUCache
from ..common.config import CONFIG
from ..common.errors import ClipSearchError, EncoderUnavailable, TooBusy
from ..common.interrupts import LOOK_SECONDS, heed_time_limit
from ..common.terminal_text import visible
from ..pictures.cost import expected_seconds
from ..pictures.processes.messages import Job
from ..pictures.processes.pool import Decoded, DecodeFailure, Settings
from ..pictures.processes.process import DecoderProcess

log = logging.getLogger(__name__)

# How many seconds of waiting equal a second of decoding, and a picture of the same sender.
_AGEING, _SHARE = 20, 0.1
_REMEMBERED = 1000
_numbers = count()


@dataclass(eq=False)
class QueryPicture:
    """A picture to decode; `outcome` gets the result or a ClipSearchError."""

    data: bytes
    settings: Settings
    sender: str
    digest: bytes
    seconds: float
    began: float = field(default_factory=time.monotonic)
    number: int = field(default_factory=lambda: next(_numbers))
    outcome: Future[Decoded | DecodeFailure] = field(default_factory=Future)
    place: float = 0
    is_given_up: bool = False

    def __lt__(self, other: "QueryPicture") -> bool:
        return (self.place, self.number) < (other.place, other.number)


class _Lane:
    """A decoding process, the pictures that wait for it, and the thread that starts it.

    On Linux the process ends when that thread ends.
    """

    def __init__(self) -> None:
        self.decoder: DecoderProcess | None = None
        self.waiting: list[QueryPicture] = []
        self.current: QueryPicture | None = None
        self.thread: threading.Thread | None = None


class QueryDecoder:
    """Two decoding processes; each starts when it is first needed, and again after it has ended."""

    def __init__(self) -> None:
        self._quick, self._slow = _Lane(), _Lane()
        # Guards the lanes. Their threads wait on it for pictures, and the watching thread for work.
        self._changed = threading.Condition()
        self._watch: threading.Thread | None = None
        # By the digest of a picture: how long it was decoded before it was stopped, and when.
        self._ended: LRUCache[bytes, tuple[float, float]] = LRUCache(_REMEMBERED)

    def decode(
        self, connection: sqlite3.Connection, data: bytes, settings: Settings
    ) -> Decoded | DecodeFailure:
        """Decode the bytes of a picture file; kill the process at the time limit of `settings`.

        Raises sqlite3.OperationalError "interrupted" when the statement of `connection` must end,
        TooBusy if too many slow pictures wait, and EncoderUnavailable if no process can start.
        """
        picture = self.submit(data, settings)
        try:
            while not wait([picture.outcome], LOOK_SECONDS).done:
                heed_time_limit(connection)
        except BaseException:
            self.give_up(picture)
            raise
        return picture.outcome.result()

    def submit(self, data: bytes, settings: Settings, sender: str = "SQL") -> QueryPicture:
        """Queue a picture and return it; its `outcome` raises what decode() raises."""
        limit = settings.seconds or CONFIG.decode_seconds
        digest, seconds = sha256(data).digest(), expected_seconds(data)
        after, when = self._ended.get(digest) or (0, 0)
        is_slow = bool(after) or seconds > CONFIG.quick_decode_seconds
        seconds = _longest(limit) if after else min(seconds, _longest(limit))
        picture = QueryPicture(data, settings, sender, digest, seconds)
        # From here on, only the lanes set its outcome.
        picture.outcome.set_running_or_notify_cancel()
        if after >= limit and time.monotonic() - when < CONFIG.slow_pictures_refused_seconds:
            picture.outcome.set_result(_too_slow(limit))
            return picture
        with self._changed:
            self._add(self._slow if is_slow else self._quick, picture)
        return picture

    def give_up(self, picture: QueryPicture) -> None:
        """Stop decoding a picture, or remove it from the queue."""
        with self._changed:
            picture.is_given_up = True
            for lane in (self._quick, self._slow):
                if lane.current is picture and lane.decoder:
                    lane.decoder.stop()
                elif picture in lane.waiting:
                    lane.waiting.remove(picture)
                    heapq.heapify(lane.waiting)

    def close(self) -> None:
        """End the processes while nothing is being decoded; the next picture starts a new one."""
        for lane in (self._quick, self._slow):
            if lane.decoder is not None:
                lane.decoder.close()

    def _end(self) -> None:
        for lane in (self._quick, self._slow):
            if lane.decoder is not None:
                lane.decoder.kill()
        self.close()

    def _add(self, lane: _Lane, picture: QueryPicture) -> None:
        senders = Counter(each.sender for each in lane.waiting)
        picture.place = picture.began + _AGEING * picture.seconds + _SHARE * senders[picture.sender]
        heapq.heappush(lane.waiting, picture)
        if lane is self._slow:
            self._refuse_slowest()
        if lane.thread is None:
            # Daemon threads do not delay the exit of the program, which ends the processes.
            lane.thread = threading.Thread(
                target=self._serve, args=[lane], name="query-pictures", daemon=True
            )
            lane.thread.start()
        if self._watch is None:
            self._watch = threading.Thread(target=self._stop_late_ones, daemon=True)
            self._watch.start()
            atexit.register(self._end)
        self._changed.notify_all()

    def _refuse_slowest(self) -> None:
        waiting = self._slow.waiting
        while waiting and (
            sum(each.seconds for each in waiting) > CONFIG.max_slow_seconds_waiting
            or sum(len(each.data) for each in waiting) > CONFIG.max_slow_bytes_waiting
        ):
            slowest = max(waiting)
            waiting.remove(slowest)
            slowest.outcome.set_exception(
                TooBusy("Too many slow pictures are being decoded now. Try again in a moment")
            )
        heapq.heapify(waiting)

    def _serve(self, lane: _Lane) -> None:
        while True:
            with self._changed:
                while not lane.waiting:
                    self._changed.wait()
                picture = heapq.heappop(lane.waiting)
            try:
                outcome = self._decoded(lane, picture)
            except BaseException as error:
                if not picture.is_given_up:
                    picture.outcome.set_exception(error)
                continue
            if picture.is_given_up:
                continue
            if outcome is not None:
                picture.outcome.set_result(outcome)
                continue
            picture.seconds = _longest(picture.settings.seconds or CONFIG.decode_seconds)
            with self._changed:
                self._add(self._slow, picture)

    def _decoded(self, lane: _Lane, picture: QueryPicture) -> Decoded | DecodeFailure | None:
        """Return the outcome of a picture, or None if it took longer than its lane allows."""
        decoder = self._ready(lane)
        limit = picture.settings.seconds or CONFIG.decode_seconds
        seconds = limit if lane is self._slow else min(limit, CONFIG.quick_decode_seconds)
        with self._changed:
            if picture.is_given_up:
                return None
            lane.current = picture
            self._changed.notify_all()
        begun = time.monotonic()
        try:
            settings = replace(picture.settings, seconds=seconds)
            outcome = decoder.answer(Job(settings, "", None, picture.data))
        finally:
            with self._changed:
                lane.current = None
        taken = time.monotonic() - begun
        is_late = isinstance(outcome, DecodeFailure) and outcome.too_slow
        if is_late or (picture.is_given_up and taken > CONFIG.quick_decode_seconds):
            self._ended.put(picture.digest, (seconds if is_late else taken, time.monotonic()))
        if is_late and seconds < limit:
            return None
        assert isinstance(outcome, Decoded | DecodeFailure)
        return outcome

    def _ready(self, lane: _Lane) -> DecoderProcess:
        try:
            if lane.decoder is None:
                lane.decoder = DecoderProcess()
            lane.decoder.make_ready()
            return lane.decoder
        except (ClipSearchError, OSError) as error:
            # Its text names files, which visitors must not see.
            log.warning("%s", visible(str(error)))
            raise EncoderUnavailable(
                "Query pictures cannot be decoded here, because the decoding process does not "
                "start. The log says why. Search with words, or with the id of a picture"
            ) from error

    def _stop_late_ones(self) -> None:
        lanes = self._quick, self._slow
        while True:
            with self._changed:
                while not any(lane.current for lane in lanes):
                    self._changed.wait()
            time.sleep(LOOK_SECONDS)
            for lane in lanes:
                if lane.decoder:
                    lane.decoder.stop_if_late()
                    with self._changed:
                        # It may have been given up before its process received it.
                        if lane.current and lane.current.is_given_up:
                            lane.decoder.stop()


def _longest(limit: float) -> float:
    """Return the seconds that a slow picture with this limit counts for."""
    return min(limit, CONFIG.query_decode_seconds)


def _too_slow(seconds: float) -> DecodeFailure:
    return DecodeFailure(
        f"Decoding it took longer than {seconds:g} seconds and was stopped", too_slow=True
    )


_shared = QueryDecoder()
decode_query_picture = _shared.decode
submit = _shared.submit
give_up = _shared.give_up
close = _shared.close
