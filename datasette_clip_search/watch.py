"""Keeping a database in step with its pictures, until Ctrl-C."""

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from .embed import Options, embed_images
from .errors import ClipSearchError, CommandError
from .interrupt import interruptible
from .sources.globs import fixed_part, is_glob
from .loading import Loaded
from .report import Progress, Summary

INSTALL = "pip install 'datasette-clip-search[embed]'"
# Changes that come this close together are taken in one run.
QUIET_MILLISECONDS = 1500


def watch_images(
    database: Path,
    pictures: Sequence[str],
    options: Options,
    progress: Progress,
    tell: Callable[[Path, Summary], None],
    tell_change: Callable[[Path, Summary], None],
) -> None:
    """Embeds pictures, and again after every change of their files, until interrupted.

    From the second run on, pictures whose files are gone are deleted. `tell` is called after the
    first run, `tell_change` after each later one that changed something.

    Raises CommandError as embed_images does in the first run, and for what can't be watched.
    """
    try:
        from watchfiles import watch
    except ModuleNotFoundError as error:
        raise CommandError(f"--watch needs watchfiles. Run: {INSTALL}") from error
    if "-" in pictures or options.sql is not None:
        raise CommandError("--watch is for files and folders, not for a list or --sql")
    loaded = Loaded()
    stop = threading.Event()
    with interruptible(stop.set) as interrupt:
        summary = embed_images(database, pictures, options, progress, loaded=loaded)
        tell(database, summary)
        if summary.interrupted or interrupt.requested:
            tell_end("Stopped watching")
            return
        folder, name = os.path.split(os.path.abspath(database))
        following = replace(options, prune=True)

        def is_picture(_: object, path: str) -> bool:
            # Our own writing is no change of the pictures; temporary files begin with a dot.
            where, what = os.path.split(os.path.abspath(path))
            return where != folder or not what.removeprefix(".").startswith(name)

        places = [fixed_part(p) if is_glob(p) and not os.path.lexists(p) else p for p in pictures]
        is_first = True
        for changes in watch(
            *places, watch_filter=is_picture, debounce=QUIET_MILLISECONDS, raise_interrupt=False,
            stop_event=stop, yield_on_timeout=True, rust_timeout=500,
        ):
            if not changes and not is_first:
                continue
            is_first = False
            try:
                summary = embed_images(database, pictures, following, Progress(), loaded=loaded)
            except ClipSearchError as error:
                tell_end(str(error))
                continue
            if summary.changed:
                tell_change(database, summary)
            if summary.interrupted:
                break
        tell_end("Stopped watching")


def tell_end(text):
    import sys
    print(text, file=sys.stderr)
