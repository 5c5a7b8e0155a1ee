"""From files to rows: every core decodes and encodes, one thread writes."""

import json
import os
import sqlite3
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import checkpoint as checkpoints
from . import index as indexes
from .checkpoint import Checkpoint
from .collection import origin_of, read_vectors
from .config import CONFIG
from .database import check_writable, connect, explained
from .encoder import Encoder
from .errors import CommandError
from .images import Found, find_pictures
from .index import IndexUnusable
from .pipeline import Work, embed_files, without_pictures
from .report import Progress, Summary
from .schema import Model, models
from .store import Embedded, Failed, File, Result, Store


@dataclass(frozen=True)
class Options:
    """How to embed; the fields are named as the command's options are."""

    table: str | None = None
    model: str | None = None
    pretrained: str | None = None
    device: str = "auto"
    precision: str = "fp32"
    batch_size: int | None = None
    max_megapixels: float = CONFIG.max_megapixels


def embed_images(
    database: Path,
    paths: Sequence[str | os.PathLike[str]],
    options: Options = Options(),
    progress: Progress | None = None,
) -> Summary:
    """Embeds the pictures under `paths` into a database, and writes its index file.

    Files whose size and time are those of the last run are left alone. Work is committed every
    few seconds; interrupting keeps it.

    Raises ClipSearchError, before anything is written, for paths, tables, models and databases
    that can't be used.
    """
    started = time.monotonic()
    progress = progress or Progress()
    found = find_pictures(paths)
    if not found.paths:
        raise CommandError(_nothing_found(paths, found))
    is_new = not database.exists()
    with explained(database), closing(connect(database)) as connection:
        try:
            with _removed_if_empty(database, is_new):
                run = _Run(connection, database, options, progress)
                run.embed(found)
                run.finish()
        except sqlite3.OperationalError as error:
            if "no such" in str(error):
                raise CommandError(
                    f"The tables of {database.name} were changed while it was written: {error}"
                ) from error
            raise
    run.summary.others = found.others
    run.summary.seconds = time.monotonic() - started
    return run.summary


def _nothing_found(paths: Sequence[str | os.PathLike[str]], found: Found) -> str:
    others = sum(found.others.values())
    kinds = ", ".join(f"{count} {kind}" for kind, count in found.others.most_common(5))
    beside = f" ({others} other files: {kinds})" if others else ""
    return f"There are no pictures in {', '.join(map(str, paths))}{beside}"


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
        self, connection: sqlite3.Connection, database: Path, options: Options, progress: Progress
    ):
        check_writable(connection)
        self.connection = connection
        self.database = database
        self.options = options
        self.progress = progress
        self.store = Store(connection, database, options.table)
        self.summary = Summary(table=self.store.table)
        self.checkpoint = self._choose_checkpoint()
        self.encoder: Encoder | None = None
        self.hashes: dict[str, int] = {}
        self.waiting: list[Result] = []
        self.written = time.monotonic()

    def _choose_checkpoint(self) -> Checkpoint:
        """Takes the model asked for, with the weights the database knows it by if none are given.

        Without either it is the database's own default, and for a new database ours.
        """
        model, pretrained = self.options.model, self.options.pretrained
        recorded = None
        if pretrained is None:
            known = (known for known in self.store.models if model in (None, known.name))
            recorded = next(known, None)
        if recorded:
            beside = self.store.folder / recorded.pretrained
            model, pretrained = recorded.name, recorded.pretrained or None
            if pretrained and beside.exists():
                pretrained = str(beside)
        elif model is None and pretrained is None:
            model, pretrained = CONFIG.model, CONFIG.pretrained
        elif pretrained is None and model == CONFIG.model:
            pretrained = CONFIG.pretrained
        return checkpoints.resolve(model, pretrained)

    def _recorded_model(self) -> Model | None:
        """Finds the model's row without loading the model, as far as that can be told."""
        here = checkpoints.fingerprint(self.checkpoint) if self.checkpoint.weights else None
        for model in self.store.models:
            if here:
                if model.fingerprint == here:
                    return model
            elif (model.name, model.pretrained) == (
                self.checkpoint.name,
                self.checkpoint.pretrained,
            ):
                return model
        return None

    def embed(self, found: Found) -> None:
        """Embeds what is new or changed."""
        self.store.model = self._recorded_model()
        if self.store.model and self.checkpoint.is_local:
            self.store.note_place(self._stored_pretrained())
        work = self._plan(found)
        self.summary.model = self.checkpoint.label
        self.summary.precision = self.options.precision
        if not work:
            return
        if not self.store.exists:
            self.waiting = list(without_pictures(work, self.options.max_megapixels))
            self._check_any_success()
        self.progress.loading(self.checkpoint.label)
        self.checkpoint = checkpoints.locate(self.checkpoint, fetch=True)
        encoder = Encoder(self.checkpoint, self.options.device, self.options.precision)
        self.encoder = encoder
        self.summary.device = encoder.device
        if self.store.exists:
            self._use_model()
        self.progress.start(len(work))
        batch_size, max_megapixels = self.options.batch_size, self.options.max_megapixels
        try:
            for results in embed_files(work, self.hashes, encoder, batch_size, max_megapixels):
                self.waiting += results
                if time.monotonic() - self.written > CONFIG.commit_seconds:
                    self._write()
                self.progress.advance(len(results))
        except KeyboardInterrupt:
            self.summary.interrupted = True
        finally:
            self.progress.finish()
        self._write()
        self._check_any_success()

    def _plan(self, found: Found) -> list[Work]:
        """Counts what is unchanged and returns the rest."""
        known, failures = self.store.known_files(), self.store.known_failures()
        work: list[Work] = []
        for path in found.paths:
            stored = self.store.stored_path(path)
            # A name that is not UTF-8 can't be a value in SQLite as it is.
            printable = os.fsencode(stored).decode("utf-8", "backslashreplace")
            try:
                stat = path.stat()
                file = File(path, printable, stat.st_size, stat.st_mtime)
            except OSError:
                file = File(path, printable, 0, 0.0)
            row = known.get(printable)
            if row and row.embedded and (row.size, row.mtime) == (file.size, file.mtime):
                self.summary.unchanged += 1
            elif failures.get(printable) == (file.size, file.mtime):
                self.summary.failed_before += 1
            else:
                work.append((file, row))
        self.summary.missing = self._count_missing(known, found)
        # Only of rows that stay as they are: of two files that swapped their contents, each would
        # be taken for the other's row.
        changing = {file.stored for file, _ in work}
        self.hashes = {
            row.content_hash: row.image_id
            for stored, row in known.items()
            if row.embedded and stored not in changing
        }
        return work

    def _count_missing(self, known: Collection[str], found: Found) -> int:
        """Counts the stored pictures of the searched folders whose files are gone."""
        present = {self.store.stored_path(path) for path in found.paths}
        folders = {str(folder) for folder in found.folders}
        absent = (self.store.folder / stored for stored in known if stored not in present)
        return sum(
            any(str(parent) in folders for parent in path.parents) and not path.exists()
            for path in absent
        )

    def _stored_pretrained(self) -> str:
        pretrained = self.checkpoint.pretrained
        if not self.checkpoint.is_local:
            return pretrained
        stored = self.store.stored_path(Path(pretrained))
        # Never to be taken for a tag.
        return stored if os.path.isabs(stored) else f"./{stored}"

    def _use_model(self) -> None:
        assert self.encoder is not None
        self.store.use_model(
            self.checkpoint.name,
            self._stored_pretrained(),
            self.encoder.dimension,
            self.encoder.fingerprint,
            json.dumps(self.encoder.preprocess, sort_keys=True),
        )

    def _write(self) -> None:
        """Writes what is waiting; the tables are made when there is a first success."""
        if self.store.model is None:
            if all(isinstance(result, Failed) for result in self.waiting):
                return
            self._use_model()
        ids = self.store.write(self.waiting)
        self.hashes.update(ids)
        for result in self.waiting:
            if isinstance(result, Failed):
                self.summary.failed.append((result.file.stored, result.reason))
            elif isinstance(result, Embedded):
                self.summary.embedded += 1
            else:
                self.summary.copied += 1
        self.waiting = []
        self.written = time.monotonic()

    def _check_any_success(self) -> None:
        failures = [result for result in self.waiting if isinstance(result, Failed)]
        if failures:
            shown = "\n".join(f"  {result.file.path}: {result.reason}" for result in failures[:10])
            more = f"\n  and {len(failures) - 10} more" if len(failures) > 10 else ""
            count = f"None of the {len(failures)} files" if len(failures) > 1 else "The file"
            raise CommandError(f"{count} could not be embedded:\n{shown}{more}")

    def finish(self) -> None:
        """Brings the index file up to date, and a write-ahead log into the database."""
        if not self.store.exists:
            return
        known = models(self.connection)
        model = next((m for m in known if self.store.model and m.id == self.store.model.id), None)
        if model is not None:
            if model != known[0]:
                self.summary.other_default = (known[0].name, model.id)
            file = indexes.index_path(self.database, model.id)
            self.summary.index = file
            origin = origin_of(self.connection, model)
            if not _is_fresh(file, origin):
                try:
                    index = indexes.build(*read_vectors(self.connection, model))
                    indexes.write(file, index, origin)
                except OSError as error:
                    raise CommandError(
                        f"The index {file} can't be written: {error.strerror}. The pictures are "
                        "embedded, and searches work without it; run the same command again to "
                        "write it"
                    ) from error
                self.summary.index_rebuilt = True
        # datasette -i does not see rows that are still in the write-ahead log.
        self.connection.execute("pragma wal_checkpoint(truncate)")


def _is_fresh(file: Path, origin: indexes.Origin) -> bool:
    try:
        indexes.check_origin(file, origin)
    except IndexUnusable:
        return False
    return True
