"""The file systems that are mounted, as Linux tells; elsewhere, none."""

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass

from ..processors import unescaped

TABLE = "/proc/self/mountinfo"


@dataclass(frozen=True)
class Mount:
    """A file system, or a part of one, at a path.

    `device` names the file system, and `root` is the folder in it that lies at the path.
    """

    path: str
    kind: str
    device: str
    root: str


def mounts() -> list[Mount]:
    """Return what is mounted, later mounts after those that they cover."""
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
    """Return the mount that a real path lies in."""
    best: Mount | None = None
    for mount in mounted:
        around = is_within(path, mount.path)
        if around and (best is None or len(mount.path) >= len(best.path)):
            best = mount
    return best


def place_on_device(path: str, mounted: Sequence[Mount]) -> tuple[str, str] | None:
    """Return the file system that a real path lies in, and where; the same for bind mounts."""
    mount = mount_of(path, mounted)
    if mount is None:
        return None
    below = path[len(mount.path.rstrip("/")) :].lstrip("/")
    return mount.device, posixpath.normpath(posixpath.join(mount.root, below))


def is_within(path: str, folder: str) -> bool:
    """Tell whether a path is a folder, or lies in it."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")
