"""Keeping the index file of a database: when it is built anew, and how good it is."""

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from ...common.config import CONFIG
from ...common.errors import CommandError
from ..changes import changes_since, forget_before
from ..connection import transaction
from ..schema import Model, images_table
from ..triggers import standing_of
from ..vectors import batches, count_vectors, count_without, lost_ids
from . import Facts, IndexUnusable, Wish, index_path, open_index, write
from .build import Watch, build
from .kinds import KINDS
from .recall import Sample
from .snapshots import check_size, collection_for


@dataclass(frozen=True)
class Kept:
    """An index file after it was looked after: whether it was built anew, and what it says."""

    file: Path
    facts: Facts
    rebuilt: bool


def nothing(what: str, done: int, of: int) -> None:
    """A Watch that keeps it to itself."""


def keep_index(
    connection: sqlite3.Connection,
    database: Path,
    model: Model,
    wish: Wish | None = None,
    watch: Watch = nothing,
    anew: bool = False,
) -> Kept:
    """Builds the index file of a model anew where it is time to, or always.

    Without a wish it is of the kind that was wished for last. Raises CommandError where the file
    can't be written.
    """
    file = index_path(database, model.id)
    try:
        check_size(connection, file)
        _, facts = open_index(file, model.fingerprint, model.dimension)
        wish = wish or facts.wish
        if not anew and wish == facts.wish and _serves(connection, model, facts):
            return Kept(file, facts, rebuilt=False)
    except IndexUnusable:
        pass
    try:
        base, facts = build(connection, model, wish or Wish(), watch, file.parent)
        write(file, base, facts)
    except OSError as error:
        raise CommandError(
            f"The index {file} can't be written: {error.strerror}. The pictures are "
            "embedded, and searches work without it; run the same command again to "
            "write it"
        ) from error
    with transaction(connection):
        forget_before(connection, model, facts.moment.seq - CONFIG.changes_kept)
    return Kept(file, facts, rebuilt=True)


def _serves(connection: sqlite3.Connection, model: Model, facts: Facts) -> bool:
    """Tells whether so little has changed that it is scored beside the index."""
    changes = changes_since(connection, model, facts.moment)
    if changes is None:
        return False
    large = facts.count >= CONFIG.index_lag_from
    return len(changes[1]) <= (CONFIG.index_lag * facts.count if large else 0)


@dataclass(frozen=True)
class Status:
    """What there is to say of an index, and how many changes it does not hold yet.

    `pictures` are those that are searched, and `without` have no vector of the model. `lost` counts
    vectors whose pictures are gone, or hold something else now: they are not searched. `recall` is
    measured: the share of the ten truly nearest pictures that searches find. `problem` says why
    there is no index in use.
    """

    file: Path
    facts: Facts | None
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
        """About how many bytes searches keep in memory, shared by all processes."""
        if self.facts is None:
            return 0
        return KINDS[self.facts.kind].size(self.facts.count, self.facts.dimension)


def status_of(
    connection: sqlite3.Connection, database: Path, model: Model, watch: Watch = nothing
) -> Status:
    """Looks at the index of a model, and measures what searches find with it."""
    file = index_path(database, model.id)
    facts, problem, behind = None, "", 0
    table = images_table(connection)
    assert table is not None
    try:
        check_size(connection, file)
        facts = open_index(file, model.fingerprint, model.dimension)[1]
        if not standing_of(connection, table).history:
            gone = "the triggers of clip_embeddings are gone, which tell whether it is out of date"
            raise IndexUnusable(f"{gone}. Run sqlite-utils clip-index without --status")
        changes = changes_since(connection, model, facts.moment)
        if changes is None:
            facts, problem = None, "it was built from other vectors than the database holds now"
        else:
            behind = len(changes[1])
    except IndexUnusable as error:
        facts, problem = None, str(error) if file.exists() else "there is none"
    size = file.stat().st_size if file.exists() else 0
    recall = measure(connection, model, watch)
    counts = (
        count_vectors(connection, model),
        count_without(connection, model),
        len(lost_ids(connection, model)),
    )
    return Status(file, facts, problem, size, behind, recall, *counts)


def measure(connection: sqlite3.Connection, model: Model, watch: Watch = nothing) -> float:
    """Returns recall@10 of searches against exact ones, over a sample of the collection."""
    collection = collection_for(connection, model)
    sample = Sample(*collection.sample(connection, 2 * CONFIG.recall_queries))
    done = 0
    for ids, vectors in batches(connection, model, without=collection.lost):
        sample.show(ids, vectors)
        done += len(ids)
        watch("Measuring", done, collection.count)
    found = []
    for query, itself in zip(sample.queries, sample.itself, strict=True):
        ids, _ = collection.nearest(connection, query, 11)
        found.append(ids[ids != itself][:10])
    return sample.recall(found)
