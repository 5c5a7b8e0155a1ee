"""Write a target file or folder: overwrite no one else's files, and leave nothing half-written."""

import contextlib
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from ..common.config import CONFIG
from ..common.errors import CommandError, DatabaseError
from ..common.whole_file import move_into_place
from ..database import publication
from ..database.recognition import images_table


def check_target(source: Path, target: Path, replace: bool) -> None:
    """Raise CommandError for a target that must not be overwritten or can't be created."""
    if target.is_dir():
        raise CommandError(
            f"{target} is a folder. Expected a file, such as {target / 'published.db'}. To write a "
            f"folder with everything that a server needs, give --to-folder {target}"
        )
    parent = Path(os.path.realpath(target)).parent
    if not parent.is_dir():
        raise CommandError(
            f"There is no folder {parent} to write {target.name} in. Create it first"
        )
    if os.path.realpath(target) in _files_of(source) or _is_same(source, target):
        raise CommandError(
            f"{target} is the database itself. Give the published file another name, "
            f"such as {target.with_name('published.db')}"
        )
    if not replace and os.path.lexists(target) and not is_published_file(target):
        raise CommandError(
            f"{target} already exists, and was not written by clip-publish. Give another name, or "
            "overwrite it with --replace"
        )


def _files_of(source: Path) -> set[str]:
    return {os.path.realpath(source) + suffix for suffix in ("", "-wal", "-shm", "-journal")}


def _is_same(source: Path, target: Path) -> bool:
    try:
        return os.path.samefile(source, target)
    except OSError:
        return False


def is_published_file(file: Path) -> bool:
    """Return whether clip-publish wrote a file."""
    try:
        uri = f"{file.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True)) as connection:
            if images_table(connection) is None:
                return False
            return publication.is_published(connection)
    except (sqlite3.Error, DatabaseError):
        return False


@contextmanager
def scratch_folder(target: Path) -> Iterator[Path]:
    """Create a hidden folder beside a target, on the same disk, and remove it at the end."""
    place = Path(os.path.realpath(target))
    prefix = f".{place.name}.publishing-"
    _remove_left(place.parent, prefix)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=place.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_left(parent: Path, prefix: str) -> None:
    """Remove the folders that killed runs left behind."""
    for left in parent.iterdir():
        if left.name.startswith(prefix):
            with contextlib.suppress(OSError):
                newest = max(file.stat().st_mtime for file in [left, *left.iterdir()])
                if time.time() - newest > CONFIG.abandoned_after_seconds:
                    shutil.rmtree(left, ignore_errors=True)


def replace_whole(file: Path, target: Path) -> None:
    """Replace a target with a finished file, once the file is safely on disk.

    If the target is a link, it stays one. An existing file's permissions are kept.
    """
    move_into_place(file, Path(os.path.realpath(target)))
