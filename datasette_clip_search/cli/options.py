"""Options that several commands share."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ..database.index import IndexChoice

# The same as in database/index/kinds.py, which is slow to import.
KINDS = ("auto", "flat", "ivf-sq8", "ivf-sq4", "ivf-rabitq2", "ivf-rabitq")

model_option = click.option(
    "--model",
    help="Use this model of the database, by its id or name  [default: the database's default]",
)


def condition_options(verb: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add --where and -p to a command; `verb` says what it does with the pictures."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        command = click.option(
            "-p",
            "--param",
            multiple=True,
            type=(str, str),
            metavar="NAME VALUE",
            help="Value of a :name in --where, as text; repeatable",
        )(command)
        return click.option(
            "--where",
            metavar="SQL",
            help=f"{verb} only pictures that meet this condition on the columns of their table, "
            "such as \"taken >= '2020'\"",
        )(command)

    return add


def check_condition(where: str | None, param: object) -> None:
    """Raise UsageError if there are parameters without a condition."""
    if param and where is None:
        raise click.UsageError("-p sets the value of a :name in --where. Add --where")


def index_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --index and --memory to a command."""
    for option in (
        click.option(
            "--memory",
            callback=_read_size,
            metavar="SIZE",
            help="Memory that the index may use, such as 2GB. To save memory, the index stores "
            "rounded vectors, and searches read the exact ones of the best candidates from disk  "
            "[default: unlimited]",
        ),
        click.option(
            "--index",
            type=click.Choice(KINDS),
            help="Kind of index. auto compares every vector while that is fast, and searches only "
            "the nearest lists of larger databases  [default: the kind of the existing index, else "
            "auto]",
        ),
    ):
        command = option(command)
    return command


def index_choice_of(index: str | None, memory: int | None) -> "IndexChoice | None":
    """Return the choice that --index and --memory make together, or None without both."""
    if index is None and memory is None:
        return None
    from ..database.index import IndexChoice

    return IndexChoice(index or "auto", memory)


def _read_size(_: click.Context, option: click.Parameter, value: str | None) -> int | None:
    """Return the bytes of a size such as 2GB, 500MB or 1.5GiB."""
    if value is None:
        return None
    found = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) *([kmgt]?)(i?)b?", value.strip().lower())
    size = 0.0
    if found:
        number, unit, binary = found.groups()
        size = float(number) * (1024 if binary else 1000) ** (1 + "kmgt".index(unit) if unit else 0)
    if size < 1:
        raise click.BadParameter(f"{value!r} is not a size. Expected one such as 2GB or 500MB")
    return int(size)
