"""What is passed over: hidden and system files, and those that --exclude names."""

import fnmatch
import glob
import os
import re
from collections.abc import Iterator, Sequence

from .globs import is_glob
from .source import absolute
from .spelling import as_on_disk, composed

# Files and folders that systems keep for themselves, some of them full of tiny copies.
_SYSTEM_NAMES = frozenset(
    {
        "__macosx",
        "@eadir",
        "$recycle.bin",
        "desktop.ini",
        "system volume information",
        "thumbs.db",
    }
)


def is_hidden(name: str) -> bool:
    """Tells whether a file or folder is hidden, or a system's own, by its name."""
    return name.startswith(".") or name.lower() in _SYSTEM_NAMES


class Exclusion:
    """The patterns of --exclude, as they apply below one folder or inside one archive.

    A pattern without a slash is matched with the names of files and of folders; one with a slash
    with paths from the given folder, in which `*` matches slashes too. A pattern may also be
    written as a path from the working directory, as a shell completes it. What matches a folder
    excludes everything in it. Forms of Unicode make no difference. A pattern also matches the name
    that it spells literally, because folders have brackets in their names.
    """

    def __init__(self, patterns: Sequence[str], base: str):
        """Prepares patterns for the folder with the absolute path `base`."""
        names: set[str] = set()
        paths: set[str] = set()
        whole: set[str] = set()
        for written in patterns:
            pattern = composed(written).replace(os.sep, "/").rstrip("/")
            pattern = os.path.normpath(pattern).replace(os.sep, "/") if pattern else ""
            if "/" in pattern:
                paths.update(map(composed, _spellings(pattern, base)))
                # Its `*` may stand for folders above the one that is searched.
                whole.add(composed(absolute(pattern)))
            elif pattern:
                names.add(pattern)
        self._name = _compile(names)
        self._path = _compile(paths)
        self._whole = _compile({pattern for pattern in whole if is_glob(pattern)})
        self._bases = {composed(folder).rstrip("/") for folder in (base, os.path.realpath(base))}
        self.is_empty = not names and not paths

    def matches(self, name: str, relative: str) -> bool:
        """Tells whether a pattern names this file or folder itself."""
        if self._name and self._name.match(composed(name)):
            return True
        path = composed(relative)
        if self._path and self._path.match(path):
            return True
        return self._whole is not None and any(
            self._whole.match(f"{folder}/{path}") for folder in self._bases
        )

    def covers(self, relative: str) -> bool:
        """Tells whether a pattern names a path or any folder that it lies in."""
        if self.is_empty:
            return False
        return any(self.matches(part.rpartition("/")[2], part) for part in _leading(relative))


def _spellings(pattern: str, base: str) -> Iterator[str]:
    for spelling in {pattern, pattern.removeprefix("**/")}:
        yield spelling
        # `private/*` means all of that folder: it need not be looked into.
        yield re.sub(r"(/\*+)+\Z", "", spelling) or spelling
    whole = absolute(pattern)
    # A base may be reached by a link, and the pattern written without it, or the other way round.
    for path in {whole, _without_links_around(as_on_disk(whole))}:
        for folder in {base, os.path.realpath(base)}:
            below = composed(folder).rstrip("/") + "/"
            if composed(path).startswith(below):
                yield composed(path)[len(below) :]


def _without_links_around(path: str) -> str:
    # What a link leads to is not what was named.
    return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))


def _leading(relative: str) -> Iterator[str]:
    end = -1
    while (end := relative.find("/", end + 1)) >= 0:
        yield relative[:end]
    yield relative


def _compile(patterns: set[str]) -> re.Pattern[str] | None:
    if not patterns:
        return None
    either = patterns | {glob.escape(pattern) for pattern in patterns}
    return re.compile("|".join(fnmatch.translate(pattern) for pattern in sorted(either)))
