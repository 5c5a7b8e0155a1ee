"""The output of clip-publish: progress, the report, and the commands to run next."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from ..publish import PublishProgress, PublishReport
from ..publish.server_folder import REQUIREMENTS, SETTINGS
from .progress import ProgressBar
from .terminal import say


class PublishBar(PublishProgress):
    """The progress of publishing, shown on standard error."""

    def __init__(self) -> None:
        self._bar = ProgressBar(rate=",.0f")

    def start(self, what: str, pictures: int) -> None:
        self._bar.start(what, pictures)

    def advance(self, pictures: int) -> None:
        self._bar.advance(pictures)

    def finish(self) -> None:
        self._bar.finish()


def print_report(report: PublishReport, folder: Path | None) -> None:
    """Print what was published, and how to deploy it."""
    of = ""
    if report.pictures != report.pictures_at_home:
        of = f" of {report.pictures_at_home:,}"
    lines = [
        ("Published", f"{report.pictures:,}{of} picture{'' if report.pictures == 1 else 's'}"),
        ("Model" if len(report.models) == 1 else "Models", ", ".join(report.models)),
    ]
    if report.revealed:
        lines.append(("Reveals", f"{', '.join(report.revealed)}  (--drop FACT leaves one out)"))
    if report.left_out:
        lines.append(("Left out", f"{', '.join(report.left_out)}  (--keep FACT publishes one)"))
    if report.recall is not None:
        lines.append(
            (
                "Recall@10",
                f"{report.recall:.4f}  (share of the ten nearest by the original vectors that "
                f"searches find, measured with {report.asked} pictures)",
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
        say(warning, err=True)
    if not report.has_words:
        say(
            "The database has no text tower, so searches by words work only where torch is "
            "installed. Searches by its own pictures and SQL work everywhere",
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
    yield "Try it:      " + f"datasette -i {file}"
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
