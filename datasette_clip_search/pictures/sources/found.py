"""What a search for pictures found, and what it can tell of stored paths it did not find."""

import os
import posixpath
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .exclude import Exclusion, is_hidden
from .gone import is_gone
from .source import SQL_PREFIX, Source, printable


@dataclass(frozen=True)
class SearchedPlace:
    """A folder or an archive that was searched, and what of it was left out.

    One that is `absent` does not exist now.
    """

    exclusion: Exclusion
    is_archive: bool
    extensions: frozenset[str]
    is_absent: bool = False

    def takes(self, relative: str) -> bool:
        """Tells whether a path from here would have been found, had it existed."""
        if any(map(is_hidden, relative.split("/"))) or self.exclusion.covers(relative):
            return False
        return not self.is_archive or extension_of(relative) in self.extensions


@dataclass
class FoundPictures:
    """The pictures that were meant, each once, and a count of what was passed over.

    `unreadable` has the stored path and the reason of every folder, archive, file or row that
    could not be looked at; `others` counts files that are no pictures, by extension.
    """

    folder: str = ""
    sources: list[Source] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    hidden: int = 0
    links: int = 0
    excluded: int = 0
    # By absolute path, in the printable form of stored paths.
    places: dict[str, SearchedPlace] = field(default_factory=dict)
    tables: set[str] = field(default_factory=set)
    unseen: set[str] = field(default_factory=set)
    # Rows that name a file which another row names, too.
    doubles: int = 0
    # Folders and files that were given, and are excluded.
    left_out: set[str] = field(default_factory=set)
    # Folders that begin a device of their own, and the devices of these and of the places.
    mounts: set[str] = field(default_factory=set)
    devices: dict[str, int] = field(default_factory=dict)

    def covers(self, stored: str) -> bool:
        """Tells whether a stored path lies in what was searched, so that its absence is news.

        False for what was excluded or is hidden, and for what lies in a folder or an archive
        that could not be listed, or behind a link that was not followed.
        """
        if stored.startswith(SQL_PREFIX):
            return stored.partition("/")[0].removeprefix(SQL_PREFIX) in self.tables
        return self._place(stored) is not None

    def lacks(self, stored: str) -> bool:
        """Tells whether a stored path that is not among the sources certainly exists no longer.

        Archives and tables were listed in full: absence is enough. In a folder the file itself
        must be gone: a link to a file found elsewhere, for instance, is no source.
        """
        if stored.startswith(SQL_PREFIX):
            return self.covers(stored)
        place = self._place(stored)
        return place is not None and (
            place.is_archive or place.is_absent or is_gone(stored, Path(self.folder))
        )

    def excludes(self, stored: str) -> bool:
        """Tells whether a stored path lies in what was searched, and is excluded there."""
        if stored.startswith(SQL_PREFIX):
            return False
        path = self.absolute(stored)
        if path in self.left_out:
            return True
        for parent in _parents(path):
            if parent in self.left_out:
                return True
            place = self.places.get(parent)
            if place is not None:
                return place.exclusion.covers(path[len(parent.rstrip("/")) + 1 :])
        return False

    def absolute(self, stored: str) -> str:
        """Returns the absolute path of a stored one, in printable form."""
        return posixpath.normpath(posixpath.join(printable(self.folder), stored))

    def extend(self, other: "FoundPictures") -> None:
        """Adds what another search of the same database's folder found, files again only once."""
        known = {source.stored for source in self.sources}
        # What is found as a file and by a row is the row's.
        keyed = {source.stored: source for source in other.sources if source.key is not None}
        self.sources = [keyed.get(source.stored, source) for source in self.sources]
        self.sources += [source for source in other.sources if source.stored not in known]
        self.unreadable += other.unreadable
        self.others.update(other.others)
        self.hidden += other.hidden
        self.links += other.links
        self.excluded += other.excluded
        self.places.update(other.places)
        self.tables |= other.tables
        self.unseen |= other.unseen
        self.doubles += other.doubles
        self.left_out |= other.left_out
        self.mounts |= other.mounts
        self.devices.update(other.devices)
        self.folder = self.folder or other.folder

    def _place(self, stored: str) -> SearchedPlace | None:
        path = self.absolute(stored)
        if path in self.unseen:
            return None
        for parent in _parents(path):
            if parent in self.unseen:
                return None
            place = self.places.get(parent)
            if place is not None:
                takes = place.takes(path[len(parent.rstrip("/")) + 1 :])
                # A folder around an archive says nothing of what the archive holds.
                if takes or place.is_archive:
                    return place if takes else None
        return None


def _parents(path: str) -> Iterator[str]:
    while (parent := posixpath.dirname(path)) != path:
        yield parent
        path = parent


def extension_of(name: str) -> str:
    """Returns a name's extension as it is compared and counted: with its dot, in lower case."""
    extension = os.path.splitext(name)[1].lower()
    return extension if extension != "." else ""


def kind_of(extension: str) -> str:
    """Returns what files with an extension are counted as."""
    return printable(extension) or "no extension"
