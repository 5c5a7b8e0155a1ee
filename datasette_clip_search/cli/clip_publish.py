"""The command clip-publish. Everything heavy is imported when it runs."""

import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path

import click

from ..common.config import CONFIG
from ..common.errors import ClipSearchError
from ..database.private_facts import NAMES
from .command import Command
from .options import check_condition, condition_options, model_option


@click.command(name="clip-publish", cls=Command)
@click.argument("path", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("target", required=False, type=click.Path(path_type=Path))
@click.option(
    "--to-folder",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write a folder instead, for a server of your own: the database, a Dockerfile, "
    "requirements and metadata",
)
@condition_options("Publish")
@model_option
@click.option("--all-models", is_flag=True, help="Publish the vectors of every model")
@click.option(
    "--vectors",
    type=click.Choice(["fp32", "fp16"]),
    default="fp32",
    show_default=True,
    help="Number format of the vectors. fp16 takes half the room, and the command measures what "
    "it costs",
)
@click.option(
    "--thumbnail-size",
    type=click.IntRange(0, CONFIG.thumbnail_size),
    metavar="PIXELS",
    help="Make thumbnails smaller, of so many pixels at most; 0 is --no-thumbnails",
)
@click.option("--no-thumbnails", is_flag=True, help="Leave the small pictures out")
@click.option("--keep-gps", is_flag=True, help="Publish where pictures were taken, too")
@click.option(
    "--keep",
    type=click.Choice(NAMES),
    metavar="FACT",
    multiple=True,
    help="Publish a private fact that is left out otherwise: gps, mtime, key or original; "
    "repeatable",
)
@click.option(
    "--drop",
    type=click.Choice(NAMES),
    metavar="FACT",
    multiple=True,
    help=f"Leave out a private fact: {', '.join(NAMES)}; repeatable",
)
@click.option(
    "--relative-to",
    type=click.Path(exists=True, file_okay=False),
    metavar="FOLDER",
    multiple=True,
    help="Keep the paths of pictures outside the database's folder from this folder on; of others "
    "only the names are kept; repeatable",
)
@click.option(
    "--with-table",
    metavar="NAME",
    multiple=True,
    help="Publish a table of your own, too, with all its rows; repeatable",
)
@click.option(
    "--with-column",
    metavar="NAME",
    multiple=True,
    help="Publish a column that you added to the pictures' table, too; repeatable",
)
@click.option(
    "--with-image-search",
    is_flag=True,
    help="Publish the image tower, too, for searches with pictures of the visitors'",
)
@click.option(
    "--originals-url",
    metavar="TEMPLATE",
    help="Where the originals are, such as https://example.org/photos/{path}: the search page "
    "links to them. Also {name} and {id}",
)
@click.option("--replace", is_flag=True, help="Overwrite a file that clip-publish did not write")
@click.option("--silent", is_flag=True, help="Print nothing but errors")
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
    """Write embedded pictures to a file that is ready to be published

    TARGET is one SQLite file with all that a read-only Datasette needs to search the pictures:
    their facts, vectors and thumbnails, and what turns words into vectors. By default it
    reveals no place where a picture was taken, no file time, no key of a table, and no folder
    outside the database's own. The database itself stays as it is; run the same command again to
    bring what was published up to date.

    Example:

    \b
        sqlite-utils clip-publish photos.db published.db
        sqlite-utils clip-publish photos.db published.db --where "taken >= '2020'" --vectors fp16
        sqlite-utils clip-publish photos.db published.db --drop folder --drop taken --drop camera
        sqlite-utils clip-publish photos.db --to-folder site \\
            --originals-url 'https://example.org/photos/{path}'
    """
    if target is not None and to_folder is not None:
        raise click.UsageError(f"Give one of them: the file {target}, or --to-folder {to_folder}")
    if target is None and to_folder is None:
        raise click.UsageError(
            f"Say where to write to: sqlite-utils clip-publish {path} published.db. Or give "
            "--to-folder"
        )
    check_condition(where, param)
    if all_models and model is not None:
        raise click.UsageError("--model is one model and --all-models are all. Give one of them")
    if no_thumbnails and thumbnail_size:
        raise click.UsageError("--no-thumbnails leaves out what --thumbnail-size makes smaller")
    kept = frozenset((*keep, *(["gps"] if keep_gps else [])))
    if both := kept.intersection(drop):
        raise click.UsageError(f"{min(both)} can't be both kept and left out. Give one of them")
    from ..database.connection import open_database
    from ..publish import PublishOptions, PublishProgress, publish_file, publish_folder
    from ..search.where import ids_where
    from .publish_output import Bar, print_report
    from .quiet import quiet_libraries

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
    progress = PublishProgress() if silent else Bar()
    try:
        with quiet_libraries(), closing(open_database(str(path))) as connection:
            if to_folder is not None:
                report = publish_folder(path, to_folder, connection, options, progress)
            else:
                assert target is not None
                report = publish_file(path, target, connection, options, progress)
    except ClipSearchError as error:
        raise click.ClickException(str(error)) from error
    except sqlite3.Error as error:
        raise click.ClickException(f"{path} can't be published: {error}") from error
    if not silent:
        print_report(report, to_folder)
