"""The snapshots of a process, loaded once and brought up to date for every connection.

- An answer is always that of the database as the connection sees it. Each search compares the
  snapshot with the history of changes (changes.py) before it uses it.
- Every vector in a snapshot has its picture. Where the triggers that keep them together are
  missing (triggers.py), vectors and pictures are compared for each search.
- One thread at a time loads a model of a database. Others wait for it, but none for another
  database, and a statement that waits can reach its time limit.
- The newest snapshot stays. A connection that sees an older state of the database gets a snapshot
  of that, and leaves the newest to the others.
- When the cache is full, the database with the most snapshots loses one.
- An index file that can't be used never stops a search: the log says why once, and the search
  reads the vectors.
"""

import logging
import os
import sqlite3
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np

from ...common.config import CONFIG
from ...common.errors import DatabaseError
from ...common.interrupts import turn
from ...common.terminal_text import visible
from ..changes import Moment, changes_since, moment_of
from ..connection import fetch, main_file
from ..model import Model
from ..recognition import images_table
from ..triggers import schema_version, standing_of
from ..vectors import count_vectors, embedded_ids, lost_ids, read_vectors, vectors_by_id
from . import Index, IndexUnusable, Unindexed, flat, index_path, open_index, read_header
from .snapshot import Snapshot

log = logging.getLogger(__name__)

_Key = tuple[str, int]

_snapshots: OrderedDict[_Key, Snapshot] = OrderedDict()
# A lock for each model of each database, so that none waits for another's file.
_loading: dict[_Key, threading.Lock] = {}
_guard = threading.Lock()
# The warnings about index files that were logged, each once; and the damaged files.
_told: set[tuple[object, str]] = set()
_damaged: set[object] = set()
_told_untriggered: set[str | None] = set()


def snapshot_for(connection: sqlite3.Connection, model: Model) -> Snapshot:
    """Return the snapshot of a model as the connection sees it now, shared by the whole process."""
    current = _latest(connection, model)
    # With the triggers in place, a search costs no more than this.
    if current.stands == schema_version(connection):
        return current
    table = images_table(connection)
    assert table is not None
    standing = standing_of(connection, table)
    if not standing.history:
        return _as_it_is(connection, model)
    among = current.touched if standing.pictures and current.stood == standing.version else None
    kept = current.without(lost_ids(connection, model, among))
    kept.stands = standing.version if standing.pictures and not len(kept.lost) else None
    _, key = _place(main_file(connection), model.id)
    with _guard:
        if _snapshots.get(key) is current:
            _snapshots[key] = kept
    return kept


def distrust_snapshot(connection: sqlite3.Connection, model: Model) -> None:
    """Make the next search compare vectors and pictures, because a hit had no picture."""
    known = _snapshots.get(_place(main_file(connection), model.id)[1])
    if known:
        known.stands = known.stood = None


def _as_it_is(connection: sqlite3.Connection, model: Model) -> Snapshot:
    """Read a snapshot for one search only, because nothing records later changes."""
    name = main_file(connection)
    if name not in _told_untriggered:
        _told_untriggered.add(name)
        log.warning(
            "The triggers of clip_embeddings are gone, so every search reads all vectors. "
            "Run: sqlite-utils clip-index"
        )
    # This snapshot is not shared, so it must not fill the memory, unless there is no file to read
    # from.
    index = (
        Unindexed(embedded_ids(connection, model)) if name else _without_index(connection, model)
    )
    state = int.from_bytes(os.urandom(8), "big", signed=True)
    return Snapshot(model, Moment(-1, state), index).without(lost_ids(connection, model))


def _latest(connection: sqlite3.Connection, model: Model) -> Snapshot:
    """Return a snapshot of all vectors that the connection sees now."""
    file, key = _place(main_file(connection), model.id)
    known = _snapshots.get(key)
    if known and known.moment.revision == model.revision and known.seen == _signature(file):
        return known
    with turn(_loading.setdefault(key, threading.Lock()), connection):
        known = _snapshots.get(key)
        seen = _signature(file)
        current = next(
            later
            for start in _starts(connection, model, file, known)
            if (later := advanced(connection, model, start))
        )
        current.seen = seen
        # A connection that sees an older state leaves the newest snapshot to the others.
        if not known or known.index is not current.index or known.moment.seq < current.moment.seq:
            _keep(key, current)
        return current


def _keep(key: _Key, snapshot: Snapshot) -> None:
    """Cache a snapshot; if the cache is full, drop one of the database that has the most."""
    with _guard:
        _snapshots[key] = snapshot
        _snapshots.move_to_end(key)
        if len(_snapshots) > CONFIG.snapshot_cache_entries:
            held = Counter(path for path, _ in _snapshots)
            del _snapshots[max(_snapshots, key=lambda other: held[other[0]])]


def _starts(
    connection: sqlite3.Connection, model: Model, file: Path | None, known: Snapshot | None
) -> Iterator[Snapshot]:
    """Yield snapshots that might be brought up to date, the least work first."""
    if known and known.model.fingerprint == model.fingerprint:
        if known.seen != _signature(file) and (mapped := _from_file(connection, model, file)):
            yield mapped
        if not known.is_outgrown:
            yield known
            # For a connection that sees an older state than `known`.
            yield known.before()
    if mapped := _from_file(connection, model, file):
        yield mapped
    # Read before the vectors, so that changes from here on are read again.
    moment = moment_of(connection, model)
    yield Snapshot(model, moment, _without_index(connection, model))
    # Reached only if the history is being deleted at the same time.
    raise DatabaseError("The vectors change faster than they can be read. Search again")


def _without_index(connection: sqlite3.Connection, model: Model) -> Index:
    count = count_vectors(connection, model)
    if count * model.dimension <= CONFIG.max_unindexed_numbers:
        return flat(*read_vectors(connection, model))
    log.warning(
        "%s has no index that can be used, and its %s vectors are more than memory has room for: "
        "every search reads them all. Run: sqlite-utils clip-index",
        visible(model.label),
        f"{count:,}",
    )
    return Unindexed(embedded_ids(connection, model))


def advanced(connection: sqlite3.Connection, model: Model, start: Snapshot) -> Snapshot | None:
    """Return a snapshot with all later changes, or None if the history does not contain them."""
    changes = changes_since(connection, model, start.moment)
    if changes is None:
        return None
    moment, touched = changes
    if moment == start.moment:
        return start
    ids, vectors = vectors_by_id(connection, model, touched)
    kept = ~np.isin(start.fresh.ids, touched)
    ids = np.concatenate([start.fresh.ids[kept], ids])
    vectors = np.concatenate([start.fresh.vectors[kept], vectors])
    order = np.argsort(ids)
    later = Snapshot(
        model,
        moment,
        start.index,
        start.made,
        np.union1d(start.touched, touched),
        flat(ids[order], vectors[order]),
    )
    later.stood = start.stood if start.stands is None else start.stands
    return later


def _signature(file: Path | None) -> object:
    """Return a value that identifies the present index file; None where there is none."""
    try:
        stat = os.stat(file) if file else None
    except OSError:
        return None
    return stat and (str(file), stat.st_ino, stat.st_size, stat.st_mtime_ns)


def _from_file(connection: sqlite3.Connection, model: Model, file: Path | None) -> Snapshot | None:
    """Map the index file of a model; log a warning and return None if it can't be used."""
    seen = _signature(file)
    if file is None or seen is None or seen in _damaged:
        return None
    try:
        moment = read_header(file).moment
        if changes_since(connection, model, moment) is None:
            if connection.in_transaction and moment.seq > moment_of(connection, model).seq:
                # The connection sees a state from before the index was built.
                return None
            raise IndexUnusable("it was built from other vectors than the database holds now")
        check_index_size(connection, file)
        index, header = open_index(file, model.fingerprint, model.dimension)
        # Another file may have taken its place meanwhile; `advanced` checks its moment.
        return Snapshot(model, header.moment, index)
    except IndexUnusable as error:
        if error.is_damaged:
            _damaged.add(seen)
        if (seen, str(error)) not in _told:
            _told.add((seen, str(error)))
            name = visible(file.name)
            log.warning("Not using the index %s: %s. Searching exactly", name, error)
        return None


def check_index_size(connection: sqlite3.Connection, file: Path) -> None:
    """Raise IndexUnusable for a file that is too large to be an index of this database.

    A number takes at most six bytes in the index, and at least two in the database.
    """
    [pages], [page_size] = (
        fetch(connection, f"pragma main.{name}").fetchone() for name in ("page_count", "page_size")
    )
    # If the file is gone by now, opening it reports that.
    size = file.stat().st_size if file.exists() else 0
    if size > 4 * pages * page_size + CONFIG.small_index_bytes:
        raise IndexUnusable("it is larger than an index of this database can be")


@lru_cache(CONFIG.snapshot_cache_entries)
def _place(path: str | None, model_id: int) -> tuple[Path | None, tuple[str, int]]:
    """Return the path of a model's index file, and the key of its snapshot."""
    return index_path(Path(path), model_id) if path else None, (str(path), model_id)
