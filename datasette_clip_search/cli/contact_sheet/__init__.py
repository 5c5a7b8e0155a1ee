"""Render contact sheets: single HTML files that contain their pictures, to open, print or send."""

import base64
import os
import posixpath
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from markupsafe import Markup

from ...database.thumbnails import Thumbnail
from ...pictures.sources.source import absolute, stored_path

_HERE = Path(__file__).parent
# The sheet uses the grid and the style of the search page.
_WEB = _HERE.parents[1] / "web"


def render(
    title: str,
    facts: str,
    asked: Sequence[Thumbnail],
    pictures: Sequence[Mapping[str, Any]],
) -> str:
    """Return the HTML of a contact sheet, which needs no other file.

    `asked` are the thumbnails of the pictures in the query. Each of `pictures` has the fields of a
    hit, `width`, `height`, `taken`, and its `thumbnail` and the `link` to its file, or None. An
    absolute path is reduced to the file name, because people send sheets to others.
    """
    loader = jinja2.FileSystemLoader([_HERE, _WEB / "templates"])
    styles = (_WEB / "static" / "clip-search.css", _HERE / "sheet.css")
    return (
        jinja2.Environment(loader=loader, autoescape=True)
        .get_template("sheet.html")
        .render(
            title=title,
            facts=facts,
            asked=[_data_uri(thumbnail) for thumbnail in asked],
            pictures=[_with_urls(picture) for picture in pictures],
            style=Markup("\n".join(style.read_text("utf-8") for style in styles)),
        )
    )


def relative_link(file: str, folder: str) -> str | None:
    """Return the link from a sheet in `folder` to a file, or None for a file outside the folder."""
    for place in (absolute, os.path.realpath):
        path = stored_path(str(place(file)), str(place(folder)))
        if not posixpath.isabs(path):
            return quote(path)
    return None


def _with_urls(picture: Mapping[str, Any]) -> dict[str, Any]:
    directory, _, name = picture["path"].rpartition("/")
    is_absolute = posixpath.isabs(picture["path"])
    thumbnail = picture["thumbnail"]
    return {
        **picture,
        "path": name if is_absolute else picture["path"],
        "name": name,
        "folder": "" if is_absolute else directory,
        "row_url": picture["link"],
        "thumbnail_url": thumbnail and _data_uri(thumbnail),
    }


def _data_uri(thumbnail: Thumbnail) -> str:
    data = base64.b64encode(thumbnail.data).decode()
    return f"data:{thumbnail.content_type};base64,{data}"
