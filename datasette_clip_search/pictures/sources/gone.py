"""Whether the file of a stored path is certainly gone, and not only out of reach."""

import os
import posixpath
import stat
from pathlib import Path

from .source import SQL_PREFIX


def is_gone(stored: str, folder: Path) -> bool:
    """Tells whether a stored path was a plain file that certainly exists no longer.

    Doubt counts as existing: rows from SQL, members of an archive that is still there, folders
    that can't be looked into, and what lies behind a link that leads nowhere, as those to a disk
    that is not plugged in do.
    """
    if stored.startswith(SQL_PREFIX):
        return False
    path = posixpath.join(os.path.abspath(folder), stored)
    try:
        os.lstat(path)
    except FileNotFoundError:
        return _ends_in_a_folder(path)
    except (OSError, ValueError):
        # Among them ENOTDIR: a parent is a file, such as an archive.
        return False
    return False


def _ends_in_a_folder(path: str) -> bool:
    """Tells whether what still exists of a path is a folder."""
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
