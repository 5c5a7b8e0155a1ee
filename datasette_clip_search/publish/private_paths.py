"""Turn stored paths into public ones, which reveal nothing about the owner's machine."""

import ntpath
import posixpath
import re
from collections.abc import Collection, Iterable
from pathlib import Path

from ..pictures.sources.source import SQL_PREFIX

_ARCHIVE = re.compile(r"\.(zip|tar|tgz|tbz2?|txz|tar\.(gz|bz2|xz))$", re.IGNORECASE)
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*:/", re.IGNORECASE)
_FORMAT = re.compile(r"[A-Za-z0-9]{1,8}")

EVERYTHING = frozenset(("key", "table", "folder", "archive", "name"))


def is_absolute(path: str) -> bool:
    """Return whether a path is absolute, on this system or on any other."""
    return posixpath.isabs(path) or ntpath.isabs(path) or bool(ntpath.splitdrive(path)[0])


def table_of(path: object) -> str | None:
    """Return the table of the row that a stored path stands for, or None for other paths."""
    if not isinstance(path, str) or not path.startswith(SQL_PREFIX):
        return None
    return path[len(SQL_PREFIX) :].partition("/")[0]


class PublicPaths:
    """Turns stored paths into public ones, and never makes the same one twice.

    - A path below the database's folder is kept.
    - A path below one of the folders `roots` becomes relative to it.
    - Any other path is shortened to the file's name; for a member of an archive, to the archive's
      name and the path in it.
    - Facts of EVERYTHING that are not in `kept` are left out, except for the keys of rows of
      `tables`. The picture's id replaces a name or key that is left out.
    - If a path is taken, the id is added to it.
    """

    def __init__(
        self,
        stored: Iterable[object],
        roots: Iterable[str] = (),
        folder: str = "",
        kept: Collection[str] = EVERYTHING,
        tables: Collection[str] = (),
        home: str | None = None,
    ):
        """Prepare for all stored paths that will be turned; `roots` and `folder` are absolute."""
        # How many paths were changed, and how many of these were below none of the roots.
        self.changed = self.shortened_to_names = 0
        # The facts of EVERYTHING that public paths reveal, those they withhold, and all folders.
        self.revealed: set[str] = set()
        self.withheld: set[str] = set()
        self.folders: set[str] = set()
        self._roots = [root.rstrip("/") + "/" for root in roots]
        self._kept = kept
        self._tables = {name.lower() for name in tables}
        self._folder = folder.rstrip("/") + "/"
        self._home = (str(Path.home()) if home is None else home).strip("/").split("/")
        self._inside = self._folder.strip("/").split("/")
        self._is_at_home = self._is_home([*self._inside, ""])
        self._taken = {path for path in stored if isinstance(path, str) and self._is_kept(path)}

    def keeps_key(self, table: object) -> bool:
        """Return whether to publish keys of rows of a table; None is an unknown table."""
        return "key" in self._kept or self._is_published(table)

    def keeps_table(self, table: object) -> bool:
        """Return whether to publish the name of a table, and which pictures are its rows."""
        return "table" in self._kept and self.keeps_key(table)

    def public_path(self, image_id: object, stored: object, format: object = None) -> str:
        """Return the public path for a stored one."""
        if isinstance(stored, str) and self._is_kept(stored):
            self._note_revealed(stored, stored)
            return stored
        path = self._changed(stored) if isinstance(stored, str) else ""
        self._note_revealed(str(stored), path)
        if not path:
            kind = _FORMAT.fullmatch(format) if isinstance(format, str) else None
            path = f"{image_id}.{kind[0].lower()}" if kind else str(image_id)
        self.changed += 1
        stem, extension = posixpath.splitext(path)
        while path in self._taken:
            stem = f"{stem}-{image_id}"
            path = stem + extension
        self._taken.add(path)
        return path

    def _note_revealed(self, stored: str, published: str) -> None:
        """Note which facts of a stored path its public form reveals, and which it withholds."""
        if (table := table_of(stored)) is not None:
            facts = {"key": self.keeps_key(table), "table": self.keeps_table(table)}
        else:
            folder = posixpath.dirname(published)
            facts = {"name": bool(published)}
            if "folder" not in self._kept or folder:
                facts["folder"] = bool(folder)
            if any(map(_ARCHIVE.search, stored.split("/")[:-1])):
                facts["archive"] = any(map(_ARCHIVE.search, folder.split("/")))
            if folder:
                self.folders.add(folder)
        for name, is_revealed in facts.items():
            (self.revealed if is_revealed else self.withheld).add(name)

    def shortened(self, path: str) -> str:
        """Return a path without private parts; one that has none stays as it is."""
        if not self._is_private(path):
            return path
        if _ADDRESS.match(path):
            path = re.split("[?#]", path)[0]
        path = path if posixpath.isabs(path) else path.replace("\\", "/")
        whole = path if is_absolute(path) else self._folder + path
        for root in self._roots:
            if whole.startswith(root) and not self._is_private(whole[len(root) :]):
                return whole[len(root) :]
        parts = [part for part in path.split("/") if part not in ("", ".", "..")]
        for place, part in enumerate(parts[:-1]):
            if _ARCHIVE.search(part) and not self._is_home(parts[place:]):
                return "/".join(parts[place:])
        return parts[-1] if parts else "picture"

    def _changed(self, stored: str) -> str:
        """Return the public part of a path, or an empty text if nothing of it is public."""
        table = table_of(stored)
        if table is None:
            path = self.shortened(stored)
            self._note(stored, path)
            if not self._keeps_folders(path):
                path = posixpath.basename(path)
            return path if "name" in self._kept else ""
        if not self.keeps_key(table):
            return ""
        key = stored.partition("/")[2]
        path = self.shortened(key)
        self._note(key, path)
        return f"{SQL_PREFIX}{table}/{path}" if self.keeps_table(table) else path

    def _note(self, before: str, after: str) -> None:
        from_root = before.startswith(tuple(self._roots))
        self.shortened_to_names += before != after and not from_root

    def _is_kept(self, stored: str) -> bool:
        table = table_of(stored)
        if table is not None:
            return self.keeps_table(table) and not self._is_private(stored.partition("/")[2])
        return "name" in self._kept and self._keeps_folders(stored) and not self._is_private(stored)

    def _keeps_folders(self, path: str) -> bool:
        """Return whether all folders of a path, if any, are public."""
        parts = path.split("/")[:-1]
        if parts and "folder" not in self._kept:
            return False
        return "archive" in self._kept or not any(map(_ARCHIVE.search, parts))

    def _is_published(self, table: object) -> bool:
        """Return whether the user publishes a table; for an unknown one, whether any."""
        if not isinstance(table, str):
            return bool(self._tables)
        return {name.lower() for name in table.split("+")} <= self._tables

    def _is_private(self, path: str) -> bool:
        """Return whether a path reveals a machine, or a place on one."""
        if is_absolute(path) or path.startswith("~") or _ADDRESS.match(path):
            return True
        parts = path.split("/")
        if ".." in parts or self._is_home(parts):
            return True
        # The database may be above its owner's home folder, or in part of its path.
        return not self._is_at_home and self._is_home([*self._inside, *parts])

    def _is_home(self, parts: list[str]) -> bool:
        """Return whether the owner's home folder occurs anywhere in a path."""
        run = self._home
        if len(run) < 2 or run[-1] not in parts:
            return False
        return any(parts[at : at + len(run)] == run for at in range(len(parts) - len(run)))
