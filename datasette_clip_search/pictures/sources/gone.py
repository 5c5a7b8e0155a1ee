"""Tell a deleted file from one that is only out of reach."""

import os
import posixpath
import stat
from pathlib import Path

from .source import SQL_PREFIX


def is_gone(stored: str, folder: Path) -> bool:
    """Return whether a stored path was a plain file that certainly no longer exists.

    If in doubt, the file exists: rows from SQL, members of an archive that is still there, files in
    folders that can't be listed, and files behind a broken link, such as one to an unplugged disk.
    """
    if stored.startswith(SQL_PREFIX):
        return False
    path = posixpath.join(os.path.abspath(folder), stored)
    try:
        os.lstat(path)
    except FileNotFoundError:
        return _ends_in_a_folder(path)
    except (OSError, ValueError):
        # This includes ENOTDIR: a parent is a file, such as an archive.
        return False
    return False


def _ends_in_a_folder(path: str) -> bool:
    """Return whether the longest part of a path that still exists is a folder."""
    while (parent := posixpath.dirname(path)) != path:
        path = parent
        try:
            os.lstat(path)
        except FileNotFoundError:
            continue
        except OSError:
            return False
        try:
            return stat.S_ISDIR(os.stat(path).st_mode)
        except OSError:
            return False
    return False
