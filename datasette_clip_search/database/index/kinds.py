"""The kinds of index, and the choice of one by the size of a collection and the memory."""

import math
from dataclasses import dataclass

from ...common.config import CONFIG


@dataclass(frozen=True)
class Kind:
    """A kind of index: FAISS's name for it, and the bits that it keeps of each number.

    All but `flat` search a part of the collection, in rounded vectors. The exact vectors in the
    database then rank what they find.
    """

    name: str
    factory: str
    bits: int
    # Bytes per vector besides its numbers and ids.
    beside: int = 0

    @property
    def is_exact(self) -> bool:
        """Whether it holds the exact vectors and compares all of them."""
        return self is FLAT

    def described(self, count: int) -> str:
        """Return the argument of FAISS's index_factory for this many vectors."""
        return self.factory.format(lists=lists_for(count))

    def size(self, count: int, dimension: int) -> int:
        """Estimate the bytes of an index of this many vectors, in memory and on disk."""
        each = self.bits * dimension / 8 + self.beside + 8
        if self.is_exact:
            return round(count * each)
        # A list holds a position in addition to the picture's id.
        each += 8
        return round(count * each + 4 * dimension * lists_for(count))


# Rounded vectors of 16 bits, and exact ones of 32.
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

# A placeholder where there is no index.
NONE = Kind("none", "", 0)


def lists_for(count: int) -> int:
    """Return the number of lists for this many vectors: a power of two near the square root."""
    return 1 << max(0, round(math.log2(max(1, count)) / 2))


def choose(count: int, dimension: int, memory: int | None = None) -> Kind:
    """Choose the kind for this many vectors: the first that is fast and fits in `memory` bytes.

    If none fits, it is the smallest.
    """
    small = count * dimension <= CONFIG.exact_numbers
    kinds = list(KINDS.values())[0 if small else 1 :]
    fitting = (kind for kind in kinds if memory is None or kind.size(count, dimension) <= memory)
    return next(fitting, kinds[-1])
