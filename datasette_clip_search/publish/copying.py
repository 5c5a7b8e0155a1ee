"""Copy tables to the published database: our own in key order, and those the user asked for."""

import itertools
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from ..common.errors import CommandError
from ..database.connection import fetch, quote
from ..database.model import Model
from ..database.prepare import create_tables
from ..database.schema import EMBEDDINGS, MODELS, THUMBNAILS, TOWERS, is_table_name, made_from_it
from ..models.towers.stored import IMAGE, TEXT
from .options import PublishProgress
from .public_facts import COLUMNS, IMAGE_COLUMNS, PublicFacts
from .public_thumbnails import plain_thumbnail
from .public_towers import public_manifest

# The ids of the chosen pictures, in the reading connection's temporary database.
CHOSEN = "temp.clip_chosen"
_ROWS_AT_ONCE = 256

Row = dict[str, Any]
Change = Callable[[Row], Row | None]
"""Takes a row by its columns; returns the row to publish, or None to leave it out."""


class Copy:
    """Copies from a connection that reads in one transaction to a connection that writes."""

    def __init__(
        self,
        reader: sqlite3.Connection,
        writer: sqlite3.Connection,
        table: str,
        models: Sequence[Model],
        progress: PublishProgress,
    ):
        """Create our tables in the writer, and drop their triggers until `finish`.

        The triggers would do for every row what is needed only once.
        """
        self.reader = reader
        self.writer = writer
        self.table = table
        self.models = models
        self.progress = progress
        self._reveals_contents = False
        create_tables(writer, table)
        sql = "select name, sql from main.sqlite_master where type = 'trigger'"
        self._triggers = fetch(writer, sql).fetchall()
        for name, _ in self._triggers:
            writer.execute(f"drop trigger {quote(name)}")

    def choose(self, ids: Iterable[int] | None) -> int:
        """Choose the pictures to publish from those with a vector; return their number."""
        self.reader.execute(
            f"create {CHOSEN.replace('temp.', 'temp table ')} (id integer primary key)"
        )
        among = "" if ids is None else "and e.image_id = ?"
        sql = f"""insert or ignore into {CHOSEN} select e.image_id
            from {self.current_rows(EMBEDDINGS, "e")}
            where e.model_id in ({self._model_ids}) {among}"""
        if ids is None:
            self.reader.execute(sql)
        else:
            self.reader.executemany(sql, ((image_id,) for image_id in ids))
        return self.count(f"select count(*) from {CHOSEN}")

    def current_rows(self, table: str, name: str) -> str:
        """Return SQL for the vectors or thumbnails made from the pictures' current content.

        The statement refers to them by `name`, and to the pictures as `i`.
        """
        same = made_from_it(name, "i")
        pictures = f"main.{quote(self.table)} as i on i.id = {name}.image_id and {same}"
        return f"main.{table} as {name} join {pictures}"

    def count(self, sql: str, *parameters: object) -> int:
        """Return the number that a statement selects."""
        return int(fetch(self.reader, sql, *parameters).fetchone()[0])

    def columns(self, table: str) -> list[str]:
        """Return the columns of a table in the reader; none if there is no such table."""
        return _columns(self.reader, table)

    def paths(self) -> Iterator[object]:
        """Yield the stored paths of the chosen pictures."""
        sql = f"select path from main.{quote(self.table)} where id in (select id from {CHOSEN})"
        for (path,) in fetch(self.reader, sql):
            yield path

    def copy_models(self, change: Change) -> None:
        """Copy the models; if the default is not among them, the first becomes the default."""
        self._copy(MODELS, f"id in ({self._model_ids}) order by id", change)
        self.writer.execute(
            f"""update {MODELS} set is_default = 1 where id = ?
            and not exists (select 1 from {MODELS} where is_default)""",
            (self.models[0].id,),
        )

    def copy_pictures(self, published: PublicFacts, columns: Sequence[str]) -> None:
        """Copy the facts of the pictures, and the given columns that the user added."""
        self._reveals_contents = published.reveals_contents
        for name in columns:
            self._add_column(name)

        def change(row: Row) -> Row:
            own = {name: published.user_value(self.table, name, row[name]) for name in columns}
            return published.picture(row) | own

        where = f"id in (select id from {CHOSEN}) order by id"
        self._copy(self.table, where, change, columns)

    def copy_vectors(self, vector: Callable[[Model, int, object], object]) -> None:
        """Copy the vectors of each model; `vector` converts one, given its picture's id."""
        names = self._published(EMBEDDINGS)
        for model in self.models:
            sql = f"""select {_listed(names, "e.")} from {self.current_rows(EMBEDDINGS, "e")}
                where e.model_id = ? and e.image_id in (select id from {CHOSEN})
                order by e.image_id"""
            place, blob = names.index("image_id"), names.index("embedding")

            def changed(row: Sequence[object], model: Model = model) -> Sequence[object]:
                value = vector(model, row[place], row[blob])  # type: ignore[arg-type]  # noqa: B023
                return (*row[:blob], value, *row[blob + 1 :])  # noqa: B023

            self._insert(EMBEDDINGS, names, map(changed, fetch(self.reader, sql, model.id)))

    def copy_thumbnails(self) -> int:
        """Copy the thumbnails; return how many could not be read."""
        failed = 0

        def change(row: Row) -> Row | None:
            nonlocal failed
            plain = plain_thumbnail(row["format"], row["data"])
            failed += plain is None
            return plain and row | dict(zip(("format", "data"), plain, strict=True))

        names = self._published(THUMBNAILS)
        sql = f"""select {_listed(names, "t.")} from {self.current_rows(THUMBNAILS, "t")}
            where t.image_id in (select id from {CHOSEN}) order by t.image_id"""
        self._write(THUMBNAILS, names, change, fetch(self.reader, sql))
        return failed

    def copy_towers(self, image_search: bool) -> None:
        """Copy the text towers of the models, and with `image_search` the image towers too."""
        if not self._shared(TOWERS):
            return
        towers = (TEXT, IMAGE) if image_search else (TEXT,)
        # A lone part 0 says why there is no tower, which can reveal the owner's machine.
        where = f"""model_id in ({self._model_ids}) and tower in ({", ".join(map(repr, towers))})
            and (model_id, tower) in (select model_id, tower from main.{TOWERS} where part > 0)"""

        def change(row: Row) -> Row:
            return row if row["part"] else row | {"data": public_manifest(row["data"])}

        self._copy(TOWERS, where, change)

    def copy_table(self, name: str, published: PublicFacts) -> str:
        """Copy one of the user's tables with its indexes; return its exact name.

        Raise CommandError for a table that does not exist or can't be copied.
        """
        sql = "select name, type, sql from main.sqlite_master where lower(name) = lower(?)"
        row = fetch(self.reader, sql, name).fetchone()
        if row is None or row[1] not in ("table", "view"):
            raise CommandError(f"There is no table {name} to publish. {self._user_tables()}")
        if row[1] == "view" or re.match(r"create\s+virtual", row[2] or "", re.IGNORECASE):
            kind = "a view" if row[1] == "view" else "a virtual table"
            raise CommandError(
                f"{name} is {kind}, which can't be copied. Publish the tables behind it instead, "
                f"and create {name} again in the published file"
            )
        if not is_table_name(row[0]) or row[0] == self.table:
            raise CommandError(
                f"{row[0]} is one of embed-images' own tables. {self._user_tables()}"
            )
        self.writer.execute(row[2])
        names = _columns(self.reader, row[0])
        sql = "select name, \"notnull\" from temp.pragma_table_info(?, 'main')"
        required = dict(fetch(self.reader, sql, row[0]))
        absent = [b"" if required[each] else None for each in names]
        rows = (
            [
                published.user_value(row[0], *value)
                for value in zip(names, values, absent, strict=True)
            ]
            for values in fetch(self.reader, f"select {_listed(names)} from main.{quote(row[0])}")
        )
        try:
            self._insert(row[0], names, rows)
        except sqlite3.OperationalError as error:
            if "UTF-8" not in str(error):
                raise
            raise CommandError(
                f"The table {row[0]} contains text that is not valid UTF-8: {error}"
            ) from error
        sql = """select sql from main.sqlite_master
            where type = 'index' and tbl_name = ? and sql is not null"""
        for (index,) in fetch(self.reader, sql, row[0]).fetchall():
            self.writer.execute(index)
        return str(row[0])

    def finish(self) -> None:
        """Create the triggers again, and fire each once."""
        for _, sql in self._triggers:
            self.writer.execute(sql)
        for model in self.models:
            self.writer.execute(
                f"""update {EMBEDDINGS} set embedding = embedding where model_id = ?
                and image_id = (select max(image_id) from {EMBEDDINGS} where model_id = ?)""",
                (model.id, model.id),
            )

    @property
    def _model_ids(self) -> str:
        return ", ".join(str(model.id) for model in self.models)

    def _shared(self, table: str) -> list[str]:
        """Return the columns of a table that exist in both databases."""
        ours = set(_columns(self.writer, table))
        return [name for name in _columns(self.reader, table) if name in ours]

    def _add_column(self, name: str) -> None:
        """Add one of the user's columns to the pictures' table."""
        known = _columns(self.reader, self.table)
        if name not in known or name in _columns(self.writer, self.table):
            own = [each for each in known if each not in _columns(self.writer, self.table)]
            raise CommandError(
                f"{self.table} has no column {name} that you added. "
                f"Columns that you added: {', '.join(own) or 'none'}"
            )
        sql = "select type from temp.pragma_table_info(?) where name = ?"
        (kind,) = fetch(self.reader, sql, self.table, name).fetchone()
        kind = kind if re.fullmatch(r"[\w ]*", kind or "") else ""
        self.writer.execute(f"alter table {quote(self.table)} add column {quote(name)} {kind}")

    def _user_tables(self) -> str:
        sql = "select name from main.sqlite_master where type = 'table' order by name"
        names = [name for (name,) in fetch(self.reader, sql)]
        own = [name for name in names if is_table_name(name) and name != self.table]
        return f"Your own tables in this database: {', '.join(own) or 'none'}"

    def _published(self, table: str) -> list[str]:
        """Return the existing columns of one of our tables that may be published."""
        ours = COLUMNS.get(table, IMAGE_COLUMNS)
        if not self._reveals_contents:
            # It is the beginning of content_hash. Where it is null, nothing is compared.
            ours = ours - {"made_from"}
        return [name for name in self._shared(table) if name in ours]

    def _copy(self, table: str, where: str, change: Change, columns: Sequence[str] = ()) -> None:
        """Copy the changed rows, with only those of our columns that may be published."""
        shared = [name for name in self._published(table) if name not in columns]
        names = [*shared, *columns]
        sql = f"select {_listed(names)} from main.{quote(table)} where {where}"
        self._write(table, names, change, fetch(self.reader, sql))

    def _write(
        self, table: str, names: Sequence[str], change: Change, rows: Iterable[Sequence[object]]
    ) -> None:
        """Write the changed rows."""
        lacking = self._stand_ins(table, names)
        changed = (change(dict(zip(names, row, strict=True))) for row in rows)
        values = ([*row.values(), *lacking.values()] for row in changed if row is not None)
        self._insert(table, [*names, *lacking], values)

    def _stand_ins(self, table: str, there: Sequence[str]) -> dict[str, object]:
        """Return values for required columns that are not among those copied."""
        rows = fetch(self.writer, f"pragma main.table_info({quote(table)})")
        return {
            str(name): "" if kind == "TEXT" else 0
            for _, name, kind, required, *_ in rows
            if required and name not in there
        }

    def _insert(self, table: str, names: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        marks = ", ".join("?" * len(names))
        sql = f"insert into main.{quote(table)} ({_listed(names)}) values ({marks})"
        rows = iter(rows)
        while batch := list(itertools.islice(rows, _ROWS_AT_ONCE)):
            self.writer.executemany(sql, batch)
            if table == EMBEDDINGS:
                self.progress.advance(len(batch))


def _listed(names: Iterable[str], before: str = "") -> str:
    return ", ".join(before + quote(name) for name in names)


def _columns(connection: sqlite3.Connection, table: str) -> list[str]:
    """Return the writable columns of a table; none if there is no such table."""
    sql = "select name from temp.pragma_table_xinfo(?, 'main') where hidden = 0"
    return [name for (name,) in fetch(connection, sql, table)]
