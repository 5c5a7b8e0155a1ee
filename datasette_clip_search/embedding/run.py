"""Run embed-images: find, plan, embed and write."""

import json
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
from ..database.connection import check_writable, connect, explain_sqlite_errors, wait_for_lock
from ..database.index.maintenance import keep_index
from ..database.model import models
from ..database.vectors import count_vectors, count_without
from ..models.encoding import PictureEncoder
from ..models.open_clip_library import is_torch_installed
from ..models.towers.beside_weights import copy_towers
from ..models.towers.making.make_int8 import keep_int8_tower
from ..pictures.processes.pool import DecoderPool, Settings
from ..pictures.sources import FoundPictures
from .decode_ahead import Ahead
from .first_look import describe_failures, find_only_failures
from .interrupt import Interrupt, interruptible
from .model_loading import LoadedModel, Loader, RunCache
from .options import EmbedOptions
from .outcomes import Failed, Moved, Result
from .pipeline import Pipeline
from .plan import EmbedPlan, make_plan
from .reach import divide, note_places
from .report import EmbedProgress, EmbedReport, ModelInUse
from .request import EmbedRequest
from .run_model import resolve_run_model
from .run_towers import RunTowers
from .store import Store


def embed_images(
    database: Path,
    pictures: Sequence[str | os.PathLike[str]],
    options: EmbedOptions | None = None,
    progress: EmbedProgress | None = None,
    stdin: BinaryIO | None = None,
    cache: RunCache | None = None,
) -> EmbedReport:
    """Embed pictures into a database, write its index file, and return a report.

    `pictures` are folders, files, globs, archives, and "-" for a list of paths on `stdin`. Files
    with the size and time of the last run are left alone. Work is committed every few seconds, and
    an interrupted run keeps it. Runs that share a `cache` load their model once.

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
                run = _Run(connection, database, options, progress, cache or RunCache())
                run.embed(found, asked.deleted)
                run.keep_towers(found)
                run.finish()
        except sqlite3.OperationalError as error:
            if "no such" in str(error):
                raise CommandError(
                    f"The tables of {database.name} were changed while it was written: {error}"
                ) from error
            raise
    run.report.seconds = time.monotonic() - started
    return run.report


@contextmanager
def _removed_if_empty(database: Path, is_new: bool) -> Iterator[None]:
    """Delete the file of a new database that stayed empty."""
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
        cache: RunCache,
    ):
        check_writable(connection)
        wait_for_lock(connection, CONFIG.write_wait_seconds)
        self.connection = connection
        self.database = database
        self.options = options
        self.progress = progress
        self.store = Store(connection, database, options.table)
        self.cache = cache
        self.model = resolve_run_model(
            connection, self.store.models, self.store.folder, options.model, options.pretrained
        )
        self._note_recorded_model()
        self.loader = Loader(connection, self.model, cache.model)
        self.report = EmbedReport(
            table=self.store.table,
            model=self.model.checkpoint.label,
            restored=self.store.restored,
        )
        self.waiting: list[Result] = []
        self.moved: set[int] = set()
        self.written = time.monotonic()

    def embed(self, found: FoundPictures, deleted: str | None) -> None:
        """Embed new and changed pictures, and record failures, places and keys.

        `deleted` is the place that was named to delete its pictures.
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
            self.report.interrupted = interrupt.requested
        if not self.store.exists and self.report.interrupted:
            return
        if not self.store.exists:
            failed = [(result.source.stored, result.reason) for result in self._waiting_failures()]
            raise CommandError(describe_failures([*failed, *found.unreadable]))
        self.store.note_unreadable(found.unreadable)
        self.report.failed += found.unreadable
        note_places(self.connection, found, plan.places, deleted)
        self.store.set_keys([key[:3] for key in plan.keys])
        self.report.keyed = len(plan.keys)
        self.report.rekeyed = sum(key.replaces for key in plan.keys)
        self._clear_up(plan)

    def keep_towers(self, found: FoundPictures) -> None:
        """Keep the towers that encode texts and, if asked for, pictures, in the database."""
        if not self.store.exists or self.store.model is None:
            return
        if not is_torch_installed():
            self.report.copied_towers = copy_towers(
                self.connection, self.store.model, self.model.checkpoint
            )
        towers = RunTowers(self.connection, self.store.model, self.options, self.cache)
        if not self.report.interrupted:
            with interruptible(self.progress.finishing) as interrupt:
                towers.keep(self.loader, found.sources, self.progress, interrupt)
            self.report.text_tower = self.cache.text_tower
            self.report.image_tower = self.cache.image_tower
            self.report.interrupted = interrupt.requested
        if self.report.interrupted:
            self.report.lacks_text_tower = towers.lacks_text_tower

    def _count(self, found: FoundPictures, plan: EmbedPlan) -> None:
        report = self.report
        report.unchanged, report.failed_before = plan.unchanged, plan.failed_before
        report.others, report.hidden = found.others, found.hidden
        report.links, report.excluded = found.links, found.excluded
        if found.doubles:
            report.notes.append(
                f"{found.doubles} rows name a file that another row also names; "
                "the picture has the key of the first"
            )

    def _work(self, plan: EmbedPlan, decoders: DecoderPool, interrupt: Interrupt) -> None:
        options, loader = self.options, self.loader
        settings = Settings(None, options.max_megapixels, options.thumbnails)
        if not self.store.exists:
            # Before a model is fetched for them.
            self.waiting = list(find_only_failures(plan.work, decoders, settings))
            if self.waiting:
                return

        def load_encoder() -> PictureEncoder:
            self.progress.loading(self.model.checkpoint.label)
            loaded = loader.load(
                options.device,
                options.precision,
                self.store.calibration() if options.precision == "int8" else None,
                plan.work,
                decoders,
                settings,
                ahead,
            )
            self.cache.model = loaded
            if self.store.exists:
                self._store_model()
            self._note_encoder(loaded)
            return loaded.encoder

        expected = replace(settings, preprocess=loader.expected_preprocess)
        ahead = Ahead(decoders, expected, plan.contents, plan.work, lambda: interrupt.requested)
        pipeline = Pipeline(ahead, plan.contents, load_encoder, options.batch_size)
        # If there are few, all may have been moved, and need no model.
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
        self.report.embedding_seconds = time.monotonic() - started

    def _note_recorded_model(self) -> None:
        """Use the model's row, and note where its weights are now."""
        self.store.model = self.model.recorded
        if self.model.recorded and self.model.checkpoint.is_local and not self.model.is_gone:
            self.store.note_place(self.model.stored_pretrained(self.store.folder))

    def _store_model(self) -> None:
        """Give the loaded model its row, and the database its tables if it has none."""
        loaded = self.cache.model
        assert loaded is not None
        encoder = loaded.encoder
        model = self.store.use_model(
            self.model.checkpoint.name,
            self.model.stored_pretrained(self.store.folder),
            encoder.dimension,
            encoder.fingerprint,
            json.dumps(encoder.preprocess.identity, sort_keys=True),
        )
        if loaded.int8:
            self.store.note_calibration(loaded.int8.ranges)
            keep_int8_tower(self.connection, model, loaded.int8)

    def _note_encoder(self, loaded: LoadedModel) -> None:
        report, choice = self.report, loaded.choice
        report.device, report.precision = loaded.encoder.device, loaded.encoder.precision
        report.speedup, report.cosine = choice.speedup, choice.cosine
        report.notes += choice.notes

    def _write(self, plan: EmbedPlan) -> None:
        """Write the waiting results; make the tables at the first success."""
        if self.store.model is None:
            if all(isinstance(result, Failed) for result in self.waiting):
                return
            self._store_model()
        written, ids = self.store.write(self.waiting)
        plan.contents.add(ids)
        for result in written:
            self.report.count(result)
            if isinstance(result, Moved):
                self.moved.add(result.image_id)
        self.waiting = []
        self.written = time.monotonic()

    def _clear_up(self, plan: EmbedPlan) -> None:
        """Delete or report pictures that are gone, and forget failures that no longer apply."""
        if self.report.interrupted:
            # A moved file may not have been found under its new name yet.
            return
        gone = {path: id for path, id in plan.gone.items() if id not in self.moved}
        surely, self.report.kept = divide(gone, plan.places)
        # A later run of --watch prunes, but keeps the excluded pictures that the first run kept.
        excluded = {} if self.options.is_again else plan.excluded
        pruned = surely | excluded if self.options.prune else {}
        self.store.prune(pruned.values(), plan.forgotten)
        self.report.pruned = len(pruned)
        self.report.missing = [] if self.options.prune else sorted(surely)
        self.report.excluded_before = 0 if self.options.prune else len(excluded)

    def _waiting_failures(self) -> list[Failed]:
        return [result for result in self.waiting if isinstance(result, Failed)]

    def finish(self) -> None:
        """Bring the index file up to date, and the write-ahead log into the database."""
        known = models(self.connection) if self.store.exists else []
        model = next((m for m in known if self.store.model and m.id == self.store.model.id), None)
        if model is not None:
            if model != known[0]:
                self.report.used, self.report.other_default = (
                    ModelInUse(each.id, each.label, count_vectors(self.connection, each))
                    for each in (model, known[0])
                )
            self.report.without_vector = count_without(self.connection, model)
            kept = keep_index(
                self.connection,
                self.database,
                model,
                self.options.index_choice,
                self.progress.indexing,
            )
            self.report.index, self.report.index_rebuilt = kept.file, kept.rebuilt
        # datasette -i does not see rows that are still in the write-ahead log.
        self.connection.execute("pragma wal_checkpoint(truncate)")
