"""clip_duplicates([threshold [, model]])."""

import sqlite3
from collections.abc import Iterator
from itertools import islice
from typing import Any

from ..common.config import CONFIG
from .argument_limits import MODEL, THRESHOLD
from .arguments import given
from .table_function import MISSING, TableFunction


def _clip_duplicates(
    connection: sqlite3.Connection, threshold: Any, model: Any, limit: int | None = None
) -> Iterator[Any]:
    from ..search.duplicates import duplicates

    if threshold is MISSING:
        threshold = CONFIG.duplicate_threshold
    if threshold is not None and given(threshold) is None:
        return iter(())
    found = duplicates(connection, threshold, None if model is MISSING else given(model))
    return islice(found, limit)


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
