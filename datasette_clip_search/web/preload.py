"""Load vectors and text encoders when a server starts, so that the first search is fast."""

import atexit
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager

from datasette.database import Database

from ..common.config import CONFIG
from ..common.errors import ClipSearchError, NoEmbeddings
from ..common.stopping import Stopped
from ..common.terminal_text import visible
from ..database import deadline
from ..database.model import default_model
from .access import NEVER_SEARCHED

log = logging.getLogger(__name__)


def start_preloading(databases: Iterable[Database]) -> None:
    """Start a thread that loads databases, and stop it when Python exits."""
    stopping = threading.Event()
    thread = threading.Thread(
        target=_preload,
        args=(list(databases), stopping),
        name="clip-search-load",
        daemon=True,
    )

    def stop() -> None:
        # A thread that is still inside torch when Python exits aborts the process.
        stopping.set()
        while thread.is_alive():
            # Repeated, because a new statement can start after the others have ended.
            deadline.end_all()
            thread.join(0.1)

    atexit.register(stop)
    thread.start()


def _preload(databases: list[Database], stopping: threading.Event) -> None:
    # By then, a short command such as `datasette --get` has ended.
    stopping.wait(CONFIG.load_after_seconds)
    loading: list[threading.Thread] = []
    for database in databases:
        # Loading more than the cache holds would only evict those loaded first.
        if stopping.is_set() or len(loading) == CONFIG.snapshot_cache_entries:
            break
        if database.name not in NEVER_SEARCHED and _logged(database, _has_pictures):
            # One thread each, so that no database waits for another.
            work = threading.Thread(
                target=_logged, args=(database, _load_database), name="clip-search-load-one"
            )
            work.daemon = True
            work.start()
            loading.append(work)
    for work in loading:
        work.join()


def _logged(database: Database, work: Callable[[Database], bool]) -> bool:
    """Run `work` on a database and return its result; on failure, log a line and return False."""
    try:
        return work(database)
    except (NoEmbeddings, Stopped):
        return False
    except Exception as error:
        is_expected = isinstance(error, (ClipSearchError, sqlite3.Error))
        reason = str(error) if is_expected else repr(error)
        message = visible(f"{database.name} may fail: {reason}")
        log.warning("Searching the pictures of %s", message)
        return False


def _has_pictures(database: Database) -> bool:
    with _opened(database, CONFIG.hook_seconds) as connection:
        default_model(connection)
    return True


def _load_database(database: Database) -> bool:
    with _opened(database, CONFIG.load_seconds) as connection:
        _, model = default_model(connection)
        from ..database.index.snapshot_cache import snapshot_for
        from ..models.queries.text_encoder import text_encoder_of

        snapshot_for(connection, model)
        text_encoder_of(connection, model)
    return True


@contextmanager
def _opened(database: Database, seconds: float) -> Iterator[sqlite3.Connection]:
    # A separate connection, so that loading occupies none of Datasette's few SQL threads.
    with closing(database.connect()) as connection, deadline.bounded(connection, seconds):
        yield connection
