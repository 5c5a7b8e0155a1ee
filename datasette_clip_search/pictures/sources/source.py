"""A picture, wherever it is stored: its stored path, and a way to read its bytes."""

import os
import posixpath
import stat
from abc import ABC, abstractmethod
from typing import ClassVar

from ...common.errors import PictureError, PictureUnreadable

# The prefix of the stored path of a blob in a row; no file's path begins with it, see
# `stored_path`.
SQL_PREFIX = "sqlite:"

MISNAMED = "Its name is not valid UTF-8. Rename the file"
NOT_REGULAR = "It is not a regular file"


class Source(ABC):
    """A picture that can be read, and its stored path. There may be a million of them."""

    __slots__ = ("size", "stored")

    # Whether one thread must read all of these, in the order of the list.
    in_order: ClassVar[bool] = False

    def __init__(self, stored: str, size: int):
        self.stored = stored
        self.size = size

    @property
    def mtime(self) -> float:
        """The time of the last change as a Unix timestamp, or 0 if unknown."""
        return 0.0

    @property
    def key(self) -> object | None:
        """The key of the row that the picture comes from, if it comes from SQL."""
        return None

    @property
    def key_table(self) -> str | None:
        """The name of the key's table, as in stored paths."""
        return None

    @property
    def path(self) -> str | None:
        """The absolute path of a plain file, which any process can read."""
        return None

    @abstractmethod
    def read(self) -> bytes:
        """Return the bytes.

        Raise PictureError if they can't be read, and its subclass PictureUnreadable if a later try
        may succeed.
        """

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.stored!r})"


class DiskFile(Source):
    """A plain file, whose stored path is relative to `folder`.

    A name that is not UTF-8 can be neither stored nor passed on. Only its printable form is kept,
    `folder` is None, and the file has no path.
    """

    __slots__ = ("folder", "key", "key_table", "mtime")

    key: object | None
    key_table: str | None
    mtime: float

    def __init__(
        self,
        stored: str,
        size: int,
        mtime: float,
        folder: str | None,
        key: object | None = None,
        key_table: str | None = None,
    ):
        super().__init__(stored, size)
        self.mtime = mtime
        self.folder = folder
        self.key = key
        self.key_table = key_table

    @property
    def path(self) -> str | None:
        """The absolute path, or None if the name is not UTF-8."""
        # Joined on demand: a second string for each of a million files would take 100 MB.
        return None if self.folder is None else posixpath.join(self.folder, self.stored)

    def read(self) -> bytes:
        """Return the file's bytes. Raise PictureError if its name is not UTF-8."""
        path = self.path
        if path is None:
            raise PictureError(MISNAMED)
        try:
            # A pipe may never end.
            if not stat.S_ISREG(os.stat(path).st_mode):
                raise PictureUnreadable(NOT_REGULAR)
            with open(path, "rb") as file:
                return file.read()
        except OSError as error:
            raise PictureUnreadable(f"It can't be read: {error.strerror}") from error


def absolute(path: str | os.PathLike[str]) -> str:
    """Return an absolute path with forward slashes and without `.` and `..`."""
    whole = os.path.abspath(path)
    return whole if os.sep == "/" else whole.replace(os.sep, "/")


def stored_path(path: str, folder: str) -> str:
    """Return the stored form of an absolute path: relative to `folder` if it is below that."""
    if path == folder:
        return "."
    below = folder.rstrip("/") + "/"
    stored = path[len(below) :] if path.startswith(below) else path
    # A folder's name can look like the prefix of a row.
    return f"./{stored}" if stored.startswith(SQL_PREFIX) else stored


def printable(text: str) -> str:
    """Return a path that SQLite can store; one that is UTF-8 stays as it is."""
    return text if is_utf8(text) else os.fsencode(text).decode("utf-8", "backslashreplace")


def is_utf8(text: str) -> bool:
    """Return whether a path's bytes are UTF-8; Python keeps others as lone surrogates."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
