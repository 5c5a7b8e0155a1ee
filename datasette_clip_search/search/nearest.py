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
from .query import Value, describe_value, query_vector

_IDS_AT_A_TIME = 10_000

# How often to search again when pictures are deleted during a search.
_TRIES = 10


class RankedPicture(NamedTuple):
    """A picture that matches a query; `rank` counts from 1, and `score` is the cosine.

    `z_score` is the number of standard deviations between this cosine and the median of all
    pictures. It is None when there are too few pictures, or all are too similar, to compute it.
    """

    rank: int
    id: int
    path: str
    score: float
    z_score: float | None


def search(
    connection: sqlite3.Connection,
    model: Model,
    table: str,
    query: Value,
    k: Value = CONFIG.default_k,
    within: Iterable[int] | Ids | None = None,
    z_scores: bool = True,
) -> Iterator[RankedPicture]:
    """Yield the k nearest pictures, best first. For the id of a picture, leave that one out.

    `model` and `table` are as choose_model() returns them. `within` holds the ids of the only
    pictures to search; None means all. A query of None has no hits, as in SQL. Without `z_scores`,
    every z_score is None.

    Raises QueryError and other ClipSearchErrors, all of them before the first hit.
    """
    wanted = check_k(k)
    if query is None or wanted == 0:
        return iter(())
    for _ in range(_TRIES):
        found = _find_nearest(connection, model, table, query, wanted, within, z_scores)
        paths = _read_paths(connection, table, [id for id, _, _ in found])
        if len(paths) == len(found):
            break
        # Some pictures were deleted. Search again with the newest revision of the model.
        distrust_snapshot(connection, model)
        _, model = choose_model(connection, model.id)
    there = [(id, paths[id], score, z_score) for id, score, z_score in found if id in paths]
    return (RankedPicture(rank, *hit) for rank, hit in enumerate(there, 1))


def _find_nearest(
    connection: sqlite3.Connection,
    model: Model,
    table: str,
    query: Value,
    k: int,
    within: Iterable[int] | Ids | None,
    with_z_scores: bool,
) -> list[tuple[int, float, float | None]]:
    """Return ids, cosines and z-scores of the k nearest pictures."""
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


def _read_paths(connection: sqlite3.Connection, table: str, ids: list[int]) -> dict[int, str]:
    # For a few ids, placeholders are faster than JSON.
    few = len(ids) <= CONFIG.default_k
    among = ",".join("?" * len(ids)) if few else "select value from temp.json_each(?)"
    path = f"substr(path, 1, {CONFIG.max_path_characters})"
    sql = f"select id, {path} from main.{quote(table)} where id in ({among})"
    # Someone else may have made the table, so a path may be any value.
    paths: dict[int, str] = {}
    for at in range(0, len(ids), _IDS_AT_A_TIME):
        heed_if_due(connection)
        part = ids[at : at + _IDS_AT_A_TIME]
        for id, path in fetch(connection, sql, *(part if few else [json.dumps(part)])):
            paths[id] = path if type(path) is str else describe_value(path)
    return paths


def check_k(k: Value, limit: int = CONFIG.max_k) -> int:
    """Return k as an integer; accept digits, because Datasette's named parameters are text.

    Raises QueryError unless k is a whole number from 0 to `limit`.
    """
    if isinstance(k, str) and re.fullmatch("-?[0-9]{1,19}", k):
        k = int(k)
    if isinstance(k, float) and k.is_integer() and abs(k) < 2**63:
        k = int(k)
    if not isinstance(k, int):
        raise QueryError(
            f"k must be a whole number, the most rows wanted, but it is {describe_value(k)}"
        )
    if k < 0:
        raise QueryError(f"k must be 0 or more, but it is {k}")
    if k > limit:
        raise QueryError(f"k is too large: provided {k} and the limit is {limit}")
    return k
