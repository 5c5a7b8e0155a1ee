"""The vectors in the database, from which every index is built, and their two formats.

A vector is stored as little-endian float32, or as float16 in half the space; its length in bytes
shows which, so one table can hold both. Vectors in float16 have length 1 to three digits only, and
are normalized when they are read.
"""

import json
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import cast

import numpy as np

from ..common.arrays import Ids, Vectors
from ..common.config import CONFIG
from ..common.errors import DatabaseError
from .connection import fetch, quote
from .model import Model
from .recognition import images_table
from .schema import EMBEDDINGS, made_from_it

# Rows read at a time: 8 MB of vectors of 512.
_ROWS = 4096
# Ids in one statement, of the fewest parameters that any SQLite allows.
_IDS = 900
# Ids read at a time.
_IDS_READ = 1 << 16
# How far float16 can take a unit vector's length from 1. No picture file gets this close by chance.
_LENGTH_ERROR = 0.01


def pictures_of(connection: sqlite3.Connection) -> str:
    """Return the SQL of all vectors `e`, each joined to its picture `i`, or to null.

    An index covers the join, so that no vector is read.
    """
    images = quote(images_table(connection) or "")
    condition = made_from_it("e", "i")
    return (
        f"main.{EMBEDDINGS} as e left join main.{images} as i on i.id = e.image_id and {condition}"
    )


def count_vectors(connection: sqlite3.Connection, model: Model) -> int:
    """Count the pictures that the model has embedded."""
    sql = f"select count(i.id) from {pictures_of(connection)} where +e.model_id = ?"
    return int(fetch(connection, sql, model.id).fetchone()[0])


def count_without(connection: sqlite3.Connection, model: Model) -> int:
    """Count the pictures without a vector of the model."""
    images = quote(images_table(connection) or "")
    (pictures,) = fetch(connection, f"select count(*) from main.{images}").fetchone()
    return max(0, int(pictures) - count_vectors(connection, model))


def lost_ids(connection: sqlite3.Connection, model: Model, among: Ids | None = None) -> Ids:
    """Return the ids (n,), ascending, of vectors whose picture is gone or has other content now.

    With `among` (n,), only these ids are looked up.
    """
    sql = f"select e.image_id from {pictures_of(connection)} where i.id is null"
    if among is None:
        found = fetch(connection, f"{sql} and +e.model_id = ?", model.id).fetchall()
    else:
        found, ids = [], among.tolist()
        for start in range(0, len(ids), _IDS):
            some = ids[start : start + _IDS]
            marks = ",".join("?" * len(some))
            part = f"{sql} and e.model_id = ? and e.image_id in ({marks})"
            found += fetch(connection, part, model.id, *some)
    return np.unique(ids_of([id for (id,) in found]))


def embedded_ids(connection: sqlite3.Connection, model: Model) -> Ids:
    """Return the ids (n,) int64 of all vectors of the model, ascending."""
    sql = f"select image_id from main.{EMBEDDINGS} where model_id = ? order by image_id"
    cursor = fetch(connection, sql, model.id)
    parts = [np.empty(0, np.int64)]
    while read := cursor.fetchmany(_IDS_READ):
        parts.append(ids_of([image_id for (image_id,) in read]))
    ids = np.concatenate(parts)
    _check_single(ids)
    return ids


def ids_of(values: Collection[object]) -> Ids:
    """Return the values of a column as ids (n,); raises DatabaseError for anything but integers."""
    if set(map(type, values)) - {int}:
        raise DatabaseError(
            "A table of the vectors has a row whose image_id is no whole number. "
            "Delete that row and run sqlite-utils embed-images again"
        )
    return np.fromiter(cast(Collection[int], values), np.int64, len(values))


def batches(
    connection: sqlite3.Connection, model: Model, rows: int = _ROWS, without: Ids | None = None
) -> Iterator[tuple[Ids, Vectors]]:
    """Yield ids (n,) int64 and vectors (n, d) float32 of a model, in the order of the ids.

    The ids in `without` are left out. Raises DatabaseError for a stored vector of another length,
    and for one that is not finite.
    """
    sql = f"""select image_id, {_vector(model)} from main.{EMBEDDINGS}
        where model_id = ? order by image_id"""
    cursor = fetch(connection, sql, model.id)
    left_out = set() if without is None else set(without.tolist())
    last: Ids = np.empty(0, np.int64)
    while read := cursor.fetchmany(rows):
        if left_out:
            read = [row for row in read if row[0] not in left_out]
        ids, vectors = _decoded(model, read)
        _check_single(np.concatenate([last, ids[:1]]))
        last = ids[-1:]
        yield ids, vectors


def read_vectors(connection: sqlite3.Connection, model: Model) -> tuple[Ids, Vectors]:
    """Read all ids (n,) and vectors (n, d) of a model, as `batches` does."""
    sql = f"select count(*) from main.{EMBEDDINGS} where model_id = ?"
    (count,) = fetch(connection, sql, model.id).fetchone()
    return _joined(model, batches(connection, model), count)


def vectors_by_id(connection: sqlite3.Connection, model: Model, wanted: Ids) -> tuple[Ids, Vectors]:
    """Read the vectors (n, d) of some pictures, and their ids (n,), ascending.

    Pictures that the model has not embedded are left out. Raises DatabaseError as `batches` does.
    """
    # The caller may ask for more vectors than there are.
    expected = min(len(wanted), _IDS)
    return _joined(model, batches_by_id(connection, model, wanted), expected)


def batches_by_id(
    connection: sqlite3.Connection, model: Model, wanted: Ids
) -> Iterator[tuple[Ids, Vectors]]:
    """Yield what `vectors_by_id` returns in parts, so that few vectors are in memory at a time."""
    sql = f"""select image_id, {_vector(model)} from main.{EMBEDDINGS}
        where model_id = ? and image_id in (select value from temp.json_each(?))
        order by image_id"""
    ordered = np.unique(wanted)
    for start in range(0, len(ordered), _ROWS):
        part = json.dumps(ordered[start : start + _ROWS].tolist())
        if rows := fetch(connection, sql, model.id, part).fetchall():
            yield _decoded(model, rows)


def _joined(
    model: Model, parts: Iterable[tuple[Ids, Vectors]], expected: int
) -> tuple[Ids, Vectors]:
    """Join parts that together have about `expected` rows."""
    ids = np.empty(expected, np.int64)
    vectors = np.empty((expected, model.dimension), np.float32)
    count = 0
    for some, theirs in parts:
        end = count + len(some)
        if end > len(ids):
            # Another program has added rows since they were counted.
            ids = np.concatenate([ids[:count], np.empty(2 * end, np.int64)])
            more = np.empty((2 * end, model.dimension), np.float32)
            vectors = np.concatenate([vectors[:count], more])
        ids[count:end], vectors[count:end] = some, theirs
        count = end
    return ids[:count], vectors[:count]


def _vector(model: Model) -> str:
    """Return the SQL of a vector, which reads no value of another size into memory."""
    sizes = f"{2 * model.dimension}, {4 * model.dimension}"
    return f"""case when typeof(embedding) = 'blob' and length(embedding) in ({sizes})
        then embedding end"""


def _decoded(model: Model, rows: list[tuple[int, bytes]]) -> tuple[Ids, Vectors]:
    ids = ids_of([image_id for image_id, _ in rows])
    _check_single(ids)
    for image_id, blob in rows:
        if not has_length(blob, model.dimension):
            raise DatabaseError(
                f"The embedding of picture {image_id} is not {4 * model.dimension} bytes long. "
                "Delete that row and run sqlite-utils embed-images again"
            )
    vectors = decode_vectors([blob for _, blob in rows], model.dimension)
    # Also false for NaN.
    fine = np.einsum("ij,ij->i", vectors, vectors) <= CONFIG.max_vector_length**2
    if not fine.all():
        raise DatabaseError(
            f"The embedding of picture {ids[~fine][0]} holds a number that is not finite, or too "
            "large. Delete that row and run sqlite-utils embed-images again"
        )
    return ids, vectors


def _check_single(ids: Ids) -> None:
    """Raise DatabaseError if a picture has two vectors, as in a table that lost its key."""
    if (twice := np.flatnonzero(ids[1:] <= ids[:-1])).size:
        raise DatabaseError(
            f"The database's table {EMBEDDINGS} has two rows for picture {ids[twice[0]]}. "
            "Delete one and run sqlite-utils embed-images again"
        )


def has_length(blob: object, dimension: int) -> bool:
    """Tell whether a stored value has the length of a vector in either format."""
    return isinstance(blob, bytes) and len(blob) in (4 * dimension, 2 * dimension)


def decode_vectors(blobs: Sequence[bytes], dimension: int) -> Vectors:
    """Decode stored vectors to (n, d) float32; each must have a vector's length.

    The numbers are not checked: they may be infinite or not a number.
    """
    if len({len(blob) for blob in blobs}) > 1:
        return np.concatenate([decode_vectors([blob], dimension) for blob in blobs])
    is_half = bool(blobs) and len(blobs[0]) == 2 * dimension
    data = np.frombuffer(b"".join(blobs), "<f2" if is_half else "<f4")
    vectors: Vectors = data.astype(np.float32, copy=False).reshape(len(blobs), dimension)
    if is_half:
        # The caller refuses values that are not finite, so numpy need not warn.
        with np.errstate(invalid="ignore", over="ignore"):
            lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
            lengths[~np.isfinite(lengths) | (lengths == 0)] = 1
            vectors /= lengths
    return vectors


def encode_float16(vector: Vectors) -> bytes:
    """Encode a unit vector (d,) in float16: 2 x d bytes."""
    return vector.astype("<f2").tobytes()


def check_query_vectors(vectors: Vectors, count: int, dimension: int) -> Vectors:
    """Return the vectors that an encoder made of `count` queries, checked against the model.

    Both encoder and model may come from a stranger's database. Raises DatabaseError for vectors of
    another size and for numbers that are not finite.
    """
    if vectors.shape != (count, dimension):
        raise DatabaseError(
            f"The model's encoder makes vectors of {vectors.shape[-1]} numbers, and its pictures' "
            f"have {dimension}: the database is damaged. Run sqlite-utils embed-images again"
        )
    if vectors.dtype != np.float32 or not np.isfinite(vectors).all():
        raise DatabaseError("The model's encoder makes numbers that are not finite of this query")
    return vectors


def is_vector(value: object, dimension: int) -> bool:
    """Tell whether a value is a vector, by its length; float16 also by its numbers."""
    if not isinstance(value, bytes) or not has_length(value, dimension):
        return False
    if len(value) == 4 * dimension:
        return True
    with np.errstate(invalid="ignore", over="ignore"):
        length = np.linalg.norm(np.frombuffer(value, "<f2").astype(np.float32))
    return bool(abs(length - 1) < _LENGTH_ERROR)
