"""Find places that may be out of reach: the folder of an unmounted disk is empty or missing.

- A place is a folder or archive that was given, or a mount point. Mount points are noted while
  they are mounted, because an empty folder does not show that a disk belongs there.
- A place that had pictures and shows none is in doubt. So is one below a noted mount point that is
  no longer mounted, if most of its pictures are missing: someone may have put other files there
  since.
- The pictures of a place in doubt are kept.
- The doubt ends when somebody names the place alone, with --prune.
"""

import os
import posixpath
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from ..database.connection import fetch, has_table, transaction
from ..database.schema import PLACES
from ..pictures.sources import FoundPictures
from ..pictures.sources.mounts import device_of, is_mount, is_within, mounts
from ..pictures.sources.source import SQL_PREFIX, stored_path


@dataclass(frozen=True)
class KeptPlace:
    """A place in doubt, by its absolute path, and the number of its pictures, which are kept."""

    path: str
    pictures: int

    @property
    def shown(self) -> str:
        """The path to type, relative to the working directory if it is below that."""
        here = os.getcwd()
        below = self.path != here and is_within(self.path, here)
        shown = os.path.relpath(self.path, here) if below else self.path
        return f"./{shown}" if shown.startswith("-") else shown


class Places:
    """The places of a run, and those of them in doubt."""

    def __init__(
        self,
        found: FoundPictures,
        noted: Collection[str],
        known: Collection[str],
        gone: Collection[str],
        deleted: str | None = None,
    ):
        """Take absolute paths of `noted` mount points, and stored paths `known` and `gone`.

        The database has the `known` ones; those `gone` were searched for and not found. `deleted`
        is the place whose missing pictures are to be deleted.
        """
        self._found = found
        self._noted = noted
        self._known = known
        self._gone = gone
        self._deleted = deleted

    @cached_property
    def doubtful(self) -> frozenset[str]:
        """The absolute paths of the places in doubt."""
        roots = self._found.places
        places = {*roots}
        places |= {path for path in self._noted if any(is_within(path, root) for root in roots)}
        doubtful = {path for path in places if path not in self.showing}
        if lost := self._lost(places - doubtful):
            held, gone = self._count(self._known, lost), self._count(self._gone, lost)
            doubtful |= {path for path in lost if gone[path] > held[path] / 2}
        # If it was unmounted during the search, the pictures that were not seen may be there.
        for path, device in self._found.devices.items():
            if device_of(path) != device:
                doubtful.add(path)
        doubtful.discard(self._deleted or "")
        return frozenset(doubtful)

    def keeping(self, stored: str) -> str | None:
        """Return the place in doubt that holds a stored path, or None."""
        return self._nearest(stored, self.doubtful)

    def allows_move(self, old: str, new: str) -> bool:
        """Tell whether the file `new` may be the missing file `old`, moved.

        From a disk in doubt, a file can only have moved to a place that had no pictures before.
        """
        if self.keeping(old) is None or self._nearest(old, self._doubtful_disks) is None:
            return True
        place = self._nearest(new, self._all)
        return place is not None and place not in self._holding

    @cached_property
    def _absent_disks(self) -> list[str]:
        mounted = frozenset(mount.path for mount in mounts())
        return [path for path in self._noted if not is_mount(path, mounted)]

    @cached_property
    def _doubtful_disks(self) -> set[str]:
        return {*self._absent_disks, *self.doubtful.intersection(self._noted)}

    def _lost(self, places: Collection[str]) -> set[str]:
        """Return the places on disks that are not mounted now."""
        disks = self._absent_disks
        return {place for place in places if any(is_within(place, disk) for disk in disks)}

    def _count(self, paths: Iterable[str], places: Collection[str]) -> Counter[str]:
        absolute = [self._found.absolute(path) for path in paths if not _is_row(path)]
        return Counter({p: sum(is_within(path, p) for path in absolute) for p in places})

    @cached_property
    def showing(self) -> set[str]:
        """All folders that contain a found picture, directly or in a subfolder."""
        showing: set[str] = set()
        for path in {posixpath.dirname(source.stored) for source in self._found.sources}:
            if _is_row(path):
                continue
            path = self._found.absolute(path)
            while path not in showing:
                showing.add(path)
                path = posixpath.dirname(path)
        return showing

    @cached_property
    def _all(self) -> set[str]:
        return {*self._found.places, *self._found.mounts, *self._noted}

    @cached_property
    def _holding(self) -> set[str | None]:
        return {self._nearest(path, self._all) for path in self._known}

    def _nearest(self, stored: str, places: Collection[str]) -> str | None:
        if not places or _is_row(stored):
            return None
        path = self._found.absolute(stored)
        while path not in places:
            parent = posixpath.dirname(path)
            if parent == path:
                return None
            path = parent
        return path


def _is_row(stored: str) -> bool:
    return stored.startswith(SQL_PREFIX)


def divide(gone: Mapping[str, int], places: Places) -> tuple[dict[str, int], list[KeptPlace]]:
    """Divide missing pictures into those that are gone and those in a place in doubt."""
    surely: dict[str, int] = {}
    kept: Counter[str] = Counter()
    for stored, image_id in gone.items():
        place = places.keeping(stored)
        if place is None:
            surely[stored] = image_id
        else:
            kept[place] += 1
    return surely, [KeptPlace(path, count) for path, count in sorted(kept.items())]


def read_places(connection: sqlite3.Connection, found: FoundPictures) -> set[str]:
    """Return the absolute paths of the noted mount points."""
    if not has_table(connection, PLACES):
        return set()
    return {found.absolute(path) for (path,) in fetch(connection, f"select path from {PLACES}")}


def note_places(
    connection: sqlite3.Connection, found: FoundPictures, places: Places, deleted: str | None
) -> None:
    """Note mount points that have pictures, and forget the place that was deleted."""
    noted = read_places(connection, found)
    if new := found.mounts - noted:
        new &= places.showing
    gone = deleted if deleted in noted and deleted not in found.mounts else None
    if not has_table(connection, PLACES) or not (new or gone):
        return
    with transaction(connection):
        sql = f"insert or ignore into {PLACES} (path) values (?)"
        connection.executemany(sql, [(stored_path(path, found.folder),) for path in sorted(new)])
        if gone:
            sql = f"delete from {PLACES} where path = ?"
            connection.execute(sql, (stored_path(gone, found.folder),))
