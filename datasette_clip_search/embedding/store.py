"""Writing: pictures, vectors, thumbnails and failures into the database."""

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
    HASH_KEPT,
    MODELS,
    PRUNED,
    THUMBNAILS,
    TOWERS,
    is_table_name,
)
from ..models.towers.int8_ranges import Ranges, read_ranges
from ..pictures.decode import THUMBNAIL_FORMAT
from ..pictures.sources import Source
from .outcomes import Embedded, Failed, KnownPicture, Moved, Result, Same


class Store:
    """The tables of one database, for one model, being written."""

    def __init__(self, connection: sqlite3.Connection, path: Path, table: str | None):
        """Looks at a database without changing it.

        Raises CommandError when `table` is somebody else's, or ours under another name.
        """
        self.connection = connection
        self.folder = Path(os.path.abspath(path)).parent
        # In words.
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
        """Returns what is known of every stored path; `embedded` is by the model in use."""
        if not self.exists:
            return {}
        sql = f"""select path, id, size, mtime, content_hash, e.image_id is not null, key, key_table
            from {quote(self.table)}
            left join {EMBEDDINGS} e on e.image_id = id and e.model_id = ?"""
        model_id = self.model.id if self.model else None
        rows = fetch(self.connection, sql, model_id)
        return {path: KnownPicture(*row) for path, *row in rows}

    def known_failures(self) -> dict[str, tuple[int | None, float | None]]:
        """Returns size and time of every file that failed before, by its stored path."""
        if not self.exists:
            return {}
        rows = fetch(self.connection, f"select path, size, mtime from {FAILURES}")
        return {path: (size, mtime) for path, size, mtime in rows}

    def use_model(
        self, name: str, pretrained: str, dimension: int, fingerprint: str, preprocess: str
    ) -> None:
        """Makes the tables if need be, and finds or adds the row of the model.

        The first model of a database is its default. Weights that were moved since are the same
        model: where they are now is noted.
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
                # Where the row of a model was deleted, and foreign keys weren't enforced, the
                # next model gets its id, but must not get its vectors or towers.
                for of_model in (EMBEDDINGS, TOWERS):
                    sql = f"delete from {of_model} where model_id = ({known})"
                    self._execute(sql, fingerprint)
        self.exists = True
        self.models = models(self.connection)
        self.model = next(model for model in self.models if model.fingerprint == fingerprint)

    def note_place(self, pretrained: str) -> None:
        """Notes where the weights of the model in use are now."""
        assert self.model is not None
        if pretrained != self.model.pretrained:
            sql = f"update {MODELS} set pretrained = ? where id = ?"
            with transaction(self.connection):
                self._execute(sql, pretrained, self.model.id)

    def calibration(self) -> Ranges | None:
        """Returns the ranges that the model in use was calibrated for int8 with, if it was.

        Ranges that are damaged are as good as none.
        """
        if self.model is None:
            return None
        sql = f"select calibration from {MODELS} where id = ?"
        (ranges,) = fetch(self.connection, sql, self.model.id).fetchone()
        return read_ranges(ranges) if ranges else None

    def note_calibration(self, ranges: Ranges) -> None:
        """Keeps the ranges for later runs, whose vectors are then made in the same way."""
        assert self.model is not None
        sql = f"update {MODELS} set calibration = ? where id = ?"
        with transaction(self.connection):
            self._execute(sql, json.dumps(ranges), self.model.id)

    def write(self, results: Sequence[Result]) -> tuple[list[Result], dict[str, int]]:
        """Writes results in one transaction.

        Returns what became of each, and the ids of the pictures by their content hashes.
        """
        assert self.model is not None, "use_model() first"
        written: list[Result] = []
        ids: dict[str, int] = {}
        with transaction(self.connection):
            for result in results:
                if isinstance(result, Failed):
                    self._write_failure(result)
                    written.append(result)
                    continue
                image_id = self._write_picture(result, ids)
                if image_id is None:
                    reason = "The equal picture it was to be copied from has been deleted meanwhile"
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
        """Notes folders, archives and rows that can't be looked into; tried again every time."""
        with transaction(self.connection):
            for stored, reason in unreadable:
                self._note_failure(stored, reason, None, None)

    def prune(self, image_ids: Iterable[int], failures: Iterable[str]) -> None:
        """Deletes pictures, with all that belongs to them, and failures; many in parts."""

        def forget(paths: Sequence[str]) -> None:
            for stored in paths:
                self._execute(f"delete from {FAILURES} where path = ?", stored)

        write_in_parts(self.connection, list(image_ids), self._delete)
        write_in_parts(self.connection, list(failures), forget)

    def _delete(self, image_ids: Iterable[int]) -> None:
        """Deletes pictures, and notes their ids for the same contents, should they come back."""
        images = quote(self.table)
        for image_id in image_ids:
            self._execute(
                f"insert or replace into {PRUNED} select id, content_hash from {images} "
                "where id = ?",
                image_id,
            )
            self._execute(f"delete from {images} where id = ?", image_id)

    def set_keys(self, keys: Sequence[tuple[int, object, str | None]]) -> None:
        """Notes of pictures, by their ids, from which rows of which tables they are."""
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
            # What the file held before is gone, so its old picture is no answer any more.
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

    def _write_picture(self, result: Embedded | Same | Moved, ids: dict[str, int]) -> int | None:
        if isinstance(result, Embedded):
            return self._write_embedded(result)
        if isinstance(result, Moved):
            return self._write_moved(result)
        if result.image_id is None:
            return self._write_same(result, ids.get(result.content_hash))
        return self._write_same(result, result.image_id)

    def _write_embedded(self, embedded: Embedded) -> int:
        decoded, facts = embedded.decoded, embedded.decoded.facts
        image_id = self._write_image(
            embedded.source,
            decoded.content_hash,
            (
                decoded.width,
                decoded.height,
                decoded.format,
                facts.taken,
                facts.latitude,
                facts.longitude,
                facts.camera,
            ),
        )
        blob, content = embedded.vector.astype("<f4").tobytes(), decoded.content_hash
        self._write_vector(image_id, blob, embedded.precision, content)
        if decoded.thumbnail:
            self._write_thumbnail(image_id, THUMBNAIL_FORMAT, decoded.thumbnail, content)
        return image_id

    def _write_moved(self, moved: Moved) -> int | None:
        """Gives a picture the path that its file has now."""
        source, images = moved.source, quote(self.table)
        # Another program may have embedded the file under its new path meanwhile.
        sql = f"delete from {images} where path = ? and id != ?"
        self._execute(sql, source.stored, moved.image_id)
        row = self._execute(
            f"""update {images} set path = ?, size = ?, mtime = ?, key = coalesce(?, key),
                key_table = coalesce(?, key_table) where id = ? returning id""",
            source.stored,
            source.size,
            source.mtime,
            source.key,
            source.key_table,
            moved.image_id,
        ).fetchone()
        return None if row is None else moved.image_id

    def _write_same(self, same: Same, image_id: int | None) -> int | None:
        """Gives a file the facts, vector and thumbnail of the picture with the same content.

        Returns None where that picture has been deleted since the run began.
        """
        assert self.model is not None
        images = quote(self.table)
        found = self._execute(
            f"""select i.id, e.embedding, e.precision, i.width, i.height, i.format, i.taken,
                i.latitude, i.longitude, i.camera
            from {images} as i join {EMBEDDINGS} as e on e.image_id = i.id and e.model_id = ?
            where {"i.content_hash" if image_id is None else "i.id"} = ? limit 1""",
            self.model.id,
            same.content_hash if image_id is None else image_id,
        ).fetchone()
        if found is None:
            return None
        from_id, embedding, precision, *facts = found
        image_id = self._write_image(same.source, same.content_hash, tuple(facts))
        if image_id != from_id:
            self._write_vector(image_id, embedding, precision, same.content_hash)
            sql = f"select format, data from {THUMBNAILS} where image_id = ?"
            # Thumbnails may have been deleted, for instance to publish a smaller file.
            for format, data in self._execute(sql, from_id).fetchall():
                self._write_thumbnail(image_id, format, data, same.content_hash)
        return image_id

    def _write_image(self, source: Source, content_hash: str, facts: tuple[object, ...]) -> int:
        images = quote(self.table)
        sql = f"select id, content_hash from {images} where path = ?"
        before = self._execute(sql, source.stored).fetchone()
        if before and before[1] != content_hash:
            # Vectors of every model, and the thumbnail, were made from what the file held before.
            for made in (EMBEDDINGS, THUMBNAILS):
                self._execute(f"delete from {made} where image_id = ?", before[0])
        row = self._execute(
            f"""insert into {images} (id, path, content_hash, size, mtime, key, key_table,
                width, height, format, taken, latitude, longitude, camera)
            values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
            on conflict (path) do update set
                content_hash = excluded.content_hash, size = excluded.size,
                mtime = excluded.mtime, key = coalesce(excluded.key, key),
                key_table = coalesce(excluded.key_table, key_table),
                width = excluded.width, height = excluded.height,
                format = excluded.format, taken = excluded.taken, latitude = excluded.latitude,
                longitude = excluded.longitude, camera = excluded.camera
            returning id""",
            None if before else self._new_id(content_hash),
            source.stored,
            content_hash,
            source.size,
            source.mtime,
            source.key,
            source.key_table,
            *facts,
        ).fetchone()
        return int(row[0])

    def _new_id(self, content_hash: str) -> int | None:
        """Returns the id that a picture with this content had, or one that none ever had."""
        images = quote(self.table)
        sql = f"""select min(image_id) from {PRUNED} as p where content_hash = ?
            and not exists (select 1 from {images} where id = p.image_id)"""
        (image_id,) = self._execute(sql, content_hash).fetchone()
        if image_id is not None:
            self._execute(f"delete from {PRUNED} where image_id = ?", image_id)
            return int(image_id)
        # SQLite's own choice may be the id of a picture that was deleted, and comes back.
        sql = f"""select max(coalesce((select max(id) from {images}), 0),
            coalesce((select max(image_id) from {PRUNED}), 0))"""
        highest = int(self._execute(sql).fetchone()[0])
        return highest + 1 if highest < 2**63 - 1 else None

    def _write_vector(
        self, image_id: int, blob: bytes, precision: str | None, content_hash: str
    ) -> None:
        assert self.model is not None
        self._execute(
            f"""insert into {EMBEDDINGS} (model_id, image_id, embedding, precision, made_from)
            values (?, ?, ?, ?, ?)
            on conflict (model_id, image_id) do update set embedding = excluded.embedding,
                precision = excluded.precision, made_from = excluded.made_from""",
            self.model.id,
            image_id,
            blob,
            precision,
            content_hash[:HASH_KEPT],
        )

    def _write_thumbnail(self, image_id: int, format: str, data: bytes, content_hash: str) -> None:
        self._execute(
            f"""insert into {THUMBNAILS} (image_id, format, data, made_from) values (?, ?, ?, ?)
            on conflict (image_id) do update set format = excluded.format, data = excluded.data,
                made_from = excluded.made_from""",
            image_id,
            format,
            data,
            content_hash[:HASH_KEPT],
        )
