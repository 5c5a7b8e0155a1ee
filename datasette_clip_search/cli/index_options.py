"""The options that say what an index is to be like."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ..database.index import IndexChoice

# As in index/kinds.py, which is heavy to import.
KINDS = ("auto", "flat", "ivf-sq8", "ivf-sq4", "ivf-rabitq2", "ivf-rabitq")


def _bytes(_: click.Context, option: click.Parameter, value: str | None) -> int | None:
    """Returns how many bytes 2GB, 500MB or 1.5GiB are."""
    if value is None:
        return None
    found = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) *([kmgt]?)(i?)b?", value.strip().lower())
    size = 0.0
    if found:
        number, unit, binary = found.groups()
        size = float(number) * (1024 if binary else 1000) ** (1 + "kmgt".index(unit) if unit else 0)
    if size < 1:
        raise click.BadParameter(f"{value!r} is no size of memory; give one such as 2GB or 500MB")
    return int(size)


def index_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --index and --memory to a command."""
    for option in (
        click.option(
            "--memory",
            callback=_bytes,
            metavar="SIZE",
            help="Memory that the index may take, such as 2GB; for less of it, it keeps vectors "
            "rounded, and fetches the exact ones of what it finds  [default: any]",
        ),
        click.option(
            "--index",
            type=click.Choice(KINDS),
            help="Kind of index; auto looks at every vector while that is fast, and at the nearest "
            "lists of them beyond  [default: the database's own, else auto]",
        ),
    ):
        command = option(command)
    return command


def index_choice_of(index: str | None, memory: int | None) -> "IndexChoice | None":
    """Returns what --index and --memory ask for together, or None for neither."""
    if index is None and memory is None:
        return None
    from ..database.index import IndexChoice

    return IndexChoice(index or "auto", memory)
