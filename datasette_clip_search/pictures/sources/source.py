"""One picture, wherever it lies: the path it is stored under, and how its bytes are read."""

import os
import posixpath
import stat
from abc import ABC, abstractmethod
from typing import ClassVar

from ...common.errors import PictureError, PictureUnreadable

# What the stored path of a row's blob begins with; no file's does, see `stored_path`.
SQL_PREFIX = "sqlite:"

MISNAMED = "Its name is not valid UTF-8. Rename the file"
NOT_REGULAR = "It is not a regular file"


class Source(ABC):
    """A picture's bytes, and the path they are stored under. There may be a million of them."""

    __slots__ = ("size", "stored")

    # Whether read() must be called in the order of the list, by one thread.
    in_order: ClassVar[bool] = False

    def __init__(self, stored: str, size: int):
        self.stored = stored
        self.size = size

    @property
    def mtime(self) -> float:
        """Returns when the bytes were last changed, as far as that is known: else 0."""
        return 0.0

    @property
    def key(self) -> object | None:
        """Returns the key of the row that the picture comes from, if it comes from SQL."""
        return None

    @property
    def key_table(self) -> str | None:
        """Returns the name, as in stored paths, of the table that the key is of."""
        return None

    @property
    def path(self) -> str | None:
        """Returns the absolute path of a plain file, which any process can read by itself."""
        return None

    @abstractmethod
    def read(self) -> bytes:
        """Returns the bytes.

        Raises PictureError where they can't be had, and its subclass PictureUnreadable where
        that may be different the next time.
        """

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.stored!r})"


class DiskFile(Source):
    """A plain file; `folder` is what its stored path is relative to, None where it has no path.

    A name that is not UTF-8 can neither be stored nor passed on as it is: only its printable
    form is kept, and there is no path.
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
        """Returns the absolute path, or None where the name is not UTF-8."""
        # Joined when asked for: a second string for each of a million files is 100 MB.
        return None if self.folder is None else posixpath.join(self.folder, self.stored)

    def read(self) -> bytes:
        """Returns the file's bytes. Raises PictureError for a name that is not UTF-8."""
        path = self.path
        if path is None:
            raise PictureError(MISNAMED)
        try:
            # A pipe would never end.
            if not stat.S_ISREG(os.stat(path).st_mode):
                raise PictureUnreadable(NOT_REGULAR)
            with open(path, "rb") as file:
                return file.read()
        except OSError as error:
            raise PictureUnreadable(f"It can't be read: {error.strerror}") from error


def absolute(path: str | os.PathLike[str]) -> str:
    """Returns a path from the root, with forward slashes and without `.` and `..`."""
    whole = os.path.abspath(path)
    return whole if os.sep == "/" else whole.replace(os.sep, "/")


def stored_path(path: str, folder: str) -> str:
    """Returns an absolute path as it is stored: from `folder` where it lies below it."""
    if path == folder:
        return "."
    below = folder.rstrip("/") + "/"
    stored = path[len(below) :] if path.startswith(below) else path
    # A folder can be named like what comes from SQL.
    return f"./{stored}" if stored.startswith(SQL_PREFIX) else stored


def printable(text: str) -> str:
    """Returns a path that can be a value in SQLite; one that is UTF-8 is left as it is."""
    return text if is_utf8(text) else os.fsencode(text).decode("utf-8", "backslashreplace")


def is_utf8(text: str) -> bool:
    """Tells whether a path's bytes are UTF-8; Python keeps others as lone surrogates."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
