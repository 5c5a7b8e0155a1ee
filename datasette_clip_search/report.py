"""What a run of embed-images tells: how far it is, and what it did."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Summary:
    """What a run did.

    `missing` counts pictures of the given folders whose files are gone; their rows are kept.
    `other_default` is the name of the model that searches use, where it is not the one of this
    run, and the id of the latter.
    """

    embedded: int = 0
    copied: int = 0
    unchanged: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    failed_before: int = 0
    missing: int = 0
    others: Counter[str] = field(default_factory=Counter)
    table: str = ""
    model: str = ""
    other_default: tuple[str, int] | None = None
    device: str = ""
    precision: str = ""
    index: Path | None = None
    index_rebuilt: bool = False
    interrupted: bool = False
    seconds: float = 0.0


class Progress:
    """Told what happens, by the thread that called; the base class keeps it to itself."""

    def loading(self, model: str) -> None:
        """The model is about to be fetched, if need be, and loaded."""

    def start(self, pictures: int) -> None:
        """So many pictures are about to be embedded."""

    def advance(self, pictures: int) -> None:
        """So many more are done."""

    def finish(self) -> None:
        """No more pictures."""
