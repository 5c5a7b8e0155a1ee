"""The files that pictures of a database are read from, linked to, and named as.

The database says where they are, and a stranger's may say anything: what is not below its own
folder, or below one that the person has named, is not even looked at.
"""

import hashlib
import os
from collections.abc import Sequence

from ..common.config import CONFIG
from ..pictures.sources.source import SQL_PREFIX, absolute, stored_path


class PictureFiles:
    """The files of a database's pictures, below its own folder and others that may be opened."""

    def __init__(self, database: str, folders: Sequence[str]):
        """Takes the path of the database, and the folders that were named beside its own."""
        self._folder = os.path.dirname(database)
        allowed = [self._folder or ".", *folders]
        self._named = {absolute(folder) for folder in allowed}
        self._real = {absolute(os.path.realpath(folder)) for folder in allowed}

    def are_allowed(self, path: str) -> bool:
        """Tells whether a stored path leads below an allowed folder, also by way of links."""
        if "\0" in path:
            return False
        whole = os.path.join(self._folder, path)
        # By its words first: on some systems, looking at a path already asks another machine.
        if not _is_below(absolute(whole), self._named | self._real):
            return False
        return _is_below(absolute(os.path.realpath(whole)), self._real)

    def find(self, path: str) -> str | None:
        """Returns the path of a picture from here, or None for one that is no file of its own."""
        if path.startswith(SQL_PREFIX) or not self.are_allowed(path):
            return None
        found = os.path.join(self._folder, path)
        # What looks like an option would be one to the command it is piped to.
        found = f"./{found}" if found.startswith("-") else found
        return found if os.path.isfile(found) else None


def _is_below(path: str, folders: set[str]) -> bool:
    return any(path != folder and stored_path(path, folder) != path for folder in folders)


def read_unchanged(file: str, content_hash: object) -> bytes | None:
    """Returns the bytes of a file, or None where they are not those that were embedded."""
    try:
        if os.path.getsize(file) > CONFIG.max_original_bytes:
            return None
        with open(file, "rb") as opened:
            data = opened.read(CONFIG.max_original_bytes)
    except OSError:
        return None
    return data if hashlib.sha256(data).hexdigest() == content_hash else None
