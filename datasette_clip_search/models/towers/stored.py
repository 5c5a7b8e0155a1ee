"""Towers in rows of clip_towers: part 0 is a manifest in JSON, the other parts are its sections.

A manifest holds the `format`, the release that it `needs`, the `sections` (names and bytes, in
order) with the `sha256` of all of them together, the time when it was `made`, the `fingerprint` of
the model's weights, and the facts of its kind of tower. A manifest with `refused` says why there is
no tower.
"""

import hashlib
import io
import json
import re
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ...common.config import CONFIG
from ...common.errors import EncoderUnavailable
from ...common.terminal_text import visible
from ...database.connection import fetch, has_table, transaction
from ...database.model import Model
from ...database.schema import TOWERS
from ..onnx_file.wire import OnnxRefused

TEXT, IMAGE, INT8 = "text", "image", "int8"
# The precisions of text and image towers, the smallest first.
PRECISIONS = ("8-bit", "16-bit", "32-bit")
FORMAT = 1
# Ours have thousands of characters, most of them special tokens of a tokenizer.
_MOST_MANIFEST = 200_000
# The bytes of a part: Datasette reads a hundred for a page.
_PART_BYTES = 262_144
# The most bytes in a part that any release writes.
_MOST_PART = 1 << 24
_SECTIONS = {
    TEXT: {"tokenizer", "example", "onnx"},
    IMAGE: {"picture", "vector", "onnx"},
    INT8: {"onnx", "of_noise"},
}
_RELEASE = re.compile(r"[0-9A-Za-z.+!-]{1,40}")
# The first release that reads this format.
NEEDS = "0.1a0"
_REMAKE = {
    TEXT: "To make it again, run: sqlite-utils embed-images",
    IMAGE: "To make it again, run: sqlite-utils embed-images with --with-image-search",
    INT8: "To make it again, run: sqlite-utils embed-images with --precision int8",
}


class TowerUnusable(EncoderUnavailable):
    "The tower of a database can't be used; the message says how to get another one"


class SelfTestFailed(TowerUnusable):
    "A tower makes another vector on this processor than where it was made"

    def __init__(self, tower: str, cosine: float, least: float):
        other = {TEXT: "16-bit", IMAGE: "32-bit"}[tower]
        super().__init__(
            f"Its {tower} tower fails its self-test on this processor (cosine {cosine:.4f}, "
            f"expected at least {least}). Make one of another precision: "
            f"sqlite-utils embed-images with --{tower}-tower {other}"
        )
        self.cosine = cosine


class NoTower(TowerUnusable):
    "No tower could be made; `reason` is not for everyone who can query the database"

    def __init__(self, reason: str, release: str):
        super().__init__(
            "No text tower could be made for this model. To see why, run: sqlite-utils embed-images"
        )
        self.reason = reason
        self.release = release


@dataclass(frozen=True)
class StoredTower:
    """A tower of a database: the facts of its manifest, a key of the manifest, and its sections."""

    key: str
    facts: dict[str, Any]
    sections: dict[str, bytes]


def read_manifest(connection: sqlite3.Connection, model: Model, tower: str = TEXT) -> str | None:
    """Return the manifest of a model's tower as it is stored, or None where there is none.

    The owner may have dropped the table of towers.
    """
    if not has_table(connection, TOWERS):
        return None
    # A larger one is cut off, which leaves invalid JSON.
    sql = f"""select substr(data, 1, ?) from main.{TOWERS}
        where model_id = ? and tower = ? and part = 0"""
    try:
        row = fetch(connection, sql, _MOST_MANIFEST, model.id, tower).fetchone()
    except sqlite3.OperationalError as error:
        if not str(error).startswith("Could not decode"):
            raise
        # Not text, so not JSON either.
        return ""
    return None if row is None else str(row[0])


def manifest_key(manifest: str) -> str:
    """Return the key of a manifest, and so of its tower."""
    return hashlib.sha256(manifest.encode()).hexdigest()


def parse_manifest(manifest: str, model: Model, tower: str = TEXT) -> dict[str, Any]:
    """Return a manifest's facts.

    Raises TowerUnusable for a manifest that is damaged, has a newer format or belongs to other
    weights, and NoTower for one that says why there is no tower.
    """
    try:
        facts: dict[str, Any] = json.loads(manifest)
        if facts["format"] > FORMAT:
            needed = str(facts["needs"])
            if not _RELEASE.fullmatch(needed):
                raise ValueError("needs")
            raise TowerUnusable(
                f"Its {tower} tower was made by a newer release. "
                f"Run: pip install --upgrade 'datasette-clip-search>={needed}'"
            )
        if "refused" in facts:
            raise NoTower(visible(str(facts["refused"])[:500]), visible(str(facts["release"])[:40]))
        if facts["fingerprint"] != model.fingerprint:
            raise damaged_error(tower, "belongs to other weights than the pictures")
        if facts["dimension"] != model.dimension:
            raise damaged_error(tower, "makes vectors of another length than the pictures have")
        sizes = facts["sections"]
        if not isinstance(sizes, dict) or set(sizes) != _SECTIONS[tower]:
            raise ValueError("sections")
        if not all(type(size) is int and size >= 0 for size in sizes.values()):
            raise ValueError("sizes")
        if sum(sizes.values()) > CONFIG.max_tower_bytes:
            total, most = sum(sizes.values()), CONFIG.max_tower_bytes
            raise damaged_error(tower, f"has {total} bytes and the limit is {most}")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise damaged_error(tower) from error
    return facts


def read_tower(
    connection: sqlite3.Connection, model: Model, manifest: str, tower: str = TEXT
) -> StoredTower:
    """Read a tower, part by part.

    Raises the errors of `parse_manifest`, and TowerUnusable for missing or changed parts.
    """
    facts = parse_manifest(manifest, model, tower)
    digest = hashlib.sha256()
    parts = _parts(connection, model, tower)
    sections: dict[str, bytes] = {}
    for name, size in facts["sections"].items():
        section = io.BytesIO()
        while section.tell() < size:
            part = next(parts, None)
            if not isinstance(part, bytes) or not 0 < len(part) <= size - section.tell():
                raise damaged_error(tower)
            digest.update(part)
            section.write(part)
        # This makes no copy.
        sections[name] = section.getvalue()
    if next(parts, None) is not None or digest.hexdigest() != facts["sha256"]:
        raise damaged_error(tower)
    return StoredTower(manifest_key(manifest), facts, sections)


def pack_tower(facts: Mapping[str, Any], sections: Mapping[str, bytes]) -> tuple[str, StoredTower]:
    """Return the manifest of a new tower, and the tower as `read_tower` would return it."""
    digest = hashlib.sha256()
    for section in sections.values():
        digest.update(section)
    whole = {
        "format": FORMAT,
        "needs": NEEDS,
        "sections": {name: len(section) for name, section in sections.items()},
        "sha256": digest.hexdigest(),
        # A repaired tower gets a new key, so that nobody takes it for the damaged one.
        "made": datetime.now(UTC).isoformat(),
        **facts,
    }
    manifest = json.dumps(whole)
    return manifest, StoredTower(manifest_key(manifest), whole, dict(sections))


def write_tower(
    connection: sqlite3.Connection,
    model: Model,
    manifest: str,
    sections: Mapping[str, bytes],
    tower: str = TEXT,
) -> None:
    """Replace a model's tower, in one transaction."""
    with transaction(connection):
        delete_tower(connection, model, tower)
        precision = json.loads(manifest).get("precision")
        sql = (
            f"insert into {TOWERS} (model_id, tower, part, precision, data) values (?, ?, ?, ?, ?)"
        )
        rows = enumerate([manifest, *_split(sections)])
        for part, data in rows:
            connection.execute(sql, (model.id, tower, part, precision, data))


def delete_tower(connection: sqlite3.Connection, model: Model, tower: str = TEXT) -> None:
    """Delete a model's tower, inside the caller's transaction."""
    sql = f"delete from {TOWERS} where model_id = ? and tower = ?"
    connection.execute(sql, (model.id, tower))


def _split(sections: Mapping[str, bytes]) -> Iterator[memoryview]:
    size = _PART_BYTES
    for section in sections.values():
        for at in range(0, len(section), size):
            yield memoryview(section)[at : at + size]


def _parts(connection: sqlite3.Connection, model: Model, tower: str) -> Iterator[object]:
    sql = f"""select case when typeof(data) = 'blob' and length(data) <= ? then data end
        from main.{TOWERS}
        where model_id = ? and tower = ? and part > 0 order by part"""
    for (data,) in fetch(connection, sql, _MOST_PART, model.id, tower):
        yield data


def damaged_error(tower: str, how: str = "is damaged") -> TowerUnusable:
    """Return the error for a tower that has to be made again."""
    return TowerUnusable(f"Its {tower} tower {how}. {_REMAKE[tower]}")


def loading_error(tower: str, error: Exception) -> TowerUnusable:
    """Return the error for a tower that does not load because of `error`."""
    if isinstance(error, OnnxRefused):
        return damaged_error(tower, f"is not one that this release makes ({error})")
    return damaged_error(tower, f"does not load ({type(error).__name__})")
