"""The sqlite-utils plugin: the commands embed-images, clip-search, clip-index and clip-publish.

Nothing else in the package may import it.
"""

import contextlib
import sqlite3

import click
from sqlite_utils import hookimpl

from ..common.cores import limit_threads


@hookimpl
def register_commands(cli: click.Group) -> None:
    """Add the commands to sqlite-utils."""
    # Before a command imports numpy.
    limit_threads()
    # Imported here, because clip-search imports sqlite-utils' own commands, which load this plugin.
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
    """Add the SQL functions to every connection of sqlite-utils."""
    # An exception here would break every command of sqlite-utils.
    with contextlib.suppress(Exception):
        from .. import sql

        sql.add_functions(conn)
