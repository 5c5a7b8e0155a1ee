"""The figures of a stored tower: its precision, its size and how well it passed its checks."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .stored import PRECISIONS, TEXT, damaged_error


@dataclass(frozen=True)
class TowerFigures:
    """A stored tower as a run reports it.

    `cosine` is the least one to torch's vectors, and `agreement` the share of the nearest pictures
    that both find, None where it was not measured. `needs` is the package that it takes besides
    those that are always installed, "" where there is none.
    """

    precision: str
    bytes: int
    cosine: float
    agreement: float | None
    needs: str


def tower_figures(facts: Mapping[str, Any], kind: str) -> TowerFigures:
    """Return the figures in a manifest of a text or image tower.

    Raises TowerUnusable for a manifest that lacks them or holds something else.
    """
    try:
        verified = facts["verified"]
        if facts["precision"] not in PRECISIONS:
            raise ValueError("precision")
        is_library = kind == TEXT and facts["tokenizer"]["kind"] == "tokenizers"
        agreement = verified["agreement"]
        return TowerFigures(
            facts["precision"],
            sum(facts["sections"].values()),
            _number(verified["cosine"]),
            None if agreement is None else _number(agreement),
            "tokenizers" if is_library else "",
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise damaged_error(kind) from error


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("verified")
    return float(value)
