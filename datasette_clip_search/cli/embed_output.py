"""The output of embed-images: progress, the summary, and changes while watching."""

import math
import shlex
import time
from collections.abc import Iterator
from pathlib import Path

import click

from ..common.terminal_text import visible
from ..embedding.reach import KeptPlace
from ..embedding.report import EmbedProgress, EmbedReport, Watcher
from ..embedding.request import deletion
from ..models.open_clip_library import INSTALL
from ..models.towers.making.keep import TowerReport
from ..models.towers.stored import IMAGE, TEXT
from .progress import IndexBar, ProgressBar
from .terminal import say

# The most failures that are listed; the rest are only counted.
SHOWN = 10


class EmbedBar(EmbedProgress):
    """The progress of embedding, shown on standard error."""

    def __init__(self) -> None:
        self._bar = ProgressBar(rate=".1f")
        self._index_bar = IndexBar()

    def loading(self, model: str) -> None:
        if self._bar.was_started:
            say(err=True)
        say(f"Loading {model}", err=True)

    def start(self, pictures: int) -> None:
        self._bar.start("Embedding", pictures)

    def advance(self, pictures: int) -> None:
        self._bar.advance(pictures)

    def making_tower(self, tower: str) -> None:
        say(f"Making the {tower} tower, so that {tower} queries run without torch", err=True)

    def finishing(self) -> None:
        click.echo(
            "\nFinishing the pictures in progress and the index. "
            "Press Ctrl-C again to stop at once",
            err=True,
        )

    def finish(self) -> None:
        self._bar.finish()

    def indexing(self, what: str, done: int, of: int) -> None:
        self._index_bar.show(what, done, of)


def print_summary(path: Path, report: EmbedReport) -> None:
    """Print what a run did, and its failures to standard error."""
    _list([f"{file}: {reason}" for file, reason in report.failed])
    for name, value in _lines(shlex.quote(str(path)), report):
        say(f"{name + ':':<14}{value}")


def explain_interruption(report: EmbedReport) -> str:
    """Return what an interrupted run has finished, and what to do next."""
    text = "Interrupted. Finished pictures are stored; run the same command again to continue"
    if report.lacks_text_tower:
        text += (
            ". The database has no text tower yet, so searches by words need torch until a run "
            "finishes"
        )
    return text


class PrintedWatch(Watcher):
    """Prints the summary of the first run, then a line for each change."""

    def __init__(self, path: Path):
        self.path = path

    def first_run(self, report: EmbedReport) -> None:
        print_summary(self.path, report)
        if report.interrupted:
            say(explain_interruption(report), err=True)
        else:
            say("Watching for changes. Press Ctrl-C to stop", err=True)

    def change(self, report: EmbedReport) -> None:
        _list([f"{file}: {reason}" for file, reason in report.failed])
        counts = {
            "embedded": report.embedded,
            "copies": report.copied,
            "moved": report.moved,
            "deleted": report.pruned,
            "failed": len(report.failed),
            "restored": len(report.restored),
        }
        changes = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        say(f"{time.strftime('%H:%M:%S')}  {changes}")

    def kept(self, report: EmbedReport) -> None:
        now, database = time.strftime("%H:%M:%S"), shlex.quote(str(self.path))
        for kept in report.kept:
            say(f"{now}  {kept.pictures} kept: {explain_kept(database, kept)}", err=True)

    def note(self, text: str) -> None:
        say(text, err=True)

    def problem(self, error: str) -> None:
        # Some of our messages have several lines.
        shown = visible(error, keep="\n")
        click.echo(f"{time.strftime('%H:%M:%S')}  {shown}", err=True)

    def stopped(self) -> None:
        say("Stopped watching", err=True)


def _list(lines: list[str]) -> None:
    for line in lines[:SHOWN]:
        say(line, err=True)
    if len(lines) > SHOWN:
        say(f"and {len(lines) - SHOWN} more", err=True)


def _lines(database: str, report: EmbedReport) -> Iterator[tuple[str, str]]:
    yield "Embedded", str(report.embedded)
    if report.copied:
        yield "Copies", f"{report.copied}  (the same content as pictures that are embedded)"
    if report.moved:
        yield "Moved", f"{report.moved}  (renamed or moved files, which keep their rows)"
    yield "Unchanged", str(report.unchanged)
    failed = len(report.failed) + report.failed_before
    see = f"  (see: sqlite-utils rows {database} clip_failures)" if failed else ""
    yield "Failed", f"{failed}{see}"
    if report.missing:
        some = ", ".join(report.missing[:3]) + (", …" if len(report.missing) > 3 else "")
        yield "Missing", f"{len(report.missing)}  ({some}; --prune deletes their rows)"
    if report.pruned:
        yield "Deleted", f"{report.pruned}  (rows of pictures that are gone or excluded)"
    if report.keyed:
        replaced = f"; {report.rekeyed} replaced another row's key" if report.rekeyed else ""
        yield "Keys", f"{report.keyed} set  (for pictures embedded earlier{replaced})"
    if report.without_vector:
        advice = "searches by this model do not find them; embed their files"
        yield "No vector", f"{report.without_vector}  ({advice})"
    if report.restored:
        yield "Restored", ", ".join(report.restored)
    for kept in report.kept:
        yield "Kept", f"{kept.pictures}  ({explain_kept(database, kept)})"
    if report.excluded_before:
        advice = "embedded earlier, but excluded now; --prune deletes their rows"
        yield "Excluded", f"{report.excluded_before}  ({advice})"
    if others := sum(report.others.values()):
        kinds = ", ".join(f"{count} {kind}" for kind, count in report.others.most_common(5))
        yield "Not pictures", f"{others}  ({kinds})"
    skipped = {
        "hidden": report.hidden,
        "links to folders" if report.links != 1 else "link to a folder": report.links,
        "excluded": report.excluded,
    }
    if any(skipped.values()):
        kinds = ", ".join(f"{count} {kind}" for kind, count in skipped.items() if count)
        yield "Skipped", kinds
    yield "Table", report.table
    yield "Model", report.model
    if report.used and report.other_default:
        this, other = report.used, report.other_default
        ids = f"model {other.id}, {other.label}, with {other.pictures} pictures"
        switch = f'sqlite-utils {database} "update clip_models set is_default = (id = {this.id})"'
        yield "Searches", f"use {ids}; to use the model of this run, with {this.pictures}: {switch}"
    if report.device:
        yield "Device", f"{report.device}, {report.precision}{_gain(report)}"
    if report.text_tower:
        yield "Text queries", _tower_line(report.text_tower, TEXT in report.copied_towers)
    if report.image_tower:
        yield "By pictures", _tower_line(report.image_tower, IMAGE in report.copied_towers)
    for note in report.notes:
        yield "Note", note
    embedding = ""
    if report.embedded and report.embedding_seconds:
        rate = report.embedded / report.embedding_seconds
        seconds = f"{report.embedding_seconds:.1f}"
        embedding = f"  ({seconds} for embedding, {rate:.1f} pictures/s)"
    yield "Seconds", f"{report.seconds:.1f}{embedding}"
    if report.index:
        yield "Index", f"{report.index}{'' if report.index_rebuilt else '  (up to date)'}"


def _tower_line(report: TowerReport, was_copied: bool) -> str:
    """Return how queries will be encoded, and why not as requested."""
    now = _figures(report)
    if report.seconds is not None:
        notes = "".join(f"; not {rejection}" for rejection in report.rejections)
        return f"{now}  (made in {report.seconds:.1f} s{notes})"
    if report.figures:
        now += "  (copied from the folder of the model)" if was_copied else "  (up to date)"
    if not report.missing and not report.problem:
        return now if report.figures else f"{now} (--{report.kind}-tower none)"
    if report.wanted is None:
        return report.problem
    which = f"{report.wanted} tower" if report.figures else f"{report.kind} tower"
    if report.missing:
        packages = " and ".join(report.missing)
        return f"{now}; no {which} was made, because it needs {packages}. Run: {INSTALL}"
    return f"{now}; no {which} was made: {report.problem}"


def _figures(report: TowerReport) -> str:
    figures = report.figures
    if figures is None:
        return "need torch"
    size = figures.bytes / 1e6
    parts = [f"{figures.precision} {report.kind} tower", f"{size:.{1 if size < 10 else 0}f} MB"]
    # Rounded down, because it is a lower bound.
    parts.append(f"cosine at least {math.floor(figures.cosine * 10_000) / 10_000:.4f}")
    if figures.agreement is not None:
        parts.append(f"{figures.agreement:.1%} of the ten best pictures are the same")
    if figures.needs:
        parts.append(f"needs the package {figures.needs} (pip install {figures.needs})")
    return ", ".join(parts)


def explain_kept(database: str, kept: KeptPlace) -> str:
    """Return why pictures that were not found are kept, and the command that deletes them."""
    return (
        f"not found in {kept.shown}, perhaps because a disk is not mounted. To delete their rows: "
        f"{deletion(database, kept)}"
    )


def _gain(report: EmbedReport) -> str:
    if report.speedup is None or report.cosine is None:
        return ""
    gain = f"{report.speedup:.1f} times as fast as fp32 in torch"
    return f"  ({gain}, cosine at least {report.cosine:.5f})"
