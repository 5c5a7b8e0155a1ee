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

    `failed` are stored paths and reasons of this run; `failed_before` counts earlier failures,
    which are skipped until they change. `missing` are stored paths of pictures in the searched
    places whose files are gone, and `pruned` counts those that were deleted. `kept` are places that
    show none of their pictures, which are kept, and `excluded_before` counts embedded pictures that
    a new run would skip. `without_vector` counts pictures that the model has not embedded, wherever
    they are. `keyed` counts earlier pictures that got the key of their row, and `rekeyed` those
    among them that had another key. `restored` names what was missing from the tables. `notes` are
    sentences about the choice of device and number format. `text_tower` and `image_tower` report
    the towers, None where there is nothing to report. `lacks_text_tower` says that an interrupted
    run has not made the text tower yet. `other_default` is the model that searches use if it is not
    the one of this run, which is `used`.
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
        """Note that the search for pictures begins."""

    def loading(self, model: str) -> None:
        """Note that the model is about to be loaded, and fetched first if it is not here."""

    def start(self, pictures: int) -> None:
        """Note that this many pictures are about to be embedded."""

    def advance(self, pictures: int) -> None:
        """Note that this many more are done."""

    def making_tower(self, tower: str) -> None:
        """Note that the text or image tower is about to be made and checked."""

    def finishing(self) -> None:
        """Note that the user asked to stop; the run finishes the batches in progress."""

    def finish(self) -> None:
        """Note that all pictures are done, or that the run ends early."""

    def indexing(self, what: str, done: int, of: int) -> None:
        """Note the progress of the index: the stage, how much of it is done, and the total."""


class Watcher:
    """Methods that --watch calls. Here they do nothing."""

    def first_run(self, report: EmbedReport) -> None:
        """Note the end of the first run."""

    def change(self, report: EmbedReport) -> None:
        """Note a later run that changed the database."""

    def kept(self, report: EmbedReport) -> None:
        """Note that the places in doubt are not those of the previous run."""

    def note(self, text: str) -> None:
        """Note that the system does not report changes: the reason, and the fallback."""

    def problem(self, error: str) -> None:
        """Note that a run failed; the next change starts another."""

    def stopped(self) -> None:
        """Note that the user pressed Ctrl-C."""
