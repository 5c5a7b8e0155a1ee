"""What has happened to a model's vectors since an index was made, or a collection loaded.

Triggers write a row into clip_changes for every vector that is added, changed or deleted,
whoever does it. A row has a number that grows by one, and the model's revision after it, a random
number: where both are still there, the history up to them is the same.
"""

import sqlite3
from typing import NamedTuple

import numpy as np

from .arrays import Ids
from .errors import DatabaseError
from .schema import CHANGES, Model, fetch, has_table


class Moment(NamedTuple):
    """A state of a model's vectors; equal moments of one database mean equal vectors."""

    seq: int
    revision: int


def moment_of(connection: sqlite3.Connection, model: Model) -> Moment:
    """Returns the state of a model's vectors as the connection sees them."""
    if not has_table(connection, CHANGES):
        return Moment(0, model.revision)
    sql = f"""select seq, revision from main.{CHANGES} where model_id = ?
        order by seq desc limit 1"""
    row = fetch(connection, sql, model.id).fetchone()
    if row is None:
        return Moment(0, model.revision)
    _check([row])
    return Moment(*row)


def changes_since(
    connection: sqlite3.Connection, model: Model, moment: Moment
) -> tuple[Moment, Ids] | None:
    """Returns what a moment has become, and the ids (n,) of the pictures touched meanwhile.

    None is for a moment that this database, or what is left of its history, does not know.
    """
    if not has_table(connection, CHANGES):
        same = moment.revision == model.revision
        return (moment, np.empty(0, np.int64)) if same else None
    sql = f"""select seq, revision, image_id from main.{CHANGES}
        where model_id = ? and seq >= ? order by seq"""
    rows = fetch(connection, sql, model.id, moment.seq).fetchall()
    _check(rows)
    if not rows or rows[0][:2] != moment:
        return None
    touched = {image_id for _, _, image_id in rows[1:] if image_id is not None}
    return Moment(*rows[-1][:2]), np.array(sorted(touched), np.int64)


def _check(rows: list[tuple[object, ...]]) -> None:
    if any(set(map(type, row)) - {int, type(None)} or None in row[:2] for row in rows):
        raise DatabaseError(
            f"The database's table {CHANGES} has a row with something else than whole numbers. "
            "Delete its rows, and run sqlite-utils clip-index"
        )


def forget_before(connection: sqlite3.Connection, model: Model, seq: int) -> None:
    """Deletes what no index or loaded collection will be compared with again."""
    connection.execute(f"delete from {CHANGES} where model_id = ? and seq < ?", (model.id, seq))
