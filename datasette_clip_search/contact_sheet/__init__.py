"""A contact sheet: one HTML file with the pictures in it, to open, print, or send."""

import base64
import posixpath
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import quote

import jinja2
from markupsafe import Markup

from ..sources.source import absolute, stored_path
from ..thumbnails import Thumbnail

_HERE = Path(__file__).parent
_PLUGIN = _HERE.parent / "plugin"


def render(
    title: str,
    facts: str,
    asked: Sequence[Thumbnail],
    pictures: Sequence[Mapping[str, Any]],
    folder: str | None,
) -> str:
    """Returns the HTML of a contact sheet, which needs no other file.

    `asked` are the pictures that were searched with. Each of the `pictures` has the fields of a
    hit, `width`, `height` and `taken`, and, or None, its `thumbnail` and the absolute path of its
    `file`. The sheet will lie in `folder`: links to files below it are relative.
    """
    loader = jinja2.FileSystemLoader([_HERE, _PLUGIN / "templates"])
    styles = (_PLUGIN / "static" / "clip-search.css", _HERE / "sheet.css")
    return (
        jinja2.Environment(loader=loader, autoescape=True)
        .get_template("sheet.html")
        .render(
            title=title,
            facts=facts,
            asked=[_data_uri(thumbnail) for thumbnail in asked],
            pictures=[_shown(picture, folder) for picture in pictures],
            style=Markup("\n".join(style.read_text("utf-8") for style in styles)),
        )
    )


def _shown(picture: Mapping[str, Any], folder: str | None) -> dict[str, Any]:
    directory, _, name = picture["path"].rpartition("/")
    thumbnail, file = picture["thumbnail"], picture["file"]
    return {
        **picture,
        "name": name,
        "folder": directory,
        "row_url": file and _link(file, folder),
        "thumbnail_url": thumbnail and _data_uri(thumbnail),
    }


def _link(file: str, folder: str | None) -> str:
    # What is below the sheet can be moved, or sent, together with it.
    path = stored_path(absolute(file), folder) if folder else file
    return PurePath(path).as_uri() if posixpath.isabs(path) else quote(path)


def _data_uri(thumbnail: Thumbnail) -> str:
    data = base64.b64encode(thumbnail.data).decode()
    return f"data:{thumbnail.content_type};base64,{data}"
