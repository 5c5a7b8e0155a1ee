"""What clip-publish looks like in a terminal: how far it is, what it wrote, what to run next."""

import re
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from ..common.terminal_text import say
from ..publish import PublishProgress, PublishReport
from ..publish.server_folder import REQUIREMENTS, SETTINGS


class Bar(PublishProgress):
    """A progress bar on standard error, with the time left and the rate."""

    def __init__(self) -> None:
        self.bar: Any = None

    def start(self, what: str, pictures: int) -> None:
        started = time.monotonic()

        def rate(_: object) -> str:
            seconds = time.monotonic() - started
            return f"{self.bar.pos / seconds:,.0f} pictures/s" if self.bar.pos else ""

        self.bar = click.progressbar(
            length=pictures, label=what, item_show_func=rate, show_pos=True, file=sys.stderr
        )
        self.bar.__enter__()

    def advance(self, pictures: int) -> None:
        self.bar.update(pictures, object())

    def finish(self) -> None:
        self.bar.__exit__(None, None, None)


def print_report(report: PublishReport, folder: Path | None) -> None:
    """Prints what was published, and how to bring it into the world."""
    of = ""
    if report.pictures != report.pictures_at_home:
        of = f" of {report.pictures_at_home:,}"
    lines = [
        ("Published", f"{report.pictures:,}{of} picture{'' if report.pictures == 1 else 's'}"),
        ("Model" if len(report.models) == 1 else "Models", ", ".join(report.models)),
    ]
    if report.revealed:
        lines.append(("Reveals", f"{', '.join(report.revealed)}  (--drop leaves out any)"))
    if report.left_out:
        lines.append(("Left out", f"{', '.join(report.left_out)}  (--keep keeps any)"))
    if report.recall is not None:
        lines.append(
            (
                "Recall@10",
                f"{report.recall:.4f}  (of the ten nearest pictures by the vectors as they were, "
                f"asked with {report.asked} pictures)",
            )
        )
    lines.append(("Seconds", f"{report.seconds:.1f}"))
    lines.append(("File", str(report.database)))
    for name, value in lines:
        say(f"{name + ':':<14}{value}")
    say()
    total = sum(size for _, size in report.parts)
    wide = max(len(part) for part, _ in [*report.parts, ("total", 0)])
    for part, size in [*report.parts, ("total", total)]:
        say(f"  {part:<{wide}}  {size:>15,} bytes  {100 * size / total:5.1f}%")
    say()
    for warning in report.warnings:
        say(f"{warning}", err=True)
    if not report.has_words:
        say(
            "There is no text tower for it: where torch is not installed, what is published is "
            "searched by its own pictures and by SQL, but not by words",
            err=True,
        )
    if report.warnings or not report.has_words:
        say(err=True)
    for line in _folder_commands(folder) if folder else _commands(report.database):
        say(line)


def _commands(database: Path) -> Iterator[str]:
    file = shlex.quote(str(database))
    name = re.sub(r"[^a-z0-9]+", "-", database.stem.lower()).strip("-") or "pictures"
    install = " ".join(f"--install {shlex.quote(each)}" for each in REQUIREMENTS)
    options = f"--extra-options {shlex.quote(SETTINGS)}"
    yield "Look at it:  " + f"datasette -i {file}"
    yield "Cloud Run:   " + f"datasette publish cloudrun {file} --service {name} --memory 1Gi \\"
    yield f"               {install} \\"
    yield f"               {options}"
    yield "Fly:         " + f"datasette publish fly {file} --app {name} \\"
    yield f"               {install} \\"
    yield f"               {options}"
    yield "Container:   " + f"datasette package {file} --tag {name} \\"
    yield f"               {install} \\"
    yield f"               {options}"


def _folder_commands(folder: Path) -> Iterator[str]:
    place = shlex.quote(str(folder))
    yield f"How to build and run it: {folder / 'README.txt'}"
    yield f"  docker build --tag pictures {place}"
    yield "  docker run --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges \\"
    yield "      --publish 8080:8080 pictures"
