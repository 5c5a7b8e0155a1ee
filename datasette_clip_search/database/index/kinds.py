"""The kinds of index, and which one a collection gets by its size and the memory there is."""

import math
from dataclasses import dataclass

from ...common.config import CONFIG


@dataclass(frozen=True)
class Kind:
    """A kind of index: FAISS's name of it, and the bits that it keeps of each number.

    All but `flat` search a part of the collection, in vectors that are rounded; what they find is
    ranked anew by the exact vectors in the database.
    """

    name: str
    factory: str
    bits: int
    # Bytes that a vector takes beside its numbers and ids.
    beside: int = 0

    @property
    def is_exact(self) -> bool:
        """Whether it holds the vectors themselves and looks at all of them."""
        return self is FLAT

    def described(self, count: int) -> str:
        """Returns what FAISS's index_factory takes for so many vectors."""
        return self.factory.format(lists=lists_for(count))

    def size(self, count: int, dimension: int) -> int:
        """Returns about how many bytes an index of so many vectors takes, in memory and on disk."""
        each = self.bits * dimension / 8 + self.beside + 8
        if self.is_exact:
            return round(count * each)
        # Besides the picture's id there is its place in a list.
        each += 8
        return round(count * each + 4 * dimension * lists_for(count))


# Rounded vectors of 16 bits, and beside them the exact ones of 32.
FLAT = Kind("flat", "SQfp16,RFlat", 48)
KINDS = {
    kind.name: kind
    for kind in (
        FLAT,
        Kind("ivf-sq8", "IVF{lists},SQ8", 8),
        Kind("ivf-sq4", "IVF{lists},SQ4", 4),
        Kind("ivf-rabitq2", "IVF{lists},RaBitQ2", 2, 20),
        Kind("ivf-rabitq", "IVF{lists},RaBitQ", 1, 8),
    )
}

# What stands in where there is no index.
NONE = Kind("none", "", 0)


def lists_for(count: int) -> int:
    """Returns into how many lists so many vectors are divided: a power of two near the root."""
    return 1 << max(0, round(math.log2(max(1, count)) / 2))


def choose(count: int, dimension: int, memory: int | None = None) -> Kind:
    """Returns the kind for so many vectors: the first that is fast, and fits in `memory` bytes.

    Where none fits, it is the smallest.
    """
    small = count * dimension <= CONFIG.exact_numbers
    kinds = list(KINDS.values())[0 if small else 1 :]
    fitting = (kind for kind in kinds if memory is None or kind.size(count, dimension) <= memory)
    return next(fitting, kinds[-1])
