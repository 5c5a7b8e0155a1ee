"""What our commands have in common: errors that hold no control codes of what they quote."""

import contextlib
from collections.abc import Iterator
from typing import Any

import click

from ..common.terminal_text import visible


class Command(click.Command):
    """A command whose errors may quote file names and databases, whoever made them."""

    def make_context(self, *arguments: Any, **extra: Any) -> click.Context:
        """Reads the arguments."""
        with _visible_errors():
            return super().make_context(*arguments, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command."""
        with _visible_errors():
            return super().invoke(ctx)


@contextlib.contextmanager
def _visible_errors() -> Iterator[None]:
    try:
        yield
    except click.ClickException as error:
        error.message = visible(error.message, keep="\n")  # type: ignore[misc]
        raise
