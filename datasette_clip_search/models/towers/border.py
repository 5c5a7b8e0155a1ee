"""What a tower's file claims, and what comes out of the tower, looked at where it enters."""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from ...common.arrays import Vectors
from ..encoding import unit
from .stored import damaged

_MOST_TEXT = 2_000
# CLIP's own is 100 at most, and SigLIP's about as much.
_MOST_SCALE = 1e5


def logit_scale_of(facts: Mapping[str, Any]) -> float:
    """Returns what a tower multiplies cosines with.

    Raises ValueError for what no model has learned.
    """
    scale = facts["logit_scale"]
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale < _MOST_SCALE:
        raise ValueError("logit_scale")
    return float(scale)


def example_of(section: bytes, dimension: int) -> tuple[str, Vectors]:
    """Returns the text that a tower was kept with, and its vector.

    Raises ValueError for one that is too large, or not of the tower's dimension.
    """
    # A number of JSON has some 20 characters.
    if len(section) > 64 * dimension + 12 * _MOST_TEXT:
        raise ValueError("example")
    example = json.loads(section)
    text, vector = example["text"], np.array(example["vector"], np.float32)
    if not isinstance(text, str) or len(text) > _MOST_TEXT or vector.shape != (dimension,):
        raise ValueError("example")
    return text, vector


def unit_vectors(features: Vectors) -> Vectors:
    """Returns features, (n, d) float32, at length 1.

    Raises ValueError where one has no length, or an endless one.
    """
    with np.errstate(all="ignore"):
        vectors = unit(features)
        # One sum is infinite, or no number, where any of them is.
        if features.dtype != np.float32 or not math.isfinite(float(vectors.sum())):
            raise ValueError("a vector that is not finite")
    return vectors


@contextmanager
def broken(tower: str) -> Iterator[None]:
    """Turns what a tower breaks at while it runs into an error for people."""
    try:
        yield
    except ValueError as error:
        raise damaged(tower, "makes no vector of this query") from error
