"""Check a tower from outside: the claims in its manifest, and the vectors that it returns."""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from ...common.arrays import Vectors
from ..encoding import unit
from .stored import SelfTestFailed, damaged_error

_MOST_TEXT = 2_000
# CLIP's is 100 at most, and SigLIP's about the same.
_MOST_SCALE = 1e5
# The least cosine to torch's vector in a self-test. Other processors round differently; one that
# multiplies wrongly is far off.
_SELF_TEST = 0.99


def read_logit_scale(facts: Mapping[str, Any]) -> float:
    """Return the factor that a tower learned for cosines.

    Raises ValueError for a value that no model learns.
    """
    scale = facts["logit_scale"]
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale < _MOST_SCALE:
        raise ValueError("logit_scale")
    return float(scale)


def read_example(section: bytes, dimension: int) -> tuple[str, Vectors]:
    """Return the text and the vector of a tower's self-test.

    Raises ValueError for a section that is too large, or a vector of another dimension.
    """
    # A number in JSON has about 20 characters.
    if len(section) > 64 * dimension + 12 * _MOST_TEXT:
        raise ValueError("example")
    example = json.loads(section)
    text, vector = example["text"], np.array(example["vector"], np.float32)
    if not isinstance(text, str) or len(text) > _MOST_TEXT or vector.shape != (dimension,):
        raise ValueError("example")
    return text, vector


def check_self_test(tower: str, cosine: float) -> None:
    """Raise SelfTestFailed for a tower whose vector of its self-test is not the stored one."""
    if not cosine >= _SELF_TEST:
        raise SelfTestFailed(tower, cosine, _SELF_TEST)


def unit_vectors(features: Vectors) -> Vectors:
    """Return features (n, d), float32, scaled to length 1.

    Raises ValueError where a length is zero or not finite.
    """
    with np.errstate(all="ignore"):
        vectors = unit(features)
        # The sum is infinite or not a number where any element is.
        if features.dtype != np.float32 or not math.isfinite(float(vectors.sum())):
            raise ValueError("a vector that is not finite")
    return vectors


@contextmanager
def reporting_failures(tower: str) -> Iterator[None]:
    """Turn the failure of a running tower into an error for people."""
    try:
        yield
    except ValueError as error:
        raise damaged_error(tower, "makes no vector of this query") from error
