"""What has happened to a model's vectors since an index was made, or a collection loaded.

Triggers write a row into clip_changes for every vector that is added, changed or deleted,
whoever does it. A row has a number that grows by one, and the model's revision after it, a random
number: where both are still there, the history up to them is the same.
"""

import sqlite3
from typing import NamedTuple

import numpy as np

from ..common.arrays import Ids
from ..common.config import CONFIG
from ..common.errors import DatabaseError
from .schema import CHANGES, Model, fetch, has_table
from .vectors import ids_of


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
    return _moment(row) if row else Moment(0, model.revision)


def _moment(row: tuple[object, ...]) -> Moment:
    seq, revision = row
    if not (isinstance(seq, int) and isinstance(revision, int)):
        raise DatabaseError(
            f"The database's table {CHANGES} has a row with something else than whole numbers. "
            "Delete its rows, and run sqlite-utils clip-index"
        )
    return Moment(seq, revision)


def changes_since(
    connection: sqlite3.Connection, model: Model, moment: Moment
) -> tuple[Moment, Ids] | None:
    """Returns what a moment has become, and the ids (n,) of the pictures touched meanwhile.

    None is for a moment that this database, or what is left of its history, does not know, and for
    a history too long to read.
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
    """Deletes what no index or loaded collection will be compared with again."""
    connection.execute(f"delete from {CHANGES} where model_id = ? and seq < ?", (model.id, seq))
