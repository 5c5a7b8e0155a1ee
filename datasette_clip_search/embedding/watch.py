"""Watch pictures and keep a database in step with them, until Ctrl-C."""

import os
import sqlite3
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..common.config import CONFIG
from ..common.errors import ClipSearchError, CommandError
from ..pictures.sources.globs import fixed_part, is_glob
from ..pictures.sources.spelling import as_on_disk
from .interrupt import interruptible
from .listen import Listener
from .model_loading import RunCache
from .options import EmbedOptions
from .report import EmbedProgress, EmbedReport, Watcher
from .request import NothingThere
from .run import embed_images

INSTALL = "pip install 'datasette-clip-search[embed]'"


def watch_images(
    database: Path,
    pictures: Sequence[str],
    options: EmbedOptions,
    progress: EmbedProgress,
    watcher: Watcher,
    poll: float | None = None,
) -> None:
    """Embed pictures, and again after every change of their files, until interrupted.

    From the second run on, pictures whose files are gone are deleted, but never all in one place.
    With `poll`, it runs every `poll` seconds instead.

    Raises ClipSearchError as the first embed_images() does, and for a list or SQL.
    """
    if "-" in pictures or options.sql is not None:
        raise CommandError("--watch is for files and folders, not for a list or --sql")
    stop = threading.Event()
    listener = _listener(database, pictures, stop, poll, watcher)
    cache = RunCache()
    with interruptible(stop.set) as interrupt:
        first = replace(options, is_watch=True)
        problem = ""
        try:
            before = embed_images(database, pictures, first, progress, cache=cache)
            watcher.first_run(before)
        except NothingThere as error:
            # Services start before disks are mounted.
            before, problem = EmbedReport(), str(error)
            watcher.problem(problem)
        if not before.interrupted and not interrupt.requested:
            later = _Later(database, pictures, options, cache, watcher)
            later.follow(listener, before, problem)
    watcher.stopped()


class _Later:
    """The runs after the first one."""

    def __init__(
        self,
        database: Path,
        pictures: Sequence[str],
        options: EmbedOptions,
        cache: RunCache,
        watcher: Watcher,
    ):
        self._database = database
        self._pictures = pictures
        self._options = replace(options, prune=True, is_watch=True, is_again=True)
        self._cache = cache
        self._watcher = watcher

    def follow(self, listener: Listener, before: EmbedReport, problem: str) -> None:
        """Run after each change, until interrupted. Report changes, and each problem once."""
        kept, failed = before.kept, before.failed
        for _ in listener.changes():
            try:
                report = embed_images(
                    self._database, self._pictures, self._options, cache=self._cache
                )
            except (ClipSearchError, OSError, sqlite3.Error) as error:
                if str(error) != problem:
                    problem = str(error)
                    self._watcher.problem(problem)
                continue
            problem = ""
            # A folder that can't be listed fails in every run: report it once.
            reported, failed = failed, report.failed
            report.failed = [each for each in failed if each not in reported]
            if report.changed:
                self._watcher.change(report)
            if report.kept != kept:
                kept = report.kept
                self._watcher.kept(report)
            if report.interrupted:
                break


def _listener(
    database: Path,
    pictures: Sequence[str],
    stop: threading.Event,
    poll: float | None,
    watcher: Watcher,
) -> Listener:
    """Return a listener for changes. Raises CommandError if watchfiles is missing."""
    folder, name = os.path.split(os.path.abspath(database))

    def is_ours(path: str) -> bool:
        # Changes of the database and its index do not count. The names of temporary files begin
        # with a dot.
        where, what = os.path.split(os.path.abspath(path))
        return where == folder and what.removeprefix(".").startswith(name)

    listen: Any = None
    if poll is None:
        try:
            from watchfiles import watch as listen
        except ModuleNotFoundError as error:
            raise CommandError(
                f"--watch needs watchfiles, or --poll SECONDS. Run: {INSTALL}"
            ) from error
    seconds = CONFIG.poll_seconds if poll is None else poll
    return Listener(
        [_root(path) for path in pictures], is_ours, stop, seconds, listen, watcher.note
    )


def _root(picture: str) -> str:
    """Return the folder or file to watch for an argument."""
    picture = as_on_disk(picture)
    if is_glob(picture) and not os.path.lexists(picture):
        return as_on_disk(fixed_part(picture))
    return picture
