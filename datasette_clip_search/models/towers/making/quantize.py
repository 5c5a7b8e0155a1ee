"""Image towers in int8: calibrated once, run by ONNX Runtime, blind to what else is in a batch.

Weights are int8, symmetric, one scale per output channel; activations are uint8 with one scale
per tensor, fixed beforehand from a sample (static quantisation, as in Jacob et al., "Quantization
and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", 2018). Only
matrix multiplications and convolutions are in integers; normalisation, attention and activation
functions stay in float32.
"""

import importlib
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ....common.arrays import Vectors
from ....common.cores import on_all_cores
from ....common.errors import EncoderUnavailable
from ...onnx_file.session import open_file
from ..int8_ranges import Ranges

INSTALL = "pip install 'datasette-clip-search[int8]'"


def build_int8(
    model: Any,
    image_size: tuple[int, int],
    sample: Iterable[Vectors] | Ranges,
    folder: Path | None = None,
) -> tuple[bytes, Ranges]:
    """Makes the int8 image tower of an OpenCLIP model, and the ranges that make it again.

    It is an ONNX file, for Int8Session.

    `model` is in eval mode, float32, on the CPU; `image_size` is (height, width). `sample` gives
    batches of preprocessed pixels, (n, 3, h, w) float32, to calibrate with, or is the ranges of an
    earlier calibration. Files of four bytes a weight are written to a new folder in `folder`, or
    where temporary files go, and removed.

    Raises EncoderUnavailable where ONNX Runtime is missing or can't express the model, or where
    `sample` has the ranges of another model.
    """
    for module in ("onnx", "onnxscript", "onnxruntime"):
        _import(module)
    from .onnx_export import export_tower

    with tempfile.TemporaryDirectory(prefix="clip-search-", dir=folder) as temporary:
        exact, quantized = Path(temporary, "float32.onnx"), Path(temporary, "int8.onnx")
        export_tower(model, image_size, exact)
        ranges = sample if isinstance(sample, dict) else calibrate(exact, sample)
        quantize(exact, ranges, quantized)
        return quantized.read_bytes(), ranges


def calibrate(file: Path, batches: Iterable[Vectors]) -> Ranges:
    """Returns the range of each activation to be quantised, over preprocessed pixels.

    `file` is from `export_tower`; each of `batches` is (n, 3, h, w) float32. Pictures go through
    one at a time and only their extremes are kept, so that memory does not grow with the sample
    and the batches do not matter.

    Raises ValueError without any picture.
    """
    onnx = _import("onnx")
    from .int8_graph import activations, channel_shifts, watch

    watching = file.with_name("watching.onnx")
    weights = activations(onnx.load(file).graph)
    model = onnx.load(file, load_external_data=False)
    watch(model.graph, weights)
    # Beside the original, whose weights it refers to.
    onnx.save(model, watching)
    try:
        session = open_file(watching)
    finally:
        watching.unlink()
    outputs = [output.name for output in session.get_outputs()[1:]]
    extremes: list[Any] = []

    def look(picture: Vectors) -> Any:
        return session.run(outputs, {"pixels": picture[np.newaxis]})

    for seen in on_all_cores(look, (picture for batch in batches for picture in batch)):
        lows, highs = seen[::2], seen[1::2]
        if extremes:
            lows = [np.minimum(*pair) for pair in zip(extremes[0], lows, strict=True)]
            highs = [np.maximum(*pair) for pair in zip(extremes[1], highs, strict=True)]
        extremes = [lows, highs]
    if not extremes:
        raise ValueError("Calibration needs at least one picture")
    ranges: Ranges = {}
    for (name, largest), low, high in zip(weights.items(), *extremes, strict=True):
        shifts = [] if largest is None else channel_shifts(low, high, largest)
        if any(shifts):
            low, high = np.ldexp(low, np.negative(shifts)), np.ldexp(high, np.negative(shifts))
        ranges[name] = float(low.min()), float(high.max()), shifts if any(shifts) else []
    return ranges


def quantize(file: Path, ranges: Ranges, output: Path) -> None:
    """Writes the int8 model of a float32 one to `output`, the same bytes for the same arguments.

    `file` is from `export_tower` and `ranges` from `calibrate`.

    Raises EncoderUnavailable when `ranges` are of another graph, as another release of torch may
    make.
    """
    onnx = _import("onnx")
    from .int8_graph import activations, to_int8

    model = onnx.load(file)
    missing = [name for name in activations(model.graph) if name not in ranges]
    if missing:
        raise EncoderUnavailable(
            f"The int8 ranges kept in the database do not fit the model: {len(missing)} are "
            "missing. It was calibrated by another release of torch, or for another model"
        )
    to_int8(model, ranges)
    onnx.save(model, output)


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise EncoderUnavailable(
            f"--precision int8 needs {name}, which is not installed. Run: {INSTALL}"
        ) from error
