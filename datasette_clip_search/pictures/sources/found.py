"""The result of a search for pictures, and its conclusions about stored paths it did not find."""

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
    """A folder or archive that was searched, and which of its files were skipped.

    `is_absent` if it does not exist now.
    """

    exclusion: Exclusion
    is_archive: bool
    extensions: frozenset[str]
    is_absent: bool = False

    def takes(self, relative: str) -> bool:
        """Return whether a relative path would have been found here if it existed."""
        if any(map(is_hidden, relative.split("/"))) or self.exclusion.covers(relative):
            return False
        return not self.is_archive or extension_of(relative) in self.extensions


@dataclass
class FoundPictures:
    """The pictures that were found, each once, and counts of what was skipped.

    `unreadable` has the stored path and the reason for each folder, archive, file or row that could
    not be read. `others` counts files that are not pictures, by extension.
    """

    folder: str = ""
    sources: list[Source] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    hidden: int = 0
    links: int = 0
    excluded: int = 0
    # Keyed by absolute path, in the printable form of stored paths.
    places: dict[str, SearchedPlace] = field(default_factory=dict)
    tables: set[str] = field(default_factory=set)
    unseen: set[str] = field(default_factory=set)
    # Rows that name the same file as an earlier row.
    doubles: int = 0
    # Folders and files that were given as arguments and are excluded.
    left_out: set[str] = field(default_factory=set)
    # Mount points, and the devices of these and of the places.
    mounts: set[str] = field(default_factory=set)
    devices: dict[str, int] = field(default_factory=dict)

    def covers(self, stored: str) -> bool:
        """Return whether a stored path was searched, so that its absence means something.

        False for an excluded or hidden path, and for one in a folder or archive that could not be
        listed, or behind a link that was not followed.
        """
        if stored.startswith(SQL_PREFIX):
            return stored.partition("/")[0].removeprefix(SQL_PREFIX) in self.tables
        return self._place(stored) is not None

    def lacks(self, stored: str) -> bool:
        """Return whether a stored path that is not among the sources certainly no longer exists.

        Archives and tables were listed in full, so absence is enough. In a folder, the file itself
        must be gone: a link to a file found elsewhere, for example, is not a source.
        """
        if stored.startswith(SQL_PREFIX):
            return self.covers(stored)
        place = self._place(stored)
        return place is not None and (
            place.is_archive or place.is_absent or is_gone(stored, Path(self.folder))
        )

    def excludes(self, stored: str) -> bool:
        """Return whether a stored path was searched and is excluded there."""
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
        """Return the absolute form of a stored path, in printable form."""
        return posixpath.normpath(posixpath.join(printable(self.folder), stored))

    def extend(self, other: "FoundPictures") -> None:
        """Add the result of another search for the same database, without repeating files."""
        known = {source.stored for source in self.sources}
        # A file that was found both directly and through a row belongs to the row.
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
                # A folder around an archive says nothing about the archive's members.
                if takes or place.is_archive:
                    return place if takes else None
        return None


def _parents(path: str) -> Iterator[str]:
    while (parent := posixpath.dirname(path)) != path:
        yield parent
        path = parent


def extension_of(name: str) -> str:
    """Return a name's extension as it is compared and counted: with its dot, in lower case."""
    extension = os.path.splitext(name)[1].lower()
    return extension if extension != "." else ""


def kind_of(extension: str) -> str:
    """Return the label under which files with an extension are counted."""
    return printable(extension) or "no extension"
