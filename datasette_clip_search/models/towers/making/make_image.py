"""Make an image tower: the smallest one whose vectors are those of the model in torch."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from ....common.arrays import Pixels, Vectors
from ....common.errors import EncoderUnavailable
from ....pictures.preprocess import Preprocess
from ...encoding import reference_pixels
from ...torch_model import TorchModel
from ..image import INPUT, OUTPUT, ImageTower
from ..stored import StoredTower
from .checks import AUTO, BITS, CheckedTower, Parts, TowerCheck, encode_in_batches
from .exported_graph import copy_graph
from .graph_builder import GraphBuilder
from .onnx_export import export_tower

# Its vectors are stored beside torch's, so "auto" takes no precision that rounds visibly.
TRIED = ("16-bit", "32-bit")


def make_image_tower(
    model: TorchModel,
    pixels: Pixels,
    pictures: Vectors,
    precision: str = AUTO,
    is_stopped: Callable[[], bool] = lambda: False,
) -> CheckedTower:
    """Make the image tower of a model, which is in float32 on the CPU.

    `pixels` (n, height, width, 3), uint8, are pictures of the collection to check it with, and
    `pictures` (m, d), float32, unit vectors of the collection, in which 8-bit towers must find the
    same pictures. "auto" is the first of TRIED that passes.

    Raises EncoderUnavailable where none passes or the model can't be exported, and Stopped.
    """
    checked = np.concatenate([reference_pictures(model.preprocess), pixels])
    exact = encode_in_batches(model.encode_pixels, checked, is_stopped)
    size = model.preprocess.height, model.preprocess.width
    with tempfile.TemporaryDirectory(prefix="clip-search-") as folder:
        file = Path(folder, "image.onnx")
        export_tower(model.model, size, file)

        def build(candidate: str) -> Parts:
            facts = {
                "precision": candidate,
                "fingerprint": model.fingerprint,
                "dimension": model.dimension,
                "preprocess": model.preprocess.identity,
            }
            return facts, {
                "picture": checked[0].tobytes(),
                "vector": exact[0].astype("<f4").tobytes(),
                "onnx": _shrink(file, BITS[candidate], size),
            }

        def encode(stored: StoredTower) -> Vectors:
            return encode_in_batches(ImageTower(stored).encode_pixels, checked, is_stopped)

        candidates = TRIED if precision == AUTO else [precision]
        check = TowerCheck(exact, pictures, ("8-bit",), "queries")
        return check.first_to_pass(candidates, build, encode, is_stopped)


def reference_pictures(preprocess: Preprocess) -> Pixels:
    """Make pictures (n, height, width, 3), uint8, unlike any that a collection may have."""
    [first] = reference_pixels(preprocess)
    black = np.zeros_like(first)
    stripes = np.where(np.arange(first.shape[1])[:, None] // 4 % 2, 255, 0)
    striped = np.broadcast_to(stripes, first.shape).astype(np.uint8)
    noise = np.random.default_rng(1).integers(0, 256, first.shape, np.uint8)
    return np.stack([first, first[::-1, ::-1], black, ~black, striped, noise])


def _shrink(file: Path, bits: int, size: tuple[int, int]) -> bytes:
    """Return an exported image tower as an ONNX file whose weights take this many bits."""
    exported = onnx.load(file)
    graph = GraphBuilder(bits)
    copy_graph(graph, exported.graph)
    inputs = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["n", 3, *size])
    outputs = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["n", "d"])
    try:
        shrunk: bytes = graph.model(inputs, outputs, exported.opset_import).SerializeToString()
    except ValueError as error:
        raise EncoderUnavailable(f"The image tower is too large for ONNX in {bits} bits") from error
    return shrunk
