"""Print the hits of clip-search: as rows, paths, a contact sheet, or pictures in the terminal."""

import os
import shlex
import shutil
import sqlite3
import sys
import tempfile
import webbrowser
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from sqlite_utils.cli import query as query_command

from ..common.errors import CommandError
from ..common.terminal_text import visible
from ..database.connection import fetch, quote
from ..database.recognition import select_facts
from ..database.thumbnails import Thumbnail, read_thumbnail
from ..pictures.sources.source import SQL_PREFIX
from ..search.nearest import RankedPicture
from . import contact_sheet, terminal_pictures
from .picture_files import read_unchanged
from .search_request import SearchRequest
from .sheet_file import write_sheet_file
from .terminal import say
from .thumbnails import create_thumbnail_of_file


def print_rows(
    ctx: click.Context, hits: Sequence[RankedPicture], options: Mapping[str, Any]
) -> None:
    """Print rows as sqlite-utils' own query command does, with its output options."""
    unsafe = [hit for hit in hits if visible(hit.path) != hit.path]
    is_seen = (options["csv"] or options["tsv"]) and sys.stdout.isatty()
    if options["table"] or options["fmt"] or is_seen:
        hits = [hit._replace(path=visible(hit.path)) for hit in hits]
    elif unsafe and "ascii_" in options and not (options["csv"] or options["tsv"]):
        # The same JSON value, but harmless in a terminal.
        options = {**options, "ascii_": True}
    rows = sqlite3.connect(":memory:")
    names = RankedPicture._fields
    rows.execute(f"create table hits ({', '.join(map(quote, names))})")
    rows.executemany(f"insert into hits values ({', '.join('?' * len(names))})", hits)
    ctx.invoke(query_command, path=rows, sql="select * from hits order by rowid", **options)


def print_paths(request: SearchRequest, hits: Sequence[RankedPicture], end: str) -> None:
    """Print the paths of files, relative to the working directory."""
    found = [(hit, request.files.find(hit.path)) for hit in hits]
    files = [file for _, file in found if file]
    # A reader that takes each line for a path would take such a path for two.
    whole = [file for file in files if end == "\0" or not set(file) & set("\n\r")]
    for file in whole:
        if sys.stdout.isatty():
            say(file)
        else:
            click.echo(os.fsencode(file + end), nl=False)
    of = f"of {len(hits)} left out:"
    if broken := len(files) - len(whole):
        say(f"{broken} {of} their names contain a line break. Use -0", err=True)
    missing = [hit.path for hit, file in found if not file]
    elsewhere = [path for path in missing if _is_elsewhere(request, path)]
    if elsewhere:
        place = os.path.join(os.path.dirname(request.database), elsewhere[0])
        folder = shlex.quote(os.path.dirname(os.path.normpath(place)))
        say(
            f"{len(elsewhere)} {of} not in the database's folder. If you trust the database, "
            f"allow their folder: --originals {folder}",
            err=True,
        )
    if not_there := len(missing) - len(elsewhere):
        say(f"{not_there} {of} in an archive or a table, or deleted", err=True)


def _is_elsewhere(request: SearchRequest, path: str) -> bool:
    return not path.startswith(SQL_PREFIX) and not request.files.are_allowed(path)


def write_sheet(request: SearchRequest, hits: Sequence[RankedPicture], html: str) -> None:
    """Write a contact sheet to a file, or to standard output for `-`."""
    if html == "-":
        # Without links, because the folder that it will be in is unknown.
        click.echo(_sheet(request, hits, lambda _: None))
    else:
        folder = os.path.dirname(html)
        text = _sheet(request, hits, lambda file: contact_sheet.relative_link(file, folder))
        write_sheet_file(html, text)


def open_sheet(request: SearchRequest, hits: Sequence[RankedPicture], html: str | None) -> None:
    """Open a contact sheet in the browser: the one written to `html`, or a temporary one.

    Raises CommandError if no browser can be started.
    """
    if html in (None, "-"):
        handle, html = tempfile.mkstemp(prefix="clip-search-", suffix=".html")
        with open(handle, "w", encoding="utf-8") as file:
            # With absolute links: it is in another folder than the pictures, and not for sending.
            file.write(_sheet(request, hits, lambda path: Path(path).absolute().as_uri()))
    assert html
    if not webbrowser.open(Path(html).absolute().as_uri()):
        raise CommandError(f"No browser could be started. The contact sheet is in {html}")


def _sheet(
    request: SearchRequest, hits: Sequence[RankedPicture], link: Callable[[str], str | None]
) -> str:
    return contact_sheet.render(
        title=str(request),
        facts=_facts(request, len(hits)),
        asked=[term.thumbnail for term in request.terms if term.thumbnail],
        pictures=[_on_sheet(request, hit, link) for hit in hits],
    )


def show_pictures(request: SearchRequest, hits: Sequence[RankedPicture]) -> None:
    """Draw the pictures in the terminal. Raises CommandError if it can't show them."""
    way = terminal_pictures.way_of(os.environ, sys.stdout.isatty())
    tiles = ((_thumbnail(request, hit), _caption(hit), hit.path) for hit in hits)
    for text in terminal_pictures.draw(tiles, way, shutil.get_terminal_size()):
        # click would strip the escape codes from a pipe, such as one to a pager.
        click.echo(text, nl=False, color=True)


def _caption(hit: RankedPicture) -> str:
    return f"id {hit.id}  {hit.score:.3f}  "


def _facts(request: SearchRequest, found: int) -> str:
    count, database = request.count, os.path.basename(request.database)
    where = f" where {request.where}" if request.where else ""
    which = f"The {found} nearest of {count:,}" if found else f"None of {count:,}"
    return f"{which} pictures in {database}{where}, by {request.model.label}"


def _on_sheet(
    request: SearchRequest, hit: RankedPicture, link: Callable[[str], str | None]
) -> dict[str, Any]:
    names = ("width", "height", "taken")
    shown = select_facts(request.connection, request.table, *names)
    sql = f"select {shown} from main.{quote(request.table)} where id = ?"
    row = fetch(request.connection, sql, hit.id).fetchone() or (None,) * len(names)
    known = dict(zip(names, row, strict=True))
    thumbnail, file = _thumbnail(request, hit), request.files.find(hit.path)
    return {**known, **hit._asdict(), "thumbnail": thumbnail, "link": link(file) if file else None}


def _thumbnail(request: SearchRequest, hit: RankedPicture) -> Thumbnail | None:
    if stored := read_thumbnail(request.connection, hit.id):
        return stored
    file = request.files.find(hit.path)
    sql = f"select content_hash from main.{quote(request.table)} where id = ?"
    row = fetch(request.connection, sql, hit.id).fetchone()
    # Only the picture that was embedded: a stranger's database may name a private file by guessing.
    data = read_unchanged(file, row[0]) if file and row else None
    return create_thumbnail_of_file(file, data) if file and data else None
