"""Paths as they are published: none tells of the machine that the pictures lie on."""

import ntpath
import posixpath
import re
from collections.abc import Iterable

from ..sources.source import SQL_PREFIX

_ARCHIVE = re.compile(r"\.(zip|tar|tgz|tbz2?|txz|tar\.(gz|bz2|xz))$", re.IGNORECASE)


def is_absolute(path: str) -> bool:
    """Tells whether a path begins at a root, on this system or another one."""
    return posixpath.isabs(path) or ntpath.isabs(path) or bool(ntpath.splitdrive(path)[0])


class Paths:
    """Turns stored paths into published ones, each only once.

    What lies below the database's folder keeps its path, and so does a row of a table. Of every
    other picture only the file's name is told: or, of one in an archive, the archive's name and
    the path in it; or, below one of the folders `roots`, the path from there. Where a name is
    taken, the picture's id is added to it.
    """

    def __init__(self, stored: Iterable[str], roots: Iterable[str]):
        """Takes all stored paths that are going to be asked for, and absolute folders."""
        # How many paths are published as others, and of these, how many lay below no root.
        self.changed = self.shortened_to_names = 0
        self._roots = [root.rstrip("/") + "/" for root in roots]
        self._taken = {path for path in stored if not _tells(path)}

    def published(self, image_id: int, stored: str) -> str:
        """Returns the path that a stored one is published under."""
        if not _tells(stored):
            return stored
        if stored.startswith(SQL_PREFIX):
            table, _, key = stored.partition("/")
            path = f"{table}/{self.shortened(key)}"
        else:
            key, path = stored, self.shortened(stored)
        self.changed += 1
        self.shortened_to_names += not key.startswith(tuple(self._roots))
        stem, extension = posixpath.splitext(path)
        while path in self._taken:
            stem = f"{stem}-{image_id}"
            path = stem + extension
        self._taken.add(path)
        return path

    def shortened(self, path: str) -> str:
        """Returns an absolute path without what it tells of the machine; others as they are."""
        if not is_absolute(path):
            return path
        path = path.replace("\\", "/") if not posixpath.isabs(path) else path
        for root in self._roots:
            if path.startswith(root):
                return path[len(root) :]
        parts = [part for part in path.split("/") if part]
        for place, part in enumerate(parts[:-1]):
            if _ARCHIVE.search(part):
                return "/".join(parts[place:])
        return parts[-1] if parts else "picture"


def _tells(stored: str) -> bool:
    if stored.startswith(SQL_PREFIX):
        return is_absolute(stored.partition("/")[2])
    return is_absolute(stored)
