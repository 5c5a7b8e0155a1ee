"""Find pictures by SQL: a select returns their keys, and their bytes or paths."""

import os
import re
import sqlite3
import stat
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import ClassVar

from ...common.errors import CommandError, PictureUnreadable
from .exclude import Exclusion
from .found import FoundPictures
from .same import SeenPaths, hash_stat
from .source import (
    MISNAMED,
    NOT_REGULAR,
    SQL_PREFIX,
    DiskFile,
    Source,
    absolute,
    is_utf8,
    printable,
    stored_path,
)
from .spelling import as_on_disk
from .statement import EXAMPLE, columns_given, explain_sql_errors, single_statement, tables_read

# A name that no select reads from.
_CTE = "clip_search_source"

# If no index finds a row by its key, each scan fetches at most this many rows and bytes.
MAX_ROWS_AT_ONCE = 500
MAX_BYTES_AT_ONCE = 64_000_000

_SLOW_PLANS = ("SCAN", "CO-ROUTINE", "MATERIALIZE")

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://|data:", re.IGNORECASE)


class Blob(Source):
    """A picture's bytes in a row, fetched by the row's key in the connection's own thread."""

    __slots__ = ("key", "key_table", "place", "select")

    in_order: ClassVar[bool] = True
    key: object | None
    key_table: str | None

    def __init__(self, stored: str, size: int, key: int | str, table: str, select: "_Select"):
        super().__init__(stored, size)
        self.key = key
        self.key_table = table
        self.select = select
        self.place = len(select.blobs)
        select.blobs.append(self)

    def read(self) -> bytes:
        """Return the blob. Raise PictureUnreadable if its row has changed."""
        data = self.select.fetch(self)
        if not isinstance(data, bytes):
            raise PictureUnreadable(
                "Its row was changed while the pictures were being read. Run the same command again"
            )
        return data


class _Select:
    """A select of two columns, which is run again for the rows to read."""

    def __init__(self, connection: sqlite3.Connection, statement: str):
        self.connection = connection
        self.source = f"with {_CTE}(key, data) as ({statement}\n)"
        self.blobs: list[Blob] = []
        self.fetched: dict[object, object] = {}
        self.is_lookup = self._is_lookup()

    def fetch(self, blob: Blob) -> object:
        """Return the second column of a row, or None if the row is gone."""
        if blob.key in self.fetched:
            return self.fetched.pop(blob.key)
        keys = [blob.key] if self.is_lookup else self._next_keys(blob)
        sql = f"{self.source} select key, data from {_CTE} where key in ({_marks(len(keys))})"
        try:
            # An open cursor would keep writing transactions from being committed.
            with closing(self.connection.execute(sql, keys)) as cursor:
                # A column whose collation equates `a` and `A` returns both.
                self.fetched = dict(cursor)
        except sqlite3.Error as error:
            raise PictureUnreadable(f"Its row can't be read: {error}") from error
        return self.fetched.pop(blob.key, None)

    def rows(self) -> Iterator[tuple[object, str, int, str | None]]:
        """Yield the key, type, length and text of every row, by key, without loading any blob.

        The select's own order would sort the blobs. Since the outer query has an order of its own,
        SQLite drops the inner one, unless the select has a limit.
        """
        sql = f"""{self.source} select key, typeof(data), length(data),
            case typeof(data) when 'text' then data end from {_CTE} order by key"""
        with closing(self.connection.execute(sql)) as cursor:
            yield from cursor

    def _is_lookup(self) -> bool:
        """Return whether SQLite finds a row by its key without scanning the others."""
        sql = f"explain query plan {self.source} select key, data from {_CTE} where key in (?)"
        with closing(self.connection.execute(sql, (None,))) as cursor:
            return all(not detail.startswith(_SLOW_PLANS) for *_, detail in cursor)

    def _next_keys(self, blob: Blob) -> list[object]:
        """Return the keys of the blobs to read in one scan, beginning with the given one."""
        keys: list[object] = []
        size = 0
        for other in self.blobs[blob.place : blob.place + MAX_ROWS_AT_ONCE]:
            size += other.size
            if keys and size > MAX_BYTES_AT_ONCE:
                break
            keys.append(other.key)
        return keys


def _marks(count: int) -> str:
    return ", ".join("?" * count)


def find_rows(
    connection: sqlite3.Connection, sql: str, folder: Path, exclude: Sequence[str] = ()
) -> FoundPictures:
    """Find the pictures that a select returns: a key, and a blob or the path of a file.

    Paths are relative to `folder`, which contains the database. A blob's stored path is
    `sqlite:TABLE/KEY`, with the table that the select reads, or several joined by `+`. `exclude`
    has patterns for the paths of files: from that folder, or from the root for files elsewhere.

    Raise CommandError for anything but one select of two columns, and for keys that are null, not
    unique, or neither integers nor text.
    """
    statement = single_statement(sql)
    with explain_sql_errors():
        name = "+".join(tables_read(connection, statement)) or "query"
        gives = columns_given(connection, statement)
    if len(gives) != 2:
        count = "1 column" if len(gives) == 1 else f"{len(gives)} columns"
        raise CommandError(
            f"The SQL returns {count} ({', '.join(gives)}). Expected two: a key, and a picture's "
            f"bytes or path; {EXAMPLE}"
        )
    with explain_sql_errors(), _any_text(connection):
        lister = _RowLister(_Select(connection, statement), name, gives[0], absolute(folder))
        lister.exclusions = [Exclusion(exclude, base) for base in (lister.folder, "/")]
        lister.list()
    lister.found.tables.add(name)
    return lister.found


class _RowLister:
    def __init__(self, select: _Select, name: str, key_column: str, folder: str):
        self.select = select
        self.name = name
        self.key_column = key_column
        self.folder = folder
        self.found = FoundPictures(folder=printable(folder))
        self.keys: set[str] = set()
        self.files: SeenPaths[str] = SeenPaths(str)
        # For files below the database's folder, and for files elsewhere.
        self.exclusions = [Exclusion((), folder), Exclusion((), "/")]

    def list(self) -> None:
        for key, kind, length, text in self.select.rows():
            stored = f"{SQL_PREFIX}{self.name}/{self._checked(key)}"
            assert isinstance(key, (int, str))
            if kind == "blob":
                self.found.sources.append(Blob(stored, length, key, self.name, self.select))
            elif text is not None:
                self._add_file(text, key, stored)
            else:
                value = "null" if kind == "null" else "a number"
                self._note(stored, f"The value is {value}. Expected a picture's bytes or path")

    def _checked(self, key: object) -> str:
        """Return the key as text. Raise CommandError for one that can't identify a row."""
        expected = f"Expected unique integers or text in the first column; {EXAMPLE}"
        column = self.key_column
        if key is None:
            raise CommandError(f"A key in the column {column} is null. {expected}")
        if not isinstance(key, (int, str)) or (isinstance(key, str) and not is_utf8(key)):
            kind = {float: "a real number", bytes: "a blob"}.get(type(key), "not valid UTF-8")
            raise CommandError(f"A key in the column {column} is {kind}. {expected}")
        text = str(key)
        if text in self.keys:
            raise CommandError(f"The key {text} appears twice in the column {column}. {expected}")
        self.keys.add(text)
        return text

    def _add_file(self, text: str, key: int | str, row: str) -> None:
        if _ADDRESS.match(text):
            self._note(row, "It is a URL. Expected a picture's bytes or the path of a file")
            return
        if not text or "\0" in text:
            self._note(
                row, "The value can't be a path. Expected a picture's bytes or the path of a file"
            )
            return
        path = as_on_disk(absolute(os.path.join(self.folder, text)))
        stored = stored_path(path, self.folder)
        if self.exclusions[os.path.isabs(stored)].covers(stored.lstrip("/")):
            self.found.excluded += 1
            return
        try:
            info = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            self._note(printable(stored), "There is no such file")
            return
        except OSError as error:
            self._note(printable(stored), f"It can't be read: {error.strerror}")
            return
        if not stat.S_ISREG(info.st_mode):
            is_folder = stat.S_ISDIR(info.st_mode)
            self._note(printable(stored), "It is a folder" if is_folder else NOT_REGULAR)
        elif not is_utf8(stored):
            self._note(printable(stored), MISNAMED)
        elif self.files.find(stat_hash := hash_stat(info), path) is None:
            self.files.add(stat_hash, path)
            self.found.sources.append(
                DiskFile(stored, info.st_size, info.st_mtime, self.folder, key, self.name)
            )
        else:
            self.found.doubles += 1

    def _note(self, stored: str, reason: str) -> None:
        self.found.unreadable.append((stored, reason))


@contextmanager
def _any_text(connection: sqlite3.Connection) -> Iterator[None]:
    """Accept text that is not UTF-8, in the form that Python uses for such paths."""
    before = connection.text_factory
    connection.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
    try:
        yield
    finally:
        connection.text_factory = before
