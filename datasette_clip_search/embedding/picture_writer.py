"""Write a picture of a run into the database: its row, vector and thumbnail."""

import sqlite3

from ..database.connection import quote
from ..database.model import Model
from ..database.schema import EMBEDDINGS, HASH_KEPT, PRUNED, THUMBNAILS
from ..pictures.decode import THUMBNAIL_FORMAT
from ..pictures.sources import Source
from .outcomes import Embedded, Moved, Same


class PictureWriter:
    """Writes the pictures of a table, with the vectors of one model, in the caller's transaction.

    A picture keeps its id when its file moves, and when it comes back after it was deleted.
    """

    def __init__(self, connection: sqlite3.Connection, table: str, model: Model):
        self._connection = connection
        self._table = table
        self._model = model

    def write_picture(self, result: Embedded | Same | Moved, ids: dict[str, int]) -> int | None:
        """Write a picture and return its id, or None if the one it equals has been deleted.

        `ids` are the pictures written before it, by their content hashes.
        """
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
        self.write_vector(image_id, blob, embedded.precision, content)
        if decoded.thumbnail:
            self._write_thumbnail(image_id, THUMBNAIL_FORMAT, decoded.thumbnail, content)
        return image_id

    def _write_moved(self, moved: Moved) -> int | None:
        """Store the present path of a picture's file."""
        source, images = moved.source, quote(self._table)
        # Another program may have embedded the file under its new path during the run.
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
        """Give a file the facts, vector and thumbnail of the picture with the same content.

        Return None if that picture was deleted during the run.
        """
        images = quote(self._table)
        found = self._execute(
            f"""select i.id, e.embedding, e.precision, i.width, i.height, i.format, i.taken,
                i.latitude, i.longitude, i.camera
            from {images} as i join {EMBEDDINGS} as e on e.image_id = i.id and e.model_id = ?
            where {"i.content_hash" if image_id is None else "i.id"} = ? limit 1""",
            self._model.id,
            same.content_hash if image_id is None else image_id,
        ).fetchone()
        if found is None:
            return None
        from_id, embedding, precision, *facts = found
        image_id = self._write_image(same.source, same.content_hash, tuple(facts))
        if image_id != from_id:
            self.write_vector(image_id, embedding, precision, same.content_hash)
            sql = f"select format, data from {THUMBNAILS} where image_id = ?"
            # Somebody may have deleted the thumbnails, for instance to publish a smaller file.
            for format, data in self._execute(sql, from_id).fetchall():
                self._write_thumbnail(image_id, format, data, same.content_hash)
        return image_id

    def _write_image(self, source: Source, content_hash: str, facts: tuple[object, ...]) -> int:
        images = quote(self._table)
        sql = f"select id, content_hash from {images} where path = ?"
        before = self._execute(sql, source.stored).fetchone()
        if before and before[1] != content_hash:
            # The thumbnail, and the vectors of every model, show the old content.
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
        """Return the id that a deleted picture with this content had, or a new one."""
        images = quote(self._table)
        sql = f"""select min(image_id) from {PRUNED} as p where content_hash = ?
            and not exists (select 1 from {images} where id = p.image_id)"""
        (image_id,) = self._execute(sql, content_hash).fetchone()
        if image_id is not None:
            self._execute(f"delete from {PRUNED} where image_id = ?", image_id)
            return int(image_id)
        # SQLite's own choice may be the id of a deleted picture that comes back later.
        sql = f"""select max(coalesce((select max(id) from {images}), 0),
            coalesce((select max(image_id) from {PRUNED}), 0))"""
        highest = int(self._execute(sql).fetchone()[0])
        return highest + 1 if highest < 2**63 - 1 else None

    def write_vector(
        self, image_id: int, blob: bytes, precision: str | None, content_hash: str
    ) -> None:
        self._execute(
            f"""insert into {EMBEDDINGS} (model_id, image_id, embedding, precision, made_from)
            values (?, ?, ?, ?, ?)
            on conflict (model_id, image_id) do update set embedding = excluded.embedding,
                precision = excluded.precision, made_from = excluded.made_from""",
            self._model.id,
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

    def _execute(self, sql: str, *parameters: object) -> sqlite3.Cursor:
        return self._connection.execute(sql, parameters)
