"""The command clip-search. It imports heavy modules only when it runs."""

import os
from contextlib import closing
from typing import Any

import click
from sqlite_utils.cli import output_options

from ..common.config import CONFIG
from .command import Command, cli_errors
from .options import check_condition, condition_options, model_option
from .terminal import quiet_libraries, say


@click.command(name="clip-search", cls=Command)
@click.argument("path", type=click.Path(exists=True, dir_okay=False))
@click.argument("query", required=False)
@click.option(
    "--image",
    "images",
    type=click.Path(allow_dash=True),
    metavar="FILE",
    multiple=True,
    help="Search by a picture file, or - for standard input; repeatable",
)
@click.option(
    "--like",
    multiple=True,
    metavar="ID_OR_PATH",
    help="Search by a picture of the database, given by its id or path; repeatable",
)
@click.option("--plus", multiple=True, metavar="TEXT", help="Words to add to the query; repeatable")
@click.option(
    "--minus",
    multiple=True,
    metavar="TEXT",
    help=f"Words to subtract from the query, with weight {CONFIG.minus_weight}; repeatable",
)
@click.option(
    "-k",
    "--k",
    type=int,
    default=CONFIG.default_k,
    show_default=True,
    help="Most pictures to return",
)
@condition_options("Search")
@model_option
@output_options  # type: ignore[untyped-decorator]
@click.option("--paths", is_flag=True, help="Output only the paths of files, one per line")
@click.option(
    "-0",
    "--null",
    is_flag=True,
    help="Output only the paths of files, each followed by NUL, for xargs -0",
)
@click.option(
    "--originals",
    type=click.Path(exists=True, file_okay=False),
    metavar="FOLDER",
    multiple=True,
    envvar="CLIP_SEARCH_ORIGINALS",
    show_envvar=True,
    help="Also open, link to and output picture files in this folder, not only those in the "
    "database's folder; repeatable",
)
@click.option(
    "--html",
    type=click.Path(dir_okay=False, allow_dash=True),
    metavar="FILE",
    help="Write a contact sheet: one HTML file that contains the pictures",
)
@click.option("--open", "is_opened", is_flag=True, help="Open a contact sheet in the browser")
@click.option("--show", is_flag=True, help="Show the pictures in the terminal")
@click.pass_context
@cli_errors(reads="searched")
def clip_search(
    ctx: click.Context,
    /,
    path: str,
    query: str | None,
    images: tuple[str, ...],
    like: tuple[str, ...],
    plus: tuple[str, ...],
    minus: tuple[str, ...],
    k: int,
    where: str | None,
    param: tuple[tuple[str, str], ...],
    model: str | None,
    paths: bool,
    null: bool,
    originals: tuple[str, ...],
    html: str | None,
    is_opened: bool,
    show: bool,
    **output: Any,
) -> None:
    """Search embedded pictures by words, by a picture, or by both

    QUERY is words. Instead, or together with it, you can search by pictures of the database, by
    pictures of your own, and by more words.

    Example:

    \b
        sqlite-utils clip-search photos.db 'dog on beach' --table
        sqlite-utils clip-search photos.db --like 42 --plus snow --minus dog
        sqlite-utils clip-search photos.db --image new.jpg --open
        sqlite-utils clip-search photos.db dog --where "taken >= '2020'" --show
        sqlite-utils clip-search photos.db dog --paths | head -3
    """
    if not (query is not None or images or like or plus):
        raise click.UsageError(
            f"Say what to search for, such as: sqlite-utils clip-search {path} 'dog on beach'. "
            "Or give --image, --like or --plus"
        )
    check_condition(where, param)
    options = {"--html -": html == "-", "--paths": paths, "-0": null and not paths, "--show": show}
    _check_outputs(options, output)
    if query and os.path.isfile(query):
        say(f"Searching for the words {query}. To search by the picture: --image {query}", err=True)
    from ..database.connection import open_database
    from .search_output import open_sheet, print_paths, print_rows, show_pictures, write_sheet
    from .search_request import SearchRequest, find_hits
    from .sheet_file import check_sheet_file

    if html:
        check_sheet_file(html)
    with quiet_libraries(), closing(open_database(path)) as connection:
        request = SearchRequest(connection, path, model, originals)
        request.add_texts(() if query is None else (query,))
        request.add_images(images)
        request.add_stored(like)
        request.add_texts(plus, "plus ")
        request.add_texts(minus, "minus ", -CONFIG.minus_weight)
        if where is not None:
            request.restrict(where, param)
        hits = find_hits(request, k)
        if html:
            write_sheet(request, hits, html)
        if is_opened:
            open_sheet(request, hits, html)
        if show:
            show_pictures(request, hits)
        elif paths or null:
            print_paths(request, hits, "\0" if null else "\n")
        elif any(output.values()) or not (html or is_opened):
            print_rows(ctx, hits, output)


def _check_outputs(options: dict[str, bool], output: dict[str, Any]) -> None:
    """Raise UsageError if two options would both write to standard output."""
    rows = {f"--{name.strip('_').replace('_', '-')}": bool(value) for name, value in output.items()}
    given = [option for option, is_given in options.items() if is_given]
    given += [option for option, is_given in rows.items() if is_given][:1]
    if len(given) > 1:
        raise click.UsageError(
            f"{given[0]} and {given[1]} write different things to standard output. Give one of them"
        )
