"""The options, progress and report of clip-publish."""

import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ..database.model import Model

Condition = Callable[[sqlite3.Connection, str, Model], Iterable[int]]
"""Returns the ids of the pictures to publish, for a connection, the pictures' table and a model."""


@dataclass(frozen=True)
class PublishOptions:
    """What to publish, and how.

    - `condition`: chooses the pictures; None publishes all.
    - `vectors`: "fp32" or "fp16".
    - `thumbnail_size`: in pixels; None keeps the thumbnails unchanged, 0 leaves them out.
    - `keep`, `drop`: names of `FACTS` to publish and to leave out.
    - `relative_to`: folders outside the database's own, below which paths are kept.
    - `tables`, `columns`: the user's own, to publish as well.
    """

    condition: Condition | None = None
    model: str | None = None
    all_models: bool = False
    vectors: str = "fp32"
    thumbnail_size: int | None = None
    keep: frozenset[str] = frozenset()
    drop: frozenset[str] = frozenset()
    relative_to: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    image_search: bool = False
    originals_url: str | None = None
    replace: bool = False


class PublishProgress:
    """Receives the progress of the work; this base class ignores it."""

    def start(self, what: str, pictures: int) -> None:
        """Begin a step for a number of pictures."""

    def advance(self, pictures: int) -> None:
        """Add a number of finished pictures."""

    def finish(self) -> None:
        """End the step."""


@dataclass
class PublishReport:
    """What was published.

    - `parts`: names and bytes, which add up to the size of the file.
    - `recall`: recall@10 of rounded vectors, measured with `asked` pictures; None if none were
      rounded.
    - `has_words`: whether words can be searched for without torch.
    - `revealed`, `left_out`: the pictures' private facts by the names of `FACTS`, some with the
      number of pictures that have them.
    - `warnings`: one sentence each.
    """

    database: Path
    table: str = ""
    models: list[str] = field(default_factory=list)
    pictures: int = 0
    pictures_at_home: int = 0
    parts: list[tuple[str, int]] = field(default_factory=list)
    recall: float | None = None
    asked: int = 0
    has_words: bool = False
    revealed: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    seconds: float = 0.0
