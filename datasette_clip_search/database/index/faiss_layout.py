"""Check FAISS's serialisation of an index before FAISS reads it.

FAISS trusts what it reads: nested classes, sizes to allocate, and ids to look up vectors by. This
module follows FAISS's writer field by field, and refuses anything that `build_index` would not
make.
"""

import struct
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ...common.arrays import Ids, Vectors
from ...common.config import CONFIG
from ...common.cores import on_all_cores
from . import exact
from .header import Header, IndexUnusable
from .kinds import KINDS, lists_for

Bytes = NDArray[np.uint8]

# FAISS writes this where it once kept two numbers.
_RESERVED = 1 << 20
# Rows checked at a time: 8 MB of vectors of 512.
_ROWS = 4096
_FLAT, _REFINED, _SCALAR = b"IxFI", b"IxRF", b"IxSQ"
_INVERTED = {
    "ivf-sq8": b"IwSq",
    "ivf-sq4": b"IwSq",
    "ivf-rabitq2": b"Iwrr",
    "ivf-rabitq": b"Iwrq",
}


def check_layout(data: Bytes, header: Header) -> None:
    """Raise IndexUnusable unless the bytes are FAISS's serialisation of what `header` describes."""
    walk = _Walk(data)
    if header.kind == "flat":
        _check_flat(walk, header)
    else:
        _check_inverted(walk, header)
    walk.expect_end()


def check_ids(ids: Ids) -> None:
    """Raise IndexUnusable for ids (n,) of pictures that do not ascend."""
    if not (ids[1:] > ids[:-1]).all():
        raise _not_ours("ids of pictures")


class _Walk:
    """A position in bytes, which advances past every correct field."""

    def __init__(self, data: Bytes):
        self._data = data
        self._at = 0

    def take(self, what: str, size: int) -> Bytes:
        if not 0 <= size <= len(self._data) - self._at:
            raise _not_ours(what)
        self._at += size
        return self._data[self._at - size : self._at]

    def expect(self, what: str, layout: str, *values: object) -> None:
        expected = struct.pack(f"<{layout}", *values)
        if self.take(what, len(expected)).tobytes() != expected:
            raise _not_ours(what)

    def follows(self, text: bytes) -> bool:
        return self._data[self._at : self._at + len(text)].tobytes() == text

    def number(self, what: str) -> int:
        return int.from_bytes(self.take(what, 8).tobytes(), "little")

    def numbers(self, what: str, count: int) -> Ids:
        return self.take(what, 8 * count).view("<i8")

    def header(self, kind: bytes, d: int, count: int) -> None:
        """Expect the beginning of every index: trained, and by inner product."""
        self.expect("class", "4s", kind)
        self.expect("dimension and count", "iq", d, count)
        self.expect("training and metric", "qq?i", _RESERVED, _RESERVED, True, 0)

    def rows(
        self, what: str, count: int, d: int, longest: float = CONFIG.max_vector_length
    ) -> None:
        """Expect vectors (count, d) of finite numbers, none longer than `longest`."""
        self.expect(f"size of {what}", "Q", count * d)
        rows = cast(Vectors, self.take(what, 4 * count * d).view("<f4").reshape(count, d))

        def is_fine(start: int) -> bool:
            part = rows[start : start + _ROWS]
            # Also false for NaN.
            return bool((np.einsum("ij,ij->i", part, part) <= longest**2).all())

        starts = range(0, count, _ROWS)
        if not all(on_all_cores(is_fine, starts) if len(starts) > 1 else map(is_fine, starts)):
            raise _not_ours(what)

    def expect_end(self) -> None:
        left = self._data[self._at :]
        if len(left) >= 8 or left.any():
            raise _not_ours("end")


def _check_flat(walk: _Walk, header: Header) -> None:
    import faiss

    d, count = header.dimension, header.count
    if walk.follows(_FLAT):
        walk.header(_FLAT, d, count)
        walk.rows("vectors", count, d)
        return
    walk.header(_REFINED, d, count)
    walk.header(_SCALAR, d, count)
    _expect_scalar(walk, d, cast(Any, faiss).ScalarQuantizer.QT_fp16, 2 * d)
    walk.expect("size of training", "Q", 0)
    walk.expect("size of codes", "Q", 2 * d * count)
    walk.take("codes", 2 * d * count)
    walk.header(_FLAT, d, count)
    walk.rows("vectors", count, d, exact.LENGTH + 1e-3)
    walk.expect("number of candidates", "f", 1)


def _check_inverted(walk: _Walk, header: Header) -> None:
    import faiss

    d, count = header.dimension, header.count
    walk.header(_INVERTED[header.kind], d, count)
    lists = walk.number("number of lists")
    usual = lists_for(count)
    # Pictures may have been added or deleted since they were counted.
    if lists not in (usual // 2, usual, usual * 2) or not lists:
        raise _not_ours("number of lists")
    walk.expect("number of lists to look through", "Q", 1)
    walk.header(_FLAT, d, lists)
    walk.rows("centres", lists, d)
    walk.expect("map of ids", "bQ", 0, 0)
    # An empty index shows how this release of FAISS makes the kind.
    kind = KINDS[header.kind].factory.format(lists=lists)
    like = cast(Any, faiss).index_factory(d, kind, faiss.METRIC_INNER_PRODUCT)
    size = int(like.code_size)
    if header.kind.startswith("ivf-sq"):
        _expect_scalar(walk, d, int(like.sq.qtype), size)
        walk.rows("training", 2, d)
        walk.expect("size of a code", "Q?", size, True)
    else:
        walk.expect("rounding", "QQi", d, size, 0)
        if header.kind == "ivf-rabitq2":
            walk.expect("bits of a number", "Q", int(like.rabitq.nb_bits))
        walk.expect("size of a code", "Q?B", size, True, int(like.qb))
    walk.expect("lists", "4sQQ", b"ilar", lists, size)
    _check_lists(walk, count, size, _sizes(walk, lists))


def _expect_scalar(walk: _Walk, d: int, quantiser: int, code_size: int) -> None:
    walk.expect("rounding", "iifQQ", quantiser, 0, 0, d, code_size)


def _sizes(walk: _Walk, lists: int) -> Ids:
    """Return the number of vectors in each list that is written."""
    if walk.follows(b"full"):
        walk.expect("lists", "4sQ", b"full", lists)
        return walk.numbers("sizes of lists", lists)
    walk.expect("lists", "4s", b"sprs")
    pairs = walk.number("number of lists")
    if pairs % 2 or pairs > lists:
        raise _not_ours("number of lists")
    numbers, sizes = walk.numbers("sizes of lists", pairs).reshape(-1, 2).T
    if not ((numbers >= 0) & (numbers < lists)).all() or (np.diff(numbers) <= 0).any():
        raise _not_ours("numbers of lists")
    return sizes


def _check_lists(walk: _Walk, count: int, code_size: int, sizes: Ids) -> None:
    """Expect codes and ids list by list, and every id below `count` once."""
    if (sizes < 0).any() or (sizes > count).any() or sizes.sum() != count:
        raise _not_ours("sizes of lists")
    seen = np.zeros(count, bool)
    for size in sizes.tolist():
        walk.take("codes", size * code_size)
        ids = walk.numbers("ids", size)
        if ((ids < 0) | (ids >= count)).any():
            raise _not_ours("ids")
        seen[ids] = True
    if not seen.all():
        raise _not_ours("ids")


def _not_ours(what: str) -> IndexUnusable:
    return IndexUnusable(
        f"this program did not write it: its {what} can't be right", is_damaged=True
    )
