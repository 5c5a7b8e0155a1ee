"""Commands of sqlite-utils, run in this process."""

import os

from click.testing import CliRunner, Result


def run(*arguments: str | os.PathLike[str]) -> Result:
    """Run sqlite-utils with our command added."""
    from sqlite_utils.cli import cli

    return CliRunner().invoke(cli, [os.fspath(argument) for argument in arguments])
