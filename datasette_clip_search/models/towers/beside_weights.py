"""Towers beside the weights of a model: a new database copies them, and embeds without torch."""

import sqlite3
from contextlib import closing
from pathlib import Path

from ...database.connection import fetch, transaction
from ...database.model import Model, models
from ...database.schema import TOWERS
from ..checkpoint import Checkpoint, compute_fingerprint
from .image import ImageTower
from .stored import IMAGE, TEXT, TowerUnusable, read_manifest, read_tower

TOWERS_FILE = "towers.db"
"""A database with one model and its towers, in the folder of the model's weights."""


def find_tower(
    connection: sqlite3.Connection, model: Model | None, checkpoint: Checkpoint
) -> ImageTower | None:
    """Return a model's image tower: the database's own, or else the one beside its weights.

    Raises TowerUnusable for one that can't be used.
    """
    if model and (manifest := read_manifest(connection, model, IMAGE)):
        return ImageTower(read_tower(connection, model, manifest, IMAGE))
    if file := _file(checkpoint):
        with closing(_open(file)) as beside:
            other = _model_of(beside, checkpoint)
            if other and (manifest := read_manifest(beside, other, IMAGE)):
                return ImageTower(read_tower(beside, other, manifest, IMAGE))
    return None


def copy_towers(
    connection: sqlite3.Connection, model: Model, checkpoint: Checkpoint
) -> frozenset[str]:
    """Copy the towers that a database lacks from beside the model's weights.

    Return the kinds that were copied.
    """
    file = _file(checkpoint)
    if file is None:
        return frozenset()
    copied = set()
    with closing(_open(file)) as beside:
        other = _model_of(beside, checkpoint)
        if other is None or other.fingerprint != model.fingerprint:
            return frozenset()
        for tower in (TEXT, IMAGE):
            if read_manifest(connection, model, tower):
                continue
            sql = f"""select tower, part, precision, data from {TOWERS}
                where model_id = ? and tower = ?"""
            rows = fetch(beside, sql, other.id, tower)
            sql = f"""insert into {TOWERS} (model_id, tower, part, precision, data)
                values ({model.id}, ?, ?, ?, ?)"""
            with transaction(connection):
                if connection.executemany(sql, rows).rowcount > 0:
                    copied.add(tower)
    return frozenset(copied)


def _file(checkpoint: Checkpoint) -> Path | None:
    file = checkpoint.folder / TOWERS_FILE if checkpoint.folder else None
    return file if file and file.is_file() else None


def _open(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro&immutable=1", uri=True)


def _model_of(beside: sqlite3.Connection, checkpoint: Checkpoint) -> Model | None:
    """Find the model in a file of towers.

    Raises TowerUnusable for another kind of file.
    """
    made_from = compute_fingerprint(checkpoint)
    try:
        return next((each for each in models(beside) if each.fingerprint == made_from), None)
    except sqlite3.DatabaseError as error:
        raise TowerUnusable(f"{TOWERS_FILE} beside the model's weights: {error}") from error
