"""Runs of embed-images, and the vectors that they store."""

from pathlib import Path

import numpy as np

from support.commands import run
from support.contents import contents
from support.databases import rows

VECTORS = "select path, embedding from images join clip_embeddings on image_id = images.id"


def vectors(database: Path) -> dict[str, np.ndarray]:
    return {path: np.frombuffer(blob, "<f4") for path, blob in rows(database, VECTORS)}


def summary(output: str) -> dict[str, str]:
    return {
        name: value.strip()
        for name, _, value in (line.partition(":") for line in output.splitlines())
        if value.startswith(" ")
    }


def embed(database: Path, *arguments: object) -> dict[str, str]:
    """Run embed-images and return its summary; fail unless it succeeds."""
    result = run("embed-images", database, *map(str, arguments))
    assert result.exit_code == 0, result.output
    return {**summary(result.stdout), "stderr": result.stderr}


def fresh(database: Path, folder: Path, model: Path) -> dict[str, tuple]:
    """Return the contents of a new database of a folder, made beside another one."""
    other = database.with_name("fresh.db")
    other.unlink(missing_ok=True)
    embed(other, folder, "--pretrained", model)
    return contents(other)


def assert_as_fresh(database: Path, folder: Path, model: Path) -> None:
    """Fail unless a database holds what a new one of the same folder would hold."""
    assert contents(database) == fresh(database, folder, model)
