"""Zero-shot labels: how probable each label of a list is for a picture."""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..common.arrays import Vectors
from ..common.cache import LRUCache
from ..common.config import CONFIG
from ..common.errors import QueryError
from ..common.interrupts import heed_time_limit
from ..database.model import Model
from ..database.vectors import check_query_vectors
from ..models.encoding import Heed, TextEncoder, unit
from ..models.queries.text_encoder import text_encoder_of, text_key
from .json_arrays import JSONArray
from .query import Value, query_vector

_LABELS = JSONArray("labels_json", "texts", """'["dog", "cat"]'""")

TEMPLATES = (
    "{}",
    "a photo of {}",
    "a photo of a {}",
    "a picture of {}",
    "a picture of the {}",
    "a snapshot with {} in it",
    "{} in a photo",
)
"""The prompts of a label; the mean of their vectors is the vector of the label."""


class Tag(NamedTuple):
    """A label for a query: its rank from 1, its probability among all labels, and its cosine."""

    rank: int
    label: str
    probability: float
    score: float


@dataclass(frozen=True)
class Labels:
    """Labels, their unit vectors (n, d), and the scale by which the model multiplies cosines."""

    names: tuple[str, ...]
    vectors: Vectors
    scale: float


# The key is that of the text encoder with the JSON, or with one label.
_lists: LRUCache[tuple[str, Value], Labels] = LRUCache(CONFIG.label_list_cache_entries)
_vectors: LRUCache[tuple[str, str], Vectors] = LRUCache(CONFIG.label_cache_entries)


def tags(
    connection: sqlite3.Connection, model: Model, table: str, query: Value, labels_json: Value
) -> Iterator[Tag]:
    """Yield every label with its probability for a query, best first.

    `model`, `table` and `query` are as query_vector() takes them. The probabilities are the softmax
    of the cosines times the model's learned scale, over these labels alone. They add up to 1
    whether or not any label fits. SigLIP's bias is the same for every label and cancels out.

    A query or labels of None give no tags, as in SQL. Raises QueryError and other
    ClipSearchErrors, all of them before the first tag.
    """
    if labels_json is None:
        return iter(())
    labels = _labels(connection, model, labels_json)
    if query is None:
        return iter(())
    check_query_vectors(labels.vectors, len(labels.names), model.dimension)
    scores = labels.vectors @ query_vector(connection, model, table, query)
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
    """Return the labels of a JSON array of texts, without surrounding spaces.

    Raises QueryError for any other value, and for labels that are blank, repeated, too long or too
    many.
    """
    items = _LABELS.parse(_LABELS.check_text(labels_json, CONFIG.max_labels_characters))
    if not items:
        raise _LABELS.error("the array is empty")
    if len(items) > CONFIG.max_labels:
        raise QueryError(f"There are {len(items)} labels and the limit is {CONFIG.max_labels}")
    labels: dict[str, None] = {}
    for place, label in enumerate(items, 1):
        name = _read_label(label, place)
        if name in labels:
            # Each of the two would get half of the probability.
            raise QueryError(f"The label {_shorten(name)} is given twice. Give every label once")
        labels[name] = None
    return tuple(labels)


def _read_label(label: object, place: int) -> str:
    if not isinstance(label, str):
        raise _LABELS.error(f"number {place} is {_shorten(json.dumps(label))}")
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


def _shorten(text: str) -> str:
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
        # Vectors are cached one by one, so a repeated call gets further.
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
    """Return the unit vectors, (n, d) float32, of n labels: means of their prompts' vectors."""
    prompts = [template.format(name) for name in names for template in templates]
    vectors = encoder.encode_texts(prompts, heed).reshape(len(names), len(templates), -1)
    return unit(vectors.mean(axis=1))
