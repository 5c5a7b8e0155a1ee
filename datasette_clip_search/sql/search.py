"""clip_search(query [, k] [, model] [, within]), and the same as JSON."""

import json
import sqlite3
from collections.abc import Iterator
from itertools import islice
from typing import Any

from ..common.config import CONFIG
from ..common.interrupts import heed_if_due
from .argument_limits import MODEL, QUERY, WITHIN, K
from .arguments import asked, given
from .table_function import MISSING, ScalarFunction, TableFunction

_HITS_AT_A_TIME = 1000


def _clip_search(
    connection: sqlite3.Connection,
    query: Any,
    k: Any,
    model: Any,
    ids_json: Any,
    limit: int | None = None,
    within: Any = None,
    costly: bool = True,
) -> Iterator[Any]:
    from ..search.nearest import search

    if k is MISSING:
        k = CONFIG.default_k if limit is None else min(limit, CONFIG.max_k)
    if ids_json is not MISSING:
        ids = _ids(ids_json, connection)
        if within is None or ids is None:
            within = ids if within is None else within
        else:
            within = within.intersection(ids.tolist())
    model = None if model is MISSING else given(model)
    query, k = asked(connection, query), _count(k)
    return search(connection, query, k, model, within, z_scores=costly)


def _clip_search_json(
    connection: sqlite3.Connection,
    query: Any,
    k: Any = CONFIG.default_k,
    model: Any = None,
    ids_json: Any = None,
) -> str:
    from ..search.nearest import search

    query, k = asked(connection, query), _count(k)
    hits = search(connection, query, k, given(model), _ids(ids_json, connection))
    parts = []
    # To write all at once would stop every other thread.
    while some := [hit._asdict() for hit in islice(hits, _HITS_AT_A_TIME)]:
        parts.append(json.dumps(some, ensure_ascii=False)[1:-1])
        heed_if_due(connection)
    return f"[{', '.join(parts)}]"


def _count(k: Any) -> Any:
    # NULL stays what it is, which is no number.
    return 0 if k is not None and given(k) is None else k


def _ids(ids_json: Any, connection: sqlite3.Connection) -> Any:
    """Returns the ids in an array (n,): of blank text none, where NULL means all pictures."""
    import numpy as np

    from ..search.within import read_ids

    none = np.empty(0, np.int64)
    return (
        none if ids_json is not None and given(ids_json) is None else read_ids(ids_json, connection)
    )


CLIP_SEARCH = TableFunction(
    name="clip_search",
    columns={
        "rank": "INTEGER",
        "id": "INTEGER",
        "path": "TEXT",
        "score": "REAL",
        "z_score": "REAL",
    },
    parameters=("query", "k", "model", "within"),
    required=1,
    rows=_clip_search,
    ordered_by="rank",
    descending=("score", "z_score"),
    counted="k",
    example="select * from clip_search('dog', 100)",
    within="id",
    costly="z_score",
    limits=(QUERY, K, MODEL, WITHIN),
    instead=(
        "select * from clip_search('dog', 10, null, "
        "(select json_group_array(id) from images where taken >= '2020'))"
    ),
)
CLIP_SEARCH_JSON = ScalarFunction(
    "clip_search_json", 1, 4, _clip_search_json, limits=(QUERY, K, MODEL, WITHIN), steady=True
)
