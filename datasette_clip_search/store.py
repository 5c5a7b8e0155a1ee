"""Writing: pictures, vectors, thumbnails and failures into the database."""

import os
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from .config import CONFIG
from .database import transaction
from .errors import CommandError
from .images import Picture
from .index import Vectors
from .schema import (
    EMBEDDINGS,
    FAILURES,
    MODELS,
    THUMBNAILS,
    Model,
    create_tables,
    fetch,
    images_table,
    is_table_name,
    models,
    quote,
)


@dataclass(frozen=True)
class File:
    """A picture file: where it is, the path it is stored under, its size and time."""

    path: Path
    stored: str
    size: int
    mtime: float


@dataclass(frozen=True)
class Embedded:
    """A file that was embedded: its picture's facts, thumbnail and unit vector."""

    file: File
    content_hash: str
    picture: Picture
    thumbnail: bytes
    vector: Vectors


@dataclass(frozen=True)
class Same:
    """A file whose content is already embedded, as the picture `image_id`."""

    file: File
    content_hash: str
    image_id: int


@dataclass(frozen=True)
class Failed:
    """A file that could not be embedded, why, and whether to try it again though unchanged."""

    file: File
    reason: str
    again: bool = False


Result = Embedded | Same | Failed


@dataclass(frozen=True)
class Known:
    """What the database knows of a stored path."""

    image_id: int
    size: int
    mtime: float
    content_hash: str
    embedded: bool


class Store:
    """The tables of one database, for one model, being written."""

    def __init__(self, connection: sqlite3.Connection, path: Path, table: str | None):
        """Looks at a database without changing it.

        Raises CommandError when `table` is somebody else's, or ours under another name.
        """
        self.connection = connection
        self.folder = Path(os.path.abspath(path)).parent
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
        self.models = models(connection) if self.exists else []
        self.model: Model | None = None

    def stored_path(self, path: Path) -> str:
        """Returns the path as it is stored: from the database's folder where it lies below it."""
        try:
            return path.relative_to(self.folder).as_posix()
        except ValueError:
            return path.as_posix()

    def known_files(self) -> dict[str, Known]:
        """Returns what is known of every stored path; `embedded` is by the model in use."""
        if not self.exists:
            return {}
        sql = f"""select path, id, size, mtime, content_hash, e.image_id is not null
            from {quote(self.table)}
            left join {EMBEDDINGS} e on e.image_id = id and e.model_id = ?"""
        model_id = self.model.id if self.model else None
        rows = fetch(self.connection, sql, model_id)
        return {path: Known(*row) for path, *row in rows}

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
        with transaction(self.connection):
            create_tables(self.connection, self.table)
            self.connection.execute(
                f"""insert into {MODELS} (
                    name, pretrained, dimension, fingerprint, preprocess, is_default, revision
                ) values (?, ?, ?, ?, ?, not exists (select 1 from {MODELS}), random())
                on conflict (fingerprint) do update set pretrained = excluded.pretrained""",
                (name, pretrained, dimension, fingerprint, preprocess),
            )
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

    def write(self, results: list[Result]) -> dict[str, int]:
        """Writes results in one transaction; returns the ids by content hash."""
        assert self.model is not None, "use_model() first"
        ids: dict[str, int] = {}
        with transaction(self.connection):
            for result in results:
                if isinstance(result, Failed):
                    self._write_failure(result)
                    continue
                if isinstance(result, Embedded):
                    image_id = self._write_embedded(result)
                elif (same_id := self._write_same(result)) is not None:
                    image_id = same_id
                else:
                    reason = "The equal picture it was to be copied from has been deleted meanwhile"
                    self._write_failure(Failed(result.file, reason, again=True))
                    continue
                ids[result.content_hash] = image_id
                self._execute(f"delete from {FAILURES} where path = ?", result.file.stored)
        return ids

    def _execute(self, sql: str, *parameters: object) -> sqlite3.Cursor:
        return self.connection.execute(sql, parameters)

    def _write_failure(self, failed: Failed) -> None:
        self._execute(
            f"""insert into {FAILURES} (path, reason, failed, size, mtime) values (?, ?, ?, ?, ?)
            on conflict (path) do update set reason = excluded.reason, failed = excluded.failed,
            size = excluded.size, mtime = excluded.mtime""",
            failed.file.stored,
            failed.reason,
            datetime.now(UTC).isoformat(timespec="seconds"),
            None if failed.again else failed.file.size,
            None if failed.again else failed.file.mtime,
        )
        # What the file held before is gone, so its old picture is no answer any more.
        self._execute(f"delete from {quote(self.table)} where path = ?", failed.file.stored)

    def _write_embedded(self, embedded: Embedded) -> int:
        assert self.model is not None
        picture, facts = embedded.picture, embedded.picture.facts
        image_id = self._write_image(
            embedded.file,
            embedded.content_hash,
            (
                picture.width,
                picture.height,
                picture.format,
                facts.taken,
                facts.latitude,
                facts.longitude,
                facts.camera,
            ),
        )
        self._write_vector(image_id, embedded.vector.astype("<f4").tobytes())
        self._write_thumbnail(image_id, "webp", embedded.thumbnail)
        return image_id

    def _write_same(self, same: Same) -> int | None:
        """Gives a file the facts, vector and thumbnail of the picture with the same content.

        Returns None where that picture has been deleted since the run began.
        """
        assert self.model is not None
        found = self._execute(
            f"""select embedding, width, height, format, taken, latitude, longitude, camera
            from {quote(self.table)} join {EMBEDDINGS} on image_id = id and model_id = ?
            where id = ?""",
            self.model.id,
            same.image_id,
        ).fetchone()
        if found is None:
            return None
        embedding, *facts = found
        image_id = self._write_image(same.file, same.content_hash, tuple(facts))
        if image_id != same.image_id:
            self._write_vector(image_id, embedding)
            sql = f"select format, data from {THUMBNAILS} where image_id = ?"
            # Thumbnails may have been deleted, for instance to publish a smaller file.
            for thumbnail in self._execute(sql, same.image_id).fetchall():
                self._write_thumbnail(image_id, *thumbnail)
        return image_id

    def _write_image(self, file: File, content_hash: str, facts: tuple[object, ...]) -> int:
        images = quote(self.table)
        sql = f"select id, content_hash from {images} where path = ?"
        before = self._execute(sql, file.stored).fetchone()
        if before and before[1] != content_hash:
            # Vectors of every model were made from what the file held before.
            self._execute(f"delete from {EMBEDDINGS} where image_id = ?", before[0])
        row = self._execute(
            f"""insert into {images} (path, content_hash, size, mtime,
                width, height, format, taken, latitude, longitude, camera)
            values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
            on conflict (path) do update set
                content_hash = excluded.content_hash, size = excluded.size,
                mtime = excluded.mtime, width = excluded.width, height = excluded.height,
                format = excluded.format, taken = excluded.taken, latitude = excluded.latitude,
                longitude = excluded.longitude, camera = excluded.camera
            returning id""",
            file.stored,
            content_hash,
            file.size,
            file.mtime,
            *facts,
        ).fetchone()
        return int(row[0])

    def _write_vector(self, image_id: int, blob: bytes) -> None:
        assert self.model is not None
        self._execute(
            f"""insert into {EMBEDDINGS} (model_id, image_id, embedding) values (?, ?, ?)
            on conflict (model_id, image_id) do update set embedding = excluded.embedding""",
            self.model.id,
            image_id,
            blob,
        )

    def _write_thumbnail(self, image_id: int, format: str, data: bytes) -> None:
        self._execute(
            f"""insert into {THUMBNAILS} (image_id, format, data) values (?, ?, ?)
            on conflict (image_id) do update set format = excluded.format, data = excluded.data""",
            image_id,
            format,
            data,
        )
