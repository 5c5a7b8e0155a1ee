"""The command clip-publish. It imports heavy modules only when it runs."""

from contextlib import closing
from functools import partial
from pathlib import Path

import click

from ..common.config import CONFIG
from ..database.private_facts import FACTS, NAMES
from .command import Command, cli_errors
from .options import check_condition, condition_options, model_option


@click.command(name="clip-publish", cls=Command)
@click.argument("path", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("target", required=False, type=click.Path(path_type=Path))
@click.option(
    "--to-folder",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write a folder for a server of your own: the database, a Dockerfile, requirements and "
    "metadata",
)
@condition_options("Publish")
@model_option
@click.option("--all-models", is_flag=True, help="Publish the vectors of every model")
@click.option(
    "--vectors",
    type=click.Choice(["fp32", "fp16"]),
    default="fp32",
    show_default=True,
    help="Number format of the vectors. fp16 takes half the space; the command measures how much "
    "recall it costs",
)
@click.option(
    "--thumbnail-size",
    type=click.IntRange(0, CONFIG.thumbnail_size),
    metavar="PIXELS",
    help="Shrink thumbnails to at most this many pixels; 0 is --no-thumbnails",
)
@click.option("--no-thumbnails", is_flag=True, help="Leave out the thumbnails")
@click.option("--keep-gps", is_flag=True, help="Also publish where pictures were taken")
@click.option(
    "--keep",
    type=click.Choice(NAMES),
    metavar="FACT",
    multiple=True,
    help="Publish a fact that is left out by default: gps, mtime, key or original; repeatable",
)
@click.option(
    "--drop",
    type=click.Choice(NAMES),
    metavar="FACT",
    multiple=True,
    help=f"Leave out a fact: {', '.join(fact.name for fact in FACTS if fact.is_kept)}, or key, "
    "which --with-table publishes; repeatable",
)
@click.option(
    "--relative-to",
    type=click.Path(exists=True, file_okay=False),
    metavar="FOLDER",
    multiple=True,
    help="Publish paths relative to this folder, for pictures outside the database's folder; for "
    "other such pictures, only file names are published; repeatable",
)
@click.option(
    "--with-table",
    metavar="NAME",
    multiple=True,
    help="Also publish a table of your own, with all its rows; repeatable",
)
@click.option(
    "--with-column",
    metavar="NAME",
    multiple=True,
    help="Also publish a column that you added to the pictures' table; repeatable",
)
@click.option(
    "--with-image-search",
    is_flag=True,
    help="Also publish the image tower, so that visitors can search by pictures of their own",
)
@click.option(
    "--originals-url",
    metavar="TEMPLATE",
    help="Address of the originals, to which the search page links, such as "
    "https://example.org/photos/{path}. It may also contain {name} and {id}",
)
@click.option("--replace", is_flag=True, help="Replace a file that clip-publish did not write")
@click.option("--silent", is_flag=True, help="Print only errors")
@cli_errors(reads="published")
def clip_publish(
    path: Path,
    target: Path | None,
    to_folder: Path | None,
    where: str | None,
    param: tuple[tuple[str, str], ...],
    model: str | None,
    all_models: bool,
    vectors: str,
    thumbnail_size: int | None,
    no_thumbnails: bool,
    keep_gps: bool,
    keep: tuple[str, ...],
    drop: tuple[str, ...],
    relative_to: tuple[str, ...],
    with_table: tuple[str, ...],
    with_column: tuple[str, ...],
    with_image_search: bool,
    originals_url: str | None,
    replace: bool,
    silent: bool,
) -> None:
    """Write embedded pictures to a file that is ready to publish

    TARGET is one SQLite file with everything that a read-only Datasette needs to search the
    pictures: their facts, vectors and thumbnails, and the text tower, which turns words into
    vectors. By default it leaves out the places where pictures were taken, file times, the keys of
    tables, and the names of folders outside the database's own. The command does not change the
    database itself. Run it again to update TARGET.

    Example:

    \b
        sqlite-utils clip-publish photos.db published.db
        sqlite-utils clip-publish photos.db published.db --where "taken >= '2020'" --vectors fp16
        sqlite-utils clip-publish photos.db published.db --drop folder --drop taken --drop camera
        sqlite-utils clip-publish photos.db --to-folder site \\
            --originals-url 'https://example.org/photos/{path}'
    """
    if target is not None and to_folder is not None:
        raise click.UsageError(f"Give either the file {target} or --to-folder {to_folder}")
    if target is None and to_folder is None:
        raise click.UsageError(
            f"Name the file to write: sqlite-utils clip-publish {path} published.db. Or give "
            "--to-folder"
        )
    check_condition(where, param)
    if all_models and model is not None:
        raise click.UsageError("--model and --all-models exclude each other. Give one of them")
    if no_thumbnails and thumbnail_size:
        raise click.UsageError(
            "--no-thumbnails and --thumbnail-size exclude each other. Give one of them"
        )
    kept = frozenset((*keep, *(["gps"] if keep_gps else [])))
    if both := kept.intersection(drop):
        raise click.UsageError(f"--keep and --drop both name {min(both)}. Give one of them")
    from ..database.connection import open_database
    from ..publish import PublishOptions, PublishProgress, publish_file, publish_folder
    from ..search.where import ids_where
    from .publish_output import PublishBar, print_report
    from .terminal import quiet_libraries

    condition = None if where is None else partial(ids_where, where=where, parameters=dict(param))
    options = PublishOptions(
        condition=condition,
        model=model,
        all_models=all_models,
        vectors=vectors,
        thumbnail_size=0 if no_thumbnails else thumbnail_size,
        keep=kept,
        drop=frozenset(drop),
        relative_to=relative_to,
        tables=tuple(dict.fromkeys(with_table)),
        columns=tuple(dict.fromkeys(with_column)),
        image_search=with_image_search,
        originals_url=originals_url,
        replace=replace,
    )
    progress = PublishProgress() if silent else PublishBar()
    with quiet_libraries(), closing(open_database(str(path))) as connection:
        if to_folder is not None:
            report = publish_folder(path, to_folder, connection, options, progress)
        else:
            assert target is not None
            report = publish_file(path, target, connection, options, progress)
    if not silent:
        print_report(report, to_folder)
