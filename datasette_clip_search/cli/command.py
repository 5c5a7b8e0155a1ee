"""Errors of all our commands: library errors become click's, and control codes are escaped."""

import contextlib
import functools
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec

import click

from ..common.errors import ClipSearchError
from ..common.terminal_text import visible

P = ParamSpec("P")


class Command(click.Command):
    """A command whose errors may quote file names and databases that strangers made."""

    def make_context(self, *arguments: Any, **extra: Any) -> click.Context:
        """Read the arguments."""
        with _visible_errors():
            return super().make_context(*arguments, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with _visible_errors():
            return super().invoke(ctx)


def cli_errors(reads: str | None = None) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Turn the errors of a command into ClickExceptions.

    `reads` is for commands that only read a database: the word for what they do with it, such as
    "searched". Their SQLite errors come from a damaged database; those of other commands are
    explained already, or bugs.
    """

    def decorate(command: Callable[P, None]) -> Callable[P, None]:
        @functools.wraps(command)
        def run(*args: P.args, **kwargs: P.kwargs) -> None:
            try:
                command(*args, **kwargs)
            except ClipSearchError as error:
                raise click.ClickException(str(error)) from error
            except sqlite3.Error as error:
                if error.args == ("interrupted",):
                    # Ctrl-C during a statement, as SQLite reports it.
                    raise KeyboardInterrupt from error
                if reads is None:
                    raise
                message = f"{kwargs['path']} can't be {reads}: {error}"
                raise click.ClickException(message) from error
            except BrokenPipeError:
                # The reader of a pipe has closed it. click ends without a message.
                raise
            except OSError as error:
                file = f"{error.filename}: " if error.filename else ""
                raise click.ClickException(f"{file}{error.strerror or error}") from error

        return run

    return decorate


@contextlib.contextmanager
def _visible_errors() -> Iterator[None]:
    try:
        yield
    except click.ClickException as error:
        error.message = visible(error.message, keep="\n")  # type: ignore[misc]
        raise
