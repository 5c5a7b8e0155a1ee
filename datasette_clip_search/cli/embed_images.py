"""The command embed-images. Everything heavy is imported when it runs."""

import sys
from pathlib import Path
from typing import Any

import click

from ..common.config import CONFIG
from .command import Command
from .index_options import index_choice_of, index_options


@click.command(name="embed-images", cls=Command)
@click.argument("path", type=click.Path(path_type=Path))
@click.argument("pictures", nargs=-1, type=click.Path())
@click.option(
    "--sql",
    metavar="SELECT",
    help="Take pictures from the database itself: a query for a key and a blob or path, such as "
    '"select id, data from photos"',
)
@click.option(
    "--exclude",
    multiple=True,
    metavar="PATTERN",
    help="Pass over files and folders of this name or path, such as '*.gif' or private; repeatable",
)
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
    type=click.Choice(["auto", "fp32", "bf16", "fp16", "int8"]),
    default="auto",
    show_default=True,
    help="Number format of the model; auto is the fastest here that makes the same vectors. int8 "
    "is checked with your pictures before it is used",
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
@click.option(
    "--text-tower",
    type=click.Choice(["auto", "8-bit", "16-bit", "32-bit", "none"]),
    default="auto",
    show_default=True,
    help="Precision of what is kept in the database for text queries without torch; auto is the "
    "smallest here that finds the same",
)
@click.option(
    "--with-image-search",
    is_flag=True,
    help="Also keep what pictures that are not in the database are searched with, and new ones "
    "embedded, without torch",
)
@click.option(
    "--image-tower",
    type=click.Choice(["auto", "8-bit", "16-bit", "32-bit", "none"]),
    help="Precision of what --with-image-search keeps; auto, the default there, is 16-bit, or else "
    "32-bit",
)
@click.option("--no-thumbnails", is_flag=True, help="Keep no small pictures to show")
@index_options
@click.option("--rehash", is_flag=True, help="Compare contents where size and time are unchanged")
@click.option("--retry-failed", is_flag=True, help="Try again what failed, though it is unchanged")
@click.option("--prune", is_flag=True, help="Delete pictures whose files are gone")
@click.option("--watch", is_flag=True, help="Go on, with every change of the files, until Ctrl-C")
@click.option(
    "--poll",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="With --watch: look at the files every so many seconds, where the system does not tell of "
    f"changes, as on network drives  [default: {CONFIG.poll_seconds:g}, there alone]",
)
@click.option("--strict", is_flag=True, help="End with exit status 1 if any picture failed")
@click.option("--silent", is_flag=True, help="Print nothing but errors")
def embed_images(
    path: Path,
    pictures: tuple[str, ...],
    silent: bool,
    strict: bool,
    watch: bool,
    poll: float | None,
    no_thumbnails: bool,
    index: str | None,
    memory: int | None,
    with_image_search: bool,
    image_tower: str | None,
    **options: Any,
) -> None:
    """Embed pictures with an OpenCLIP model, to search them by meaning

    PICTURES are folders, which are searched through, files, globs, tar and zip
    archives, or - for a list of paths on standard input.

    Their vectors, thumbnails and EXIF facts go into tables of the SQLite database at PATH, and a
    FAISS index file beside it. Running it again embeds only what is new or changed.

    Example:

    \b
        sqlite-utils embed-images photos.db ~/Pictures
        sqlite-utils photos.db "select * from clip_search('dog on beach', 10)"
    """
    from ..common.errors import ClipSearchError
    from ..embedding import EmbedOptions, embed_images
    from ..embedding.report import Watcher
    from .embed_output import PrintedWatch, interruption, print_summary, progress
    from .quiet import quiet_libraries

    if not pictures and options["sql"] is None:
        raise click.UsageError("Say which pictures: folders, files, archives, or --sql")
    if poll is not None and not watch:
        raise click.UsageError("--poll says how --watch is to look for changes")
    choice = index_choice_of(index, memory)
    if with_image_search and image_tower == "none":
        raise click.UsageError("--with-image-search keeps what --image-tower none deletes")
    options["image_tower"] = image_tower or ("auto" if with_image_search else None)
    chosen = EmbedOptions(thumbnails=not no_thumbnails, index_choice=choice, **options)
    stdin = sys.stdin.buffer if "-" in pictures else None
    try:
        with quiet_libraries():
            if watch:
                from ..embedding.watch import watch_images

                watcher = Watcher() if silent else PrintedWatch(path)
                watch_images(path, pictures, chosen, progress(silent), watcher, poll)
                return
            summary = embed_images(path, pictures, chosen, progress(silent), stdin)
    except ClipSearchError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise click.ClickException(f"{where}{error.strerror or error}") from error
    if not silent:
        print_summary(path, summary)
    if summary.interrupted:
        raise click.ClickException(interruption(summary))
    failed = len(summary.failed) + summary.failed_before
    if strict and failed:
        raise click.ClickException(f"{failed} could not be embedded, and --strict was given")
