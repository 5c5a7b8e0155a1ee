"""Write the file of a contact sheet, which replaces only an older sheet, and only as a whole."""

import os
from pathlib import Path

from ..common.errors import CommandError
from ..common.whole_file import replace_file


def check_sheet_file(html: str) -> None:
    """Raise CommandError for a file that is not a contact sheet, OSError for a read-only file."""
    # Pipes and devices hold nothing to overwrite, and reading one may never end.
    if not os.path.isfile(html):
        return
    with open(html, "r+b") as file:
        start = file.read(1000).lstrip()
    if start and not start.lower().startswith(b"<!doctype html"):
        raise CommandError(
            f"{html} exists and is not an HTML document, so it is not overwritten. "
            "Give --html another name"
        )


def write_sheet_file(html: str, text: str) -> None:
    """Write a file; an older one stays unchanged until the new one is complete.

    Raises OSError with the name of the file.
    """
    if os.path.exists(html) and not os.path.isfile(html):
        Path(html).write_text(text, "utf-8")
        return
    try:
        # The real path, so that a link stays a link.
        with replace_file(Path(os.path.realpath(html))) as file:
            file.write(text.encode())
    except OSError as error:
        raise OSError(error.errno, error.strerror, html) from error
