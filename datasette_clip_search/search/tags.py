"""Zero-shot labels: which of some labels a picture deserves, and how probably."""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..common.arrays import Vectors
from ..common.cache import Recent
from ..common.config import CONFIG
from ..common.errors import QueryError
from ..common.interrupts import heed_time_limit
from ..database.schema import Model, choose_model
from ..database.vector_format import check_encoded
from ..models.text_encoder import TextEncoder, text_encoder_of, text_key
from ..models.torch_model import Heed, unit
from .query import Value, query_vector, shown

TEMPLATES = (
    "{}",
    "a photo of {}",
    "a photo of a {}",
    "a picture of {}",
    "a picture of the {}",
    "a snapshot with {} in it",
    "{} in a photo",
)
"""The prompts whose vectors are averaged into the one of a label, the bare label among them."""


class Tag(NamedTuple):
    """One label of a query: its place from 1 on, its probability among all, and its cosine."""

    rank: int
    label: str
    probability: float
    score: float


@dataclass(frozen=True)
class Labels:
    """Labels with their unit vectors (n, d), and what the model multiplies cosines with."""

    names: tuple[str, ...]
    vectors: Vectors
    scale: float


# By the key of what encodes texts and the JSON, and by the key and one label.
_lists: Recent[tuple[str, Value], Labels] = Recent(CONFIG.label_list_cache_entries)
_vectors: Recent[tuple[str, str], Vectors] = Recent(CONFIG.label_cache_entries)


def tags(
    connection: sqlite3.Connection, query: Value, labels_json: Value, model: Value = None
) -> Iterator[Tag]:
    """Yields every label with its probability for a query, best first.

    The query is as query_vector() takes it. Probabilities are the softmax, over these labels
    alone, of the cosines times the model's own learned scale, so they add up to 1 whether or not
    any label fits. SigLIP's further bias is the same for every label and cancels.

    A query or labels of None have no answers, as in SQL. Raises QueryError, NoEmbeddings and other
    ClipSearchErrors, all of them before the first tag.
    """
    table, chosen = choose_model(connection, model)
    if labels_json is None:
        return iter(())
    labels = _labels(connection, chosen, labels_json)
    if query is None:
        return iter(())
    check_encoded(labels.vectors, len(labels.names), chosen.dimension)
    scores = labels.vectors @ query_vector(connection, chosen, table, query)
    logits = labels.scale * scores.astype(np.float64)
    weights = np.exp(logits - logits.max())
    probabilities = (weights / weights.sum()).tolist()
    cosines = scores.tolist()
    order = np.argsort(-scores, kind="stable").tolist()
    return (
        Tag(rank, labels.names[place], probabilities[place], cosines[place])
        for rank, place in enumerate(order, 1)
    )


def read_labels(labels_json: Value) -> tuple[str, ...]:
    """Returns the labels in a JSON array of strings, without the spaces around them.

    Raises QueryError for anything else, and for labels that are blank, repeated, too long or too
    many.
    """
    if not isinstance(labels_json, str):
        raise _not_labels(f"they are {shown(labels_json)}")
    limit = CONFIG.max_labels_characters
    if len(labels_json) > limit:
        raise QueryError(
            f"The labels have {len(labels_json)} characters of JSON and the limit is {limit}"
        )
    try:
        given = json.loads(labels_json)
    except (ValueError, RecursionError) as error:
        raise _not_labels(f"{_shown(labels_json)} is not JSON") from error
    if not isinstance(given, list):
        raise _not_labels(f"{_shown(labels_json)} is not an array")
    if not given:
        raise _not_labels("the array is empty")
    if len(given) > CONFIG.max_labels:
        raise QueryError(f"There are {len(given)} labels and the limit is {CONFIG.max_labels}")
    labels: dict[str, None] = {}
    for place, label in enumerate(given, 1):
        name = _read_label(label, place)
        if name in labels:
            # Each of the two would get half of the probability.
            raise QueryError(f"The label {_shown(name)} is given twice. Give every label once")
        labels[name] = None
    return tuple(labels)


def _read_label(label: object, place: int) -> str:
    if not isinstance(label, str):
        raise _not_labels(f"number {place} is {_shown(json.dumps(label))}")
    name = label.strip()
    if not name:
        raise QueryError(f"Label number {place} is blank. Give it words, such as 'dog'")
    if len(name) > CONFIG.max_label_characters:
        raise QueryError(
            f"Label number {place} has {len(name)} characters and the limit is "
            f"{CONFIG.max_label_characters}"
        )
    if "\0" in name:
        raise QueryError(f"Label number {place} contains a NUL character")
    if any("\ud800" <= character <= "\udfff" for character in name):
        raise QueryError(f"Label number {place} contains half of a surrogate pair")
    return name


def _not_labels(what: str) -> QueryError:
    return QueryError(f"""Labels are a JSON array of texts, such as '["dog", "cat"]', but {what}""")


def _shown(text: str) -> str:
    return text if len(text) <= 40 else text[:39] + "…"


def _labels(connection: sqlite3.Connection, model: Model, labels_json: Value) -> Labels:
    key = (text_key(connection, model), labels_json)
    labels = _lists.get(key)
    if labels is None:
        names = read_labels(labels_json)
        encoder = text_encoder_of(connection, model)
        vectors = [_label_vector(connection, encoder, name) for name in names]
        labels = Labels(names, np.stack(vectors), encoder.logit_scale)
        _lists.put(key, labels)
    return labels


def _label_vector(connection: sqlite3.Connection, encoder: TextEncoder, name: str) -> Vectors:
    key = (encoder.key, name)
    vector = _vectors.get(key)
    if vector is None:
        # What was encoded before is kept, so that asking again gets further.
        heed_time_limit(connection)
        [vector] = ensembled(encoder, [name], TEMPLATES, lambda: heed_time_limit(connection))
        _vectors.put(key, vector)
    return vector


def ensembled(
    encoder: TextEncoder,
    names: Sequence[str],
    templates: Sequence[str],
    heed: Heed | None = None,
) -> Vectors:
    """Returns the unit vectors, (n, d) float32, of n labels: means of their prompts' directions."""
    prompts = [template.format(name) for name in names for template in templates]
    vectors = encoder.encode_texts(prompts, heed).reshape(len(names), len(templates), -1)
    return unit(vectors.mean(axis=1))
