"""Expand globs such as `photos/**/*.jpg`, for shells that don't.

The standard library's `glob` follows links to folders in `**`, and never ends where two links
form a circle.
"""

import fnmatch
import os
import re
from collections.abc import Iterator
from itertools import takewhile

from .spelling import as_on_disk, composed

_MAGIC = re.compile(r"[*?\[]")


def is_glob(text: str) -> bool:
    """Return whether a path contains a character that makes it a glob."""
    return bool(_MAGIC.search(text))


def fixed_part(pattern: str) -> str:
    """Return the folder that contains all matches of a glob."""
    start, parts = _split(pattern)
    return start + "/".join(takewhile(lambda part: not is_glob(part), parts)) or "."


def expand(pattern: str) -> list[str]:
    """Return the matching files and folders, sorted, without hidden ones.

    `**` matches any number of folders, but not links to folders.
    """
    start, parts = _split(pattern)
    matches = set(_expand(start, parts))
    return sorted(filter(os.path.isdir, matches) if pattern.endswith("/") else matches)


def _split(pattern: str) -> tuple[str, list[str]]:
    posix = pattern.replace(os.sep, "/")
    start = "/" if posix.startswith("/") else ""
    return start, [part for part in posix.split("/") if part]


def _expand(base: str, parts: list[str]) -> Iterator[str]:
    if not parts:
        if base and os.path.lexists(base):
            yield base.rstrip("/") or "/"
        return
    part, rest = parts[0], parts[1:]
    if not is_glob(part):
        there = as_on_disk(base + part)
        yield from _expand(f"{there}/" if rest else there, rest)
    elif part == "**":
        # At the end of a pattern, the folder itself stands for everything in it.
        yield from _expand(base, rest) if rest else [base.rstrip("/") or "."]
        if rest:
            for entry in _list(base):
                if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                    yield from _expand(f"{base}{entry.name}/", parts)
    else:
        for entry in _list(base):
            # Only a pattern that begins with a dot asks for hidden files.
            if entry.name.startswith(".") and not part.startswith("."):
                continue
            if fnmatch.fnmatch(composed(entry.name), composed(part)) and (
                not rest or entry.is_dir()
            ):
                yield from _expand(base + entry.name + ("/" if rest else ""), rest)


def _list(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder or ".") as entries:
            return list(entries)
    except OSError:
        return []
