"""How a vector is stored: little-endian float32, or float16 in half the room.

Its length tells which, so that a database can hold both: one that was published in half the room,
and then added to. Vectors in float16 are of length 1 only to three digits; they are read as unit
vectors again.
"""

from collections.abc import Sequence

import numpy as np

from ..common.arrays import Vectors
from ..common.errors import DatabaseError

# How far rounding can take a unit vector's length from 1, and no picture file comes by chance.
_LENGTH_ERROR = 0.01


def has_length(blob: object, dimension: int) -> bool:
    """Tells whether a stored value has the length of a vector, of either format."""
    return isinstance(blob, bytes) and len(blob) in (4 * dimension, 2 * dimension)


def decode(blobs: Sequence[bytes], dimension: int) -> Vectors:
    """Returns stored vectors (n, d) float32; each must have a vector's length.

    The numbers may not be finite.
    """
    if len({len(blob) for blob in blobs}) > 1:
        return np.concatenate([decode([blob], dimension) for blob in blobs])
    is_half = bool(blobs) and len(blobs[0]) == 2 * dimension
    data = np.frombuffer(b"".join(blobs), "<f2" if is_half else "<f4")
    vectors: Vectors = data.astype(np.float32, copy=False).reshape(len(blobs), dimension)
    if is_half:
        # What is not finite is for the caller to refuse, not for numpy to warn of.
        with np.errstate(invalid="ignore", over="ignore"):
            lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
            lengths[~np.isfinite(lengths) | (lengths == 0)] = 1
            vectors /= lengths
    return vectors


def halved(vector: Vectors) -> bytes:
    """Returns a unit vector (d,) as it is stored in half the room: 2 x d bytes."""
    return vector.astype("<f2").tobytes()


def check_encoded(vectors: Vectors, count: int, dimension: int) -> Vectors:
    """Returns what an encoder made of `count` queries, if these are finite vectors of a model's.

    The encoder may be one that a database brings, and so may the model. Raises DatabaseError.
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
    """Tells whether a value is a vector: by its length, and a short one also by its numbers."""
    if not isinstance(value, bytes) or not has_length(value, dimension):
        return False
    if len(value) == 4 * dimension:
        return True
    with np.errstate(invalid="ignore", over="ignore"):
        length = np.linalg.norm(np.frombuffer(value, "<f2").astype(np.float32))
    return bool(abs(length - 1) < _LENGTH_ERROR)
