"""Combine several weighted queries into one unit vector."""

import re
import sqlite3
import sys
from collections.abc import Sequence

import numpy as np

from ..common.arrays import Vectors
from ..common.config import CONFIG
from ..common.errors import EncoderUnavailable, ModelMismatch, QueryError
from ..common.interrupts import heed_time_limit
from ..database.index.snapshot_cache import snapshot_for
from ..database.model import Model
from ..database.vectors import check_query_vectors
from ..models.queries.text_encoder import text_encoder_of
from .modality_gap import Sides, everyday_vectors, sides_of
from .query import Value, describe_value, is_embedding, query_vector

# Relative to the sum of the weights. A shorter sum is a rounding error of terms that cancel out.
_NOTHING = 1e-5
# The cosine of a stored embedding with itself is at least this; rounding keeps it from 1.
_ITSELF = 1 - 1e-5


def mixed_vector(
    connection: sqlite3.Connection, model: Model, table: str, terms: Sequence[tuple[Value, float]]
) -> Vectors:
    """Return the unit vector (d,) float32 of the weighted sum of queries.

    Each query is normalised first. If words and pictures come together, the mean of its side is
    subtracted from each query, and both sides are scaled to the same spread. Words alone, or
    pictures alone, are only added, so the mix of a single query is its own vector.

    An embedding counts as a picture if the database has this embedding, and otherwise as the side
    with the nearer mean. Without a text encoder, which the means need, it counts as a picture.

    Raises QueryError for queries that cannot be used, are too many, or cancel each other out.
    """
    check_terms(len(terms))
    weights = [check_weight(weight) for _, weight in terms]
    vectors = [query_vector(connection, model, table, query) for query, _ in terms]
    largest = max(map(abs, weights), default=0)
    if largest == 0:
        raise QueryError("The weights of the mix are all 0. Give at least one query another weight")
    # Relative to the largest weight, because the sum of large weights might not be finite.
    mixed = [
        (query, vector, weight / largest)
        for (query, _), vector, weight in zip(terms, vectors, weights, strict=True)
        if weight
    ]
    is_text, sides = _sides(connection, model, [(query, vector) for query, vector, _ in mixed])
    if sides:
        vectors = [sides.centred(v, text) for (_, v, _), text in zip(mixed, is_text, strict=True)]
    else:
        vectors = [vector for _, vector, _ in mixed]
    total = np.zeros(model.dimension)
    for vector, (_, _, weight) in zip(vectors, mixed, strict=True):
        total += weight * vector.astype(np.float64)
    length = np.linalg.norm(total)
    if length < _NOTHING * sum(abs(weight) for _, _, weight in mixed):
        raise QueryError(
            "The queries of the mix cancel each other out, so there is no direction to search in"
        )
    return (total / length).astype(np.float32)


def check_terms(count: int) -> None:
    """Raise QueryError for more queries than one mix may have."""
    if count > CONFIG.max_mix_terms:
        raise QueryError(f"The mix has {count} queries and the limit is {CONFIG.max_mix_terms}")


def check_weight(weight: Value) -> float:
    """Return a weight as a number; accept digits, because Datasette's named parameters are text.

    Raises QueryError for anything but a finite number.
    """
    if isinstance(weight, str) and re.fullmatch(
        r"[+-]?([0-9]{1,20}\.?|[0-9]{0,20}\.[0-9]{1,20})", weight
    ):
        weight = float(weight)
    # Of Python, an integer may be too large for a float.
    if not isinstance(weight, int | float) or not abs(weight) <= sys.float_info.max:
        raise QueryError(
            f"A weight of a mix must be a finite number, but it is {describe_value(weight)}. "
            "Give every query and its weight: clip_mix('zebra', 1, 'stripes', -0.7)"
        )
    return float(weight)


def _sides(
    connection: sqlite3.Connection, model: Model, terms: list[tuple[Value, Vectors]]
) -> tuple[list[bool], Sides | None]:
    """Return which terms are texts, and the two sides if there are terms of both."""
    is_text = [
        _is_text(connection, model, query, vector) if len(terms) > 1 else False
        for query, vector in terms
    ]
    if None not in is_text and len(set(is_text)) < 2:
        return [], None
    snapshot = snapshot_for(connection, model)
    try:
        distribution = snapshot.distribution(connection)
        encoder = text_encoder_of(connection, model)
        texts = everyday_vectors(encoder, lambda: heed_time_limit(connection))
        sides = sides_of(distribution, check_query_vectors(texts, len(texts), model.dimension))
    except (EncoderUnavailable, ModelMismatch):
        if True in is_text:
            raise
        return [], None
    if sides is None:
        return [], None
    known = [
        sides.is_text(vector) if text is None else text
        for (_, vector), text in zip(terms, is_text, strict=True)
    ]
    return known, sides if len(set(known)) == 2 else None


def _is_text(
    connection: sqlite3.Connection, model: Model, query: Value, vector: Vectors
) -> bool | None:
    """Tell whether a query is a text; None for an embedding that is not in the database."""
    if not is_embedding(model, query):
        return isinstance(query, str)
    _, scores = snapshot_for(connection, model).nearest(connection, vector, 1)
    return False if len(scores) and scores[0] > _ITSELF else None
