"""The command clip-index. It imports heavy modules only when it runs."""

import json
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from ..common.config import CONFIG
from .command import Command, cli_errors
from .options import index_choice_of, index_options, model_option
from .terminal import say


@click.command(name="clip-index", cls=Command)
@click.argument("path", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@model_option
@index_options
@click.option("--status", is_flag=True, help="Check the index without building it")
@click.option("--json", "as_json", is_flag=True, help="Output JSON")
@click.option("--silent", is_flag=True, help="Print only errors, and the JSON of --json")
@cli_errors()
def clip_index(
    path: Path,
    model: str | None,
    index: str | None,
    memory: int | None,
    status: bool,
    as_json: bool,
    silent: bool,
) -> None:
    """Rebuild the index of a database, or check it

    The index is a file next to the database that makes searches fast. It is only a cache: if it is
    missing, damaged or out of date, searches compare every vector instead. embed-images builds the
    index, so you need this command only to change the kind of index, or to check it.

    Example:

    \b
        sqlite-utils clip-index photos.db --status
        sqlite-utils clip-index photos.db --memory 500MB
    """
    from ..database.connection import connect, explain_sqlite_errors, open_database
    from ..database.index.maintenance import ignore_progress, keep_index, status_of
    from ..database.model import choose_model
    from ..database.prepare import restore_database
    from .progress import IndexBar

    if status and (index or memory):
        raise click.UsageError("--status does not build an index. Leave out --index and --memory")
    bar = IndexBar()
    watch = ignore_progress if silent else bar.show
    started = time.monotonic()
    try:
        with (
            explain_sqlite_errors(path),
            closing(open_database(str(path)) if status else connect(path)) as db,
        ):
            mended = [] if status else restore_database(db)
            _, chosen = choose_model(db, model)
            if not status:
                keep_index(db, path, chosen, index_choice_of(index, memory), watch, force=True)
                db.execute("pragma wal_checkpoint(truncate)")
            seconds = time.monotonic() - started
            found = status_of(db, path, chosen, watch)
    finally:
        bar.close()
    report = _report(found, chosen.label, mended, None if status else seconds)
    if as_json:
        click.echo(json.dumps(report, indent=4))
        return
    if silent:
        return
    for name, value in _lines(report):
        say(f"{name + ':':<11}{value}")


def _report(status: Any, model: str, restored: list[str], seconds: float | None) -> dict[str, Any]:
    header = status.header
    report: dict[str, Any] = {
        "index": str(status.file),
        "problem": status.problem or None,
        "model": model,
        "kind": header.kind if header else None,
        "wanted_kind": header.choice.kind if header else None,
        "wanted_bytes": header.choice.memory if header else None,
        "pictures": status.pictures,
        "indexed": header.count if header else None,
        "changed_since": status.behind if header else None,
        "pictures_without_vector": status.without,
        "vectors_without_picture": status.lost,
        "restored": restored,
        "disk_bytes": status.bytes,
        "memory_bytes": status.memory,
        "recall_at_10": round(status.recall, 4),
        "recall_wanted": status.recall_wanted,
        "lists": header.effort.lists if header and header.recall is not None else None,
        "candidates": 10 * header.effort.depth if header and header.recall is not None else None,
    }
    if seconds is not None:
        report["seconds"] = round(seconds, 1)
    return report


def _lines(report: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "Index", report["index"]
    yield "Model", report["model"]
    if report["problem"]:
        yield "In use", f"no: {report['problem']}. Searches compare every vector"
        yield "Pictures", str(report["pictures"])
    else:
        yield "Kind", f"{report['kind']}  ({_search_method(report)})"
        changed = ", up to date"
        if since := report["changed_since"]:
            changed = f"; searches compare the {since} that have changed one by one"
        yield "Pictures", f"{report['pictures']}{changed}"
    if without := report["pictures_without_vector"]:
        yield "No vector", f"{without} pictures are not found until embed-images embeds them"
    if lost := report["vectors_without_picture"]:
        advice = "embed-images and clip-index delete them"
        yield "Lost", f"{lost} vectors have no picture and are not searched; {advice}"
    if report["restored"]:
        yield "Restored", ", ".join(report["restored"])
    if not report["problem"]:
        disk, memory = _format_size(report["disk_bytes"]), _format_size(report["memory_bytes"])
        yield "Size", f"{disk} on disk, {memory} in memory, shared by all processes"
    measure = "share of the true ten nearest that searches find, measured on a sample"
    yield "Recall@10", f"{report['recall_at_10']:.3f}  ({measure})"
    if report["wanted_kind"] not in (None, "auto", report["kind"]):
        least = f"{report['wanted_kind']} needs at least {CONFIG.index_at_least} pictures"
        yield "Note", f"{least}; with fewer, searches compare every vector"
    if (wanted := report["wanted_bytes"]) and (excess := report["memory_bytes"] - wanted) > 0:
        limit, more = _format_size(wanted), _format_size(excess)
        smallest = "; no kind of index is smaller" if report["wanted_kind"] == "auto" else ""
        yield "Note", f"the index exceeds the limit of {limit} by {more}{smallest}"
    if report["recall_at_10"] < report["recall_wanted"]:
        goal = f"the recall is below the goal of {report['recall_wanted']}"
        yield "Note", f"{goal}; allow more --memory or choose another --index"
    if "seconds" in report:
        yield "Seconds", f"{report['seconds']:.1f}"


def _search_method(report: dict[str, Any]) -> str:
    if not report["lists"]:
        return "searches compare every vector"
    return (
        f"searches probe {report['lists']} lists and choose the best ten of "
        f"{report['candidates']} candidates by their exact vectors"
    )


def _format_size(bytes: int) -> str:
    for unit in ("bytes", "KB", "MB"):
        if bytes < 1000:
            return f"{bytes:.0f} {unit}" if unit == "bytes" else f"{bytes:.1f} {unit}"
        bytes = bytes / 1000  # type: ignore[assignment]
    return f"{bytes:.2f} GB"
