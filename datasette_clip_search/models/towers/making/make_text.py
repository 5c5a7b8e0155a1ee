"""Make a text tower: the smallest one whose vectors are those of the model in torch."""

import json
from collections.abc import Callable

import numpy as np

from ....common.arrays import Vectors
from ....common.errors import EncoderUnavailable
from ...torch_model import TorchModel
from ..stored import PRECISIONS, StoredTower
from ..text import TextTower
from ..tokens import read_tokenizer
from .check_texts import TEXTS
from .checks import AUTO, BITS, CheckedTower, Parts, TowerCheck, encode_in_batches
from .open_clip_graph import build_text_graph
from .tokenizer import pack_tokenizer

EXAMPLE = "a dog on the beach"


def make_text_tower(
    model: TorchModel,
    pictures: Vectors,
    precision: str = AUTO,
    is_stopped: Callable[[], bool] = lambda: False,
) -> CheckedTower:
    """Make the text tower of a model, which is in float32 on the CPU.

    `pictures` (n, d), float32, are unit vectors of the collection that it will search. "auto" is
    the first of PRECISIONS that passes.

    Raises EncoderUnavailable where none passes or a part of the model can't be stored, and Stopped.
    """
    tokenizer, data = pack_tokenizer(model.tokenizer)
    if not np.array_equal(read_tokenizer(tokenizer, data)(TEXTS), model.tokenizer(list(TEXTS))):
        raise EncoderUnavailable("Its tokenizer, once stored, makes other tokens than before")
    exact = encode_in_batches(model.encode_texts, TEXTS, is_stopped)
    example = {"text": EXAMPLE, "vector": exact[TEXTS.index(EXAMPLE)].tolist()}

    def build(candidate: str) -> Parts:
        onnx, cut = _export(model, BITS[candidate])
        facts = {
            "precision": candidate,
            "fingerprint": model.fingerprint,
            "dimension": model.dimension,
            "logit_scale": model.logit_scale,
            "cut": cut,
            "tokenizer": tokenizer,
        }
        return facts, {"tokenizer": data, "example": json.dumps(example).encode(), "onnx": onnx}

    def encode(stored: StoredTower) -> Vectors:
        # Encode each by itself, as queries arrive, so that it is cut to its own length.
        tower = TextTower(stored)
        return np.concatenate([tower.encode_texts([text]) for text in TEXTS])

    candidates = PRECISIONS if precision == AUTO else [precision]
    check = TowerCheck(exact, pictures, PRECISIONS, "texts")
    return check.first_to_pass(candidates, build, encode, is_stopped)


def _export(model: TorchModel, bits: int) -> tuple[bytes, bool]:
    built = build_text_graph(model.model, bits)
    if built is None:
        from .exported_graph import export_text_graph

        return export_text_graph(model.model, model.tokenizer(list(TEXTS[:2])), bits), False
    return built
