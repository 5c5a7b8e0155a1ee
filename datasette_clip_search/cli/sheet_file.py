"""The file of a contact sheet: nothing but an older sheet is overwritten, and that as a whole."""

import os
from pathlib import Path

from ..common.errors import CommandError
from ..common.whole_file import replace_file


def check_sheet_file(html: str) -> None:
    """Raises CommandError for a file that holds something else, or OSError for a read-only one."""
    # Pipes and devices hold nothing, and reading from one may never end.
    if not os.path.isfile(html):
        return
    with open(html, "r+b") as file:
        start = file.read(1000).lstrip()
    if start and not start.lower().startswith(b"<!doctype html"):
        raise CommandError(
            f"{html} is there already and is no HTML document, so it is not overwritten. "
            "Give --html another name"
        )


def write_sheet_file(html: str, text: str) -> None:
    """Writes a file such that an older one stays as it is until the new one is whole.

    Raises OSError with the name of the file.
    """
    if os.path.exists(html) and not os.path.isfile(html):
        Path(html).write_text(text, "utf-8")
        return
    try:
        # A link stays one.
        with replace_file(Path(os.path.realpath(html))) as file:
            file.write(text.encode())
    except OSError as error:
        raise OSError(error.errno, error.strerror, html) from error
