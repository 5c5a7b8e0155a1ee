"""The copying of tables: ours, in the order of their keys, and the user's that are asked for."""

import itertools
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..errors import CommandError
from ..schema import (
    CHANGES,
    EMBEDDINGS,
    FAILURES,
    MODELS,
    OWN_TABLES,
    PLACES,
    PUBLICATION,
    THUMBNAILS,
    Model,
    create_tables,
    fetch,
    is_table_name,
    quote,
)
from ..text_tower.stored import IMAGE, TEXT
from .options import Progress

# Pictures that were chosen, in the reading connection's own temporary database.
CHOSEN = "temp.clip_chosen"
# What is made anew, or names files that are no pictures.
_NOT_COPIED = {FAILURES, PUBLICATION, CHANGES, PLACES}
_ROWS_AT_ONCE = 256

Change = Callable[[Any], object]


class Copy:
    """Two connections: one that reads a database, in one transaction, and one that writes."""

    def __init__(
        self,
        reader: sqlite3.Connection,
        writer: sqlite3.Connection,
        table: str,
        models: Sequence[Model],
        progress: Progress,
    ):
        """Makes our tables for the writer, and takes away their triggers until `finish`.

        They would write for every row what is needed once.
        """
        self.reader = reader
        self.writer = writer
        self.table = table
        self.models = models
        self.progress = progress
        create_tables(writer, table)
        sql = "select name, sql from main.sqlite_master where type = 'trigger'"
        self._triggers = fetch(writer, sql).fetchall()
        for name, _ in self._triggers:
            writer.execute(f"drop trigger {quote(name)}")

    def choose(self, ids: Iterable[int] | None) -> int:
        """Chooses pictures, of those with a vector of a model; returns how many there are."""
        self.reader.execute(
            f"create {CHOSEN.replace('temp.', 'temp table ')} (id integer primary key)"
        )
        among = "" if ids is None else "and image_id = ?"
        sql = f"""insert or ignore into {CHOSEN} select image_id from main.{EMBEDDINGS}
            where model_id in ({self._model_ids}) {among}"""
        if ids is None:
            self.reader.execute(sql)
        else:
            self.reader.executemany(sql, ((image_id,) for image_id in ids))
        return self.count(f"select count(*) from {CHOSEN}")

    def count(self, sql: str, *parameters: object) -> int:
        """Returns the number that a statement reads."""
        return int(fetch(self.reader, sql, *parameters).fetchone()[0])

    def paths(self) -> Iterator[str]:
        """Yields the stored paths of the pictures that were chosen."""
        sql = f"select path from main.{quote(self.table)} where id in (select id from {CHOSEN})"
        for (path,) in fetch(self.reader, sql):
            yield path

    def copy_models(self, pretrained: Change) -> None:
        """Copies the models; if the default is none of them, the first one becomes it."""
        self._copy(MODELS, f"id in ({self._model_ids}) order by id", {"pretrained": pretrained})
        self.writer.execute(
            f"""update {MODELS} set is_default = 1 where id = ?
            and not exists (select 1 from {MODELS} where is_default)""",
            (self.models[0].id,),
        )

    def copy_pictures(
        self, facts: Mapping[str, object], path: Callable[[int, str], str], key: Change,
        columns: Sequence[str],
    ) -> None:  # fmt: skip
        """Copies the pictures' facts, and columns that the user added to them.

        `facts` are values instead of the stored ones.
        """
        names = self._shared(self.table)
        for name in columns:
            self._add_column(name)
        sql = f"""select {_listed([*names, *columns])} from main.{quote(self.table)}
            where id in (select id from {CHOSEN}) order by id"""

        def changed(row: tuple[object, ...]) -> list[object]:
            values = dict(zip([*names, *columns], row, strict=True))
            values["path"] = path(values["id"], values["path"])  # type: ignore[arg-type]
            if "key" in values:
                values["key"] = key(values["key"])
            return list((values | {n: v for n, v in facts.items() if n in values}).values())

        self._insert(self.table, [*names, *columns], map(changed, fetch(self.reader, sql)))

    def copy_vectors(self, vector: Callable[[Model, int, object], object]) -> None:
        """Copies the vectors of each model, as the function makes them of id and stored value."""
        names = self._shared(EMBEDDINGS)
        for model in self.models:
            where = f"model_id = ? and image_id in (select id from {CHOSEN}) order by image_id"
            sql = f"select {_listed(names)} from main.{EMBEDDINGS} where {where}"
            place, blob = names.index("image_id"), names.index("embedding")

            def changed(row: Sequence[object], model: Model = model) -> Sequence[object]:
                value = vector(model, row[place], row[blob])  # type: ignore[arg-type]  # noqa: B023
                return (*row[:blob], value, *row[blob + 1 :])  # noqa: B023

            self._insert(EMBEDDINGS, names, map(changed, fetch(self.reader, sql, model.id)))

    def copy_thumbnails(self) -> None:
        """Copies the thumbnails of the pictures."""
        where = f"image_id in (select id from {CHOSEN}) order by image_id"
        self._copy(THUMBNAILS, where)

    def copy_others(self, image_search: bool) -> None:
        """Copies whatever other tables there are of ours, as far as they are of what is chosen.

        Of towers, that is the text tower, and with `image_search` also the image tower.
        """
        done = {MODELS, EMBEDDINGS, THUMBNAILS} | _NOT_COPIED
        for table in OWN_TABLES:
            names = self._shared(table)
            if table in done or not names:
                continue
            where = ["true"]
            if "model_id" in names:
                where.append(f"model_id in ({self._model_ids})")
            if "image_id" in names:
                where.append(f"image_id in (select id from {CHOSEN})")
            if "tower" in names:
                # Part 0 alone tells why there is no tower, which names what went wrong at home.
                kept = f"select model_id, tower from main.{quote(table)} where part > 0"
                where.append(f"(model_id, tower) in ({kept})")
                towers = (TEXT, IMAGE) if image_search else (TEXT,)
                where.append(f"tower in ({', '.join(map(repr, towers))})")
            self._copy(table, " and ".join(where))

    def copy_table(self, name: str) -> str:
        """Copies a table of the user's as it is, with its indexes; returns its own name.

        Raises CommandError for a table that is not there or can't be copied.
        """
        sql = "select name, type, sql from main.sqlite_master where lower(name) = lower(?)"
        row = fetch(self.reader, sql, name).fetchone()
        if row is None or row[1] not in ("table", "view"):
            raise CommandError(f"There is no table {name}. {self._user_tables()}")
        if row[1] == "view" or re.match(r"create\s+virtual", row[2] or "", re.IGNORECASE):
            kind = "a view" if row[1] == "view" else "a virtual table"
            raise CommandError(
                f"{name} is {kind}, which can't be copied. Give the tables behind it, and make it "
                "anew in what was published"
            )
        if not is_table_name(row[0]) or row[0] == self.table:
            raise CommandError(f"{row[0]} is a table of embed-images. {self._user_tables()}")
        self.writer.execute(row[2])
        names = _columns(self.reader, row[0])
        sql = f"select {_listed(names)} from main.{quote(row[0])}"
        try:
            self._insert(row[0], names, fetch(self.reader, sql))
        except sqlite3.OperationalError as error:
            if "UTF-8" not in str(error):
                raise
            raise CommandError(f"{row[0]} holds text that is not valid UTF-8: {error}") from error
        sql = """select sql from main.sqlite_master
            where type = 'index' and tbl_name = ? and sql is not null"""
        for (index,) in fetch(self.reader, sql, row[0]).fetchall():
            self.writer.execute(index)
        return str(row[0])

    def finish(self) -> None:
        """Brings the triggers back, and has them write once what they write for a change."""
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
        """Returns the columns of a table that both databases have."""
        ours = set(_columns(self.writer, table))
        return [name for name in _columns(self.reader, table) if name in ours]

    def _add_column(self, name: str) -> None:
        """Adds a column of the user's to the pictures' table."""
        known = _columns(self.reader, self.table)
        if name not in known or name in _columns(self.writer, self.table):
            own = [each for each in known if each not in _columns(self.writer, self.table)]
            raise CommandError(
                f"{self.table} has no column {name} of your own. "
                f"{'It has: ' + ', '.join(own) if own else 'It has none'}"
            )
        sql = "select type from pragma_table_info(?) where name = ?"
        (kind,) = fetch(self.reader, sql, self.table, name).fetchone()
        kind = kind if re.fullmatch(r"[\w ]*", kind or "") else ""
        self.writer.execute(f"alter table {quote(self.table)} add column {quote(name)} {kind}")

    def _user_tables(self) -> str:
        sql = "select name from main.sqlite_master where type = 'table' order by name"
        names = [name for (name,) in fetch(self.reader, sql)]
        own = [name for name in names if is_table_name(name) and name != self.table]
        return f"Your own tables here: {', '.join(own) or 'none'}"

    def _copy(self, table: str, where: str, changes: Mapping[str, Change] | None = None) -> None:
        names = self._shared(table)
        functions = [(changes or {}).get(name) for name in names]
        rows: Iterable[Sequence[object]] = fetch(
            self.reader, f"select {_listed(names)} from main.{quote(table)} where {where}"
        )
        if changes:
            rows = (
                [
                    change(value) if change else value
                    for change, value in zip(functions, row, strict=True)
                ]
                for row in rows
            )
        self._insert(table, names, rows)

    def _insert(self, table: str, names: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        marks = ", ".join("?" * len(names))
        sql = f"insert into main.{quote(table)} ({_listed(names)}) values ({marks})"
        rows = iter(rows)
        while batch := list(itertools.islice(rows, _ROWS_AT_ONCE)):
            self.writer.executemany(sql, batch)
            if table == EMBEDDINGS:
                self.progress.advance(len(batch))


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(quote, names))


def _columns(connection: sqlite3.Connection, table: str) -> list[str]:
    """Returns the columns of a table that can be written; none where there is no such table."""
    sql = "select name from pragma_table_xinfo(?, 'main') where hidden = 0"
    return [name for (name,) in fetch(connection, sql, table)]
