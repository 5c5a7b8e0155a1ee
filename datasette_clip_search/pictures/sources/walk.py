"""Walk through folders and collect the pictures in order, each file once."""

import os
import posixpath
import stat
from errno import ELOOP

from .exclude import Exclusion, is_hidden
from .found import FoundPictures, extension_of, kind_of
from .mounts import mount_around, mounts
from .same import SeenPaths, hash_stat
from .source import NOT_REGULAR, SQL_PREFIX, DiskFile, Source, is_utf8, printable, stored_path

BROKEN_LINK = "It is a link to a file that does not exist"


class Walk:
    """Collects files in order; finish() then decides which path of each file to keep."""

    def __init__(self, found: FoundPictures, folder: str, extensions: frozenset[str]):
        """Prepare to count skipped files in `found`. The database is in `folder`."""
        self.found = found
        self.folder = folder
        self.extensions = extensions
        self.mounted = frozenset(mount.path for mount in mounts())
        self._mounts_around: dict[str, str | None] = {}
        self.sources: list[Source] = []
        # Values are positions in `sources`, which may have a million entries.
        self._files: SeenPaths[int] = SeenPaths(self._path_at)
        self._folders: SeenPaths[str] = SeenPaths(str)
        # Positions of links, which only count if their file is not found itself.
        self._links: list[tuple[int, int]] = []

    def add_file(self, path: str, info: os.stat_result) -> None:
        """Add a regular file that was given by name."""
        self._note_mount_around(posixpath.dirname(path))
        stored = stored_path(path, self.folder)
        self._add(stored, info.st_size, info.st_mtime, hash_stat(info), os.path.islink(path))

    def add_folder(self, top: str, exclusion: Exclusion) -> None:
        """Add the pictures below a folder: those in each folder before those in its subfolders."""
        real = os.path.realpath(top).rstrip("/")
        self._note_mount_around(top)
        pending: list[tuple[str, str, int | None]] = [(top, "", None)]
        while pending:
            path, relative, around = pending.pop()
            try:
                info = os.stat(path)
                names = self._add_names(path, relative, exclusion, info)
            except FileNotFoundError:
                # It has just been deleted.
                continue
            except OSError as error:
                self._note_folder(path, error)
                continue
            device = info.st_dev
            is_mount = f"{real}/{relative}".rstrip("/") in self.mounted
            if around is None or device != around or is_mount:
                self.found.devices[printable(path)] = device
                if around is not None:
                    self.found.mounts.add(printable(path))
            below = path.rstrip("/")
            pending += [
                (f"{below}/{name}", f"{relative}{name}/", device) for name in reversed(names)
            ]

    def finish(self) -> list[Source]:
        """Return the files, with links only to files that are not among them."""
        dropped = set()
        for place, stat_hash in self._links:
            if self._files.find(stat_hash, self._path_at(place)) is not None:
                dropped.add(place)
            else:
                self._files.add(stat_hash, place)
        if not dropped:
            return self.sources
        return [source for place, source in enumerate(self.sources) if place not in dropped]

    def _add_names(
        self, path: str, relative: str, exclusion: Exclusion, info: os.stat_result
    ) -> list[str]:
        """Add the pictures in the folder itself; return the names of its subfolders."""
        found, folders = self.found, []
        # Plain tuples instead of directory entries: there may be a million of them.
        files: list[tuple[str, int, float, int, bool]] = []
        prefix = stored_path(path, self.folder).rstrip("/") + "/"
        prefix = "" if prefix == "./" else prefix
        stat_hash = hash_stat(info)
        if self._folders.find(stat_hash, path) is not None:
            return []
        self._folders.add(stat_hash, path)
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    name = entry.name
                    if is_hidden(name):
                        found.hidden += 1
                    elif not exclusion.is_empty and exclusion.matches(name, relative + name):
                        found.excluded += 1
                    elif self._is_folder(entry, prefix):
                        folders.append(name)
                    elif file := self._look_at(entry, prefix):
                        files.append(file)
        except FileNotFoundError:
            # It has just been deleted.
            return []
        except OSError as error:
            self._note_folder(path, error)
        for name, size, mtime, stat_hash, is_link in sorted(files):
            self._add(_join(prefix, name), size, mtime, stat_hash, is_link)
        return sorted(folders)

    def _is_folder(self, entry: os.DirEntry[str], prefix: str) -> bool:
        try:
            return entry.is_dir(follow_symlinks=False)
        except OSError as error:
            # Some file systems need another call for the type, and a disk may be failing.
            self._note(entry.path, prefix + entry.name, f"It can't be read: {error.strerror}")
            return False

    def _note_folder(self, path: str, error: OSError) -> None:
        stored = stored_path(path, self.folder)
        self._note(path, stored, f"The folder can't be listed: {error.strerror}")

    def _note_mount_around(self, path: str) -> None:
        """Note the mount point of a path, to tell an unmounted disk from deleted files later."""
        if path not in self._mounts_around:
            self._mounts_around[path] = around = mount_around(path, self.mounted)
            if around is not None:
                self.found.mounts.add(printable(around))

    def _look_at(
        self, entry: os.DirEntry[str], prefix: str
    ) -> tuple[str, int, float, int, bool] | None:
        """Return the facts of a picture file; count any other file and return None."""
        name = entry.name
        extension = extension_of(name)
        is_picture = extension in self.extensions
        is_link = entry.is_symlink()
        if not is_picture and not is_link:
            self.found.others[kind_of(extension)] += 1
            return None
        try:
            info = entry.stat()
        except OSError as error:
            if not is_link and isinstance(error, FileNotFoundError):
                return None
            self._note_failed(entry, prefix, error, is_picture, is_link)
            return None
        if stat.S_ISDIR(info.st_mode):
            self.found.links += 1
            self.found.unseen.add(printable(entry.path))
        elif not is_picture:
            self.found.others[kind_of(extension)] += 1
        elif not stat.S_ISREG(info.st_mode):
            self._note(entry.path, prefix + name, NOT_REGULAR)
        else:
            return name, info.st_size, info.st_mtime, hash_stat(info), is_link
        return None

    def _note_failed(
        self,
        entry: os.DirEntry[str],
        prefix: str,
        error: OSError,
        is_picture: bool,
        is_link: bool,
    ) -> None:
        is_broken = is_link and (isinstance(error, FileNotFoundError) or error.errno == ELOOP)
        if is_picture:
            reason = BROKEN_LINK if is_broken else f"It can't be read: {error.strerror}"
            self._note(entry.path, prefix + entry.name, reason)
        else:
            # It may be a folder on an unplugged disk.
            self.found.unseen.add(printable(entry.path))
            self.found.others[kind_of(extension_of(entry.name))] += 1

    def _note(self, path: str, stored: str, reason: str) -> None:
        self.found.unreadable.append((printable(stored), reason))
        self.found.unseen.add(printable(path))

    def _add(self, stored: str, size: int, mtime: float, stat_hash: int, is_link: bool) -> None:
        path = printable(posixpath.join(self.folder, stored))
        if is_link:
            self._links.append((len(self.sources), stat_hash))
        elif self._files.find(stat_hash, path) is not None:
            return
        else:
            self._files.add(stat_hash, len(self.sources))
        if is_utf8(stored):
            self.sources.append(DiskFile(stored, size, mtime, self.folder))
        else:
            self.sources.append(DiskFile(printable(stored), size, mtime, None))

    def _path_at(self, place: int) -> str:
        return posixpath.join(printable(self.folder), self.sources[place].stored)


def _join(prefix: str, name: str) -> str:
    # The name of a file beside the database can look like the prefix of a row.
    return f"./{name}" if not prefix and name.startswith(SQL_PREFIX) else prefix + name
