"""The report of a run of embed-images, and the calls that follow its progress."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from ..models.towers.making.keep import TowerReport
from .outcomes import Embedded, Failed, Moved, Result
from .reach import KeptPlace


@dataclass(frozen=True)
class ModelInUse:
    """A model of the database, and the number of pictures that it has embedded."""

    id: int
    label: str
    pictures: int


@dataclass
class EmbedReport:
    """The result of a run.

    `failed` are stored paths and reasons of this run, `failed_before` counts those that are left
    alone until they change. `missing` are stored paths of pictures in what was searched whose
    files are gone, and `pruned` counts those that were deleted. `kept` are places that show none
    of their pictures, which are kept, and `excluded_before` counts pictures that are embedded and
    would be passed over now. `without_vector` counts pictures that the model has not embedded,
    wherever they are. `keyed` counts those embedded before that got the key of their row, `rekeyed`
    those of them that had another's. `restored` are what was missing from the tables, in words.
    `notes` are sentences about the choice of device and number format. `text_tower` and
    `image_tower` report the towers, None where there is nothing to report. `lacks_text_tower` says
    that an interrupted run has not come to make it. `other_default` is the model that searches
    use, where it is not the one of this run, and `used` is that one.
    """

    embedded: int = 0
    copied: int = 0
    moved: int = 0
    unchanged: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    failed_before: int = 0
    missing: list[str] = field(default_factory=list)
    pruned: int = 0
    without_vector: int = 0
    keyed: int = 0
    rekeyed: int = 0
    restored: list[str] = field(default_factory=list)
    kept: list[KeptPlace] = field(default_factory=list)
    excluded_before: int = 0
    others: Counter[str] = field(default_factory=Counter)
    hidden: int = 0
    links: int = 0
    excluded: int = 0
    table: str = ""
    model: str = ""
    used: ModelInUse | None = None
    other_default: ModelInUse | None = None
    device: str = ""
    precision: str = ""
    speedup: float | None = None
    cosine: float | None = None
    text_tower: TowerReport | None = None
    image_tower: TowerReport | None = None
    # The kinds of towers that the run found beside the model's weights and copied.
    copied_towers: frozenset[str] = frozenset()
    lacks_text_tower: bool = False
    notes: list[str] = field(default_factory=list)
    index: Path | None = None
    index_rebuilt: bool = False
    interrupted: bool = False
    seconds: float = 0.0
    embedding_seconds: float = 0.0

    def count(self, result: Result) -> None:
        """Add one result that was written."""
        if isinstance(result, Failed):
            self.failed.append((result.source.stored, result.reason))
        elif isinstance(result, Embedded):
            self.embedded += 1
        elif isinstance(result, Moved):
            self.moved += 1
        elif result.is_itself:
            self.unchanged += 1
        else:
            self.copied += 1

    @property
    def changed(self) -> bool:
        """Whether the run found anything to do."""
        done = (self.embedded, self.copied, self.moved, self.failed, self.pruned)
        return any(map(bool, (*done, self.keyed, self.restored)))


class EmbedProgress:
    """Methods that a run calls in the thread that started it. Here they do nothing."""

    def looking(self) -> None:
        """The search for pictures begins."""

    def loading(self, model: str) -> None:
        """The model is about to be loaded, and fetched first if it is not here."""

    def start(self, pictures: int) -> None:
        """This many pictures are about to be embedded."""

    def advance(self, pictures: int) -> None:
        """This many more are done."""

    def making_tower(self, tower: str) -> None:
        """The text or image tower is about to be made and checked."""

    def finishing(self) -> None:
        """The person asked to stop. The run finishes the batches under way."""

    def finish(self) -> None:
        """All pictures are done, or the run ends early."""

    def indexing(self, what: str, done: int, of: int) -> None:
        """The index is being built: the stage, how much of it is done, and the total."""


class Watcher:
    """Methods that --watch calls. Here they do nothing."""

    def first_run(self, report: EmbedReport) -> None:
        """The first run has ended."""

    def change(self, report: EmbedReport) -> None:
        """A later run changed the database."""

    def kept(self, report: EmbedReport) -> None:
        """The places in doubt are not those of the run before."""

    def note(self, text: str) -> None:
        """The system does not report changes: the reason, and the fallback."""

    def problem(self, error: str) -> None:
        """A run failed. The next change starts another."""

    def stopped(self) -> None:
        """The person pressed Ctrl-C."""
