"""clip_search(query [, k] [, model] [, within]), and the same as JSON."""

import json
import sqlite3
from collections.abc import Iterator
from itertools import islice
from typing import Any

from ..common.config import CONFIG
from ..common.interrupts import heed_if_due
from .argument_limits import MODEL, QUERY, WITHIN, K
from .arguments import none_if_blank, none_if_blank_query
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
    from ..database.model import choose_model
    from ..search.nearest import search

    if k is MISSING:
        k = CONFIG.default_k if limit is None else min(limit, CONFIG.max_k)
    if ids_json is not MISSING:
        ids = _ids(ids_json, connection)
        if within is None or ids is None:
            within = ids if within is None else within
        else:
            within = within.intersection(ids.tolist())
    table, chosen = choose_model(connection, None if model is MISSING else none_if_blank(model))
    query = none_if_blank_query(connection, table, query)
    return search(connection, chosen, table, query, _zero_if_blank(k), within, z_scores=costly)


def _clip_search_json(
    connection: sqlite3.Connection,
    query: Any,
    k: Any = CONFIG.default_k,
    model: Any = None,
    ids_json: Any = None,
) -> str:
    from ..database.model import choose_model
    from ..search.nearest import search

    ids = _ids(ids_json, connection)
    table, chosen = choose_model(connection, none_if_blank(model))
    query = none_if_blank_query(connection, table, query)
    hits = search(connection, chosen, table, query, _zero_if_blank(k), ids)
    parts = []
    # json.dumps() holds the GIL, so write some hits at a time.
    while some := [hit._asdict() for hit in islice(hits, _HITS_AT_A_TIME)]:
        parts.append(json.dumps(some, ensure_ascii=False)[1:-1])
        heed_if_due(connection)
    return f"[{', '.join(parts)}]"


def _zero_if_blank(k: Any) -> Any:
    # NULL stays NULL, which is an error: it is not a number.
    return 0 if k is not None and none_if_blank(k) is None else k


def _ids(ids_json: Any, connection: sqlite3.Connection) -> Any:
    """Return the ids in a JSON array, (n,): none for blank text, None (all pictures) for NULL."""
    import numpy as np

    from ..search.within import read_ids

    none = np.empty(0, np.int64)
    return (
        none
        if ids_json is not None and none_if_blank(ids_json) is None
        else read_ids(ids_json, connection)
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
