"""What an index file says of itself."""

from dataclasses import dataclass

from ..changes import Moment
from .base import LEAST, Effort

FORMAT = 2


class IndexUnusable(Exception):
    "An index file is absent, damaged, or of other vectors; the message says which"

    def __init__(self, reason: str, is_damaged: bool = False):
        """`is_damaged` is for what no other state of the database would mend."""
        super().__init__(reason)
        self.is_damaged = is_damaged


@dataclass(frozen=True)
class Wish:
    """What the owner asked for: a kind of index, or auto; and bytes of memory, or None for any."""

    kind: str = "auto"
    memory: int | None = None


ANY = Wish()


@dataclass(frozen=True)
class Facts:
    """What an index was built from, and how.

    `recall` is the share of the ten truly nearest pictures that it found of a sample, when it was
    built; None for an exact one.
    """

    fingerprint: str
    dimension: int
    count: int
    moment: Moment
    kind: str
    effort: Effort = LEAST
    recall: float | None = None
    wish: Wish = ANY
    metric: str = "cosine"
    format: int = FORMAT
