"""The k pictures nearest to a query."""

import json
import re
import sqlite3
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ..common.arrays import Ids
from ..common.config import CONFIG
from ..common.errors import QueryError
from ..common.interrupts import heed_if_due
from ..database.connection import fetch, quote
from ..database.index.snapshot_cache import distrust_snapshot, snapshot_for
from ..database.model import Model, choose_model
from .query import Value, query_vector, shown

_IDS_AT_A_TIME = 10_000

# Searches of a database whose pictures are deleted as fast as they are found.
_TRIES = 10


class Hit(NamedTuple):
    """One found picture: its place from 1 on, its id and path, and its cosine to the query.

    `z_score` is how many standard deviations the cosine lies above the median picture's; None in
    a collection too small, or too uniform, to tell.
    """

    rank: int
    id: int
    path: str
    score: float
    z_score: float | None


def search(
    connection: sqlite3.Connection,
    query: Value,
    k: Value = CONFIG.default_k,
    model: Value = None,
    within: Iterable[int] | Ids | None = None,
    z_scores: bool = True,
) -> Iterator[Hit]:
    """Yields the k nearest pictures, best first; for a picture's id, the nearest other ones.

    `model` is one of the database's, by its id or name; None is the default one. With `within`,
    ids of pictures, it searches these and no others. A query of None has no answers, as in SQL.
    Without `z_scores`, all of them are None.

    Raises QueryError, NoEmbeddings and other ClipSearchErrors, all of them before the first hit.
    """
    wanted = check_k(k)
    for _ in range(_TRIES):
        table, chosen = choose_model(connection, model)
        if query is None or wanted == 0:
            return iter(())
        found = _found(connection, table, chosen, query, wanted, within, z_scores)
        paths = _paths(connection, table, [id for id, _, _ in found])
        if len(paths) == len(found):
            break
        # Where pictures were deleted meanwhile, or unseen, others are searched for.
        distrust_snapshot(connection, chosen)
    there = [(id, paths[id], score, z_score) for id, score, z_score in found if id in paths]
    return (Hit(rank, *hit) for rank, hit in enumerate(there, 1))


def _found(
    connection: sqlite3.Connection,
    table: str,
    model: Model,
    query: Value,
    k: int,
    within: Iterable[int] | Ids | None,
    with_z_scores: bool,
) -> list[tuple[int, float, float | None]]:
    """Returns ids, cosines and z-scores of the k nearest pictures."""
    vector = query_vector(connection, model, table, query)
    itself = query if isinstance(query, int) else None
    snapshot = snapshot_for(connection, model)
    wanted = k if itself is None else k + 1
    ids, scores = snapshot.nearest(connection, vector, wanted, within)
    z_scores: list[float] | list[None] = [None] * len(ids)
    if with_z_scores:
        z_scores = snapshot.crowd(connection).z_scores(vector, scores, without=itself)
    hits = zip(ids.tolist(), scores.tolist(), z_scores, strict=True)
    return [hit for hit in hits if hit[0] != itself][:k]


def _paths(connection: sqlite3.Connection, table: str, ids: list[int]) -> dict[int, str]:
    # So few are found sooner without JSON.
    few = len(ids) <= CONFIG.default_k
    among = ",".join("?" * len(ids)) if few else "select value from temp.json_each(?)"
    path = f"substr(path, 1, {CONFIG.max_path_characters})"
    sql = f"select id, {path} from main.{quote(table)} where id in ({among})"
    # A column of a table that others made may hold anything.
    paths: dict[int, str] = {}
    for at in range(0, len(ids), _IDS_AT_A_TIME):
        heed_if_due(connection)
        part = ids[at : at + _IDS_AT_A_TIME]
        for id, path in fetch(connection, sql, *(part if few else [json.dumps(part)])):
            paths[id] = path if type(path) is str else shown(path)
    return paths


def check_k(k: Value, limit: int = CONFIG.max_k) -> int:
    """Returns k as an integer; Datasette's named parameters are text, so digits will do.

    Raises QueryError for anything that is no whole number from 0 to `limit`.
    """
    if isinstance(k, str) and re.fullmatch("-?[0-9]{1,19}", k):
        k = int(k)
    if isinstance(k, float) and k.is_integer() and abs(k) < 2**63:
        k = int(k)
    if not isinstance(k, int):
        raise QueryError(f"k must be a whole number, the most rows wanted, but it is {shown(k)}")
    if k < 0:
        raise QueryError(f"k must be 0 or more, but it is {k}")
    if k > limit:
        raise QueryError(f"k is too large: provided {k} and the limit is {limit}")
    return k
