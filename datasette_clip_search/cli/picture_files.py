"""Find the files of a database's pictures, to open, link to and output them.

The paths come from the database, and a stranger's database can hold any path. Files outside its own
folder and the folders that the user named are not even looked at.
"""

import hashlib
import os
from collections.abc import Sequence

from ..common.config import CONFIG
from ..pictures.sources.source import SQL_PREFIX, absolute, stored_path


class PictureFiles:
    """The files of a database's pictures in its own folder and other allowed folders."""

    def __init__(self, database: str, folders: Sequence[str]):
        """Take the path of the database and the other allowed folders."""
        self._folder = os.path.dirname(database)
        allowed = [self._folder or ".", *folders]
        self._named = {absolute(folder) for folder in allowed}
        self._real = {absolute(os.path.realpath(folder)) for folder in allowed}

    def are_allowed(self, path: str) -> bool:
        """Return whether a stored path is in an allowed folder, also after following links."""
        if "\0" in path:
            return False
        whole = os.path.join(self._folder, path)
        # By its text first: on some systems, even resolving a path can contact another machine.
        if not _is_below(absolute(whole), self._named | self._real):
            return False
        return _is_below(absolute(os.path.realpath(whole)), self._real)

    def find(self, path: str) -> str | None:
        """Return the path of a picture's file from the working directory, or None without one."""
        if path.startswith(SQL_PREFIX) or not self.are_allowed(path):
            return None
        found = os.path.join(self._folder, path)
        # A command that reads the path from a pipe would take a leading dash for an option.
        found = f"./{found}" if found.startswith("-") else found
        return found if os.path.isfile(found) else None


def _is_below(path: str, folders: set[str]) -> bool:
    return any(path != folder and stored_path(path, folder) != path for folder in folders)


def read_unchanged(file: str, content_hash: object) -> bytes | None:
    """Return the bytes of a file, or None if they have changed since they were embedded."""
    try:
        if os.path.getsize(file) > CONFIG.max_original_bytes:
            return None
        with open(file, "rb") as opened:
            data = opened.read(CONFIG.max_original_bytes)
    except OSError:
        return None
    return data if hashlib.sha256(data).hexdigest() == content_hash else None
