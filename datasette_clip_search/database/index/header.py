"""The header of an index file: what the index was built from, and how."""

from dataclasses import dataclass
from typing import Any

from ...common.config import CONFIG
from ..changes import Moment
from .index import LEAST, Effort
from .kinds import KINDS, lists_for

FORMAT = 1


class IndexUnusable(Exception):
    "An index file is missing, damaged, or of other vectors; the message says which"

    def __init__(self, reason: str, is_damaged: bool = False):
        """Set `is_damaged` if the file would be unusable in every state of the database."""
        super().__init__(reason)
        self.is_damaged = is_damaged


@dataclass(frozen=True)
class IndexChoice:
    """The owner's choice: a kind of index or `auto`, and the most bytes of memory, or None."""

    kind: str = "auto"
    memory: int | None = None


ANY = IndexChoice()


@dataclass(frozen=True)
class Header:
    """What an index was built from, and how.

    `recall` is the recall@10 over a sample, measured when it was built; None for an exact index.
    """

    fingerprint: str
    dimension: int
    count: int
    moment: Moment
    kind: str
    effort: Effort = LEAST
    recall: float | None = None
    choice: IndexChoice = ANY
    metric: str = "cosine"
    format: int = FORMAT


def parsed(said: dict[str, Any]) -> Header:
    """Read a header from JSON. Raises ValueError, TypeError or KeyError for an impossible one."""
    header = Header(
        **{
            **said,
            "moment": Moment(*said["moment"]),
            "effort": Effort(**said["effort"]),
            "choice": IndexChoice(**said["choice"]),
        }
    )
    # isinstance() is not enough: True is an int, and a float may be infinite.
    effort, choice = header.effort, header.choice
    numbers = (header.dimension, header.count, *header.moment, effort.lists, effort.depth)
    checks = (
        type(header.fingerprint) is str,
        {type(number) for number in numbers} == {int},
        header.count >= 0,
        all(-(2**63) <= number < 2**63 for number in header.moment),
        header.metric == "cosine",
        header.recall is None or (type(header.recall) in (int, float) and 0 <= header.recall <= 1),
        # Twice as many lists, because pictures may have been deleted since they were counted.
        1 <= effort.lists <= 2 * lists_for(header.count),
        effort.depth in (LEAST.depth, *CONFIG.depths),
        choice.kind in ("auto", *KINDS),
        choice.memory is None or (type(choice.memory) is int and choice.memory >= 0),
    )
    if not all(checks):
        raise ValueError("a header that no index has")
    return header
