"""The private facts about pictures that a database holds, by the names that --drop takes."""

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class Fact:
    """A private fact that --keep and --drop name; `columns` are those that hold it."""

    name: str
    what: str
    columns: str
    is_kept: bool


FACTS = (
    Fact(
        "gps",
        "where a picture was taken, and in which time zone",
        "`latitude`, `longitude`, the offset in `taken`",
        False,
    ),
    Fact("mtime", "when its file was last changed", "`mtime`", False),
    Fact(
        "key",
        "the key of the row that it was taken from, unless `--with-table` names the row's table",
        "`key`, `path`",
        False,
    ),
    Fact(
        "table",
        "the name of that row's table; only ever with the key",
        "`key_table`, `path`",
        True,
    ),
    Fact("folder", "its folders, as far as paths keep any", "`path`", True),
    Fact("archive", "the archive it lies in, and its folders there", "`path`", True),
    Fact("name", "the name of its file", "`path`", True),
    Fact("size", "the bytes of its file", "`size`", True),
    Fact(
        "content_hash",
        "its SHA-256, by which whoever has the file recognises it",
        "`content_hash`, `made_from`",
        True,
    ),
    Fact("taken", "when it was taken", "`taken`", True),
    Fact("camera", "make and model of the camera", "`camera`", True),
    Fact(
        "original",
        "picture files in your own tables and columns, with all their metadata",
        "what `--with-table` and `--with-column` name",
        False,
    ),
    Fact(
        "model",
        "the model's name, which may be that of a folder of yours",
        "`clip_models.name`",
        True,
    ),
)
NAMES = tuple(fact.name for fact in FACTS)


def kept_facts(keep: Collection[str], drop: Collection[str]) -> frozenset[str]:
    """Return the names of the facts to publish; a fact in both `keep` and `drop` is not."""
    kept = {fact.name for fact in FACTS if fact.is_kept}
    return frozenset((kept | set(keep)) - set(drop))
