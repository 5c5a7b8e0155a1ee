"""clip_vector(query [, model]), clip_similarity(a, b [, model]), and clip_mix(query, weight, …)."""

import sqlite3
from typing import Any

from .argument_limits import MODEL, QUERY, TERM
from .arguments import none_if_blank, none_if_blank_query
from .table_function import ScalarFunction


def _clip_vector(connection: sqlite3.Connection, query: Any, model: Any = None) -> bytes | None:
    from ..database.model import choose_model
    from ..search.query import query_vector

    table, chosen = choose_model(connection, none_if_blank(model))
    query = none_if_blank_query(connection, table, query)
    if query is None:
        return None
    return query_vector(connection, chosen, table, query).astype("<f4").tobytes()


def _clip_similarity(
    connection: sqlite3.Connection, a: Any, b: Any, model: Any = None
) -> float | None:
    from ..database.model import choose_model
    from ..search.query import query_vector

    table, chosen = choose_model(connection, none_if_blank(model))
    a, b = (none_if_blank_query(connection, table, query) for query in (a, b))
    if a is None or b is None:
        return None
    one, other = (query_vector(connection, chosen, table, query) for query in (a, b))
    return float(one @ other)


def _clip_mix(connection: sqlite3.Connection, *arguments: Any) -> bytes | None:
    from ..common.errors import QueryError
    from ..database.model import choose_model
    from ..search.mix import check_terms, check_weight, mixed_vector

    example = "clip_mix('zebra', 1, 'stripes', -0.7)"
    check_terms(len(arguments) // 2)
    if len(arguments) < 2:
        raise QueryError(f"clip_mix takes queries, each with a weight after it, such as {example}")
    is_odd = len(arguments) % 2
    try:
        # A number is more likely a query without a weight than the id of a model.
        if is_odd and not isinstance(arguments[-1], str | None):
            raise QueryError(f"There is no model named {arguments[-1]!r:.40}")
        table, chosen = choose_model(connection, none_if_blank(arguments[-1]) if is_odd else None)
    except QueryError as error:
        raise QueryError(
            f"{error}. clip_mix takes an odd number of arguments for one that ends with the "
            f"model; without one, give every query a weight, such as {example}"
        ) from error
    queries = [
        none_if_blank_query(connection, table, query)
        for query in arguments[: len(arguments) - is_odd : 2]
    ]
    given_weights = arguments[1::2]
    if any(weight is not None and none_if_blank(weight) is None for weight in given_weights):
        return None
    weights = [check_weight(weight) for weight in given_weights]
    if None in queries:
        return None
    terms = list(zip(queries, weights, strict=True))
    return mixed_vector(connection, chosen, table, terms).astype("<f4").tobytes()


CLIP_VECTOR = ScalarFunction("clip_vector", 1, 2, _clip_vector, limits=(QUERY, MODEL), steady=True)
CLIP_SIMILARITY = ScalarFunction(
    "clip_similarity", 2, 3, _clip_similarity, limits=(QUERY, QUERY, MODEL), steady=True
)
# Any number of arguments, so that our own error explains what is wrong.
CLIP_MIX = ScalarFunction("clip_mix", 0, -1, _clip_mix, limits=(TERM,), steady=True)
