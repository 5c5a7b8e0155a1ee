"""Groups of near-identical pictures, each with the one to keep."""

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
from ..common.cache import Recent
from ..common.config import CONFIG
from ..common.errors import QueryError
from ..common.interrupts import heed_if_due, heed_time_limit
from ..database.index.snapshot import Collection
from ..database.index.snapshots import collection_for, database_path
from ..database.schema import Model, choose_model, facts, fetch, quote
from .near_pairs import Pairs, TooManyPairs, alike
from .query import Value, shown


class Duplicate(NamedTuple):
    """A picture of a group: its cosine to the group's keeper, and whether it is the keeper."""

    group_number: int
    group_size: int
    id: int
    path: str
    similarity: float
    keep: int


class Groups(NamedTuple):
    """Groups one after the other, the keeper of each first; a row is one picture."""

    number: NDArray[np.int32]
    size: NDArray[np.int32]
    id: Ids
    similarity: NDArray[np.float64]
    keep: NDArray[np.bool_]


def duplicates(
    connection: sqlite3.Connection,
    threshold: Value = CONFIG.duplicate_threshold,
    model: Value = None,
) -> Iterator[Duplicate]:
    """Yields groups of pictures that are all at least `threshold` like the keeper of their group.

    Pictures are taken from the best on: the most pixels, then the largest file, then the oldest,
    then the lowest id. The best one left is kept, and takes every one left that is like it; one
    that takes none is in no group. Everything that is linked by a chain of likenesses would be one
    group otherwise, and chains are long: in a burst, or in a film's frames, each is like the next,
    and the first is nothing like the last. Whoever deletes what is not kept loses nothing that has
    no likeness left.

    The largest groups come first; of one size, those whose pictures are more alike. A keeper is
    chosen anew when the vectors have changed. Pictures deleted meanwhile are left out. Raises
    QueryError for a threshold that is no number within CONFIG's bounds, or has too many pairs,
    and NoEmbeddings.
    """
    wanted = check_threshold(threshold)
    table, chosen = choose_model(connection, model)
    groups = _groups_of(connection, chosen, table, wanted)
    path = f"substr(path, 1, {CONFIG.max_path_characters})"
    sql = f"select {path} from main.{quote(table)} where id = ?"
    for number, size, image_id, similarity, keep in zip(*groups, strict=True):
        row = fetch(connection, sql, int(image_id)).fetchone()
        if row is not None:
            path = row[0] if type(row[0]) is str else shown(row[0])
            yield Duplicate(
                int(number), int(size), int(image_id), path, float(similarity), int(keep)
            )


def check_threshold(threshold: Value) -> float:
    """Returns the threshold as a number; Datasette's named parameters are text, so digits will do.

    Raises QueryError for anything that is no number within CONFIG's bounds.
    """
    if isinstance(threshold, str) and re.fullmatch(r"-?[0-9]{0,9}\.?[0-9]{1,30}", threshold):
        threshold = float(threshold)
    least = CONFIG.least_duplicate_threshold
    expected = f"threshold must be a number from {least} to 1, the least cosine of near-duplicates"
    if not isinstance(threshold, (int, float)):
        raise QueryError(f"{expected}, but it is {shown(threshold)}")
    if not least <= threshold <= 1:
        raise QueryError(f"{expected}, but it is {threshold}")
    return float(threshold)


State = tuple[int, bytes]

_groups: Recent[tuple[str, int, State, float], Groups] = Recent(CONFIG.duplicate_cache_entries)


def _groups_of(
    connection: sqlite3.Connection, model: Model, table: str, threshold: float
) -> Groups:
    collection = collection_for(connection, model)
    key = (str(database_path(connection)), model.id, collection.state, threshold)
    groups = _groups.get(key)
    if groups is not None:
        return groups
    ids = collection.ids
    pairs = _pairs_of(connection, key[:3], collection, threshold)
    ranks = _ranks(connection, table, pairs, ids)
    groups = group(pairs, ids, ranks, lambda: heed_time_limit(connection))
    _groups.put(key, groups)
    return groups


def _ranks(connection: sqlite3.Connection, table: str, pairs: Pairs, ids: Ids) -> Ids:
    """Returns (n,) places in the order of preference, for the positions that have a likeness."""
    has_copy = np.bincount(pairs.copy_of, minlength=len(ids)) > 1
    has_pair = np.zeros(len(ids), bool)
    has_pair[pairs.first] = has_pair[pairs.second] = True
    positions = np.flatnonzero((has_copy | has_pair)[pairs.copy_of])
    known = facts(connection, table, "width", "height", "size", "taken", "mtime")
    # `taken` is in the camera's own time, as near as one gets to the file's.
    # Values of other types, where somebody has changed the table, would not sort.
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
    """Groups pictures by pairs that are alike; (n,) `ids` and `ranks` are theirs by position.

    The lowest rank is the best; a picture without any likeness has rank n. `heed` is called now
    and then, to end it by an exception.
    """
    by_vector = np.lexsort((ranks, pairs.copy_of))
    by_vector = by_vector[ranks[by_vector] < len(ids)]
    vectors, starts, counts = np.unique(
        pairs.copy_of[by_vector], return_index=True, return_counts=True
    )
    # Every pair from both of its ends, in the order of where it starts.
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
class _Search:
    """What is known of the pairs of one collection."""

    pairs: Pairs | None = None
    # Every pair of at least this cosine is known.
    threshold: float = math.inf
    # At this one and below there are too many.
    refused: float = -math.inf
    error: BaseException | None = None


_searches: OrderedDict[tuple[str, int, State], _Search] = OrderedDict()
_guard = threading.Lock()
# By the file of the database, so that none waits for another's.
_working: dict[str, threading.Thread] = {}


def _pairs_of(
    connection: sqlite3.Connection,
    key: tuple[str, int, State],
    collection: Collection,
    threshold: float,
) -> Pairs:
    """Returns the pairs of at least `threshold`, found once and remembered.

    A thread of its own finds them, one collection of a database at a time. A time limit can so end
    a statement that waits, and the same statement has its answer a little later. Thresholds are
    rounded down, and the pairs of a lower one serve all above it: nobody can ask for very many
    searches.
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
                    f"More than {CONFIG.max_duplicate_pairs} pairs of pictures are at least "
                    f"{wanted} alike. Raise the threshold of clip_duplicates"
                )
            working = _working.get(key[0])
            if working is None or not working.is_alive():
                work = (search, collection, database_path(connection), wanted)
                # As a daemon, it doesn't hold up the end of the program.
                working = threading.Thread(target=_work, args=work, daemon=True)
                _working[key[0]] = working
                working.start()
        working.join(0.05)
        if working.is_alive():
            heed_time_limit(connection)


def _known(key: tuple[str, int, State]) -> _Search:
    if key not in _searches:
        # Pairs of older vectors will not be asked for again.
        for other in [other for other in _searches if other[:2] == key[:2]]:
            del _searches[other]
        _searches[key] = _Search()
        if len(_searches) > CONFIG.collection_cache_entries:
            _searches.popitem(last=False)
    _searches.move_to_end(key)
    return _searches[key]


def _work(search: _Search, collection: Collection, database: Path | None, threshold: float) -> None:
    try:
        vectors = collection.vectors(database)
        search.pairs = alike(vectors, threshold, CONFIG.max_duplicate_pairs)
        search.threshold = threshold
    except TooManyPairs:
        search.refused = max(search.refused, threshold)
    except BaseException as error:
        search.error = error


def _at_least(pairs: Pairs, threshold: float) -> Pairs:
    close = pairs.cosine >= threshold
    first, second, cosine, copy_of = pairs
    return Pairs(first[close], second[close], cosine[close], copy_of)
