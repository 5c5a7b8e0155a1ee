"""Databases of random pictures, and statements to read and change them."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from support.commands import run
from support.pictures import make_picture


def make_database(folder: Path, count: int, model: Path) -> Path:
    """Embed `count` random pictures, for tests that only read vectors."""
    for seed in range(count):
        make_picture(folder / "pictures" / f"{seed:02}.png", seed)
    options = ["--pretrained", model, "--text-tower", "32-bit"]
    result = run("embed-images", folder / "photos.db", folder, *options)
    assert result.exit_code == 0, result.output
    return folder / "photos.db"


def change(database: Path, sql: str, parameters: Sequence[object] = ()) -> None:
    """Run one statement and commit it."""
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(sql, parameters)


def rows(database: Path, sql: str, *parameters: object) -> list[tuple]:
    connection = sqlite3.connect(database)
    try:
        return connection.execute(sql, parameters).fetchall()
    finally:
        connection.close()
