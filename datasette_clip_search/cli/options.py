"""The options that choose pictures by a condition, and one of a database's models."""

from collections.abc import Callable
from typing import Any

import click

model_option = click.option(
    "--model", help="One of the database's models, by its id or name  [default: the database's]"
)


def condition_options(verb: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Adds --where and -p to a command that does what `verb` says with the pictures."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        command = click.option(
            "-p",
            "--param",
            multiple=True,
            type=(str, str),
            metavar="NAME VALUE",
            help="A :name in --where and its value, which is text; repeatable",
        )(command)
        return click.option(
            "--where",
            metavar="SQL",
            help=f"{verb} only the pictures that meet a condition on the columns of their table, "
            "such as \"taken >= '2020'\"",
        )(command)

    return add


def check_condition(where: str | None, param: object) -> None:
    """Raises UsageError for values without the condition that they belong to."""
    if param and where is None:
        raise click.UsageError("-p gives a value to a :name in --where, but there is no --where")
