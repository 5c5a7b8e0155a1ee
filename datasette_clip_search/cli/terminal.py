"""Print lines for people, and silence libraries."""

import contextlib
import logging
import warnings
from collections.abc import Iterator

import click

from ..common.terminal_text import visible


def say(text: str = "", err: bool = False) -> None:
    """Print a line to standard output or standard error, with control codes escaped."""
    click.echo(visible(text), err=err)


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Suppress the logs and warnings of torch and the Hugging Face Hub."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
