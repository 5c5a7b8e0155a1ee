"""Read and write the tables of a database during a run."""

import json
import os
import sqlite3
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from ..common.config import CONFIG
from ..common.errors import CommandError
from ..database.connection import fetch, quote, transaction, write_in_parts
from ..database.model import Model, models
from ..database.prepare import create_tables, restore_database
from ..database.recognition import check_migrations_table, images_table
from ..database.schema import (
    EMBEDDINGS,
    FAILURES,
    MODELS,
    PRUNED,
    TOWERS,
    is_table_name,
)
from ..models.towers.int8_ranges import Ranges, read_ranges
from .outcomes import Embedded, Failed, KnownPicture, Result
from .picture_writer import PictureWriter


class Store:
    """The tables of one database, which a run writes for one model."""

    def __init__(self, connection: sqlite3.Connection, path: Path, table: str | None):
        """Read a database without changing it.

        Raises CommandError if `table` is not ours, or if ours has another name.
        """
        self.connection = connection
        self.folder = Path(os.path.abspath(path)).parent
        # Names of missing tables, triggers and columns, for the report.
        self.restored = restore_database(connection)
        existing = images_table(connection)
        if existing and table and table != existing:
            raise CommandError(
                f"{path.name} keeps its pictures in the table {existing} already; "
                f"leave --table out, or use another database for {table}"
            )
        self.table = existing or (CONFIG.table if table is None else table)
        self.exists = existing is not None
        if not self.exists and not is_table_name(self.table):
            raise CommandError(
                f"The pictures' table can't be named {self.table!r}. Give --table another name, "
                "for instance --table pictures"
            )
        sql = "select type from sqlite_master where lower(name) = lower(?)"
        if not self.exists and fetch(connection, sql, self.table).fetchone():
            raise CommandError(
                f"{path.name} has a table {self.table} of its own, which was not made by "
                "embed-images. Give the pictures' table another name with --table, for instance "
                "--table pictures"
            )
        if not self.exists:
            check_migrations_table(connection)
        self.models = models(connection) if self.exists else []
        self.model: Model | None = None

    def known_files(self) -> dict[str, KnownPicture]:
        """Return the rows of all pictures by their stored paths."""
        if not self.exists:
            return {}
        sql = f"""select path, id, size, mtime, content_hash, e.image_id is not null, key, key_table
            from {quote(self.table)}
            left join {EMBEDDINGS} e on e.image_id = id and e.model_id = ?"""
        model_id = self.model.id if self.model else None
        rows = fetch(self.connection, sql, model_id)
        return {path: KnownPicture(*row) for path, *row in rows}

    def known_failures(self) -> dict[str, tuple[int | None, float | None]]:
        """Return size and time of every file that failed before, by its stored path."""
        if not self.exists:
            return {}
        rows = fetch(self.connection, f"select path, size, mtime from {FAILURES}")
        return {path: (size, mtime) for path, size, mtime in rows}

    def use_model(
        self, name: str, pretrained: str, dimension: int, fingerprint: str, preprocess: str
    ) -> Model:
        """Find or add the row of a model, and return it; make the tables if there are none.

        The first model of a database is its default. Weights that were moved still belong to the
        same model; their new place is recorded.
        """
        known = f"select id from {MODELS} where fingerprint = ?"
        with transaction(self.connection):
            create_tables(self.connection, self.table)
            is_new = not self._execute(known, fingerprint).fetchone()
            self._execute(
                f"""insert into {MODELS} (
                    name, pretrained, dimension, fingerprint, preprocess, is_default, revision
                ) values (?, ?, ?, ?, ?, not exists (select 1 from {MODELS}), random())
                on conflict (fingerprint) do update set pretrained = excluded.pretrained""",
                *(name, pretrained, dimension, fingerprint, preprocess),
            )
            if is_new:
                # If the row of a model was deleted without foreign keys enforced, the next model
                # gets its id, but must not get its vectors or towers.
                for of_model in (EMBEDDINGS, TOWERS):
                    sql = f"delete from {of_model} where model_id = ({known})"
                    self._execute(sql, fingerprint)
        self.exists = True
        self.models = models(self.connection)
        self.model = next(model for model in self.models if model.fingerprint == fingerprint)
        return self.model

    def note_place(self, pretrained: str) -> None:
        """Record the present place of the weights of the model in use."""
        assert self.model is not None
        if pretrained != self.model.pretrained:
            sql = f"update {MODELS} set pretrained = ? where id = ?"
            with transaction(self.connection):
                self._execute(sql, pretrained, self.model.id)

    def calibration(self) -> Ranges | None:
        """Return the int8 calibration of the model in use, or None if it is missing or damaged."""
        if self.model is None:
            return None
        sql = f"select calibration from {MODELS} where id = ?"
        (ranges,) = fetch(self.connection, sql, self.model.id).fetchone()
        return read_ranges(ranges) if ranges else None

    def note_calibration(self, ranges: Ranges) -> None:
        """Record the int8 calibration, so that later runs make the same vectors."""
        assert self.model is not None
        sql = f"update {MODELS} set calibration = ? where id = ?"
        with transaction(self.connection):
            self._execute(sql, json.dumps(ranges), self.model.id)

    def write(self, results: Sequence[Result]) -> tuple[list[Result], dict[str, int]]:
        """Write results in one transaction.

        Return the results as they were written, and the ids of new pictures by content hash.
        """
        assert self.model is not None, "use_model() first"
        written: list[Result] = []
        ids: dict[str, int] = {}
        writer = PictureWriter(self.connection, self.table, self.model)
        with transaction(self.connection):
            for result in results:
                if isinstance(result, Failed):
                    self._write_failure(result)
                    written.append(result)
                    continue
                image_id = writer.write_picture(result, ids)
                if image_id is None:
                    reason = "The picture with the same content was deleted during the run"
                    failed = Failed(result.source, reason, again=True)
                    self._write_failure(failed)
                    written.append(failed)
                    continue
                self._execute(f"delete from {FAILURES} where path = ?", result.source.stored)
                written.append(result)
                if isinstance(result, Embedded):
                    ids[result.decoded.content_hash] = image_id
        return written, ids

    def note_unreadable(self, unreadable: Iterable[tuple[str, str]]) -> None:
        """Record folders, archives and rows that can't be read; every run tries them again."""
        with transaction(self.connection):
            for stored, reason in unreadable:
                self._note_failure(stored, reason, None, None)

    def prune(self, image_ids: Iterable[int], failures: Iterable[str]) -> None:
        """Delete pictures, with all that belongs to them, and failures, in short transactions."""

        def forget(paths: Sequence[str]) -> None:
            for stored in paths:
                self._execute(f"delete from {FAILURES} where path = ?", stored)

        write_in_parts(self.connection, list(image_ids), self._delete)
        write_in_parts(self.connection, list(failures), forget)

    def _delete(self, image_ids: Iterable[int]) -> None:
        """Delete pictures, and record their ids by content, in case they come back."""
        images = quote(self.table)
        for image_id in image_ids:
            self._execute(
                f"insert or replace into {PRUNED} select id, content_hash from {images} "
                "where id = ?",
                image_id,
            )
            self._execute(f"delete from {images} where id = ?", image_id)

    def set_keys(self, keys: Sequence[tuple[int, object, str | None]]) -> None:
        """Record the rows and tables that pictures, by their ids, come from."""
        sql = f"update {quote(self.table)} set key = ?, key_table = ? where id = ?"

        def write(part: Sequence[tuple[int, object, str | None]]) -> None:
            for image_id, key, table in part:
                self._execute(sql, key, table, image_id)

        write_in_parts(self.connection, keys, write)

    def _execute(self, sql: str, *parameters: object) -> sqlite3.Cursor:
        return self.connection.execute(sql, parameters)

    def _write_failure(self, failed: Failed) -> None:
        source = failed.source
        looks = (None, None) if failed.again else (source.size, source.mtime)
        self._note_failure(source.stored, failed.reason, *looks)
        if not failed.unread:
            # The old content is gone, so no search may find it.
            sql = f"select id from {quote(self.table)} where path = ?"
            self._delete([id for (id,) in self._execute(sql, source.stored).fetchall()])

    def _note_failure(
        self, stored: str, reason: str, size: int | None, mtime: float | None
    ) -> None:
        self._execute(
            f"""insert into {FAILURES} (path, reason, failed, size, mtime) values (?, ?, ?, ?, ?)
            on conflict (path) do update set reason = excluded.reason, failed = excluded.failed,
            size = excluded.size, mtime = excluded.mtime""",
            stored,
            reason,
            datetime.now(UTC).isoformat(timespec="seconds"),
            size,
            mtime,
        )
