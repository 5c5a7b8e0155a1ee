"""Making a text tower: the smallest whose vectors are those of the model's own."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ....common.answers import shares_found
from ....common.arrays import Vectors
from ....common.config import CONFIG
from ....common.cores import on_all_cores
from ....common.errors import EncoderUnavailable
from ...precision import torch_settings
from ...torch_model import Encoder
from ..stored import Kept, TowerUnusable, keep
from ..text import TextTower
from ..tokens import read_tokenizer
from . import open_clip_graph
from .check_texts import TEXTS
from .tokenizer import keep_tokenizer

AUTO = "auto"
PRECISIONS = {"8-bit": 8, "16-bit": 16, "32-bit": 32}
# The least cosine between the tower's vector of a text and torch's.
FAITHFUL = {"8-bit": 0.995, "16-bit": 0.9999, "32-bit": 0.9999}
# The least share of each text's ten best pictures that the tower must find as well.
AGREEMENT = 0.95
NEIGHBOURS = 10
# Among fewer pictures, the ten best would agree by chance.
_PICTURES_AT_LEAST = 100
EXAMPLE = "a dog on the beach"


class Stopped(Exception):
    "The person has asked to stop"


@dataclass(frozen=True)
class Made:
    """A tower that passed its tests, and by how much.

    `cosine` is the least one to torch's vector of a text, and `agreement` the mean share of the
    best pictures that both find; None where there are too few pictures. `notes` tell of smaller
    ones that did not pass.
    """

    manifest: str
    kept: Kept
    precision: str
    cosine: float
    agreement: float | None
    notes: list[str]


def make(
    encoder: Encoder,
    pictures: Vectors,
    precision: str = AUTO,
    is_stopped: Callable[[], bool] = lambda: False,
) -> Made:
    """Makes the text tower of an encoder, which is in float32 on the CPU.

    `pictures`, (n, d) float32, are unit vectors of the collection that it is to search. "auto" is
    the first of PRECISIONS that passes.

    Raises EncoderUnavailable where none passes or the model has something that can't be kept, and
    Stopped.
    """
    facts, data = keep_tokenizer(encoder.tokenizer)
    if not np.array_equal(read_tokenizer(facts, data)(TEXTS), encoder.tokenizer(list(TEXTS))):
        raise EncoderUnavailable("Its tokenizer, kept, makes other tokens than it does itself")
    exact = encoded(encoder.encode_texts, TEXTS, is_stopped)
    example = {"text": EXAMPLE, "vector": exact[TEXTS.index(EXAMPLE)].tolist()}
    notes: list[str] = []
    for candidate in PRECISIONS if precision == AUTO else [precision]:
        if is_stopped():
            raise Stopped
        model, cut = _export(encoder, PRECISIONS[candidate])
        about: dict[str, Any] = {
            "precision": candidate,
            "fingerprint": encoder.fingerprint,
            "dimension": encoder.dimension,
            "logit_scale": encoder.logit_scale,
            "cut": cut,
            "tokenizer": facts,
        }
        sections = {"tokenizer": data, "example": json.dumps(example).encode(), "onnx": model}
        try:
            cosine, agreement = _compare(TextTower(keep(about, sections)[1]), exact, pictures)
        except TowerUnusable as error:
            notes.append(f"not {candidate}: {error}")
            continue
        figures = f"cosine {cosine:.4f}"
        if agreement is not None:
            figures += f", {agreement:.1%} of the best pictures the same"
        if cosine >= FAITHFUL[candidate] and (agreement is None or agreement >= AGREEMENT):
            about["verified"] = {"texts": len(TEXTS), "cosine": cosine, "pictures": len(pictures)}
            about["verified"]["agreement"] = agreement
            return Made(*keep(about, sections), candidate, cosine, agreement, notes)
        notes.append(f"not {candidate}: {figures}")
    raise EncoderUnavailable(f"None makes the vectors that torch makes ({'; '.join(notes)})")


def _export(encoder: Encoder, bits: int) -> tuple[bytes, bool]:
    built = open_clip_graph.build(encoder.model, bits)
    if built is None:
        from .exported_graph import build

        return build(encoder.model, encoder.tokenizer(list(TEXTS[:2])), bits), False
    return built


def encoded(
    encode: Callable[[Any], Vectors], items: Any, is_stopped: Callable[[], bool]
) -> Vectors:
    """Returns the vectors of texts or pictures, encoded in batches on all cores.

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


def _compare(tower: TextTower, exact: Vectors, pictures: Vectors) -> tuple[float, float | None]:
    """Returns the least cosine, and the share of the best pictures that are the same."""
    # Each by itself, as queries come, and so cut to its own length.
    vectors = np.concatenate([tower.encode_texts([text]) for text in TEXTS])
    return least_cosine(vectors, exact), agreement_of(vectors, exact, pictures)


def least_cosine(vectors: Vectors, exact: Vectors) -> float:
    """Returns the least cosine between unit vectors and those they stand for."""
    return float(np.nan_to_num((vectors * exact).sum(axis=1)).min())


def agreement_of(vectors: Vectors, exact: Vectors, pictures: Vectors) -> float | None:
    """Returns the mean share of the nearest pictures that both find, None where they are few."""
    if len(pictures) < _PICTURES_AT_LEAST:
        return None
    cosines = exact @ pictures.T
    found = np.argsort(-(vectors @ pictures.T), axis=1)[:, :NEIGHBOURS]
    shares = shares_found(np.take_along_axis(cosines, found, axis=1), cosines, NEIGHBOURS)
    return float(shares.mean())
