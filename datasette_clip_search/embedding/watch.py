"""Keeping a database in step with its pictures, until Ctrl-C."""

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
from .model_loading import Loaded
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
    """Embeds pictures, and again after every change of their files, until interrupted.

    From the second run on, pictures whose files are gone are deleted, but never all of a place's.
    With `poll`, nothing is listened to: there is a run every so many seconds.

    Raises ClipSearchError as embed_images does in the first run, and for what can't be watched.
    """
    if "-" in pictures or options.sql is not None:
        raise CommandError("--watch is for files and folders, not for a list or --sql")
    stop = threading.Event()
    listener = _listener(database, pictures, stop, poll, watcher)
    loaded = Loaded()
    with interruptible(stop.set) as interrupt:
        first = replace(options, is_watch=True)
        problem = ""
        try:
            before = embed_images(database, pictures, first, progress, loaded=loaded)
            watcher.first_run(before)
        except NothingThere as error:
            # Services begin before disks are mounted.
            before, problem = EmbedReport(), str(error)
            watcher.problem(problem)
        if not before.interrupted and not interrupt.requested:
            later = _Later(database, pictures, options, loaded, watcher)
            later.follow(listener, before, problem)
    watcher.stopped()


class _Later:
    """The runs after the first one."""

    def __init__(
        self,
        database: Path,
        pictures: Sequence[str],
        options: EmbedOptions,
        loaded: Loaded,
        watcher: Watcher,
    ):
        self._database = database
        self._pictures = pictures
        self._options = replace(options, prune=True, is_watch=True, is_again=True)
        self._loaded = loaded
        self._watcher = watcher

    def follow(self, listener: Listener, before: EmbedReport, problem: str) -> None:
        """Run after each change, until interrupted; say what is new, but no problem twice."""
        kept, failed = before.kept, before.failed
        for _ in listener.changes():
            try:
                summary = embed_images(
                    self._database, self._pictures, self._options, loaded=self._loaded
                )
            except (ClipSearchError, OSError, sqlite3.Error) as error:
                if str(error) != problem:
                    problem = str(error)
                    self._watcher.problem(problem)
                continue
            problem = ""
            # A folder that can't be listed fails in every run.
            told, failed = failed, summary.failed
            summary.failed = [each for each in failed if each not in told]
            if summary.changed:
                self._watcher.change(summary)
            if summary.kept != kept:
                kept = summary.kept
                self._watcher.kept(summary)
            if summary.interrupted:
                break


def _listener(
    database: Path,
    pictures: Sequence[str],
    stop: threading.Event,
    poll: float | None,
    watcher: Watcher,
) -> Listener:
    """Returns what says when to run again. Raises CommandError where watchfiles is missing."""
    folder, name = os.path.split(os.path.abspath(database))

    def is_ours(path: str) -> bool:
        # Our own writing is no change of the pictures; temporary files begin with a dot.
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
    """Returns the folder or file that an argument is about."""
    picture = as_on_disk(picture)
    if is_glob(picture) and not os.path.lexists(picture):
        return as_on_disk(fixed_part(picture))
    return picture
