"""The checks that a tower has to pass: its vectors, and the pictures they find, are torch's."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ....common.answers import shares_found
from ....common.arrays import Vectors
from ....common.config import CONFIG
from ....common.cores import on_all_cores
from ....common.errors import EncoderUnavailable
from ....common.stopping import Stopped
from ...device import torch_settings
from ...encoding import least_cosine, unit
from ..stored import SelfTestFailed, StoredTower, TowerUnusable, pack_tower

AUTO, NONE = "auto", "none"
BITS = {"8-bit": 8, "16-bit": 16, "32-bit": 32}
# The least cosine between the tower's vectors and torch's.
FAITHFUL = {"8-bit": 0.995, "16-bit": 0.9999, "32-bit": 0.9999}
# The least share of each query's nearest pictures that the tower must find as well.
AGREEMENT = 0.95
NEIGHBOURS = 10
# Among fewer pictures, the ten nearest would agree by chance.
_PICTURES_AT_LEAST = 100


@dataclass(frozen=True)
class Rejection:
    """A precision whose tower did not pass, with its figures or the problem that it had."""

    precision: str
    cosine: float | None = None
    agreement: float | None = None
    problem: str = ""

    def __str__(self) -> str:
        if self.cosine is None:
            return f"{self.precision}: {self.problem}"
        figures = f"{self.precision}: cosine {self.cosine:.4f}"
        if self.agreement is not None:
            figures += f", {self.agreement:.1%} of the ten best pictures are the same"
        return figures


@dataclass(frozen=True)
class CheckedTower:
    """A tower that passed, ready to be stored.

    `cosine` is the least one to torch's vector of a query. `agreement` is the mean share of the
    nearest pictures that both find, None where there are too few pictures. `rejections` are the
    precisions that were tried before.
    """

    manifest: str
    stored: StoredTower
    precision: str
    cosine: float
    agreement: float | None
    rejections: tuple[Rejection, ...]


Parts = tuple[Mapping[str, Any], Mapping[str, bytes]]
"""The facts and the sections of a tower."""


@dataclass(frozen=True)
class TowerCheck:
    """A comparison of towers with torch.

    `exact` are torch's unit vectors (n, d) of the queries, and `pictures` unit vectors (m, d) of
    the collection, in which the precisions of `must_agree` have to find the same pictures.
    `queries` is the name of the queries' number in a manifest.
    """

    exact: Vectors
    pictures: Vectors
    must_agree: Collection[str]
    queries: str

    def first_to_pass(
        self,
        precisions: Iterable[str],
        build: Callable[[str], Parts],
        encode: Callable[[StoredTower], Vectors],
        is_stopped: Callable[[], bool],
    ) -> CheckedTower:
        """Return the first tower that passes, in the order of `precisions`.

        `encode` returns a tower's vectors of the queries.

        Raises EncoderUnavailable where none passes, and Stopped.
        """
        rejections: list[Rejection] = []
        for precision in precisions:
            if is_stopped():
                raise Stopped
            facts, sections = build(precision)
            try:
                vectors = encode(pack_tower(facts, sections)[1])
            except SelfTestFailed as error:
                rejections.append(Rejection(precision, error.cosine))
                continue
            except TowerUnusable as error:
                rejections.append(Rejection(precision, problem=str(error)))
                continue
            cosine = least_cosine(vectors, self.exact)
            agreement = self._agreement(vectors)
            is_agreeing = agreement is None or agreement >= AGREEMENT
            if cosine >= FAITHFUL[precision] and (is_agreeing or precision not in self.must_agree):
                verified = {
                    "cosine": cosine,
                    "agreement": agreement,
                    self.queries: len(self.exact),
                    "pictures": len(self.pictures),
                }
                packed = pack_tower({**facts, "verified": verified}, sections)
                return CheckedTower(*packed, precision, cosine, agreement, tuple(rejections))
            rejections.append(Rejection(precision, cosine, agreement))
        raise EncoderUnavailable(
            f"No precision makes torch's vectors ({'; '.join(map(str, rejections))})"
        )

    def _agreement(self, vectors: Vectors) -> float | None:
        if len(self.pictures) < _PICTURES_AT_LEAST:
            return None
        pictures = self.pictures.T
        return _mean_share(self.exact @ pictures, vectors @ pictures, NEIGHBOURS)


def neighbour_agreement(exact: Vectors, other: Vectors, neighbours: int = NEIGHBOURS) -> float:
    """Return how far two sets of vectors find the same pictures: the mean top-10 agreement.

    `exact` and `other` (n, d), float32, are vectors of the same n pictures, of any length. Each
    picture is the query once, against all others, by cosine; the share of its ten nearest that
    both find is averaged over the queries. Where ten are more than half of the others, and any two
    sets would agree, half of the others are compared instead, at least 1.

    Raises ValueError for fewer than three pictures, or different numbers of them.
    """
    if len(exact) != len(other) or len(exact) < 3:
        raise ValueError(
            f"Agreement takes the vectors of the same 3 pictures or more, not of {len(exact)} "
            f"and {len(other)}"
        )
    k = max(1, min(neighbours, (len(exact) - 1) // 2))
    return _mean_share(_cosines_of_others(exact), _cosines_of_others(other), k)


def _cosines_of_others(vectors: Vectors) -> Vectors:
    """Return the cosines (n, n) of pictures to each other, and minus infinity to themselves."""
    units = unit(vectors)
    cosines: Vectors = units @ units.T
    np.fill_diagonal(cosines, -np.inf)
    return cosines


def _mean_share(exact: Vectors, scores: Vectors, k: int) -> float:
    """Return the mean share of the k nearest pictures by `exact` that `scores` find, by rows."""
    found = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    return float(shares_found(np.take_along_axis(exact, found, axis=1), exact, k).mean())


def encode_in_batches(
    encode: Callable[[Any], Vectors], items: Any, is_stopped: Callable[[], bool]
) -> Vectors:
    """Return the vectors of texts or pictures, encoded in batches on all cores.

    Raises Stopped.
    """

    def work(batch: Any) -> Vectors:
        if is_stopped():
            raise Stopped
        return encode(batch)

    size = CONFIG.cpu_batch_size
    batches = (items[at : at + size] for at in range(0, len(items), size))
    with torch_settings("highest"):
        return np.concatenate(list(on_all_cores(work, batches)))
