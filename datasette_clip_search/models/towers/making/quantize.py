"""Quantise an image tower to int8: calibrated once, and independent of the rest of a batch.

Weights are int8, symmetric, with one scale per output channel. Activations are uint8 with one scale
per tensor, fixed beforehand with a sample (static quantisation, as in Jacob et al., "Quantization
and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", 2018). Only matrix
products and convolutions use integers; normalisation, attention and activation functions stay in
float32.
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
    """Return the int8 image tower of an OpenCLIP model, for Int8Session, and its ranges.

    `model` is in eval mode, float32, on the CPU; `image_size` is (height, width). `sample` is
    batches of preprocessed pixels (n, 3, h, w), float32, to calibrate with, or the ranges of an
    earlier calibration, which make the same tower again. Temporary files of four bytes a weight go
    to a new folder in `folder`, or in the system's folder for them.

    Raises EncoderUnavailable where ONNX Runtime is missing or can't express the model, and for the
    ranges of another model.
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
    """Return the range of each activation to be quantised, over a sample of preprocessed pixels.

    `file` is from `export_tower`; each of `batches` is (n, 3, h, w), float32. Pictures run one at a
    time and only the extremes are kept, so memory does not grow with the sample, and its division
    into batches does not matter.

    Raises ValueError without any picture.
    """
    onnx = _import("onnx")
    from .int8_graph import activations, channel_shifts, watch

    watching = file.with_name("watching.onnx")
    weights = activations(onnx.load(file).graph)
    model = onnx.load(file, load_external_data=False)
    watch(model.graph, weights)
    # Beside the original, because it refers to the original's weights.
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
    """Write the int8 model of a float32 one to `output`: the same bytes for the same arguments.

    `file` is from `export_tower` and `ranges` from `calibrate`.

    Raises EncoderUnavailable for the ranges of another graph, which another release of torch may
    export.
    """
    onnx = _import("onnx")
    from .int8_graph import activations, to_int8

    model = onnx.load(file)
    missing = [name for name in activations(model.graph) if name not in ranges]
    if missing:
        raise EncoderUnavailable(
            f"The int8 ranges in the database do not fit the model: {len(missing)} are missing. "
            "They are from another release of torch, or for another model"
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
