"""Run embed-images and disturb it.

In tests/: python -m programs.disturbed_run DISTURBANCE ARGUMENTS… where DISTURBANCE is JSON with

    config   fields of CONFIG to replace
    signals  a list of [name of a step, which time it comes, number of a signal, whether to the
             whole process group], sent by the process to itself before that step
    wait_for a file that must exist before the run begins, so that two begin together
    runs     a file that gets the lines `run` and `end` for each run of --watch
"""

import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datasette_clip_search.cli.embed_output import EmbedBar
from datasette_clip_search.database.index import maintenance as indexing
from datasette_clip_search.embedding import watch
from datasette_clip_search.embedding.picture_writer import PictureWriter
from datasette_clip_search.embedding.store import Store
from datasette_clip_search.models.torch_model import TorchModel
from support.config import set_config

# The steps of a run by name: the function that each begins with.
STEPS = {
    "load": (TorchModel, "__init__"),
    "tables": (Store, "use_model"),
    "write": (Store, "write"),
    "row": (PictureWriter, "write_picture"),
    "vector": (PictureWriter, "write_vector"),
    "advance": (EmbedBar, "advance"),
    "prune": (Store, "prune"),
    "read": (indexing, "build_index"),
    "index": (indexing, "write_index"),
    "sync": (os, "fsync"),
    "replace": (os, "replace"),
}


def main() -> None:
    """Arrange the disturbance and run the command."""
    # A program that a shell starts in the background, such as all tests, ignores Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    disturbance = json.loads(sys.argv[1])
    set_config(**disturbance.get("config", {}))
    arrange(disturbance.get("signals", []))
    if runs := disturbance.get("runs"):
        count_runs(Path(runs))
    if wait_for := disturbance.get("wait_for"):
        Path(f"{wait_for}.{os.getpid()}").touch()
        while not Path(wait_for).exists():
            time.sleep(0.005)
    from sqlite_utils.cli import cli

    cli(["embed-images", *sys.argv[2:]])


def count_runs(file: Path) -> None:
    """Write a line to `file` when a run of --watch begins and one when it ends."""
    run = watch.embed_images

    def say(line: str) -> None:
        with file.open("a") as lines:
            lines.write(f"{line}\n")

    def counted(*arguments: Any, **named: Any) -> Any:
        say("run")
        try:
            return run(*arguments, **named)
        finally:
            say("end")

    watch.embed_images = counted


def arrange(signals: list[list[Any]]) -> None:
    """Send signals before steps; `after:NAME` means once that step is done."""
    times: Counter[str] = Counter()

    def happens(step: str) -> None:
        times[step] += 1
        for name, time_, number, to_group in signals:
            if (name, time_) == (step, times[step]):
                if to_group:
                    os.killpg(0, number)
                else:
                    os.kill(os.getpid(), number)
                # Another thread may receive it, which takes a while on a busy machine.
                time.sleep(0.3)

    def disturbed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            happens(name)
            result = function(*arguments, **named)
            happens(f"after:{name}")
            return result

        return call

    for name, (place, attribute) in STEPS.items():
        setattr(place, attribute, disturbed(name, getattr(place, attribute)))


if __name__ == "__main__":
    main()
