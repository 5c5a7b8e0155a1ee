"""clip_vector(query [, model]) and clip_similarity(a, b [, model])."""

import sqlite3
from typing import Any

from ..table_function import ScalarFunction


def _clip_vector(connection: sqlite3.Connection, query: Any, model: Any = None) -> bytes | None:
    from ..query import query_vector
    from ..schema import choose_model

    table, chosen = choose_model(connection, model)
    if query is None:
        return None
    return query_vector(connection, chosen, table, query).astype("<f4").tobytes()


def _clip_similarity(
    connection: sqlite3.Connection, a: Any, b: Any, model: Any = None
) -> float | None:
    from ..query import query_vector
    from ..schema import choose_model

    table, chosen = choose_model(connection, model)
    if a is None or b is None:
        return None
    one, other = (query_vector(connection, chosen, table, query) for query in (a, b))
    return float(one @ other)


CLIP_VECTOR = ScalarFunction("clip_vector", 1, 2, _clip_vector)
CLIP_SIMILARITY = ScalarFunction("clip_similarity", 2, 3, _clip_similarity)
