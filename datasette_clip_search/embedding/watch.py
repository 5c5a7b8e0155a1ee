"""Keeping a database in step with its pictures, until Ctrl-C."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import ClipSearchError, CommandError
from ..sources.globs import fixed_part, is_glob
from .interrupt import interruptible
from .loading import Loaded
from .report import Progress, Watcher
from .run import Options, embed_images

INSTALL = "pip install 'datasette-clip-search[embed]'"
# Changes that come this close together are taken in one run.
QUIET_MILLISECONDS = 1500
# How long Ctrl-C may take to be seen.
LISTEN_MILLISECONDS = 500

Changes = set[tuple[Any, str]]
"""What happened, and the path that it happened to."""


def watch_images(
    database: Path,
    pictures: Sequence[str],
    options: Options,
    progress: Progress,
    watcher: Watcher,
) -> None:
    """Embeds pictures, and again after every change of their files, until interrupted.

    From the second run on, pictures whose files are gone are deleted, but never all of them.

    Raises ClipSearchError as embed_images does in the first run, and for what can't be watched.
    """
    if "-" in pictures or options.sql is not None:
        raise CommandError("--watch is for files and folders, not for a list or --sql")
    stop = threading.Event()
    loaded = Loaded()
    again = replace(options, prune=True)
    with interruptible(stop.set) as interrupt:
        summary = embed_images(database, pictures, options, progress, loaded=loaded)
        watcher.first_run(summary)
        if not summary.interrupted and not interrupt.requested:
            for _ in _changes(database, pictures, stop):
                try:
                    summary = embed_images(database, pictures, again, loaded=loaded)
                except ClipSearchError as error:
                    watcher.problem(str(error))
                    continue
                if summary.changed:
                    watcher.change(summary)
                if summary.interrupted:
                    break
    watcher.stopped()


def _changes(database: Path, pictures: Sequence[str], stop: threading.Event) -> Iterator[None]:
    """Yields when it has begun to listen, and after every change, until stopped."""
    try:
        from watchfiles import Change, watch
    except ModuleNotFoundError as error:
        raise CommandError(f"--watch needs watchfiles. Run: {INSTALL}") from error
    folder, name = os.path.split(os.path.abspath(database))

    def is_picture(_: object, path: str) -> bool:
        # Our own writing is no change of the pictures; temporary files begin with a dot.
        where, what = os.path.split(os.path.abspath(path))
        return where != folder or not what.removeprefix(".").startswith(name)

    roots = [
        fixed_part(path) if is_glob(path) and not os.path.lexists(path) else path
        for path in pictures
    ]
    places = {os.path.abspath(root) for root in roots}
    while not stop.is_set():
        seen = [_identity(root) for root in roots]
        there = [root for root, identity in zip(roots, seen, strict=True) if identity]
        is_first = True
        for changes in _listen(watch, there, is_picture, stop):
            # watchfiles hears no more of a folder that was deleted, even when it is made anew.
            deleted = {os.path.abspath(path) for what, path in changes if what is Change.deleted}
            if deleted & places or seen != [_identity(root) for root in roots]:
                break
            if changes or is_first:
                is_first = False
                yield


def _listen(
    watch: Callable[..., Iterator[Changes]],
    roots: Sequence[str],
    is_picture: Callable[[object, str], bool],
    stop: threading.Event,
) -> Iterator[Changes]:
    """Yields changes below some roots, and from time to time none, until stopped."""
    while not roots and not stop.wait(LISTEN_MILLISECONDS / 1000):
        yield set()
    if not roots:
        return
    # One may be deleted before it is listened to.
    with suppress(FileNotFoundError):
        yield from watch(
            *roots,
            watch_filter=is_picture,
            debounce=QUIET_MILLISECONDS,
            stop_event=stop,
            rust_timeout=LISTEN_MILLISECONDS,
            yield_on_timeout=True,
            raise_interrupt=False,
        )


def _identity(root: str) -> tuple[int, int] | None:
    """Returns what a folder that is made anew does not share with the one before."""
    try:
        found = os.stat(root)
    except OSError:
        return None
    return found.st_dev, found.st_ino
