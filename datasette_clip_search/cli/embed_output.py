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


def print_summary(path: Path, summary: EmbedReport) -> None:
    """Print what a run did, and its failures to standard error."""
    _list([f"{file}: {reason}" for file, reason in summary.failed])
    for name, value in _lines(shlex.quote(str(path)), summary):
        say(f"{name + ':':<14}{value}")


def explain_interruption(summary: EmbedReport) -> str:
    """Return what an interrupted run has finished, and what to do next."""
    text = "Interrupted. Finished pictures are stored; run the same command again to continue"
    if summary.lacks_text_tower:
        text += (
            ". The database has no text tower yet, so searches by words need torch until a run "
            "finishes"
        )
    return text


class PrintedWatch(Watcher):
    """Prints the summary of the first run, then a line for each change."""

    def __init__(self, path: Path):
        self.path = path

    def first_run(self, summary: EmbedReport) -> None:
        print_summary(self.path, summary)
        if summary.interrupted:
            say(explain_interruption(summary), err=True)
        else:
            say("Watching for changes. Press Ctrl-C to stop", err=True)

    def change(self, summary: EmbedReport) -> None:
        _list([f"{file}: {reason}" for file, reason in summary.failed])
        counts = {
            "embedded": summary.embedded,
            "copies": summary.copied,
            "moved": summary.moved,
            "deleted": summary.pruned,
            "failed": len(summary.failed),
            "restored": len(summary.restored),
        }
        changes = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        say(f"{time.strftime('%H:%M:%S')}  {changes}")

    def kept(self, summary: EmbedReport) -> None:
        now, database = time.strftime("%H:%M:%S"), shlex.quote(str(self.path))
        for kept in summary.kept:
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


def _lines(database: str, summary: EmbedReport) -> Iterator[tuple[str, str]]:
    yield "Embedded", str(summary.embedded)
    if summary.copied:
        yield "Copies", f"{summary.copied}  (the same content as pictures that are embedded)"
    if summary.moved:
        yield "Moved", f"{summary.moved}  (renamed or moved files, which keep their rows)"
    yield "Unchanged", str(summary.unchanged)
    failed = len(summary.failed) + summary.failed_before
    see = f"  (see: sqlite-utils rows {database} clip_failures)" if failed else ""
    yield "Failed", f"{failed}{see}"
    if summary.missing:
        some = ", ".join(summary.missing[:3]) + (", …" if len(summary.missing) > 3 else "")
        yield "Missing", f"{len(summary.missing)}  ({some}; --prune deletes their rows)"
    if summary.pruned:
        yield "Deleted", f"{summary.pruned}  (rows of pictures that are gone or excluded)"
    if summary.keyed:
        replaced = f"; {summary.rekeyed} replaced another row's key" if summary.rekeyed else ""
        yield "Keys", f"{summary.keyed} set  (for pictures embedded earlier{replaced})"
    if summary.without_vector:
        advice = "searches by this model do not find them; embed their files"
        yield "No vector", f"{summary.without_vector}  ({advice})"
    if summary.restored:
        yield "Restored", ", ".join(summary.restored)
    for kept in summary.kept:
        yield "Kept", f"{kept.pictures}  ({explain_kept(database, kept)})"
    if summary.excluded_before:
        advice = "embedded earlier, but excluded now; --prune deletes their rows"
        yield "Excluded", f"{summary.excluded_before}  ({advice})"
    if others := sum(summary.others.values()):
        kinds = ", ".join(f"{count} {kind}" for kind, count in summary.others.most_common(5))
        yield "Not pictures", f"{others}  ({kinds})"
    skipped = {
        "hidden": summary.hidden,
        "links to folders" if summary.links != 1 else "link to a folder": summary.links,
        "excluded": summary.excluded,
    }
    if any(skipped.values()):
        kinds = ", ".join(f"{count} {kind}" for kind, count in skipped.items() if count)
        yield "Skipped", kinds
    yield "Table", summary.table
    yield "Model", summary.model
    if summary.used and summary.other_default:
        this, other = summary.used, summary.other_default
        ids = f"model {other.id}, {other.label}, with {other.pictures} pictures"
        switch = f'sqlite-utils {database} "update clip_models set is_default = (id = {this.id})"'
        yield "Searches", f"use {ids}; to use the model of this run, with {this.pictures}: {switch}"
    if summary.device:
        yield "Device", f"{summary.device}, {summary.precision}{_gain(summary)}"
    if summary.text_tower:
        yield "Text queries", _tower_line(summary.text_tower, TEXT in summary.copied_towers)
    if summary.image_tower:
        yield "By pictures", _tower_line(summary.image_tower, IMAGE in summary.copied_towers)
    for note in summary.notes:
        yield "Note", note
    embedding = ""
    if summary.embedded and summary.embedding_seconds:
        rate = summary.embedded / summary.embedding_seconds
        seconds = f"{summary.embedding_seconds:.1f}"
        embedding = f"  ({seconds} for embedding, {rate:.1f} pictures/s)"
    yield "Seconds", f"{summary.seconds:.1f}{embedding}"
    if summary.index:
        yield "Index", f"{summary.index}{'' if summary.index_rebuilt else '  (up to date)'}"


def _tower_line(report: TowerReport, was_copied: bool) -> str:
    """Return how queries are encoded from now on, and why not as requested."""
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


def _gain(summary: EmbedReport) -> str:
    if summary.speedup is None or summary.cosine is None:
        return ""
    gain = f"{summary.speedup:.1f} times as fast as fp32 in torch"
    return f"  ({gain}, cosine at least {summary.cosine:.5f})"
