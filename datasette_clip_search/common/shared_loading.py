"""What is slow to load, shared by all threads without one database waiting for another.

- One thing loads for a database at a time, in a thread of its own; any number of databases load.
- A statement that waits heeds its time limit. The loading goes on, so that asking again gets
  further, until it is done or too late.
- Failures are remembered for the database alone that they come from.
- A database with several things in the cache loses one of its own before another's go.
"""

import atexit
import logging
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from .cache import LRUCache
from .config import CONFIG
from .errors import ClipSearchError
from .stopping import Stopping

log = logging.getLogger(__name__)

T = TypeVar("T")
Prepared = TypeVar("Prepared")

_LOOK_SECONDS = 0.02


class _Loading:
    """One thing that is loading, or has just loaded, for those who wait for it."""

    def __init__(self, key: str):
        self.key = key
        self.began = time.monotonic()
        self.stopping = Stopping()
        self.done = threading.Event()
        self.error: BaseException | None = None


class SharedLoading(Generic[T]):
    """Loaded things by their keys."""

    def __init__(
        self,
        too_slow: Callable[[], ClipSearchError],
        again: type[ClipSearchError] | None,
        seconds: float = CONFIG.tower_load_seconds,
        end_seconds: float = CONFIG.tower_end_seconds,
    ):
        """`too_slow` makes the error for what takes more than `seconds`.

        `again` is the error for what has failed before, with the message that it had then; with
        None, it is loaded again. Python's end waits `end_seconds` for what is loading, which was
        told to stop.
        """
        self._too_slow, self._again = too_slow, again
        self._seconds, self._end_seconds = seconds, end_seconds
        self._lock = threading.Lock()
        self._loaded: OrderedDict[str, tuple[T, str]] = OrderedDict()
        self._loading: dict[str, _Loading] = {}
        # Messages alone: an error holds on to all that was read.
        self._failures: LRUCache[tuple[str, str], str] = LRUCache(CONFIG.unusable_towers_remembered)

    def get(self, key: str) -> T | None:
        """Returns what is loaded, None where it is not."""
        with self._lock:
            if key not in self._loaded:
                return None
            self._loaded.move_to_end(key)
            return self._loaded[key][0]

    def load(
        self,
        owner: str,
        key: str,
        prepare: Callable[[], Prepared],
        load: Callable[[Prepared, Stopping], T],
        heed: Callable[[], None],
    ) -> T:
        """Returns what is loaded for a key, for a database `owner`.

        `prepare` is called in the caller's thread and `load` in another one. `heed` is called
        again and again meanwhile, and may raise.

        Raises ClipSearchErrors of `load`, at once where they are remembered, and what `prepare`
        and `heed` raise.
        """
        while True:
            failure = self._failures.get((owner, key))
            if failure is not None and self._again is not None:
                raise self._again(failure)
            with self._lock:
                if key in self._loaded:
                    return self._loaded[key][0]
                loading = self._loading.get(owner)
                is_ours = loading is None
                if loading is None:
                    loading = self._loading[owner] = _Loading(key)
            if is_ours:
                self._start(owner, loading, prepare, load)
            self._wait(owner, loading, heed)
            if loading.key == key and isinstance(loading.error, ClipSearchError):
                raise loading.error
            if is_ours and loading.error is not None:
                raise loading.error

    def _start(
        self,
        owner: str,
        loading: _Loading,
        prepare: Callable[[], Prepared],
        load: Callable[[Prepared, Stopping], T],
    ) -> None:
        try:
            prepared = prepare()
        except BaseException as error:
            self._finish(owner, loading, error=error)
            raise

        def work() -> None:
            try:
                self._finish(owner, loading, load(prepared, loading.stopping))
            except BaseException as error:
                self._finish(owner, loading, error=error)

        thread = threading.Thread(target=work, name="clip-search-load", daemon=True)
        _threads.start(thread, loading.stopping, self._end_seconds)

    def _wait(self, owner: str, loading: _Loading, heed: Callable[[], None]) -> None:
        latest = loading.began + self._seconds
        while not loading.done.wait(_LOOK_SECONDS):
            heed()
            if time.monotonic() > latest:
                loading.stopping.set()
                self._finish(owner, loading, error=self._too_slow())

    def _finish(
        self,
        owner: str,
        loading: _Loading,
        value: T | None = None,
        error: BaseException | None = None,
    ) -> None:
        with self._lock:
            if loading.done.is_set():
                return
            if value is not None:
                self._loaded[loading.key] = value, owner
                self._make_room()
            loading.error = error
            if self._loading.get(owner) is loading:
                del self._loading[owner]
        if isinstance(error, ClipSearchError) and self._again is not None:
            self._failures.put((owner, loading.key), str(error))
        loading.done.set()

    def _make_room(self) -> None:
        while len(self._loaded) > CONFIG.encoder_cache_entries:
            owners = Counter(owner for _, owner in self._loaded.values())
            most = max(owners.values())
            first = next(key for key, (_, of) in self._loaded.items() if owners[of] == most)
            del self._loaded[first]


class _Threads:
    """The threads that load. Python must not end while one is inside a library."""

    def __init__(self) -> None:
        self._running: dict[threading.Thread, tuple[Stopping, float]] = {}
        self._is_registered = False

    def start(self, thread: threading.Thread, stopping: Stopping, end_seconds: float) -> None:
        if not self._is_registered:
            self._is_registered = True
            atexit.register(self.stop)
        for ended in [each for each in self._running if not each.is_alive()]:
            self._running.pop(ended, None)
        thread.start()
        self._running[thread] = stopping, end_seconds

    def stop(self) -> None:
        running = dict(self._running)
        for stopping, _ in running.values():
            stopping.set()
        for thread, (_, seconds) in running.items():
            thread.join(seconds)


_threads = _Threads()
