"""What clip-search found: as rows, as paths, as a contact sheet, or as pictures in the terminal."""

import os
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

from .. import contact_sheet, terminal_pictures
from ..errors import CommandError
from ..schema import facts, fetch, quote
from ..search import Hit
from ..sources.source import SQL_PREFIX
from ..thumbnails import Thumbnail, make_from_file, read_thumbnail
from .question import Question
from .sheet_file import write_sheet_file


def print_rows(ctx: click.Context, hits: Sequence[Hit], options: Mapping[str, Any]) -> None:
    """Prints rows as sqlite-utils' own query does, with its output options."""
    rows = sqlite3.connect(":memory:")
    names = Hit._fields
    rows.execute(f"create table hits ({', '.join(map(quote, names))})")
    rows.executemany(f"insert into hits values ({', '.join('?' * len(names))})", hits)
    ctx.invoke(query_command, path=rows, sql="select * from hits order by rowid", **options)


def print_paths(question: Question, hits: Sequence[Hit], end: str) -> None:
    """Prints the paths of files, such that they can be opened from here."""
    files = [file for hit in hits if (file := _file(question, hit))]
    for file in files:
        click.echo(os.fsencode(file + end), nl=False)
    if left_out := len(hits) - len(files):
        said = f"{left_out} of {len(hits)} left out: in an archive or a table, or not there now"
        click.echo(said, err=True)


def write_sheet(question: Question, hits: Sequence[Hit], html: str) -> None:
    """Writes a contact sheet to a file, or to standard output for `-`."""
    if html == "-":
        # Nobody knows where it will lie.
        click.echo(_sheet(question, hits, lambda _: None))
    else:
        folder = os.path.dirname(html)
        text = _sheet(question, hits, lambda file: contact_sheet.relative_link(file, folder))
        write_sheet_file(html, text)


def open_sheet(question: Question, hits: Sequence[Hit], html: str | None) -> None:
    """Opens a contact sheet in the browser: the one written to `html`, or a temporary one.

    Raises CommandError where there is no browser.
    """
    if html in (None, "-"):
        handle, html = tempfile.mkstemp(prefix="clip-search-", suffix=".html")
        with open(handle, "w", encoding="utf-8") as file:
            # It lies below no picture, and is not the one to send.
            file.write(_sheet(question, hits, lambda path: Path(path).absolute().as_uri()))
    assert html
    if not webbrowser.open(Path(html).absolute().as_uri()):
        raise CommandError(f"No browser could be started. The contact sheet is {html}")


def _sheet(question: Question, hits: Sequence[Hit], link: Callable[[str], str | None]) -> str:
    return contact_sheet.render(
        title=str(question),
        facts=_facts(question, len(hits)),
        asked=[term.thumbnail for term in question.terms if term.thumbnail],
        pictures=[_on_sheet(question, hit, link) for hit in hits],
    )


def show_pictures(question: Question, hits: Sequence[Hit]) -> None:
    """Draws the pictures into the terminal. Raises CommandError for one that can't show them."""
    way = terminal_pictures.way_of(os.environ, sys.stdout.isatty())
    tiles = ((_thumbnail(question, hit), _caption(hit), hit.path) for hit in hits)
    for text in terminal_pictures.draw(tiles, way, shutil.get_terminal_size()):
        # The escape codes are wanted on their way through a pager, too.
        click.echo(text, nl=False, color=True)


def _caption(hit: Hit) -> str:
    return f"id {hit.id}  {hit.score:.3f}  "


def _facts(question: Question, found: int) -> str:
    count, database = question.count, os.path.basename(question.database)
    where = f" where {question.where}" if question.where else ""
    which = f"The {found} nearest of {count:,}" if found else f"None of {count:,}"
    return f"{which} pictures of {database}{where}, by {question.model.label}"


def _on_sheet(question: Question, hit: Hit, link: Callable[[str], str | None]) -> dict[str, Any]:
    names = ("width", "height", "taken")
    shown = facts(question.connection, question.table, *names)
    sql = f"select {shown} from main.{quote(question.table)} where id = ?"
    row = fetch(question.connection, sql, hit.id).fetchone() or (None,) * len(names)
    known = dict(zip(names, row, strict=True))
    thumbnail, file = _thumbnail(question, hit), _file(question, hit)
    return {**known, **hit._asdict(), "thumbnail": thumbnail, "link": link(file) if file else None}


def _thumbnail(question: Question, hit: Hit) -> Thumbnail | None:
    stored = read_thumbnail(question.connection, hit.id)
    file = None if stored else _file(question, hit)
    return make_from_file(file) if file else stored


def _file(question: Question, hit: Hit) -> str | None:
    """Returns the path of a picture from here, or None for one that is no file of its own."""
    if hit.path.startswith(SQL_PREFIX):
        return None
    path = os.path.join(os.path.dirname(question.database), hit.path)
    # What looks like an option would be one to the command it is piped to.
    path = f"./{path}" if path.startswith("-") else path
    return path if os.path.isfile(path) else None
