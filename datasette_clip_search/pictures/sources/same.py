"""Decide whether two paths lead to the same file or folder, without trusting inode numbers.

- Union and network file systems may give two files the same inode number, so equal numbers are
  never enough.
- One file can have several names in four ways: hard links, which the file counts; symbolic links,
  which real paths resolve; one folder mounted in two places; and spellings of one name.
"""

import os
import posixpath
import stat
import unicodedata
from collections.abc import Callable
from typing import Generic, TypeVar

from .mounts import mounts, place_on_device

T = TypeVar("T")


def hash_stat(info: os.stat_result) -> int:
    """Return a hash that all paths of a file or folder share, and few others do."""
    # One number is half the memory of a tuple.
    inode = (info.st_dev, info.st_ino)
    return hash(inode if stat.S_ISDIR(info.st_mode) else (*inode, info.st_size, info.st_mtime))


class SeenPaths(Generic[T]):
    """The files or folders seen so far, each as a value whose path `path_of` returns."""

    def __init__(self, path_of: Callable[[T], str]):
        self._path_of = path_of
        self._first: dict[int, T] = {}
        # Different files with the same hash, which are very rare.
        self._others: dict[int, list[T]] = {}

    def find(self, stat_hash: int, path: str) -> T | None:
        """Return the value whose path leads to the same file or folder, or None."""
        if stat_hash not in self._first:
            return None
        for value in [self._first[stat_hash], *self._others.get(stat_hash, [])]:
            if is_same(path, self._path_of(value)):
                return value
        return None

    def add(self, stat_hash: int, value: T) -> None:
        """Remember a value."""
        if stat_hash in self._first:
            self._others.setdefault(stat_hash, []).append(value)
        else:
            self._first[stat_hash] = value


def is_same(path: str, other: str) -> bool:
    """Return whether two paths with equal hashes lead to the same file or folder."""
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
    # Two different files would have changed at different moments.
    names = ("st_dev", "st_ino", "st_nlink", "st_size", "st_mtime_ns", "st_ctime_ns")
    return all(getattr(info, name) == getattr(other_info, name) for name in names)


def _is_spelling(path: str, other: str) -> bool:
    """Return whether two paths are spellings of one path, on a system that accepts either."""
    if _folded(path) != _folded(other):
        return False
    parts, other_parts = path.split("/"), other.split("/")
    if len(parts) != len(other_parts):
        return False
    for number, (part, other_part) in enumerate(zip(parts, other_parts, strict=True)):
        if part == other_part:
            continue
        # If the folder has both names, they are two files.
        folder = posixpath.join("/", *parts[:number])
        try:
            return not {part, other_part} <= set(os.listdir(folder))
        except OSError:
            return False
    return True


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", path).casefold()
