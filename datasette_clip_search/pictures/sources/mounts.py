"""List the mounted file systems on Linux; on other systems, the list is empty."""

import os
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass

from ...common.cores import unescaped

TABLE = "/proc/self/mountinfo"


@dataclass(frozen=True)
class Mount:
    """A file system, or part of one, that is mounted at a path.

    `device` identifies the file system, and `root` is the folder in it that appears at the path.
    """

    path: str
    kind: str
    device: str
    root: str


def mounts() -> list[Mount]:
    """Return all mounts; a mount comes after those that it covers."""
    try:
        with open(TABLE, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        fields = line.split(" ")
        if len(fields) > 6 and "-" in fields[6:-1]:
            kind = fields[fields.index("-", 6) + 1]
            root, path = unescaped(fields[3]), unescaped(fields[4])
            found.append(Mount(path, kind, fields[2], root))
    return found


def mount_of(path: str, mounted: Sequence[Mount]) -> Mount | None:
    """Return the mount that contains a real path."""
    best: Mount | None = None
    for mount in mounted:
        around = is_within(path, mount.path)
        if around and (best is None or len(mount.path) >= len(best.path)):
            best = mount
    return best


def place_on_device(path: str, mounted: Sequence[Mount]) -> tuple[str, str] | None:
    """Return a real path's file system and its path in it, the same through any bind mount."""
    mount = mount_of(path, mounted)
    if mount is None:
        return None
    below = path[len(mount.path.rstrip("/")) :].lstrip("/")
    return mount.device, posixpath.normpath(posixpath.join(mount.root, below))


def device_of(path: str) -> int | None:
    """Return the device of a file or folder, or None if it is out of reach."""
    try:
        return os.stat(path).st_dev
    except (OSError, ValueError):
        return None


def is_mount(path: str, mounted: frozenset[str]) -> bool:
    """Return whether a folder is a mount point now, by its device or by Linux's list."""
    real = os.path.realpath(path)
    device = device_of(path)
    return device is not None and (
        real in mounted or real == posixpath.dirname(real) or device != device_of(_around(real))
    )


def mount_around(path: str, mounted: frozenset[str]) -> str | None:
    """Return the mount point that contains a path, or None if that is the root."""
    while (parent := _around(path)) != path:
        if is_mount(path, mounted):
            return path
        path = parent
    return None


def _around(path: str) -> str:
    return posixpath.dirname(path)


def is_within(path: str, folder: str) -> bool:
    """Return whether a path is a folder or is in it."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")
