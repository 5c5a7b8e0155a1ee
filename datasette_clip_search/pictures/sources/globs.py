"""Globs such as `photos/**/*.jpg`, for shells that leave them alone.

The standard library's `glob` follows links to folders in `**`: with two links that run in
circles, it does not end.
"""

import fnmatch
import os
import re
from collections.abc import Iterator
from itertools import takewhile

from .spelling import as_on_disk, composed

_MAGIC = re.compile(r"[*?\[]")


def is_glob(text: str) -> bool:
    """Tells whether a path has any of the characters that make it a glob."""
    return bool(_MAGIC.search(text))


def fixed_part(pattern: str) -> str:
    """Returns the folder that everything a glob matches lies in."""
    start, parts = _split(pattern)
    return start + "/".join(takewhile(lambda part: not is_glob(part), parts)) or "."


def expand(pattern: str) -> list[str]:
    """Returns the files and folders that match, sorted; none that are hidden.

    `**` stands for any number of folders, but not for links to folders.
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
        # At the end, the folder itself stands for everything below it.
        yield from _expand(base, rest) if rest else [base.rstrip("/") or "."]
        if rest:
            for entry in _list(base):
                if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                    yield from _expand(f"{base}{entry.name}/", parts)
    else:
        for entry in _list(base):
            # A pattern that begins with a dot asks for hidden files.
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
