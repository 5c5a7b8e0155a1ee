"""A cache of things that are slow to load, such as encoders; no database waits for another.

- Each database loads one thing at a time, in a thread of its own; databases load in parallel.
- A statement that waits can reach its time limit. Loading continues, so that the next statement
  gets further, until it is done or has taken too long.
- A failure is remembered for the database that it comes from, and for no other.
- When the cache is full, the database with the most things in it loses one.
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
    """A thing that is loading or has just loaded; those who wait for it share this."""

    def __init__(self, key: str):
        self.key = key
        self.began = time.monotonic()
        self.stopping = Stopping()
        self.done = threading.Event()
        self.error: BaseException | None = None


class SharedLoading(Generic[T]):
    """Loaded things by their keys, at most CONFIG.encoder_cache_entries of them."""

    def __init__(
        self,
        too_slow: Callable[[], ClipSearchError],
        again: type[ClipSearchError] | None,
        seconds: float = CONFIG.tower_load_seconds,
        end_seconds: float = CONFIG.tower_end_seconds,
    ):
        """Set the errors and the time limits.

        `too_slow` makes the error for loading that takes more than `seconds`. `again` is the class
        of error for a key that has failed before, with the same message; with None, it is loaded
        again. When Python ends, it stops all loading and waits `end_seconds` for it.
        """
        self._too_slow, self._again = too_slow, again
        self._seconds, self._end_seconds = seconds, end_seconds
        self._lock = threading.Lock()
        self._loaded: OrderedDict[str, tuple[T, str]] = OrderedDict()
        self._loading: dict[str, _Loading] = {}
        # Messages only: an error would keep in memory all that was read.
        self._failures: LRUCache[tuple[str, str], str] = LRUCache(CONFIG.unusable_towers_remembered)

    def get(self, key: str) -> T | None:
        """Return what is loaded for a key, or None."""
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
        """Return what is loaded for a key; load it if need be, for the database `owner`.

        It calls `prepare` in this thread and `load` in another one. While it waits, it calls `heed`
        repeatedly, which may raise.

        Raises the ClipSearchErrors of `load`, at once if they are remembered, and anything that
        `prepare` and `heed` raise.
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
    """The threads that load; Python must not end while one of them is inside a library."""

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
