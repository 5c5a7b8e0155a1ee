"""Fill the lists of an index without using more memory than they need in the end."""

from collections.abc import Callable
from typing import Any, BinaryIO, cast

import numpy as np

from ...common.arrays import Ids, Vectors

# Vectors put into their lists at a time.
_ROWS = 1 << 16


class Filling:
    """Encoded vectors, kept in a file until the size of each list is known.

    FAISS's own `add` doubles a full list, and so uses half as much memory again as the vectors
    need. The lists hold the same in the end.
    """

    def __init__(self, index: Any, file: BinaryIO):
        """Take a trained IndexIVF, and an empty file to write to and read back."""
        self._index = index
        self._width = int(index.sa_code_size())
        self._sizes: Ids = np.zeros(index.nlist, np.int64)
        self._file = file

    def add(self, vectors: Vectors) -> None:
        """Add more vectors (n, d). Raises OSError if the disk is full."""
        codes = self._index.sa_encode(vectors)
        # A code begins with the number of its list, lowest byte first.
        of_list = codes[:, : self._index.coarse_code_size()]
        lists = of_list @ (256 ** np.arange(of_list.shape[1]))
        self._sizes += np.bincount(lists, minlength=len(self._sizes))
        self._file.write(codes)

    def finish(self, on_progress: Callable[[int], None]) -> None:
        """Put all vectors into the index, numbered in the order they came; report each batch."""
        import faiss

        lists = cast(Any, faiss).downcast_InvertedLists(self._index.invlists)
        for number, size in enumerate(self._sizes.tolist()):
            lists.resize(number, size)
            # Resizing to 0 keeps the memory.
            lists.resize(number, 0)
        self._file.seek(0)
        while data := self._file.read(_ROWS * self._width):
            codes = np.frombuffer(data, np.uint8).reshape(-1, self._width)
            start = self._index.ntotal
            self._index.add_sa_codes(codes, np.arange(start, start + len(codes)))
            on_progress(self._index.ntotal)
