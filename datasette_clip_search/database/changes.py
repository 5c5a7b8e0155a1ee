"""The history of a model's vectors: which pictures have changed since an index was built.

- Triggers add a row to clip_changes for every vector that anyone adds, changes or deletes.
- A row's `seq` is one more than that of the model's previous row. Its `revision` is the model's
  revision after the change, a random number.
- A moment is a row's seq and revision. If a database still has that row, its history up to there
  led to the moment: nobody can guess the random number.
- The newest row of a model is never deleted. Older rows may be; a moment before them is unknown.
- Vectors of equal moments in one database are equal.
"""

import sqlite3
from typing import NamedTuple

import numpy as np

from ..common.arrays import Ids
from ..common.config import CONFIG
from ..common.errors import DatabaseError
from .connection import fetch, has_table
from .model import Model
from .schema import CHANGES
from .vectors import ids_of


class Moment(NamedTuple):
    """A state of a model's vectors, by its place in the history."""

    seq: int
    revision: int


def moment_of(connection: sqlite3.Connection, model: Model) -> Moment:
    """Return the state of a model's vectors as the connection sees them."""
    if not has_table(connection, CHANGES):
        return Moment(0, model.revision)
    sql = f"""select seq, revision from main.{CHANGES} where model_id = ?
        order by seq desc limit 1"""
    row = fetch(connection, sql, model.id).fetchone()
    return _moment(row) if row else Moment(0, model.revision)


def _moment(row: tuple[object, ...]) -> Moment:
    seq, revision = row
    if not (isinstance(seq, int) and isinstance(revision, int)):
        raise DatabaseError(
            f"The database's table {CHANGES} has a row with values other than integers. "
            "Delete its rows, and run sqlite-utils clip-index"
        )
    return Moment(seq, revision)


def changes_since(
    connection: sqlite3.Connection, model: Model, moment: Moment
) -> tuple[Moment, Ids] | None:
    """Return the current moment, and the ids (n,) of the pictures touched since `moment`.

    Returns None for a moment that the history does not contain, and for a history that is too long
    to read.
    """
    if not has_table(connection, CHANGES):
        same = moment.revision == model.revision
        return (moment, np.empty(0, np.int64)) if same else None
    sql = f"""select seq, revision, image_id from main.{CHANGES}
        where model_id = ? and seq >= ? order by seq limit ?"""
    limit = CONFIG.max_changes_read
    rows = fetch(connection, sql, model.id, moment.seq, limit + 1)
    first = rows.fetchone()
    if first is None or first[:2] != moment:
        return None
    last, touched, count = first, set(), 1
    for last in rows:
        touched.add(last[2])
        count += 1
    if count > limit:
        return None
    touched.discard(None)
    return _moment(last[:2]), np.sort(ids_of(touched))


def forget_before(connection: sqlite3.Connection, model: Model, seq: int) -> None:
    """Delete the part of the history that no index or snapshot will be compared with again."""
    connection.execute(f"delete from {CHANGES} where model_id = ? and seq < ?", (model.id, seq))
