"""Keep the index file of a database fresh, and report how good it is."""

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from ...common.config import CONFIG
from ...common.errors import CommandError
from ..changes import changes_since, forget_before
from ..connection import transaction
from ..model import Model
from ..recognition import images_table
from ..triggers import standing_of
from ..vectors import batches, count_vectors, count_without, lost_ids
from . import Header, IndexChoice, IndexUnusable, index_path, open_index, write_index
from .build import OnProgress, build_index
from .kinds import KINDS
from .recall import QUERIES, Sample
from .snapshot_cache import check_index_size, snapshot_for


@dataclass(frozen=True)
class KeptIndex:
    """An index file, its header, and whether it was rebuilt just now."""

    file: Path
    header: Header
    rebuilt: bool


def ignore_progress(what: str, done: int, of: int) -> None:
    """Ignore progress: an OnProgress that does nothing."""


def keep_index(
    connection: sqlite3.Connection,
    database: Path,
    model: Model,
    choice: IndexChoice | None = None,
    on_progress: OnProgress = ignore_progress,
    force: bool = False,
) -> KeptIndex:
    """Rebuild the index file of a model if too much has changed; with `force`, rebuild it always.

    Without a choice, the last choice of a kind applies. Raises CommandError if the file can't be
    written.
    """
    file = index_path(database, model.id)
    try:
        check_index_size(connection, file)
        _, header = open_index(file, model.fingerprint, model.dimension)
        choice = choice or header.choice
        if not force and choice == header.choice and _serves(connection, model, header):
            return KeptIndex(file, header, rebuilt=False)
    except IndexUnusable:
        pass
    try:
        index, header = build_index(
            connection, model, choice or IndexChoice(), on_progress, file.parent
        )
        write_index(file, index, header)
    except OSError as error:
        raise CommandError(
            f"The index {file} can't be written: {error.strerror}. The pictures are "
            "embedded, and searches work without it; run the same command again to "
            "write it"
        ) from error
    with transaction(connection):
        forget_before(connection, model, header.moment.seq - CONFIG.changes_kept)
    return KeptIndex(file, header, rebuilt=True)


def _serves(connection: sqlite3.Connection, model: Model, header: Header) -> bool:
    """Tell whether so little has changed that searches can compare it beside the index."""
    changes = changes_since(connection, model, header.moment)
    if changes is None:
        return False
    large = header.count >= CONFIG.index_lag_from
    return len(changes[1]) <= (CONFIG.index_lag * header.count if large else 0)


@dataclass(frozen=True)
class Status:
    """The state of an index: its size, its recall, and the changes that it does not hold yet.

    Searches cover `pictures`. The pictures counted by `without` have no vector of the model, and
    the vectors counted by `lost` have no picture, or one with other content. `recall` is the
    measured recall@10 of searches. `problem` says why no index is in use.
    """

    file: Path
    header: Header | None
    problem: str
    bytes: int
    behind: int
    recall: float
    pictures: int
    without: int
    lost: int

    recall_wanted: float = CONFIG.recall_wanted

    @property
    def memory(self) -> int:
        """The approximate bytes that searches keep in memory, shared by all processes."""
        if self.header is None:
            return 0
        return KINDS[self.header.kind].size(self.header.count, self.header.dimension)


def status_of(
    connection: sqlite3.Connection,
    database: Path,
    model: Model,
    on_progress: OnProgress = ignore_progress,
) -> Status:
    """Check the index of a model, and measure the recall of searches."""
    file = index_path(database, model.id)
    header, problem, behind = None, "", 0
    table = images_table(connection)
    assert table is not None
    try:
        check_index_size(connection, file)
        header = open_index(file, model.fingerprint, model.dimension)[1]
        if not standing_of(connection, table).history:
            gone = "the triggers of clip_embeddings, which record changes, are gone"
            raise IndexUnusable(f"{gone}. Run sqlite-utils clip-index without --status")
        changes = changes_since(connection, model, header.moment)
        if changes is None:
            header, problem = None, "it was built from other vectors than the database holds now"
        else:
            behind = len(changes[1])
    except IndexUnusable as error:
        header, problem = None, str(error) if file.exists() else "there is none"
    size = file.stat().st_size if file.exists() else 0
    recall = measure(connection, model, on_progress)
    counts = (
        count_vectors(connection, model),
        count_without(connection, model),
        len(lost_ids(connection, model)),
    )
    return Status(file, header, problem, size, behind, recall, *counts)


def measure(
    connection: sqlite3.Connection, model: Model, on_progress: OnProgress = ignore_progress
) -> float:
    """Measure the recall@10 of searches over a sample of the snapshot."""
    snapshot = snapshot_for(connection, model)
    sample = Sample(*snapshot.sample(connection, 2 * QUERIES))
    done = 0
    for ids, vectors in batches(connection, model, without=snapshot.lost):
        sample.show(ids, vectors)
        done += len(ids)
        on_progress("Measuring", done, snapshot.count)
    found = []
    for query, itself in zip(sample.queries, sample.itself, strict=True):
        ids, _ = snapshot.nearest(connection, query, 11)
        found.append(ids[ids != itself][:10])
    return sample.recall(found)
