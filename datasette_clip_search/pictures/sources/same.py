"""Whether two paths lead to the same file or folder, whatever inode numbers say.

- File systems that join others, and those of networks, may give two files one number. Equal
  numbers are never enough.
- Several names for one file are links, which a file counts, links to folders, which real paths
  resolve, mounts of one folder at two places, or spellings of one name.
"""

import os
import posixpath
import stat
import unicodedata
from collections.abc import Callable
from typing import Generic, TypeVar

from .mounts import mounts, place_on_device

T = TypeVar("T")


def looks_of(info: os.stat_result) -> int:
    """Return what all paths of a file or folder share, and few others do."""
    # One number is half the memory of a tuple.
    looks = (info.st_dev, info.st_ino)
    return hash(looks if stat.S_ISDIR(info.st_mode) else (*looks, info.st_size, info.st_mtime))


class SeenPaths(Generic[T]):
    """Values that stand for files or folders, to find the one that stands for a given path."""

    def __init__(self, path_of: Callable[[T], str]):
        self._path_of = path_of
        self._first: dict[int, T] = {}
        # There are hardly any: of different files that look alike.
        self._others: dict[int, list[T]] = {}

    def find(self, looks: int, path: str) -> T | None:
        """Return the value whose path leads to the same file or folder, if there is one."""
        if looks not in self._first:
            return None
        for value in [self._first[looks], *self._others.get(looks, [])]:
            if is_same(path, self._path_of(value)):
                return value
        return None

    def add(self, looks: int, value: T) -> None:
        """Remember a value."""
        if looks in self._first:
            self._others.setdefault(looks, []).append(value)
        else:
            self._first[looks] = value


def is_same(path: str, other: str) -> bool:
    """Tell whether two paths, of equal looks, lead to the same file or folder."""
    if path == other or _is_hard_link(path, other):
        return True
    real, other_real = os.path.realpath(path), os.path.realpath(other)
    if real == other_real or _is_spelling(real, other_real):
        return True
    mounted = mounts()
    place = place_on_device(real, mounted)
    return place is not None and place == place_on_device(other_real, mounted)


def _is_hard_link(path: str, other: str) -> bool:
    try:
        info, other_info = os.stat(path), os.stat(other)
    except (OSError, ValueError):
        return False
    if not stat.S_ISREG(info.st_mode) or info.st_nlink < 2:
        return False
    # Of two files, the system noted their last changes at two moments.
    names = ("st_dev", "st_ino", "st_nlink", "st_size", "st_mtime_ns", "st_ctime_ns")
    return all(getattr(info, name) == getattr(other_info, name) for name in names)


def _is_spelling(path: str, other: str) -> bool:
    """Tell whether two paths are spellings of one, for a system that takes either."""
    if _folded(path) != _folded(other):
        return False
    parts, other_parts = path.split("/"), other.split("/")
    if len(parts) != len(other_parts):
        return False
    for number, (part, other_part) in enumerate(zip(parts, other_parts, strict=True)):
        if part == other_part:
            continue
        # Where a folder has both names, they are two.
        folder = posixpath.join("/", *parts[:number])
        try:
            return not {part, other_part} <= set(os.listdir(folder))
        except OSError:
            return False
    return True


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", path).casefold()
