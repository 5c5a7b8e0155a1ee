"""clip_search(query [, k] [, model] [, within]), and the same as JSON."""

import json
import sqlite3
from collections.abc import Iterator
from typing import Any

from ..config import CONFIG
from ..table_function import MISSING, ScalarFunction, TableFunction


def _clip_search(
    connection: sqlite3.Connection,
    query: Any,
    k: Any,
    model: Any,
    ids_json: Any,
    limit: int | None = None,
    within: set[int] | None = None,
    costly: bool = True,
) -> Iterator[Any]:
    from ..search import search

    if k is MISSING:
        k = CONFIG.default_k if limit is None else min(limit, CONFIG.max_k)
    if ids_json is not MISSING:
        from ..within import read_ids

        given = read_ids(ids_json)
        if within is None:
            within = given
        elif given is not None:
            within = within & given
    return search(
        connection, query, k, None if model is MISSING else model, within, z_scores=costly
    )


def _clip_search_json(
    connection: sqlite3.Connection,
    query: Any,
    k: Any = CONFIG.default_k,
    model: Any = None,
    ids_json: Any = None,
) -> str:
    from ..search import search
    from ..within import read_ids

    hits = search(connection, query, k, model, read_ids(ids_json))
    return json.dumps([hit._asdict() for hit in hits], ensure_ascii=False)


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
    instead=(
        "select * from clip_search('dog', 10, null, "
        "(select json_group_array(id) from images where taken >= '2020'))"
    ),
)
CLIP_SEARCH_JSON = ScalarFunction("clip_search_json", 1, 4, _clip_search_json)
