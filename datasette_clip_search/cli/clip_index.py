"""The command clip-index. Everything heavy is imported when it runs."""

import json
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from ..common.config import CONFIG
from ..common.errors import ClipSearchError
from ..common.terminal_text import say
from .command import Command
from .index_options import index_choice_of, index_options
from .options import model_option


@click.command(name="clip-index", cls=Command)
@click.argument("path", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@model_option
@index_options
@click.option("--status", is_flag=True, help="Build nothing; tell how the index is, and how good")
@click.option("--json", "as_json", is_flag=True, help="Output JSON")
@click.option("--silent", is_flag=True, help="Show no progress")
def clip_index(
    path: Path,
    model: str | None,
    index: str | None,
    memory: int | None,
    status: bool,
    as_json: bool,
    silent: bool,
) -> None:
    """Build the index of a database anew, or look at it

    The index is a file beside the database that makes searches fast. It is only ever a cache:
    without it, and where it is out of date or damaged, searches find the same. embed-images builds
    it, so that this is needed only to change its kind or to look at it.

    Example:

    \b
        sqlite-utils clip-index photos.db --status
        sqlite-utils clip-index photos.db --memory 500MB
    """
    from ..database.connection import connect, explain_sqlite_errors, open_database
    from ..database.index.maintenance import ignore_progress, keep_index, status_of
    from ..database.model import choose_model
    from ..database.prepare import restore_database
    from .embed_output import IndexBar

    if status and (index or memory):
        raise click.UsageError("--status builds nothing; leave out --index and --memory")
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
    except ClipSearchError as error:
        raise click.ClickException(str(error)) from error
    finally:
        bar.close()
    told = _told(found, chosen.label, mended, None if status else seconds)
    if as_json:
        click.echo(json.dumps(told, indent=4))
        return
    for name, value in _lines(told):
        say(f"{name + ':':<11}{value}")


def _told(status: Any, model: str, restored: list[str], seconds: float | None) -> dict[str, Any]:
    header = status.header
    told: dict[str, Any] = {
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
        told["seconds"] = round(seconds, 1)
    return told


def _lines(told: dict[str, Any]) -> list[tuple[str, str]]:
    lines = [("Index", told["index"]), ("Model", told["model"])]
    if told["problem"]:
        lines.append(("In use", f"no: {told['problem']}. Searches look at every vector"))
    else:
        searches = "every vector is looked at"
        if told["lists"]:
            searches = (
                f"{told['lists']} lists are looked through; of {told['candidates']} candidates the "
                "exact vectors choose ten"
            )
        lines.append(("Kind", f"{told['kind']}  ({searches})"))
    since = told["changed_since"]
    changed = f"; {since} changed since are scored beside it" if since else ", up to date"
    lines.append(("Pictures", f"{told['pictures']}{'' if told['problem'] else changed}"))
    if without := told["pictures_without_vector"]:
        lines.append(("No vector", f"{without} pictures are not found; embed-images embeds them"))
    if lost := told["vectors_without_picture"]:
        again = "embed-images and clip-index delete them"
        lines.append(("Lost", f"{lost} vectors without a picture are not searched; {again}"))
    if told["restored"]:
        lines.append(("Restored", ", ".join(told["restored"])))
    if not told["problem"]:
        sizes = f"{_size(told['disk_bytes'])} on disk"
        lines.append(("Size", f"{sizes}, {_size(told['memory_bytes'])} in memory, shared"))
    recall = f"{told['recall_at_10']:.3f}  (of the ten nearest pictures, measured with a sample)"
    lines.append(("Recall@10", recall))
    if told["wanted_kind"] not in (None, "auto", told["kind"]):
        few = f"{told['wanted_kind']} is for {CONFIG.index_at_least} pictures or more"
        lines.append(("Note", f"{few}; of fewer, every one is looked at"))
    if told["memory_bytes"] > (told["wanted_bytes"] or told["memory_bytes"]):
        lines.append(("Note", f"no kind takes as little as {_size(told['wanted_bytes'])}"))
    if told["recall_at_10"] < told["recall_wanted"]:
        more = f"less than {told['recall_wanted']}; more memory, or another --index, finds more"
        lines.append(("Note", more))
    if "seconds" in told:
        lines.append(("Seconds", f"{told['seconds']:.1f}"))
    return lines


def _size(bytes: int) -> str:
    for unit in ("bytes", "KB", "MB"):
        if bytes < 1000:
            return f"{bytes:.0f} {unit}" if unit == "bytes" else f"{bytes:.1f} {unit}"
        bytes = bytes / 1000  # type: ignore[assignment]
    return f"{bytes:.2f} GB"
