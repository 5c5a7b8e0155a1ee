"""What a run of embed-images looks like in a terminal."""

import math
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from ..common.terminal_text import say, visible
from ..embedding.reach import KeptPlace
from ..embedding.report import EmbedProgress, EmbedReport, Watcher
from ..embedding.request import deletion
from ..models.open_clip_library import INSTALL
from ..models.towers.making.keep import TowerReport

# Paths of a kind that are listed before it says how many more there are.
SHOWN = 10


class IndexBar:
    """Progress bars of an index that takes longer than a moment to build, one for each stage."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._what = ""
        self._started = time.monotonic()

    def show(self, what: str, done: int, of: int) -> None:
        """Is told what is being done, how much of it is done, and how much there is of it."""
        if time.monotonic() - self._started < 1:
            return
        if what != self._what:
            self.close()
            self._what = what
            self._bar = click.progressbar(
                length=of, label=f"{what:<9}", show_pos=True, file=sys.stderr
            )
            self._bar.__enter__()
        self._bar.update(done - self._bar.pos)
        if done >= of:
            self.close()

    def close(self) -> None:
        """Ends the line of the stage that was shown last."""
        if self._bar:
            self._bar.__exit__(None, None, None)
        self._bar, self._what = None, ""


class Bar(EmbedProgress):
    """A progress bar on standard error, with the time left and the rate."""

    def __init__(self) -> None:
        self.bar: Any = None
        self.index_bar = IndexBar()

    def loading(self, model: str) -> None:
        if self.bar:
            say(err=True)
        say(f"Loading {model}", err=True)

    def start(self, pictures: int) -> None:
        started = time.monotonic()

        def rate(_: object) -> str:
            seconds = time.monotonic() - started
            return f"{self.bar.pos / seconds:.1f} pictures/s" if self.bar.pos else ""

        self.bar = click.progressbar(
            length=pictures, label="Embedding", item_show_func=rate, show_pos=True,
            file=sys.stderr,
        )  # fmt: skip
        self.bar.__enter__()

    def advance(self, pictures: int) -> None:
        self.bar.update(pictures, object())

    def making_tower(self, tower: str) -> None:
        say(f"Making the {tower} tower, for {tower} queries without torch", err=True)

    def finishing(self) -> None:
        click.echo(
            "\nFinishing what is under way, and the index. Ctrl-C again stops at once", err=True
        )

    def finish(self) -> None:
        self.bar.__exit__(None, None, None)

    def indexing(self, what: str, done: int, of: int) -> None:
        self.index_bar.show(what, done, of)


def progress(silent: bool) -> EmbedProgress:
    """Returns what tells a person how far a run is, or keeps silent."""
    return EmbedProgress() if silent else Bar()


def print_summary(path: Path, summary: EmbedReport) -> None:
    """Prints what a run did, and to standard error what it could not do."""
    _list([f"{file}: {reason}" for file, reason in summary.failed])
    for name, value in _lines(shlex.quote(str(path)), summary):
        say(f"{name + ':':<14}{value}")


def interruption(summary: EmbedReport) -> str:
    """Returns what became of the work of a run that was interrupted, and what to do."""
    told = "Interrupted. What was embedded is kept; run the same command again to go on"
    if summary.lacks_text_tower:
        told += (
            ". Until a run has ended by itself, words find the pictures only where torch is "
            "installed: the database has no text tower yet"
        )
    return told


class PrintedWatch(Watcher):
    """Prints a summary, and then a line for each change."""

    def __init__(self, path: Path):
        self.path = path

    def first_run(self, summary: EmbedReport) -> None:
        print_summary(self.path, summary)
        if summary.interrupted:
            say(interruption(summary), err=True)
        else:
            say("Watching for changes; Ctrl-C ends it", err=True)

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
        done = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
        say(f"{time.strftime('%H:%M:%S')}  {done}")

    def kept(self, summary: EmbedReport) -> None:
        now, database = time.strftime("%H:%M:%S"), shlex.quote(str(self.path))
        for kept in summary.kept:
            say(f"{now}  {kept.pictures} kept: {why_kept(database, kept)}", err=True)

    def note(self, text: str) -> None:
        say(text, err=True)

    def problem(self, error: str) -> None:
        # Some of our messages are lists.
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
        yield "Copies", f"{summary.copied}  (of pictures that are embedded already)"
    if summary.moved:
        yield "Moved", f"{summary.moved}  (renamed or moved files; their rows are kept)"
    yield "Unchanged", str(summary.unchanged)
    failed = len(summary.failed) + summary.failed_before
    see = f"  (see: sqlite-utils rows {database} clip_failures)" if failed else ""
    yield "Failed", f"{failed}{see}"
    if summary.missing:
        some = ", ".join(summary.missing[:3]) + (", …" if len(summary.missing) > 3 else "")
        yield "Missing", f"{len(summary.missing)}  ({some}; --prune deletes them)"
    if summary.pruned:
        yield "Deleted", f"{summary.pruned}  (their files or rows are gone)"
    if summary.keyed:
        instead = f", {summary.rekeyed} in place of another row's" if summary.rekeyed else ""
        yield "Keys", f"{summary.keyed} set  (of pictures embedded before{instead})"
    if summary.without_vector:
        why = "pictures without a vector of this model are not found; embed their files"
        yield "No vector", f"{summary.without_vector}  ({why})"
    if summary.restored:
        yield "Restored", ", ".join(summary.restored)
    for kept in summary.kept:
        yield "Kept", f"{kept.pictures}  ({why_kept(database, kept)})"
    if summary.excluded_before:
        also = "embedded before, and excluded now; --prune deletes them"
        yield "Excluded", f"{summary.excluded_before}  ({also})"
    if others := sum(summary.others.values()):
        kinds = ", ".join(f"{count} {kind}" for kind, count in summary.others.most_common(5))
        yield "Not pictures", f"{others}  ({kinds})"
    passed_over = {
        "hidden": summary.hidden,
        "links to folders" if summary.links != 1 else "link to a folder": summary.links,
        "excluded": summary.excluded,
    }
    if any(passed_over.values()):
        kinds = ", ".join(f"{count} {kind}" for kind, count in passed_over.items() if count)
        yield "Passed over", kinds
    yield "Table", summary.table
    yield "Model", summary.model
    if summary.used and summary.other_default:
        this, other = summary.used, summary.other_default
        ids = f"model {other.id}, {other.label}, with {other.pictures} pictures"
        switch = f'sqlite-utils {database} "update clip_models set is_default = (id = {this.id})"'
        yield "Searches", f"use {ids}; to use this one, with {this.pictures}: {switch}"
    if summary.device:
        yield "Device", f"{summary.device}, {summary.precision}{_gain(summary)}"
    if summary.text_tower:
        yield "Text queries", _tower_line(summary.text_tower)
    if summary.image_tower:
        yield "By pictures", _tower_line(summary.image_tower)
    for note in summary.notes:
        yield "Note", note
    embedding = ""
    if summary.embedded and summary.embedding_seconds:
        rate = summary.embedded / summary.embedding_seconds
        embedding = f", of which {summary.embedding_seconds:.1f} embedding ({rate:.1f} pictures/s)"
    yield "Seconds", f"{summary.seconds:.1f}{embedding}"
    if summary.index:
        yield "Index", f"{summary.index}{'' if summary.index_rebuilt else '  (up to date)'}"


def _tower_line(report: TowerReport) -> str:
    """Return how queries are encoded from now on, and why not as was asked."""
    now = _figures(report)
    if report.seconds is not None:
        notes = "".join(f"; not {rejection}" for rejection in report.rejections)
        return f"{now}  (made in {report.seconds:.1f} s{notes})"
    now += "  (up to date)" if report.figures else ""
    if not report.missing and not report.problem:
        return now if report.figures else f"{now} (--{report.kind}-tower none)"
    if report.wanted is None:
        return report.problem
    which = f"{report.wanted} tower" if report.figures else f"{report.kind} tower"
    if report.missing:
        packages = " and ".join(report.missing)
        return f"{now}; no {which} was made, which takes {packages}. Run: {INSTALL}"
    return f"{now}; no {which} was made: {report.problem}"


def _figures(report: TowerReport) -> str:
    figures = report.figures
    if figures is None:
        return "need torch"
    size = figures.bytes / 1e6
    parts = [f"{figures.precision} {report.kind} tower", f"{size:.{1 if size < 10 else 0}f} MB"]
    # Rounded down, as the least it is.
    parts.append(f"cosine at least {math.floor(figures.cosine * 10_000) / 10_000:.4f}")
    if figures.agreement is not None:
        parts.append(f"finds {figures.agreement:.1%} of the same pictures")
    if figures.needs:
        parts.append(f"takes the package {figures.needs} (pip install {figures.needs})")
    return ", ".join(parts)


def why_kept(database: str, kept: KeptPlace) -> str:
    """Returns why pictures that are not there are kept, and how they are deleted all the same."""
    return (
        f"{kept.shown} does not show them, as where a disk is not mounted. If they are gone for "
        f"good: {deletion(database, kept)}"
    )


def _gain(summary: EmbedReport) -> str:
    if summary.speedup is None or summary.cosine is None:
        return ""
    gain = f"{summary.speedup:.1f} times as fast as torch's own fp32"
    return f"  ({gain}, cosine at least {summary.cosine:.5f})"
