"""Skip hidden files, system files, and those that --exclude matches."""

import fnmatch
import glob
import os
import re
from collections.abc import Iterator, Sequence

from .globs import is_glob
from .source import absolute
from .spelling import as_on_disk, composed

# Files and folders that operating systems keep for themselves, some of them full of tiny copies.
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
    """Return whether the name is that of a hidden or system file or folder."""
    return name.startswith(".") or name.lower() in _SYSTEM_NAMES


class Exclusion:
    """The patterns of --exclude, applied below one folder or inside one archive.

    - A pattern without a slash matches the names of files and folders.
    - A pattern with a slash matches paths from the given folder; its `*` matches slashes too. It
      may also be a path from the working directory, as a shell completes it.
    - A pattern that matches a folder excludes everything in it.
    - Unicode normalization forms make no difference.
    - A pattern also matches itself literally, because folder names can contain brackets.
    """

    def __init__(self, patterns: Sequence[str], base: str):
        """Prepare patterns for the folder or archive with the absolute path `base`."""
        names: set[str] = set()
        paths: set[str] = set()
        whole: set[str] = set()
        for written in patterns:
            pattern = composed(written).replace(os.sep, "/").rstrip("/")
            pattern = os.path.normpath(pattern).replace(os.sep, "/") if pattern else ""
            if "/" in pattern:
                paths.update(map(composed, _spellings(pattern, base)))
                # Its `*` may match folders above the searched one.
                whole.add(composed(absolute(pattern)))
            elif pattern:
                names.add(pattern)
        self._name = _compile(names)
        self._path = _compile(paths)
        self._whole = _compile({pattern for pattern in whole if is_glob(pattern)})
        self._bases = {composed(folder).rstrip("/") for folder in (base, os.path.realpath(base))}
        self.is_empty = not names and not paths

    def matches(self, name: str, relative: str) -> bool:
        """Return whether a pattern matches this file or folder itself."""
        if self._name and self._name.match(composed(name)):
            return True
        path = composed(relative)
        if self._path and self._path.match(path):
            return True
        return self._whole is not None and any(
            self._whole.match(f"{folder}/{path}") for folder in self._bases
        )

    def covers(self, relative: str) -> bool:
        """Return whether a pattern matches a path or any folder around it."""
        if self.is_empty:
            return False
        return any(self.matches(part.rpartition("/")[2], part) for part in _leading(relative))


def _spellings(pattern: str, base: str) -> Iterator[str]:
    for spelling in {pattern, pattern.removeprefix("**/")}:
        yield spelling
        # `private/*` means the whole folder, so it need not be listed.
        yield re.sub(r"(/\*+)+\Z", "", spelling) or spelling
    whole = absolute(pattern)
    # The base may be reached through a link and the pattern not, or the other way round.
    for path in {whole, _without_links_around(as_on_disk(whole))}:
        for folder in {base, os.path.realpath(base)}:
            below = composed(folder).rstrip("/") + "/"
            if composed(path).startswith(below):
                yield composed(path)[len(below) :]


def _without_links_around(path: str) -> str:
    # The pattern names the link itself, not its target.
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
