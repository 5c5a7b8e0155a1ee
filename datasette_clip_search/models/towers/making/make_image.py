"""Making an image tower: the smallest whose vectors are those of the model's own."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from ....common.arrays import Pixels, Vectors
from ....common.errors import EncoderUnavailable
from ....pictures.preprocess import Preprocess
from ...onnx_export import INPUT, OUTPUT, export_tower
from ...torch_model import Encoder, reference_pixels
from ..image import ImageTower
from ..stored import TowerUnusable, keep
from .exported_graph import rewrite
from .make_text import AGREEMENT, FAITHFUL, Made, Stopped, agreement_of, encoded, least_cosine
from .weights import Graph

AUTO = "auto"
PRECISIONS = {"8-bit": 8, "16-bit": 16, "32-bit": 32}
# What it makes is kept beside what torch makes, so that auto takes none that rounds.
TRIED = ("16-bit", "32-bit")


def make(
    encoder: Encoder,
    pixels: Pixels,
    pictures: Vectors,
    precision: str = AUTO,
    is_stopped: Callable[[], bool] = lambda: False,
) -> Made:
    """Makes the image tower of an encoder, which is in float32 on the CPU.

    `pixels`, (n, height, width, 3) uint8, are pictures of the collection to check it with, and
    `pictures`, (m, d) float32, unit vectors of the collection, in which those in 8 bits must find
    the same. "auto" is the first of TRIED that passes.

    Raises EncoderUnavailable where none passes or the model can't be exported, and Stopped.
    """
    checked = np.concatenate([reference_pictures(encoder.preprocess), pixels])
    exact = encoded(encoder.encode_pixels, checked, is_stopped)
    notes: list[str] = []
    with tempfile.TemporaryDirectory(prefix="clip-search-") as folder:
        file = Path(folder, "image.onnx")
        size = encoder.preprocess.height, encoder.preprocess.width
        export_tower(encoder.model, size, file)
        for candidate in TRIED if precision == AUTO else [precision]:
            if is_stopped():
                raise Stopped
            about: dict[str, Any] = {
                "precision": candidate,
                "fingerprint": encoder.fingerprint,
                "dimension": encoder.dimension,
                "preprocess": encoder.preprocess.identity,
            }
            sections = {
                "picture": checked[0].tobytes(),
                "vector": exact[0].astype("<f4").tobytes(),
                "onnx": _build(file, PRECISIONS[candidate], size),
            }
            try:
                vectors = encoded(
                    ImageTower(keep(about, sections)[1]).encode_pixels, checked, is_stopped
                )
            except TowerUnusable as error:
                notes.append(f"not {candidate}: {error}")
                continue
            cosine = least_cosine(vectors, exact)
            agreement = agreement_of(vectors, exact, pictures)
            figures = f"cosine {cosine:.4f}"
            if agreement is not None:
                figures += f", {agreement:.1%} of the best pictures the same"
            finds = candidate != "8-bit" or agreement is None or agreement >= AGREEMENT
            if cosine >= FAITHFUL[candidate] and finds:
                about["verified"] = {
                    "cosine": cosine,
                    "agreement": agreement,
                    "queries": len(checked),
                    "pictures": len(pictures),
                }
                return Made(*keep(about, sections), candidate, cosine, agreement, notes)
            notes.append(f"not {candidate}: {figures}")
    raise EncoderUnavailable(f"None makes the vectors that torch makes ({'; '.join(notes)})")


def reference_pictures(preprocess: Preprocess) -> Pixels:
    """Makes pictures, (n, height, width, 3) uint8, such as no collection may have."""
    [first] = reference_pixels(preprocess)
    black = np.zeros_like(first)
    stripes = np.where(np.arange(first.shape[1])[:, None] // 4 % 2, 255, 0)
    striped = np.broadcast_to(stripes, first.shape).astype(np.uint8)
    noise = np.random.default_rng(1).integers(0, 256, first.shape, np.uint8)
    return np.stack([first, first[::-1, ::-1], black, ~black, striped, noise])


def _build(file: Path, bits: int, size: tuple[int, int]) -> bytes:
    exported = onnx.load(file)
    graph = Graph(bits)
    rewrite(graph, exported.graph)
    inputs = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["n", 3, *size])
    outputs = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["n", "d"])
    try:
        built: bytes = graph.model(inputs, outputs, exported.opset_import).SerializeToString()
    except ValueError as error:
        raise EncoderUnavailable(f"The image tower is too large for ONNX in {bits} bits") from error
    return built
