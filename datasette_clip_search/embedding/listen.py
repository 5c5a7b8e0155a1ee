"""Listen for changes of files; poll where the system does not report them.

- Where the system reports changes, they are noticed within seconds.
- If a folder can't be listed, the others are watched one by one.
- Network file systems don't report the changes of other machines, and the system limits how many
  folders can be watched. There, the files are polled.
- Mounting or unmounting a disk is a change.
"""

import os
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from ..pictures.sources.mounts import is_within, mount_of, mounts

# Changes this close together cause one run.
QUIET_MILLISECONDS = 1500
# How long Ctrl-C may go unnoticed.
LISTEN_MILLISECONDS = 500

# File systems that other machines, or the host of this one, change without a report.
_NETWORKS = frozenset(
    (
        *("9p", "acfs", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "gfs2", "gpfs", "lustre"),
        *("ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "prl_fs", "smb3", "smbfs", "vboxsf"),
        *("virtiofs", "vmhgfs"),
    )
)

Change = tuple[Any, str]
"""A kind of change, and the path that changed."""

Watch = Callable[..., Generator[set[Change], None, None]]


class Listener:
    """Reports when the files below some folders may have changed, until it is stopped."""

    def __init__(
        self,
        roots: Sequence[str],
        is_ours: Callable[[str], bool],
        stop: threading.Event,
        seconds: float,
        watch: Watch | None,
        tell: Callable[[str], None],
    ):
        """Listen to folders and files by `watch` of watchfiles; without it, poll.

        `is_ours` is true for paths that this program writes. `seconds` is the time between polls,
        and `tell` is called with the reason for them.
        """
        self._roots = roots
        self._is_ours = is_ours
        self._stop = stop
        self._seconds = seconds
        self._watch = watch
        self._tell = tell
        self._noted: set[str] = set()
        # Whether to listen to folders one by one.
        self._is_single = False
        self._looked = time.monotonic()

    def changes(self) -> Generator[None, None, None]:
        """Yield at the start, and whenever files may have changed."""
        while not self._stop.is_set():
            seen = self._seen()
            is_first = True
            for changes in self._listen([root for root in self._roots if os.path.exists(root)]):
                # watchfiles does not follow a folder that was deleted or unmounted and then came
                # back.
                if self._seen() != seen or self._is_over(changes) or self._is_full(changes):
                    break
                if changes or is_first or self._is_due():
                    is_first = False
                    yield
                    self._looked = time.monotonic()

    def _listen(self, roots: Sequence[str]) -> Generator[set[Change], None, None]:
        """Yield sets of changes, some of them empty, until listening fails or the roots change."""
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
            # A root was deleted a moment ago.
            self._stop.wait(LISTEN_MILLISECONDS / 1000)
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        except BaseException as error:
            # watchfiles raises a dozen kinds of error, and panics that are not Exceptions.
            if isinstance(error, PermissionError) and not self._is_single:
                self._is_single = True
            else:
                self._give_up(error)

    def _give_up(self, error: BaseException) -> None:
        self._watch = None
        self._say(f"{_reason(error)}; the files are checked every {self._seconds:g} seconds")

    def _is_full(self, changes: set[Change]) -> bool:
        """Tell whether the limit of folders is reached, which watchfiles does not report."""
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
        """Tell whether it is time to poll, if polling is needed."""
        is_needed = self._watch is None or any(map(_network_of, self._roots))
        return is_needed and time.monotonic() - self._looked >= self._seconds

    def _is_over(self, changes: set[Change]) -> bool:
        """Tell whether to start again: a root was deleted, or a new folder is not watched yet."""
        # A new root may get the same inode number.
        deleted = {os.path.abspath(path) for what, path in changes if what.name == "deleted"}
        if deleted.intersection(map(os.path.abspath, self._roots)):
            return True
        return self._is_single and any(os.path.isdir(path) for _, path in changes)

    def _seen(self) -> object:
        """Return a value that changes when a root is replaced, or a disk is mounted there."""
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
                    f"{root} has files on {kind}, which does not report changes by other machines; "
                    f"they are checked every {self._seconds:g} seconds"
                )

    def _say(self, text: str) -> None:
        if text not in self._noted:
            self._noted.add(text)
            self._tell(f"{text}. Change that with --poll SECONDS")


def _network_of(root: str) -> str | None:
    """Return the kind of a network file system at a path or below it, or None."""
    real, mounted = os.path.realpath(root), mounts()
    around = mount_of(real, mounted)
    for mount in [*([around] if around else []), *mounted]:
        if mount is around or is_within(mount.path, real):
            kind = mount.kind
            # FUSE programs show files of other machines; only `fuseblk` is a disk.
            if kind in _NETWORKS or kind == "fuse" or kind.startswith("fuse."):
                return kind
    return None


def _folders(roots: Sequence[str]) -> list[str]:
    """Return the roots and all folders below them that can be listed."""
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
    """Return why listening failed; the errors of watchfiles name its own internals."""
    text = str(error)
    for name, what, sign in [
        ("max_user_watches", "in more folders", "limit"),
        ("max_user_instances", "for another program", "os error 24"),
    ]:
        if sign in text:
            limit, better = _limit(name), 524_288 if name == "max_user_watches" else 1024
            return (
                f"The system can't report changes {what} (fs.inotify.{name} = {limit}; "
                f"to raise it: sudo sysctl fs.inotify.{name}={max(better, 4 * limit)})"
            )
    return "The system does not report changes here"


def _limit(name: str) -> int:
    """Return a limit of inotify; a container may have a lower one of its own."""
    found = []
    for path in (f"fs/inotify/{name}", f"user/{name.replace('max_user_', 'max_inotify_')}"):
        try:
            found.append(int(Path("/proc/sys", path).read_text()))
        except (OSError, ValueError):
            continue
    return min(found, default=0)


def _identity(root: str) -> tuple[int, int] | None:
    """Return a value that differs between a folder and a new one in its place."""
    try:
        found = os.stat(root)
    except OSError:
        return None
    return found.st_dev, found.st_ino
