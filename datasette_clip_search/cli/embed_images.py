"""The command embed-images. It imports heavy modules only when it runs."""

import sys
from pathlib import Path
from typing import Any

import click

from ..common.config import CONFIG
from .command import Command, cli_errors
from .options import index_choice_of, index_options


@click.command(name="embed-images", cls=Command)
@click.argument("path", type=click.Path(path_type=Path))
@click.argument("pictures", nargs=-1, type=click.Path())
@click.option(
    "--sql",
    metavar="SELECT",
    help="Embed pictures that the database itself holds or names: a query that returns a key and a "
    'blob or path, such as "select id, data from photos"',
)
@click.option(
    "--exclude",
    multiple=True,
    metavar="PATTERN",
    help="Skip files and folders with this name or path, such as '*.gif' or private; repeatable",
)
@click.option(
    "--table",
    metavar="NAME",
    help=f"Name of the pictures' table in a new database  [default: {CONFIG.table}]",
)
@click.option(
    "--model",
    help="OpenCLIP model, such as ViT-L-14 or hf-hub:ORG/NAME  "
    f"[default: the database's default, else {CONFIG.model}]",
)
@click.option(
    "--pretrained",
    help="OpenCLIP's tag for the weights of the model, or a local checkpoint: a file of weights or "
    f"a folder with an open_clip_config.json  [default: {CONFIG.pretrained}]",
)
@click.option(
    "--device",
    default="auto",
    show_default=True,
    help="Where the model runs: auto, cpu, cuda, cuda:1 or mps",
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16", "fp16", "int8"]),
    default="auto",
    show_default=True,
    help="Number format of the model. auto is the fastest format here that makes the same vectors. "
    "int8 is used only after a check with your pictures",
)
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    help="Pictures per pass through the model  "
    f"[default: {CONFIG.cpu_batch_size}, or {CONFIG.gpu_batch_size} on a GPU]",
)
@click.option(
    "--max-megapixels",
    type=click.FloatRange(min=0, min_open=True),
    default=CONFIG.max_megapixels,
    show_default=True,
    help="Refuse larger pictures, because they could exhaust the memory",
)
@click.option(
    "--text-tower",
    type=click.Choice(["auto", "8-bit", "16-bit", "32-bit", "none"]),
    default="auto",
    show_default=True,
    help="Precision of the stored text tower, with which searches by words work without torch. "
    "auto is the smallest that finds the same pictures",
)
@click.option(
    "--with-image-search",
    is_flag=True,
    help="Also store an image tower, with which embedding, and searches by other pictures, work "
    "without torch",
)
@click.option(
    "--image-tower",
    type=click.Choice(["auto", "8-bit", "16-bit", "32-bit", "none"]),
    help="Precision of the stored image tower; --with-image-search alone means auto, which is "
    "16-bit if that is exact enough, else 32-bit. none deletes the tower",
)
@click.option("--no-thumbnails", is_flag=True, help="Store no thumbnails")
@index_options
@click.option(
    "--rehash",
    is_flag=True,
    help="Compare the contents of files even if size and time are unchanged",
)
@click.option("--retry-failed", is_flag=True, help="Retry unchanged files that failed before")
@click.option(
    "--prune", is_flag=True, help="Delete the rows of pictures whose files no longer exist"
)
@click.option("--watch", is_flag=True, help="Keep watching for changes until Ctrl-C")
@click.option(
    "--poll",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="With --watch: check the files at this interval, for folders such as network drives where "
    "the system does not report changes  "
    f"[default: {CONFIG.poll_seconds:g}, and only for such folders]",
)
@click.option("--strict", is_flag=True, help="Exit with status 1 if any picture failed")
@click.option("--silent", is_flag=True, help="Print only errors")
@cli_errors()
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

    PICTURES are folders with their subfolders, files, globs, tar and zip archives, or - for a list
    of paths on standard input.

    The command stores vectors, thumbnails and EXIF facts in tables of the SQLite database at PATH,
    and builds a FAISS index in a file next to it. Run it again to embed only pictures that are new
    or have changed.

    Example:

    \b
        sqlite-utils embed-images photos.db ~/Pictures
        sqlite-utils photos.db "select * from clip_search('dog on beach', 10)"
    """
    from ..embedding import EmbedOptions, embed_images
    from ..embedding.report import EmbedProgress, Watcher
    from .embed_output import EmbedBar, PrintedWatch, explain_interruption, print_summary
    from .terminal import quiet_libraries

    if not pictures and options["sql"] is None:
        raise click.UsageError("Say which pictures to embed: folders, files, archives, or --sql")
    if poll is not None and not watch:
        raise click.UsageError("--poll is an option of --watch. Add --watch")
    choice = index_choice_of(index, memory)
    if with_image_search and image_tower == "none":
        raise click.UsageError(
            "--with-image-search stores the image tower, and --image-tower none deletes it. "
            "Give one of them"
        )
    options["image_tower"] = image_tower or ("auto" if with_image_search else None)
    chosen = EmbedOptions(thumbnails=not no_thumbnails, index_choice=choice, **options)
    stdin = sys.stdin.buffer if "-" in pictures else None
    progress = EmbedProgress() if silent else EmbedBar()
    with quiet_libraries():
        if watch:
            from ..embedding.watch import watch_images

            watcher = Watcher() if silent else PrintedWatch(path)
            watch_images(path, pictures, chosen, progress, watcher, poll)
            return
        summary = embed_images(path, pictures, chosen, progress, stdin)
    if not silent:
        print_summary(path, summary)
    if summary.interrupted:
        raise click.ClickException(explain_interruption(summary))
    failed = len(summary.failed) + summary.failed_before
    if strict and failed:
        raise click.ClickException(f"--strict: {failed} of the pictures could not be embedded")
