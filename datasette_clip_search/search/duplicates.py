"""Find groups of near-duplicate pictures, and the one to keep of each."""

import math
import re
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..common.arrays import Ids
from ..common.cache import LRUCache
from ..common.config import CONFIG
from ..common.errors import QueryError
from ..common.interrupts import heed_if_due, heed_time_limit
from ..database.connection import database_path, fetch, quote
from ..database.index.snapshot import Snapshot
from ..database.index.snapshot_cache import snapshot_for
from ..database.model import Model
from ..database.recognition import select_facts
from .near_pairs import Pairs, TooManyPairs, find_pairs
from .query import Value, describe_value


class Duplicate(NamedTuple):
    """A picture of a group; `similarity` is its cosine to the keeper, which `keep` marks."""

    group_number: int
    group_size: int
    id: int
    path: str
    similarity: float
    keep: int


class Groups(NamedTuple):
    """Columns with one row for each picture, group by group; each group starts with its keeper."""

    number: NDArray[np.int32]
    size: NDArray[np.int32]
    id: Ids
    similarity: NDArray[np.float64]
    keep: NDArray[np.bool_]


def duplicates(
    connection: sqlite3.Connection,
    model: Model,
    table: str,
    threshold: Value = CONFIG.duplicate_threshold,
) -> Iterator[Duplicate]:
    """Yield groups of pictures whose cosine to the keeper of their group is at least `threshold`.

    Pictures are ordered from the best one: most pixels, then largest file, then oldest, then lowest
    id. The best picture that is left becomes a keeper, and every similar picture that is left joins
    its group. A picture without a similar one is in no group. Similarity is not followed from
    picture to picture: in a burst or a film each frame is like the next, but the first is nothing
    like the last. So a person who deletes all but the keepers still has a similar picture for each
    deleted one.

    The largest groups come first; groups of one size are ordered by their lowest cosine, highest
    first. Keepers are chosen again when the vectors change. Pictures deleted meanwhile are left
    out.

    `model` and `table` are as choose_model() returns them. Raises QueryError for a threshold that
    is not a number within CONFIG's limits, or that has too many pairs.
    """
    wanted = check_threshold(threshold)
    groups = _groups_of(connection, model, table, wanted)
    path = f"substr(path, 1, {CONFIG.max_path_characters})"
    sql = f"select {path} from main.{quote(table)} where id = ?"
    for number, size, image_id, similarity, keep in zip(*groups, strict=True):
        row = fetch(connection, sql, int(image_id)).fetchone()
        if row is not None:
            path = row[0] if type(row[0]) is str else describe_value(row[0])
            yield Duplicate(
                int(number), int(size), int(image_id), path, float(similarity), int(keep)
            )


def check_threshold(threshold: Value) -> float:
    """Return the threshold as a number; accept digits: Datasette's named parameters are text.

    Raises QueryError for anything but a number within CONFIG's limits.
    """
    if isinstance(threshold, str) and re.fullmatch(r"-?[0-9]{0,9}\.?[0-9]{1,30}", threshold):
        threshold = float(threshold)
    least = CONFIG.least_duplicate_threshold
    expected = f"threshold must be a number from {least} to 1, the least cosine of near-duplicates"
    if not isinstance(threshold, (int, float)):
        raise QueryError(f"{expected}, but it is {describe_value(threshold)}")
    if not least <= threshold <= 1:
        raise QueryError(f"{expected}, but it is {threshold}")
    return float(threshold)


State = tuple[int, bytes]

_groups: LRUCache[tuple[str, int, State, float], Groups] = LRUCache(CONFIG.duplicate_cache_entries)


def _groups_of(
    connection: sqlite3.Connection, model: Model, table: str, threshold: float
) -> Groups:
    snapshot = snapshot_for(connection, model)
    key = (str(database_path(connection)), model.id, snapshot.state, threshold)
    groups = _groups.get(key)
    if groups is not None:
        return groups
    ids = snapshot.ids
    pairs = _pairs_of(connection, key[:3], snapshot, threshold)
    ranks = _ranks(connection, table, pairs, ids)
    groups = group(pairs, ids, ranks, lambda: heed_time_limit(connection))
    _groups.put(key, groups)
    return groups


def _ranks(connection: sqlite3.Connection, table: str, pairs: Pairs, ids: Ids) -> Ids:
    """Return ranks (n,) by preference, 0 for the best; n for pictures without a similar one."""
    has_copy = np.bincount(pairs.copy_of, minlength=len(ids)) > 1
    has_pair = np.zeros(len(ids), bool)
    has_pair[pairs.first] = has_pair[pairs.second] = True
    positions = np.flatnonzero((has_copy | has_pair)[pairs.copy_of])
    known = select_facts(connection, table, "width", "height", "size", "taken", "mtime")
    # `taken` is in the camera's own time, which is close enough. Someone may have changed the
    # table, and values of other types would not sort.
    sql = f"""select width * height, case typeof(size) when 'integer' then size end,
        coalesce(
            case typeof(taken) when 'text' then substr(taken, 1, 40) end,
            strftime('%Y-%m-%dT%H:%M:%S', mtime, 'unixepoch'),
            '9'
        )
        from (select {known} from main.{quote(table)} where id = ?)"""
    found = []
    for position in positions:
        heed_if_due(connection)
        image_id = int(ids[position])
        pixels, size, when = fetch(connection, sql, image_id).fetchone() or (0, 0, "9")
        found.append((-(pixels or 0), -(size or 0), when, image_id))
    ranks = np.full(len(ids), len(ids))
    ranks[positions[sorted(range(len(found)), key=found.__getitem__)]] = np.arange(len(found))
    return ranks


def group(pairs: Pairs, ids: Ids, ranks: Ids, heed: Callable[[], None] = lambda: None) -> Groups:
    """Group pictures by similar pairs; (n,) `ids` and `ranks` are by position.

    The lowest rank is the best, and a picture without a similar one has rank n. `heed` is called
    now and then, and may raise to end the work.
    """
    by_vector = np.lexsort((ranks, pairs.copy_of))
    by_vector = by_vector[ranks[by_vector] < len(ids)]
    vectors, starts, counts = np.unique(
        pairs.copy_of[by_vector], return_index=True, return_counts=True
    )
    # Each pair in both directions, sorted by its first end.
    ends = np.concatenate([pairs.first, pairs.second]), np.concatenate([pairs.second, pairs.first])
    order = np.argsort(ends[0], kind="stable")
    other = np.searchsorted(vectors, ends[1][order])
    cosine = np.concatenate([pairs.cosine, pairs.cosine])[order]
    bounds = np.searchsorted(ends[0][order], [vectors, vectors + 1]).T

    taken = np.zeros(len(vectors), bool)
    found: list[tuple[int, float, int, list[tuple[float, int]]]] = []
    for number, best in enumerate(np.argsort(ranks[by_vector[starts]])):
        if number % 100 == 99:
            heed()
        near = slice(*bounds[best])
        left = ~taken[other[near]]
        if taken[best] or (counts[best] == 1 and not left.any()):
            continue
        taken[best] = True
        taken[other[near][left]] = True
        keeper, *copies = (int(ids[at]) for at in by_vector[starts[best] :][: counts[best]])
        members = [(-1.0, copy) for copy in copies]
        for one, similarity in zip(other[near][left], cosine[near][left], strict=True):
            same = by_vector[starts[one] :][: counts[one]]
            members += [(-float(similarity), int(ids[at])) for at in same]
        members.sort()
        found.append((-len(members), members[-1][0], keeper, members))
    found.sort()
    rows = [
        (number, len(members) + 1, image_id, -similarity, image_id == keeper)
        for number, (_, _, keeper, members) in enumerate(found, 1)
        for similarity, image_id in [(-1.0, keeper), *members]
    ]
    columns = list(zip(*rows, strict=True)) or [()] * 5
    types = np.int32, np.int32, np.int64, np.float64, np.bool_
    return Groups(*(np.array(column, kind) for column, kind in zip(columns, types, strict=True)))


@dataclass
class _PairSearch:
    """The known pairs of one snapshot."""

    pairs: Pairs | None = None
    # Every pair with at least this cosine is known.
    threshold: float = math.inf
    # At this threshold and below, there are too many pairs.
    refused: float = -math.inf
    error: BaseException | None = None


_searches: OrderedDict[tuple[str, int, State], _PairSearch] = OrderedDict()
_guard = threading.Lock()
# The key is the file of the database, so that no database waits for another.
_working: dict[str, threading.Thread] = {}


def _pairs_of(
    connection: sqlite3.Connection,
    key: tuple[str, int, State],
    snapshot: Snapshot,
    threshold: float,
) -> Pairs:
    """Return the pairs with a cosine of at least `threshold`, from the cache if possible.

    A thread finds them, one for each database at a time. So a time limit can end the statement that
    waits, and the same statement gets its answer a little later. The threshold of the work is
    rounded down, and its pairs serve every higher threshold, so nobody can start many searches.
    """
    step = 1000 if threshold >= 0.99 else 100
    wanted = math.floor(threshold * step + 1e-9) / step
    while True:
        with _guard:
            search = _known(key)
            if search.error:
                error, search.error = search.error, None
                raise error
            if search.pairs and search.threshold <= wanted:
                return _at_least(search.pairs, threshold)
            if search.refused >= wanted:
                raise QueryError(
                    f"More than {CONFIG.max_duplicate_pairs} pairs of pictures have a similarity "
                    f"of at least {wanted}. Raise the threshold of clip_duplicates"
                )
            working = _working.get(key[0])
            if working is None or not working.is_alive():
                work = (search, snapshot, database_path(connection), wanted)
                # A daemon thread does not delay the exit of the program.
                working = threading.Thread(target=_work, args=work, daemon=True)
                _working[key[0]] = working
                working.start()
        working.join(0.05)
        if working.is_alive():
            heed_time_limit(connection)


def _known(key: tuple[str, int, State]) -> _PairSearch:
    if key not in _searches:
        # Pairs of older vectors are not needed again.
        for other in [other for other in _searches if other[:2] == key[:2]]:
            del _searches[other]
        _searches[key] = _PairSearch()
        if len(_searches) > CONFIG.snapshot_cache_entries:
            _searches.popitem(last=False)
    _searches.move_to_end(key)
    return _searches[key]


def _work(search: _PairSearch, snapshot: Snapshot, database: Path | None, threshold: float) -> None:
    try:
        vectors = snapshot.vectors(database)
        search.pairs = find_pairs(vectors, threshold, CONFIG.max_duplicate_pairs)
        search.threshold = threshold
    except TooManyPairs:
        search.refused = max(search.refused, threshold)
    except BaseException as error:
        search.error = error


def _at_least(pairs: Pairs, threshold: float) -> Pairs:
    close = pairs.cosine >= threshold
    first, second, cosine, copy_of = pairs
    return Pairs(first[close], second[close], cosine[close], copy_of)
