"""Publish a database, and compare databases."""

import hashlib
from pathlib import Path

from support.commands import run
from support.databases import rows


def publish(database: Path, target: Path, *options: object) -> Path:
    result = run("clip-publish", database, target, *map(str, options))
    assert result.exit_code == 0, result.output
    return target


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def schema(database: Path) -> list[tuple]:
    return rows(database, "select type, name, sql from sqlite_master order by type, name")
