"""An index in memory, and the searches in it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from ...common.arrays import Chosen, Ids, Vectors, ascending
from . import exact
from .kinds import KINDS, NONE, Kind


@dataclass(frozen=True)
class Effort:
    """How hard an inexact index searches for ten pictures.

    It probes `lists` lists, and ranks `depth` candidates per wanted picture by their exact vectors.
    """

    lists: int = 1
    depth: int = 1

    def for_(self, k: int, of: int) -> tuple[int, int]:
        """Return the number of lists, at most `of`, and of candidates for k pictures.

        The more pictures are wanted, the further apart they are.
        """
        wider = math.sqrt(max(k, 10) / 10)
        return min(of, math.ceil(self.lists * wider)), k * self.depth


LEAST = Effort()


class Index:
    """A FAISS index of some pictures, whose ids (n,) ascend by position.

    A search uses one thread: more threads would wait for each other longer than they work, and many
    times as long on a busy machine (tests/benchmarks/query_threads.py).
    """

    def __init__(
        self,
        faiss_index: Any,
        ids: Ids,
        kind: Kind,
        effort: Effort = Effort(),
        owner: object = None,
    ):
        """Take a FAISS index; `owner` keeps the memory of a mapped one alive."""
        self.faiss = faiss_index
        self.ids = ids
        self.kind = kind
        self.effort = effort
        self._owner = owner
        parts: tuple[Any, Any] = _parts(faiss_index) if kind.is_exact else (None, None)
        self._rounded, self._exact = parts

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lists(self) -> int:
        """The number of lists that divide the vectors; an exact index has none."""
        import faiss

        return 0 if self.kind.is_exact else int(cast(Any, faiss.downcast_index(self.faiss)).nlist)

    @property
    def dimension(self) -> int:
        """The number of elements in a vector."""
        return int(self.faiss.d)

    @property
    def is_mapped(self) -> bool:
        """Whether its memory is that of a file, which processes share."""
        return self._owner is not None

    @property
    def vectors(self) -> Vectors:
        """The vectors (n, d) of an exact index: a view of its memory, valid as long as it is."""
        import faiss

        vectors = faiss.rev_swig_ptr(self._exact.get_xb(), len(self) * self.dimension)
        return cast(Vectors, vectors.reshape(len(self), self.dimension))

    def positions(self, ids: Iterable[int] | Ids) -> Ids:
        """Return the positions (m,), ascending, of the pictures in `ids` that are in the index."""
        wanted = ascending(ids)
        positions = np.searchsorted(self.ids, wanted)
        is_here = positions < len(self)
        is_here[is_here] = self.ids[positions[is_here]] == wanted[is_here]
        return positions[is_here]

    def exact(self, vector: Vectors, k: int, chosen: Chosen | None) -> tuple[Ids, Vectors]:
        """Return ids (k,) and cosines (k,) of the nearest to a (d,) vector in an exact index.

        With `chosen` (n,), search only these positions.
        """
        import faiss

        exact.check_query(vector, self.dimension)
        faiss.omp_set_num_threads(1)
        parameters = None
        if chosen is not None:
            parameters = cast(Any, faiss).SearchParameters(sel=_selector(chosen))
        if self._rounded:
            nearest = exact.nearest(self._rounded, self._exact, vector, k, parameters)
            if nearest:
                return self.ids[nearest[0]], nearest[1]
        scores, found = self._exact.search(vector.reshape(1, -1), k, params=parameters)
        # FAISS fills the rest with -1.
        there = found[0] >= 0
        return self.ids[found[0][there]], scores[0][there]

    def candidates(
        self, vector: Vectors, k: int, chosen: Chosen | None, harder: int = 1
    ) -> tuple[Ids, bool]:
        """Return ids of pictures that likely include the k nearest to a (d,) vector.

        `harder` multiplies the number of lists to probe. Also returns whether those were all lists.
        """
        import faiss

        exact.check_query(vector, self.dimension)
        of = self.lists
        lists, wanted = self.effort.for_(k, of)
        lists = min(of, lists * harder)
        faiss.omp_set_num_threads(1)
        parameters = cast(Any, faiss).SearchParametersIVF(
            nprobe=lists, sel=None if chosen is None else _selector(chosen)
        )
        _, found = self.faiss.search(
            vector.reshape(1, -1), min(wanted, len(self)), params=parameters
        )
        return self.ids[found[0][found[0] >= 0]], lists == of


class Unindexed(Index):
    """Stands in for an index of more vectors than memory can hold.

    All pictures are candidates, so every search reads their vectors from the database, which is
    slow but exact.
    """

    def __init__(self, ids: Ids):
        super().__init__(None, ids, NONE)

    @property
    def lists(self) -> int:
        """One list of everything."""
        return 1

    def candidates(
        self, vector: Vectors, k: int, chosen: Chosen | None, harder: int = 1
    ) -> tuple[Ids, bool]:
        """Return all pictures that a search may find, and True."""
        return (self.ids if chosen is None else self.ids[np.flatnonzero(chosen)]), True


def _parts(index: Any) -> tuple[Any, Any]:
    """Return the two parts of an exact index: rounded vectors, or None, and exact vectors."""
    import faiss

    index = cast(Any, faiss).downcast_index(index)
    if not isinstance(index, cast(Any, faiss).IndexRefine):
        return None, index
    return tuple(map(cast(Any, faiss).downcast_index, (index.base_index, index.refine_index)))


def flat(ids: Ids, vectors: Vectors) -> Index:
    """Build an exact index, in memory, of (n, d) unit vectors whose ids (n,) ascend."""
    import faiss

    index = cast(Any, faiss).IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    return Index(index, ids, KINDS["flat"])


def _selector(chosen: Chosen) -> Any:
    import faiss

    # A bit for each vector is many times faster than FAISS's selector by ids, which hashes them
    # all (tests/benchmarks/within.py).
    return cast(Any, faiss).IDSelectorBitmap(np.packbits(chosen, bitorder="little"))
