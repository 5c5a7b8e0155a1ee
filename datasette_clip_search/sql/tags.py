"""clip_tags(query, labels_json [, model])."""

import sqlite3
from collections.abc import Iterator
from typing import Any

from .argument_limits import LABELS, MODEL, QUERY
from .arguments import asked, given
from .table_function import MISSING, TableFunction


def _clip_tags(
    connection: sqlite3.Connection,
    query: Any,
    labels_json: Any,
    model: Any,
    limit: int | None = None,
) -> Iterator[Any]:
    from ..search.tags import tags

    model = None if model is MISSING else given(model)
    return tags(connection, asked(connection, query), given(labels_json), model)


CLIP_TAGS = TableFunction(
    name="clip_tags",
    columns={"rank": "INTEGER", "label": "TEXT", "probability": "REAL", "score": "REAL"},
    parameters=("query", "labels_json", "model"),
    required=2,
    rows=_clip_tags,
    ordered_by="rank",
    limits=(QUERY, LABELS, MODEL),
)
