"""The commands that sqlite-utils gains. Everything heavy is imported when a command runs."""

import contextlib
import logging
import shlex
import sqlite3
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from sqlite_utils import hookimpl

from .config import CONFIG

if TYPE_CHECKING:
    from .report import Progress, Summary


@hookimpl
def register_commands(cli: click.Group) -> None:
    """Adds the commands to sqlite-utils."""
    cli.add_command(embed_images)


@hookimpl
def prepare_connection(conn: sqlite3.Connection) -> None:
    """Adds the SQL functions to every connection of sqlite-utils."""
    # An exception here would end every command of sqlite-utils, whatever its business.
    with contextlib.suppress(Exception):
        from . import sql

        sql.add_functions(conn)


@click.command(name="embed-images")
@click.argument("path", type=click.Path(path_type=Path))
@click.argument("pictures", nargs=-1, required=True, type=click.Path())
@click.option(
    "--table", help=f"Table for the pictures' facts in a new database  [default: {CONFIG.table}]"
)
@click.option(
    "--model",
    help="OpenCLIP model, such as ViT-L-14 or hf-hub:ORG/NAME  "
    f"[default: the database's own, else {CONFIG.model}]",
)
@click.option(
    "--pretrained",
    help="Tag of OpenCLIP's weights for the model, or a local checkpoint: a weights file, or a "
    f"folder with its open_clip_config.json  [default: {CONFIG.pretrained}]",
)
@click.option(
    "--device",
    default="auto",
    show_default=True,
    help="auto, cpu, cuda, cuda:1, mps: where the model runs",
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "bf16", "fp16"]),
    default="fp32",
    show_default=True,
    help="Number format of the model; refused where it would change the vectors",
)
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    help="Pictures in one pass through the model  "
    f"[default: {CONFIG.cpu_batch_size}, or {CONFIG.gpu_batch_size} on a GPU]",
)
@click.option(
    "--max-megapixels",
    type=click.FloatRange(min=0, min_open=True),
    default=CONFIG.max_megapixels,
    show_default=True,
    help="Refuse larger pictures, which could fill the memory",
)
@click.option("--silent", is_flag=True, help="Print nothing but errors")
def embed_images(path: Path, pictures: tuple[str, ...], silent: bool, **options: Any) -> None:
    """Embed pictures with an OpenCLIP model, to search them by meaning

    PICTURES are folders, which are searched through, or single files.

    Their vectors, thumbnails and EXIF facts go into tables of the SQLite database at PATH, and a
    FAISS index file beside it. Running it again embeds only what is new or changed.

    Example:

    \b
        sqlite-utils embed-images photos.db ~/Pictures
        sqlite-utils photos.db "select * from clip_search('dog on beach', 10)"
    """
    from .embed import Options, embed_images
    from .errors import ClipSearchError

    try:
        with _quiet_libraries():
            summary = embed_images(path, pictures, Options(**options), _progress(silent))
    except ClipSearchError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from error
    if not silent:
        _print_summary(path, summary)
    if summary.interrupted:
        raise click.ClickException(
            "Interrupted. What was embedded is kept; run the same command again to go on"
        )


@contextlib.contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Keeps the logs and warnings of torch, Pillow and the hub out of the terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _progress(silent: bool) -> "Progress":
    from .report import Progress

    class Bar(Progress):
        """A progress bar on standard error, with the time left and the rate."""

        def __init__(self) -> None:
            self.bar: Any = None

        def loading(self, model: str) -> None:
            click.echo(f"Loading {model}", err=True)

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

        def finish(self) -> None:
            self.bar.__exit__(None, None, None)

    return Progress() if silent else Bar()


def _print_summary(path: Path, summary: "Summary") -> None:
    for file, reason in summary.failed[:10]:
        click.echo(f"{file}: {reason}", err=True)
    if len(summary.failed) > 10:
        click.echo(f"and {len(summary.failed) - 10} more", err=True)
    failed = len(summary.failed) + summary.failed_before
    database = shlex.quote(str(path))
    see = f"  (see: sqlite-utils rows {database} clip_failures)" if failed else ""
    copied = f", {summary.copied} copied from equal files" if summary.copied else ""
    lines = [
        ("Embedded", f"{summary.embedded}{copied}"),
        ("Unchanged", str(summary.unchanged)),
        ("Failed", f"{failed}{see}"),
    ]
    if summary.missing:
        lines.append(("Missing", f"{summary.missing}  (no longer there, but still found)"))
    if others := sum(summary.others.values()):
        kinds = ", ".join(f"{count} {kind}" for kind, count in summary.others.most_common(5))
        lines.append(("Not pictures", f"{others}  ({kinds})"))
    lines.append(("Table", summary.table))
    lines.append(("Model", summary.model))
    if summary.other_default:
        name, used = summary.other_default
        switch = f'sqlite-utils {database} "update clip_models set is_default = (id = {used})"'
        lines.append(("Searches", f"use {name}; to use this model: {switch}"))
    if summary.device:
        lines.append(("Device", f"{summary.device}, {summary.precision}"))
    lines.append(("Seconds", f"{summary.seconds:.1f}"))
    if summary.index:
        lines.append(
            ("Index", f"{summary.index}{'' if summary.index_rebuilt else '  (up to date)'}")
        )
    for name, value in lines:
        click.echo(f"{name + ':':<14}{value}")
