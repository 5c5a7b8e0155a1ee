"""Replace a file whole: readers see the old file or the new one, never a part of either.

- The new file is written beside the old one, on the same disk, under a hidden name.
- Its bytes are on the disk before it takes the old one's name, so that a power cut leaves either.
- An error or Ctrl-C leaves the old file as it was, and deletes the new one. Only a killed process
  leaves a hidden file behind.
- The new file gets the permissions of the old one, or those of any new file.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast


@contextmanager
def replace_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file to write, which replaces `path` when the block ends without an error.

    A symbolic link is itself replaced; resolve `path` first to keep it. Raises OSError for a full
    disk or a read-only folder.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield cast(BinaryIO, file)
        # mkstemp() makes private files.
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        move_into_place(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def move_into_place(file: Path, path: Path) -> None:
    """Give a finished file the name `path` on the same disk, in place of the file that has it."""
    sync(file)
    if path.exists():
        shutil.copymode(path, file)
    os.replace(file, path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Write what is cached of a file or folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
