"""Find the pictures in folders, archives, globs and lists of paths, each file once."""

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from ...common.errors import CommandError
from ..decode import picture_extensions
from .archives import list_archive
from .exclude import Exclusion
from .found import FoundPictures, SearchedPlace, extension_of, kind_of
from .globs import expand, fixed_part, is_glob
from .same import SeenPaths, hash_stat
from .source import NOT_REGULAR, absolute, printable, stored_path
from .spelling import as_on_disk
from .walk import BROKEN_LINK, Walk

STANDARD_INPUT = "-"


def find_pictures(
    arguments: Sequence[str],
    folder: Path,
    exclude: Sequence[str] = (),
    stdin: BinaryIO | None = None,
) -> FoundPictures:
    """Find the pictures that command-line arguments name, in the order of the arguments.

    Each argument is a folder, a file of any name, a tar or zip archive, a glob (unless a file has
    that exact name), or `-` for a list of paths on `stdin`, one per line or separated by NULs.
    Stored paths are relative to `folder`, which contains the database. `exclude` has fnmatch
    patterns.

    Raise CommandError for an argument that names nothing, and for an empty list.
    """
    finder = _Finder(folder, exclude)
    for argument in arguments:
        if argument == STANDARD_INPUT:
            finder.add_list(stdin)
            continue
        argument = as_on_disk(argument)
        if is_glob(argument) and not os.path.lexists(argument):
            finder.add_glob(argument)
        else:
            finder.add(argument)
    return finder.finish()


class _Finder:
    def __init__(self, folder: Path, exclude: Sequence[str]):
        self.folder = absolute(folder)
        self.exclude = exclude
        self.found = FoundPictures(folder=printable(self.folder))
        self.extensions = picture_extensions()
        self.walk = Walk(self.found, self.folder, self.extensions)
        self.archives: SeenPaths[str] = SeenPaths(str)
        self.exclusions: dict[str, Exclusion] = {}

    def add(self, argument: str, glob: str | None = None, is_listed: bool = False) -> None:
        """Add a file or folder. A glob may have matched it, or a list named it."""
        path = absolute(argument)
        try:
            if not argument:
                raise FileNotFoundError
            info = os.stat(path)
        except (FileNotFoundError, NotADirectoryError, ValueError) as error:
            self._add_missing(argument, path, is_listed, error)
            return
        except OSError as error:
            self._add_unreadable(path, f"It can't be read: {error.strerror}")
            return
        extension = extension_of(path)
        if self._excludes(path, glob):
            self.found.excluded += 1
            self.found.unseen.add(printable(path))
            self.found.left_out.add(printable(path))
        elif stat.S_ISDIR(info.st_mode):
            exclusion = Exclusion(self.exclude, path)
            self.found.places[printable(path)] = SearchedPlace(exclusion, False, self.extensions)
            self.walk.add_folder(path, exclusion)
        elif not stat.S_ISREG(info.st_mode):
            self._add_unreadable(path, NOT_REGULAR)
        elif extension in self.extensions:
            self.walk.add_file(path, info)
        elif self._add_archive(path, info):
            return
        elif glob and extension and not glob.lower().endswith(extension):
            # `photos/**` asks for pictures, `*.dat` for all files with that extension.
            self.found.others[kind_of(extension)] += 1
        else:
            self.walk.add_file(path, info)

    def add_glob(self, pattern: str) -> None:
        """Add all matches of a glob. Raise CommandError if there are none."""
        matches = expand(pattern)
        if not matches:
            raise CommandError(
                f"Nothing matches {pattern}, and no file or folder has that name. Expected a glob "
                "such as photos/**/*.jpg; globs skip hidden files"
            )
        for path in matches:
            self.add(path, glob=pattern)

    def add_list(self, stdin: BinaryIO | None) -> None:
        """Add the paths listed on standard input. Raise CommandError if there are none."""
        data = stdin.read() if stdin is not None else b""
        is_lines = b"\0" not in data
        names = data.removeprefix(b"\xef\xbb\xbf").split(b"\n" if is_lines else b"\0")
        paths = [name.removesuffix(b"\r") if is_lines else name for name in names]
        if not any(paths):
            raise CommandError(
                "- reads a list of paths from standard input, which is empty. Expected one path "
                "per line, as in: find photos -name '*.jpg' | sqlite-utils embed-images photos.db -"
            )
        for path in filter(None, paths):
            self.add(as_on_disk(os.fsdecode(path)), is_listed=True)

    def finish(self) -> FoundPictures:
        """Return all that was found, with links only to files that were not found themselves."""
        self.found.sources = self.walk.finish()
        self.found.unreadable.sort()
        return self.found

    def _add_missing(self, argument: str, path: str, is_listed: bool, error: Exception) -> None:
        is_link = bool(argument) and not isinstance(error, ValueError) and os.path.islink(path)
        if is_listed:
            reason = BROKEN_LINK if is_link else "There is no such file or folder"
            self.found.unreadable.append((printable(stored_path(path, self.folder)), reason))
        elif is_link:
            raise CommandError(
                f"{printable(argument)} is a link to {printable(os.readlink(path))}, "
                "which does not exist"
            ) from error
        else:
            shown = printable(argument) or "with an empty name"
            raise CommandError(f"There is no file or folder {shown}") from error

    def _add_unreadable(self, path: str, reason: str) -> None:
        self.found.unreadable.append((printable(stored_path(path, self.folder)), reason))
        self.found.unseen.add(printable(path))

    def _excludes(self, path: str, glob: str | None) -> bool:
        """Return whether an argument itself is excluded, as seen from `.` or its glob's folder."""
        base = absolute(as_on_disk(fixed_part(glob)) if glob else ".")
        if not self.exclude or path == base:
            return False
        if base not in self.exclusions:
            self.exclusions[base] = Exclusion(self.exclude, base)
        below = base.rstrip("/") + "/"
        relative = path[len(below) :] if path.startswith(below) else os.path.basename(path)
        return self.exclusions[base].covers(relative)

    def _add_archive(self, path: str, info: os.stat_result) -> bool:
        """Add the pictures in an archive; return False if the file is not one."""
        found = self.found
        stat_hash = hash_stat(info)
        if self.archives.find(stat_hash, path) is not None:
            return True
        place = SearchedPlace(Exclusion(self.exclude, path), True, self.extensions)
        stored = printable(stored_path(path, self.folder))
        listing = list_archive(path, stored, info, place)
        if listing is None:
            return False
        self.archives.add(stat_hash, path)
        found.places[printable(path)] = place
        self.walk.sources.extend(listing.members.values())
        found.unreadable += listing.unreadable
        found.unseen.update(
            printable(absolute(Path(self.folder, name))) for name, _ in listing.unreadable
        )
        found.others.update(listing.others)
        found.hidden += listing.hidden
        found.excluded += listing.excluded
        if listing.damage:
            self._add_unreadable(path, listing.damage)
        return True
