"""From pictures to rows: finds, plans, embeds and writes."""

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from ..common.config import CONFIG
from ..common.cores import cores
from ..common.errors import CommandError
from ..common.terminal_text import visible
from ..database.connection import check_writable, connect, explain_sqlite_errors, wait_for_lock
from ..database.index.maintenance import keep_index
from ..database.model import Model, models
from ..database.vectors import count_vectors, count_without
from ..models.encoding import PictureEncoder
from ..models.towers.making.checks import NONE
from ..models.towers.making.keep import TowerKeeper
from ..models.towers.stored import IMAGE, TEXT, read_manifest
from ..pictures.processes.pool import DecodeFailure, DecoderPool, Settings
from ..pictures.sources import FoundPictures
from .decode_ahead import Ahead
from .interrupt import Interrupt, interruptible
from .model_loading import Loaded, Loader
from .options import EmbedOptions
from .outcomes import Embedded, Failed, Moved, Result
from .pipeline import Pipeline
from .plan import EmbedPlan, Work, make_plan
from .reach import divide, note_places
from .report import EmbedProgress, EmbedReport, ModelInUse
from .request import EmbedRequest
from .store import Store


def embed_images(
    database: Path,
    pictures: Sequence[str | os.PathLike[str]],
    options: EmbedOptions | None = None,
    progress: EmbedProgress | None = None,
    stdin: BinaryIO | None = None,
    loaded: Loaded | None = None,
) -> EmbedReport:
    """Embeds pictures into a database, and writes its index file.

    `pictures` are folders, files, globs, archives, and "-" for a list of paths on `stdin`. Files
    whose size and time are those of the last run are left alone. Work is committed every few
    seconds; interrupting keeps it. Runs that share `loaded` load their model once.

    Raises ClipSearchError, before anything is written, for pictures, tables, models and databases
    that can't be used.
    """
    started = time.monotonic()
    options = options or EmbedOptions()
    progress = progress or EmbedProgress()
    is_new = not database.exists()
    with explain_sqlite_errors(database), closing(connect(database)) as connection:
        try:
            with _removed_if_empty(database, is_new):
                progress.looking()
                asked = EmbedRequest(connection, database, pictures, options)
                found = asked.find(stdin)
                run = _Run(connection, database, options, progress, loaded or Loaded())
                run.embed(found, asked.deleted)
                run.keep_towers(found)
                run.finish()
        except sqlite3.OperationalError as error:
            if "no such" in str(error):
                raise CommandError(
                    f"The tables of {database.name} were changed while it was written: {error}"
                ) from error
            raise
    run.summary.seconds = time.monotonic() - started
    return run.summary


@contextmanager
def _removed_if_empty(database: Path, is_new: bool) -> Iterator[None]:
    """Leaves no empty file behind when a new database gets nothing to hold."""
    try:
        yield
    finally:
        if is_new and database.exists() and database.stat().st_size == 0:
            database.unlink()


class _Run:
    """One run over one database."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        database: Path,
        options: EmbedOptions,
        progress: EmbedProgress,
        loaded: Loaded,
    ):
        check_writable(connection)
        wait_for_lock(connection, CONFIG.write_wait_seconds)
        self.connection = connection
        self.database = database
        self.options = options
        self.progress = progress
        self.store = Store(connection, database, options.table)
        self.loaded = loaded
        self.loader = Loader(self.store, options.model, options.pretrained, loaded)
        self.summary = EmbedReport(
            table=self.store.table,
            model=self.loader.checkpoint.label,
            restored=self.store.restored,
        )
        self.waiting: list[Result] = []
        self.moved: set[int] = set()
        self.written = time.monotonic()

    def embed(self, found: FoundPictures, deleted: str | None) -> None:
        """Embeds what is new or changed, and notes the rest.

        `deleted` is the place that was named to have its pictures deleted.
        """
        options = self.options
        plan = make_plan(found, self.store, options.rehash, options.retry_failed, deleted)
        self._count(found, plan)
        if plan.work:
            with (
                interruptible(self.progress.finishing) as interrupt,
                DecoderPool(min(cores(), len(plan.work))) as decoders,
            ):
                self._work(plan, decoders, interrupt)
            self.summary.interrupted = interrupt.requested
        if not self.store.exists and self.summary.interrupted:
            return
        if not self.store.exists:
            failed = [(result.source.stored, result.reason) for result in self._waiting_failures()]
            raise CommandError(_nothing_embedded([*failed, *found.unreadable]))
        self.store.note_unreadable(found.unreadable)
        self.summary.failed += found.unreadable
        note_places(self.connection, found, plan.places, deleted)
        self.store.set_keys([key[:3] for key in plan.keys])
        self.summary.keyed = len(plan.keys)
        self.summary.rekeyed = sum(key.replaces for key in plan.keys)
        self._clear_up(plan)

    def keep_towers(self, found: FoundPictures) -> None:
        """Has the database bring what encodes texts and, if asked for, pictures."""
        model = self.store.model if self.store.exists else None
        if model is None:
            return
        self.loader.copy_towers()
        if self.summary.interrupted:
            self._note_text_tower(model)
            return
        with interruptible(self.progress.finishing) as interrupt:
            # Of runs that follow each other, only the first looks.
            keeper = TowerKeeper(
                self.connection,
                model,
                self.loader.load_exact,
                lambda *wanted: self.loader.sample(found.sources, *wanted),
                self.progress.making_tower,
                lambda: interrupt.requested,
            )
            loaded, options = self.loaded, self.options
            loaded.text_tower = loaded.text_tower or keeper.keep(TEXT, options.text_tower)
            if not interrupt.requested:
                loaded.image_tower = loaded.image_tower or keeper.keep(IMAGE, options.image_tower)
        self.summary.text_tower = self.loaded.text_tower
        self.summary.image_tower = self.loaded.image_tower
        self.summary.interrupted = interrupt.requested
        if interrupt.requested:
            self._note_text_tower(model)

    def _note_text_tower(self, model: Model) -> None:
        is_wanted = self.options.text_tower != NONE
        self.summary.lacks_text_tower = is_wanted and not read_manifest(self.connection, model)

    def _count(self, found: FoundPictures, plan: EmbedPlan) -> None:
        summary = self.summary
        summary.unchanged, summary.failed_before = plan.unchanged, plan.failed_before
        summary.others, summary.hidden = found.others, found.hidden
        summary.links, summary.excluded = found.links, found.excluded
        if found.doubles:
            summary.notes.append(
                f"{found.doubles} rows name a file that another row names, too; "
                "its key is that of the first"
            )

    def _work(self, plan: EmbedPlan, decoders: DecoderPool, interrupt: Interrupt) -> None:
        options, loader = self.options, self.loader
        settings = Settings(None, options.max_megapixels, options.thumbnails)
        if not self.store.exists:
            # Seen before a model is fetched for them.
            self.waiting = list(_without_pictures(plan.work, decoders, settings))
            if self.waiting:
                return

        def load_encoder() -> PictureEncoder:
            self.progress.loading(loader.checkpoint.label)
            loaded = loader.load(
                options.device, options.precision, plan.work, decoders, settings, ahead
            )
            assert loaded.encoder is not None
            self._note_encoder(loaded)
            return loaded.encoder

        expected = replace(settings, preprocess=loader.expected_preprocess)
        ahead = Ahead(decoders, expected, plan.contents, plan.work, lambda: interrupt.requested)
        pipeline = Pipeline(ahead, plan.contents, load_encoder, options.batch_size)
        # Few pictures may all turn out to have been moved, and need no model.
        if self.store.model is None or plan.surely_new >= CONFIG.precision_from:
            pipeline.load()
        started = time.monotonic()
        self.progress.start(len(plan.work))
        try:
            with closing(pipeline.run()) as batches:
                for results in batches:
                    self.waiting += results
                    is_late = time.monotonic() - self.written > CONFIG.commit_seconds
                    if is_late or len(self.waiting) >= CONFIG.commit_pictures:
                        self._write(plan)
                    self.progress.advance(len(results))
        finally:
            self.progress.finish()
        self._write(plan)
        self.summary.embedding_seconds = time.monotonic() - started

    def _note_encoder(self, loaded: Loaded) -> None:
        assert loaded.encoder is not None
        summary, choice = self.summary, loaded.choice
        summary.device, summary.precision = loaded.encoder.device, loaded.encoder.precision
        summary.speedup, summary.cosine = choice.speedup, choice.cosine
        summary.notes += choice.notes

    def _write(self, plan: EmbedPlan) -> None:
        """Writes what is waiting; the tables are made when there is a first success."""
        if self.store.model is None:
            if all(isinstance(result, Failed) for result in self.waiting):
                return
            self.loader.use_model()
        written, ids = self.store.write(self.waiting)
        plan.contents.add(ids)
        summary = self.summary
        for result in written:
            if isinstance(result, Failed):
                summary.failed.append((result.source.stored, result.reason))
            elif isinstance(result, Embedded):
                summary.embedded += 1
            elif isinstance(result, Moved):
                summary.moved += 1
                self.moved.add(result.image_id)
            elif result.is_itself:
                summary.unchanged += 1
            else:
                summary.copied += 1
        self.waiting = []
        self.written = time.monotonic()

    def _clear_up(self, plan: EmbedPlan) -> None:
        """Reports what is gone, or deletes it; forgets failures of what is there no longer."""
        if self.summary.interrupted:
            # What was moved may not have been found under its new name yet.
            return
        gone = {path: id for path, id in plan.gone.items() if id not in self.moved}
        surely, self.summary.kept = divide(gone, plan.places)
        # --watch prunes without being asked to, but not what the first run has left.
        excluded = {} if self.options.is_again else plan.excluded
        pruned = surely | excluded if self.options.prune else {}
        self.store.prune(pruned.values(), plan.forgotten)
        self.summary.pruned = len(pruned)
        self.summary.missing = [] if self.options.prune else sorted(surely)
        self.summary.excluded_before = 0 if self.options.prune else len(excluded)

    def _waiting_failures(self) -> list[Failed]:
        return [result for result in self.waiting if isinstance(result, Failed)]

    def finish(self) -> None:
        """Brings the index file up to date, and a write-ahead log into the database."""
        known = models(self.connection) if self.store.exists else []
        model = next((m for m in known if self.store.model and m.id == self.store.model.id), None)
        if model is not None:
            if model != known[0]:
                self.summary.used, self.summary.other_default = (
                    ModelInUse(each.id, each.label, count_vectors(self.connection, each))
                    for each in (model, known[0])
                )
            self.summary.without_vector = count_without(self.connection, model)
            kept = keep_index(
                self.connection,
                self.database,
                model,
                self.options.index_choice,
                self.progress.indexing,
            )
            self.summary.index, self.summary.index_rebuilt = kept.file, kept.rebuilt
        # datasette -i does not see rows that are still in the write-ahead log.
        self.connection.execute("pragma wal_checkpoint(truncate)")


def _without_pictures(
    work: Sequence[Work], decoders: DecoderPool, settings: Settings
) -> list[Failed]:
    """Returns why each of a few files is no picture, or nothing as soon as one is."""
    if len(work) > CONFIG.files_looked_at_first or any(source.in_order for source, _ in work):
        return []
    failures: list[Failed] = []
    for source, _ in work:
        outcome = decoders.submit(source, None, settings).result()
        if not isinstance(outcome, DecodeFailure):
            return []
        failures.append(Failed(source, outcome.advice))
    return failures


def _nothing_embedded(failed: Sequence[tuple[str, str]]) -> str:
    shown = "\n".join(f"  {visible(stored)}: {reason}" for stored, reason in failed[:10])
    more = f"\n  and {len(failed) - 10} more" if len(failed) > 10 else ""
    count = f"None of the {len(failed)} files" if len(failed) > 1 else "The file"
    return f"{count} could not be embedded:\n{shown}{more}"
