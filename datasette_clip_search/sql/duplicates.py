"""clip_duplicates([threshold [, model]])."""

import sqlite3
from collections.abc import Iterator
from itertools import islice
from typing import Any

from ..common.config import CONFIG
from .argument_limits import MODEL, THRESHOLD
from .arguments import none_if_blank
from .table_function import MISSING, TableFunction


def _clip_duplicates(
    connection: sqlite3.Connection, threshold: Any, model: Any, limit: int | None = None
) -> Iterator[Any]:
    from ..database.model import choose_model
    from ..search.duplicates import duplicates

    if threshold is MISSING:
        threshold = CONFIG.duplicate_threshold
    if threshold is not None and none_if_blank(threshold) is None:
        return iter(())
    table, chosen = choose_model(connection, None if model is MISSING else none_if_blank(model))
    return islice(duplicates(connection, chosen, table, threshold), limit)


CLIP_DUPLICATES = TableFunction(
    name="clip_duplicates",
    columns={
        "group_number": "INTEGER",
        "group_size": "INTEGER",
        "id": "INTEGER",
        "path": "TEXT",
        "similarity": "REAL",
        "keep": "INTEGER",
    },
    parameters=("threshold", "model"),
    required=0,
    rows=_clip_duplicates,
    ordered_by="group_number",
    limits=(THRESHOLD, MODEL),
)
