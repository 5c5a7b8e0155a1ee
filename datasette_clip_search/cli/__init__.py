"""The commands that sqlite-utils gains, and the SQL functions."""

import contextlib
import sqlite3

import click
from sqlite_utils import hookimpl

from ..common.cores import limit_threads


@hookimpl
def register_commands(cli: click.Group) -> None:
    """Adds the commands to sqlite-utils."""
    # Before any of them imports numpy.
    limit_threads()
    # Here, because one takes its options from sqlite-utils' own, which imports this package.
    from .clip_index import clip_index
    from .clip_publish import clip_publish
    from .clip_search import clip_search
    from .embed_images import embed_images

    cli.add_command(embed_images)
    cli.add_command(clip_search)
    cli.add_command(clip_index)
    cli.add_command(clip_publish)


@hookimpl
def prepare_connection(conn: sqlite3.Connection) -> None:
    """Adds the SQL functions to every connection of sqlite-utils."""
    # An exception here would end every command of sqlite-utils, whatever its business.
    with contextlib.suppress(Exception):
        from .. import sql

        sql.add_functions(conn)
