"""Find all pairs of similar vectors, with an upper bound that rules out most pairs cheaply."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..common.arrays import Ids, Vectors

# Blocks whose products stay in the cache of a core. They consist of tiles that are too small for
# BLAS to use several threads: beside other busy processes, those threads wait for one another a
# hundred times longer than they multiply.
_ROWS, _COLUMNS, _TILE = 128, 4096, 1 << 18
# Pairs compared in full at a time: 2 x 16 MB for vectors of 512 numbers.
_COMPARED = 8192
# Fewer vectors are compared in full, which takes less time than shortening them.
_SHORTEN_FROM = 5000
_WIDTHS = (16, 32, 64, 128, 256)
# A full comparison of a pair costs as much as multiplying this many numbers in tiles.
_FULL_COST = 35_000
_SAMPLE, _SAMPLE_COMPARED = 10_000, 2000
# More than the rounding error of a float32 product of unit vectors.
_ROUNDING = 1e-5


class Pairs(NamedTuple):
    """Pairs of positions with their cosines.

    `first`, `second` and `cosine` are (p,): int32, int32, float64 rounded to six digits. Of equal
    vectors, only the first position is in pairs; `copy_of` (n,) gives it for each position.
    """

    first: NDArray[np.int32]
    second: NDArray[np.int32]
    cosine: NDArray[np.float64]
    copy_of: Ids


class TooManyPairs(Exception):
    "More pairs are similar than the limit"


def find_pairs(vectors: Vectors, threshold: float, limit: int) -> Pairs:
    """Return every pair of (n, d) unit vectors with a cosine of at least `threshold`, above 0.

    The result is exact. Vectors are rotated to the principal axes of a sample, and shortened to
    their first numbers plus one more, the length of the rest. By the Cauchy-Schwarz inequality, the
    product of two short vectors is an upper bound of the cosine. So a pair whose bound is below the
    threshold needs no full comparison; of pairs of pictures, a few in a million remain. The sample
    also decides how short the vectors become. If short vectors do not help, all pairs are compared
    in full.

    Raises TooManyPairs for more than `limit`.
    """
    copy_of = _copies(vectors)
    distinct = np.flatnonzero(copy_of == np.arange(len(vectors)))
    short = _shortened(vectors, threshold)
    if len(distinct) < len(vectors):
        # Only if needed, because this copies the vectors.
        short = short[distinct]
    found: list[tuple[Ids, Ids, NDArray[np.float64]]] = []
    count = 0
    for left, right in _candidates(short, threshold - _ROUNDING):
        for start in range(0, len(left), _COMPARED):
            part = slice(start, start + _COMPARED)
            first, second = distinct[left[part]], distinct[right[part]]
            cosine = np.einsum("ij,ij->i", vectors[first], vectors[second], dtype=np.float64)
            cosine = np.minimum(cosine.round(6), 1)
            close = cosine >= threshold
            found.append((first[close], second[close], cosine[close]))
            count += int(close.sum())
            if count > limit:
                raise TooManyPairs
    columns = [np.concatenate(column) for column in zip(*found, strict=True)] or [np.empty(0)] * 3
    return Pairs(columns[0].astype(np.int32), columns[1].astype(np.int32), columns[2], copy_of)


def _copies(vectors: Vectors) -> Ids:
    """Return for each vector the first position with the same bytes."""
    copy_of = np.arange(len(vectors))
    # The first two numbers differ for nearly all vectors, so few need to be sorted in full.
    _, place, count = np.unique(_raw(vectors[:, :2]), return_inverse=True, return_counts=True)
    maybe = np.flatnonzero(count[place] > 1)
    _, first, place = np.unique(_raw(vectors[maybe]), return_index=True, return_inverse=True)
    copy_of[maybe] = maybe[first[place]]
    return copy_of


def _raw(vectors: Vectors) -> NDArray[np.void]:
    rows = np.ascontiguousarray(vectors)
    return rows.view(np.dtype((np.void, rows.shape[1] * rows.itemsize))).ravel()


def _shortened(vectors: Vectors, threshold: float) -> Vectors:
    """Return short vectors of the width that takes the least work, or the vectors themselves."""
    count, dimension = vectors.shape
    if count <= _SHORTEN_FROM:
        return vectors
    chosen = np.random.default_rng(0).choice(count, min(count, _SAMPLE), replace=False)
    sample = vectors[chosen]
    axes = np.linalg.eigh(sample.T @ sample)[1][:, ::-1]
    sample = sample[:_SAMPLE_COMPARED]
    truly = (sample @ sample.T >= threshold).mean()
    best, least_work = dimension, float(dimension)
    for width in (width for width in _WIDTHS if width <= dimension // 2):
        short = _short(sample, axes[:, : width - 1])
        left_over = (short @ short.T >= threshold).mean() - truly
        work = width + _FULL_COST * float(left_over)
        if work < least_work:
            best, least_work = width, work
    return vectors if best == dimension else _short(vectors, axes[:, : best - 1])


def _short(vectors: Vectors, axes: Vectors) -> Vectors:
    """Return the coordinates of vectors along some axes, and the length of the rest."""
    along = vectors @ axes
    rest = np.einsum("ij,ij->i", vectors, vectors) - np.einsum("ij,ij->i", along, along)
    # Add a margin, because the root of a rounding error is large, and this must remain a bound.
    beside = np.sqrt(np.maximum(rest, 0) + 1e-6)
    return np.concatenate([along, beside[:, np.newaxis]], axis=1, dtype=np.float32)


def _candidates(short: Vectors, least: float) -> Iterator[tuple[Ids, Ids]]:
    """Yield the positions of pairs with a product of at least `least`, some thousands at a time."""
    count, width = short.shape
    tile = max(1, _TILE // (_ROWS * width))
    filled = np.zeros((-(-count // tile) * tile, width), np.float32)
    filled[:count] = short
    tiles = filled.reshape(-1, tile, width).transpose(0, 2, 1)
    memory = np.empty(_ROWS * (_COLUMNS + tile), np.float32)
    pending: list[tuple[Ids, Ids]] = []
    waiting = 0
    for top in range(0, count, _ROWS):
        rows = filled[top : min(top + _ROWS, count)]
        for left in range(top // tile, len(tiles), max(1, _COLUMNS // tile)):
            columns = tiles[left : left + max(1, _COLUMNS // tile)]
            shape = len(columns), len(rows), tile
            products = np.matmul(
                rows, columns, out=memory[: shape[0] * shape[1] * tile].reshape(shape)
            )
            if products.max() < least:
                continue
            block, row, column = np.unravel_index(np.flatnonzero(products >= least), shape)
            first, second = row + top, (block + left) * tile + column
            upper = first < second
            pending.append((first[upper], second[upper]))
            waiting += int(upper.sum())
            if waiting >= _COMPARED:
                yield _joined(pending)
                pending, waiting = [], 0
    if pending:
        yield _joined(pending)


def _joined(pending: list[tuple[Ids, Ids]]) -> tuple[Ids, Ids]:
    first, second = zip(*pending, strict=True)
    return np.concatenate(first), np.concatenate(second)
