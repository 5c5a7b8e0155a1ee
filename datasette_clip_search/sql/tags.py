"""clip_tags(query, labels_json [, model])."""

import sqlite3
from collections.abc import Iterator
from typing import Any

from .argument_limits import LABELS, MODEL, QUERY
from .arguments import none_if_blank, none_if_blank_query
from .table_function import MISSING, TableFunction


def _clip_tags(
    connection: sqlite3.Connection,
    query: Any,
    labels_json: Any,
    model: Any,
    limit: int | None = None,
) -> Iterator[Any]:
    from ..database.model import choose_model
    from ..search.tags import tags

    table, chosen = choose_model(connection, None if model is MISSING else none_if_blank(model))
    query = none_if_blank_query(connection, table, query)
    return tags(connection, chosen, table, query, none_if_blank(labels_json))


CLIP_TAGS = TableFunction(
    name="clip_tags",
    columns={"rank": "INTEGER", "label": "TEXT", "probability": "REAL", "score": "REAL"},
    parameters=("query", "labels_json", "model"),
    required=2,
    rows=_clip_tags,
    ordered_by="rank",
    limits=(QUERY, LABELS, MODEL),
)
