"""What is asked of clip-publish, and what it tells of what it did."""

import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ..database.model import Model

Condition = Callable[[sqlite3.Connection, str, Model], Iterable[int]]
"""Returns the ids of a model's pictures, in a table, that are to be published."""


@dataclass(frozen=True)
class PublishOptions:
    """What is published, and how.

    `thumbnail_size` is in pixels: None keeps thumbnails as they are, 0 leaves them out. `keep` and
    `drop` are names of `FACTS` to publish and to leave out. Below the folders `relative_to`,
    pictures that lie outside the database's own keep their paths. `tables` and `columns` are the
    user's, to be carried along.
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
    """Told how far the work is; the base class keeps it to itself."""

    def start(self, what: str, pictures: int) -> None:
        """Something is about to be done to so many pictures."""

    def advance(self, pictures: int) -> None:
        """So many more are done."""

    def finish(self) -> None:
        """All are done."""


@dataclass
class PublishReport:
    """What was published.

    `parts` are names and bytes, and make up the whole of the file together. `recall` is the
    recall@10 of rounded vectors over so many `asked` pictures, None where none were rounded.
    `has_words` tells whether words can be searched for without torch. `revealed` and `left_out` are
    the private facts of the pictures, by the names of `FACTS`, some with how many have it. `warnings`
    are sentences.
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
