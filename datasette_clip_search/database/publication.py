"""Recognize a published database, and form the addresses of its pictures' originals."""

import re
import sqlite3
from urllib.parse import quote as percent_encoded
from urllib.parse import urlsplit

from ..common.config import CONFIG
from ..common.errors import CommandError
from .connection import fetch, has_table
from .schema import PUBLICATION

PLACEHOLDERS = ("{path}", "{name}", "{id}")


def is_published(connection: sqlite3.Connection) -> bool:
    """Tell whether clip-publish wrote a database."""
    if not has_table(connection, PUBLICATION):
        return False
    return fetch(connection, f"select 1 from main.{PUBLICATION}").fetchone() is not None


def check_template(template: str) -> None:
    """Raise CommandError for a template that makes no web addresses."""
    if reason := _fault(template):
        raise CommandError(
            f"--originals-url is {template[:200]!r}, which {reason}. Expected the address of an "
            f"original with {', '.join(PLACEHOLDERS)} in it, such as "
            "'https://example.org/photos/{path}'"
        )


def _fault(template: str) -> str | None:
    """Return what is wrong with a template, or None."""
    if len(template) > CONFIG.max_url_characters:
        return f"has {len(template)} characters, where the limit is {CONFIG.max_url_characters}"
    if re.search(r"[\x00-\x20\x7f-\x9f\\<>\"'`]", template):
        return "holds a space or another character that addresses can't have"
    try:
        parts = urlsplit(template)
        parts.port  # noqa: B018 - reading it checks it
    except ValueError:
        return "is not an address"
    if parts.scheme not in ("http", "https"):
        return "does not begin with http:// or https://"
    if not parts.hostname or not re.fullmatch(r"[^{}@]+", parts.netloc):
        return "names no host"
    rest = template
    for placeholder in PLACEHOLDERS:
        rest = rest.replace(placeholder, "")
    if "{" in rest or "}" in rest:
        return "has other braces than those of placeholders"
    if rest == template:
        return "has no placeholder, so every picture would have the same address"
    return None


def originals_template(connection: sqlite3.Connection) -> str | None:
    """Return the template of a database, or None if it has no valid one.

    The template is checked again, because anyone may have made the database.
    """
    if not has_table(connection, PUBLICATION):
        return None
    most = CONFIG.max_url_characters + 1
    sql = f"select substr(originals_url, 1, {most}) from main.{PUBLICATION} limit 1"
    row = fetch(connection, sql).fetchone()
    if row is None or not isinstance(row[0], str) or _fault(row[0]):
        return None
    return str(row[0])


def original_url(template: str, image_id: int, path: str) -> str:
    """Return the address of a picture's original; no inserted value can end a path segment."""
    segments = [percent_encoded(segment, safe="") for segment in path.split("/")]
    values = {"{path}": "/".join(segments), "{name}": segments[-1], "{id}": str(image_id)}
    return re.sub(r"\{\w+\}", lambda found: values[found[0]], template)
