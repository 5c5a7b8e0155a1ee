"""Listening for changes of files, and looking for them where nobody tells of any.

- Where the system tells of changes, they are heard of within seconds.
- A folder that can't be listed is left out; the others are listened to, one by one.
- File systems of networks don't tell of what others change, and there are limits to listening:
  there, the files are looked at every so many seconds.
- A disk that is mounted, or goes, is a change.
"""

import os
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from ..pictures.sources.mounts import is_within, mount_of, mounts

# Changes that come this close together are taken in one run.
QUIET_MILLISECONDS = 1500
# How long Ctrl-C may take to be seen.
LISTEN_MILLISECONDS = 500

# File systems that other machines, or the host of this one, change unheard.
_NETWORKS = frozenset(
    (
        *("9p", "acfs", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "gfs2", "gpfs", "lustre"),
        *("ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "prl_fs", "smb3", "smbfs", "vboxsf"),
        *("virtiofs", "vmhgfs"),
    )
)

Change = tuple[Any, str]
"""What happened, and the path that it happened to."""

Watch = Callable[..., Generator[set[Change], None, None]]


class Listener:
    """Says when the files below some folders may have changed, until it is stopped."""

    def __init__(
        self,
        roots: Sequence[str],
        is_ours: Callable[[str], bool],
        stop: threading.Event,
        seconds: float,
        watch: Watch | None,
        tell: Callable[[str], None],
    ):
        """Take folders and files to listen to, by `watch` of watchfiles.

        Without it, the files are looked at every so many `seconds`. `is_ours` tells of a path that
        its changes are of our own making. `tell` is called with a sentence wherever `seconds`
        matter.
        """
        self._roots = roots
        self._is_ours = is_ours
        self._stop = stop
        self._seconds = seconds
        self._watch = watch
        self._tell = tell
        self._told: set[str] = set()
        # Whether folders are listened to one by one.
        self._is_single = False
        self._looked = time.monotonic()

    def changes(self) -> Generator[None, None, None]:
        """Yield when it begins to listen, and whenever files may have changed."""
        while not self._stop.is_set():
            seen = self._seen()
            is_first = True
            for changes in self._listen([root for root in self._roots if os.path.exists(root)]):
                # What was deleted or unmounted is not heard of again, even when it is made anew.
                if self._seen() != seen or self._is_over(changes) or self._is_full(changes):
                    break
                if changes or is_first or self._is_due():
                    is_first = False
                    yield
                    self._looked = time.monotonic()

    def _listen(self, roots: Sequence[str]) -> Generator[set[Change], None, None]:
        """Yield changes, and from time to time none, as long as that goes well."""
        if self._watch is None or not roots:
            yield set()
            while not self._stop.wait(LISTEN_MILLISECONDS / 1000):
                yield set()
            return
        self._tell_of_networks(roots)
        try:
            yield from self._watch(
                *(_folders(roots) if self._is_single else roots),
                watch_filter=lambda _, path: not self._is_ours(path),
                debounce=QUIET_MILLISECONDS,
                stop_event=self._stop,
                rust_timeout=LISTEN_MILLISECONDS,
                yield_on_timeout=True,
                raise_interrupt=False,
                recursive=not self._is_single,
            )
        except FileNotFoundError:
            # It was deleted a moment ago.
            self._stop.wait(LISTEN_MILLISECONDS / 1000)
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        except BaseException as error:
            # watchfiles ends with errors of a dozen kinds, and panics that are no Exceptions.
            if isinstance(error, PermissionError) and not self._is_single:
                self._is_single = True
            else:
                self._give_up(error)

    def _give_up(self, error: BaseException) -> None:
        self._watch = None
        self._say(f"{_reason(error)}; the files are looked at every {self._seconds:g} seconds")

    def _is_full(self, changes: set[Change]) -> bool:
        """Tell whether no more folders can be listened to, which watchfiles keeps to itself."""
        new = [path for what, path in changes if what.name == "added" and os.path.isdir(path)]
        if not new or self._watch is None:
            return False
        try:
            with closing(self._watch(new[0], rust_timeout=1, yield_on_timeout=True)) as probe:
                next(probe, None)
        except (FileNotFoundError, PermissionError):
            return False
        except Exception as error:
            self._give_up(error)
            return True
        return False

    def _is_due(self) -> bool:
        """Tell whether it is time to look at the files, where that has to be done."""
        is_needed = self._watch is None or any(map(_network_of, self._roots))
        return is_needed and time.monotonic() - self._looked >= self._seconds

    def _is_over(self, changes: set[Change]) -> bool:
        """Tell whether to begin again: a root was deleted, or a folder is not listened to yet."""
        # One that is made anew may get the same inode number.
        deleted = {os.path.abspath(path) for what, path in changes if what.name == "deleted"}
        if deleted.intersection(map(os.path.abspath, self._roots)):
            return True
        return self._is_single and any(os.path.isdir(path) for _, path in changes)

    def _seen(self) -> object:
        """Return what is different when a root is made anew, or something is mounted there."""
        real = [os.path.realpath(root) for root in self._roots]
        below = [
            mount
            for mount in mounts()
            if any(is_within(mount.path, root) or is_within(root, mount.path) for root in real)
        ]
        return [_identity(root) for root in self._roots], below

    def _tell_of_networks(self, roots: Sequence[str]) -> None:
        for root in roots:
            if kind := _network_of(root):
                self._say(
                    f"{root} has files on {kind}, which tells of no changes by others; they are "
                    f"looked at every {self._seconds:g} seconds"
                )

    def _say(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self._tell(f"{text}. Another number of seconds: --poll SECONDS")


def _network_of(root: str) -> str | None:
    """Return the kind of a file system that others may change, at a path or below it."""
    real, mounted = os.path.realpath(root), mounts()
    around = mount_of(real, mounted)
    for mount in [*([around] if around else []), *mounted]:
        if mount is around or is_within(mount.path, real):
            kind = mount.kind
            # Programs show what lies elsewhere; only `fuseblk` is a disk.
            if kind in _NETWORKS or kind == "fuse" or kind.startswith("fuse."):
                return kind
    return None


def _folders(roots: Sequence[str]) -> list[str]:
    """Return some folders and files, and all folders below, as far as they can be listed."""
    found = []
    pending = list(roots)
    while pending:
        path = pending.pop()
        try:
            if os.path.isdir(path):
                with os.scandir(path) as entries:
                    pending += [each.path for each in entries if each.is_dir(follow_symlinks=False)]
            found.append(path)
        except OSError:
            continue
    return found


def _reason(error: BaseException) -> str:
    """Say why nothing can be listened to; the words of watchfiles are about its own insides."""
    text = str(error)
    for name, what, sign in [
        ("max_user_watches", "so many folders", "limit"),
        ("max_user_instances", "changes in one more program", "os error 24"),
    ]:
        if sign in text:
            limit, better = _limit(name), 524_288 if name == "max_user_watches" else 1024
            return (
                f"The system does not listen to {what} (fs.inotify.{name} = {limit}; to raise it: "
                f"sudo sysctl fs.inotify.{name}={max(better, 4 * limit)})"
            )
    return "The system does not tell of changes here"


def _limit(name: str) -> int:
    """Return a limit of inotify's; a container may have a lower one of its own."""
    found = []
    for path in (f"fs/inotify/{name}", f"user/{name.replace('max_user_', 'max_inotify_')}"):
        try:
            found.append(int(Path("/proc/sys", path).read_text()))
        except (OSError, ValueError):
            continue
    return min(found, default=0)


def _identity(root: str) -> tuple[int, int] | None:
    """Return what a folder that is made anew does not share with the one before."""
    try:
        found = os.stat(root)
    except OSError:
        return None
    return found.st_dev, found.st_ino
