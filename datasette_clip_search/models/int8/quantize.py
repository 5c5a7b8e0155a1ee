"""Image towers in int8: calibrated once, run by ONNX Runtime, blind to what else is in a batch.

Weights are int8, symmetric, one scale per output channel; activations are uint8 with one scale
per tensor, fixed beforehand from a sample (static quantisation, as in Jacob et al., "Quantization
and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", 2018). Only
matrix multiplications and convolutions are in integers; normalisation, attention and activation
functions stay in float32.
"""

import importlib
import json
import math
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...common.answers import shares_found
from ...common.cores import on_all_cores
from ...common.errors import EncoderUnavailable
from ..onnx_file.graph_model import Declared
from ..onnx_file.session import Session, open_file

Floats = NDArray[np.float32]
Ranges = dict[str, tuple[float, float, list[int]]]
"""The lowest and highest value of each activation that is made an integer, by its name; and by
which powers of two its channels are divided first, where that makes them more alike."""

INSTALL = "pip install 'datasette-clip-search[int8]'"
# A new number for whatever changes the vectors of a model and its ranges.
VERSION = 1


class Int8Tower:
    """An image tower in int8, for any number of threads at once."""

    def __init__(
        self,
        model: Path | bytes,
        of_noise: Floats | None = None,
        given: Declared | None = None,
    ):
        """Loads what `quantize` wrote; a file is not needed afterwards.

        `of_noise` is what features_of_noise() returned, here or elsewhere: without it, loading
        takes three times as long. `given` is what the tower is to take, where that is known.

        Raises ValueError for bytes that no tower of ours is.
        """
        self._run = _runner(model, given=given)
        found = _of_noise(self._run)
        if of_noise is not None and _are_alike(found, of_noise):
            return
        # On another processor, floats may round otherwise and be right nevertheless.
        careful = _runner(model, careful=True, given=given)
        if not _are_alike(found, _of_noise(careful)):
            self._run = careful

    def encode(self, pixels: Floats) -> Floats:
        """Returns the features, (n, d) float32, of preprocessed pixels, (n, 3, h, w) float32.

        They are not normalised. A picture's features do not depend on the others.
        """
        # A single row goes through other code, whose sums differ in the last bit.
        rows = np.repeat(pixels, 2, axis=0) if len(pixels) == 1 else pixels
        return self._run.encode(rows)[: len(pixels)]


def build(
    model: Any,
    image_size: tuple[int, int],
    sample: Iterable[Floats] | Ranges,
    folder: Path | None = None,
) -> tuple[bytes, Ranges]:
    """Makes the int8 image tower of an OpenCLIP model, and the ranges that make it again.

    It is an ONNX file, for Int8Tower.

    `model` is in eval mode, float32, on the CPU; `image_size` is (height, width). `sample` gives
    batches of preprocessed pixels, (n, 3, h, w) float32, to calibrate with, or is the ranges of an
    earlier calibration. Files of four bytes a weight are written to a new folder in `folder`, or
    where temporary files go, and removed.

    Raises EncoderUnavailable where ONNX Runtime is missing or can't express the model, or where
    `sample` has the ranges of another model.
    """
    for module in ("onnx", "onnxscript", "onnxruntime"):
        _import(module)
    from ..towers.making.onnx_export import export_tower

    with tempfile.TemporaryDirectory(prefix="clip-search-", dir=folder) as temporary:
        exact, quantized = Path(temporary, "float32.onnx"), Path(temporary, "int8.onnx")
        export_tower(model, image_size, exact)
        ranges = sample if isinstance(sample, dict) else calibrate(exact, sample)
        quantize(exact, ranges, quantized)
        return quantized.read_bytes(), ranges


def read_ranges(text: object) -> Ranges | None:
    """Returns ranges that were kept as JSON, None for what are none."""
    try:
        ranges: Ranges = {
            str(name): (float(low), float(high), [int(shift) for shift in shifts])
            for name, (low, high, shifts) in json.loads(str(text)).items()
        }
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
    for low, high, shifts in ranges.values():
        # The powers of two that channel_shifts() gives.
        if not (math.isfinite(low) and math.isfinite(high) and {*shifts} <= {*range(-12, 13)}):
            return None
    return ranges


def calibrate(file: Path, batches: Iterable[Floats]) -> Ranges:
    """Returns the range of each activation to be quantised, over preprocessed pixels.

    `file` is from `export_tower`; each of `batches` is (n, 3, h, w) float32. Pictures go through
    one at a time and only their extremes are kept, so that memory does not grow with the sample
    and the batches do not matter.

    Raises ValueError without any picture.
    """
    onnx = _import("onnx")
    from ..towers.making.int8_graph import activations, channel_shifts, watch

    watching = file.with_name("watching.onnx")
    weights = activations(onnx.load(file).graph)
    model = onnx.load(file, load_external_data=False)
    watch(model.graph, weights)
    # Beside the original, whose weights it refers to.
    onnx.save(model, watching)
    try:
        session = _opened(watching)
    finally:
        watching.unlink()
    outputs = [output.name for output in session.get_outputs()[1:]]
    extremes: list[Any] = []

    def look(picture: Floats) -> Any:
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
    from ..towers.making.int8_graph import activations, to_int8

    model = onnx.load(file)
    missing = [name for name in activations(model.graph) if name not in ranges]
    if missing:
        raise EncoderUnavailable(
            f"The int8 ranges kept in the database do not fit the model: {len(missing)} are "
            "missing. It was calibrated by another release of torch, or for another model"
        )
    to_int8(model, ranges)
    onnx.save(model, output)


def agreement(exact: Floats, other: Floats, neighbours: int = 10) -> float:
    """Returns how far two sets of vectors find the same pictures: the mean top-10 agreement.

    `exact` and `other`, (n, d) float32, are vectors of the same n pictures, of any length. Each
    picture is the query once, against all others, by cosine; the share of its ten nearest that
    both have in common is averaged over the queries. Where ten are more than half of the others,
    and any two sets would agree, half as many as there are others are taken instead, at least 1.

    Raises ValueError for fewer than three pictures, or different numbers of them.
    """
    if len(exact) != len(other) or len(exact) < 3:
        raise ValueError(
            f"Agreement takes the vectors of the same 3 pictures or more, not of {len(exact)} "
            f"and {len(other)}"
        )
    k = max(1, min(neighbours, (len(exact) - 1) // 2))
    cosines, others = _cosines(exact), _cosines(other)
    found = np.argpartition(-others, k - 1, axis=1)[:, :k]
    return float(shares_found(np.take_along_axis(cosines, found, axis=1), cosines, k).mean())


def _cosines(vectors: Floats) -> Floats:
    """Return the cosines (n, n) of pictures to each other, least of all to themselves."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines: Floats = unit @ unit.T
    np.fill_diagonal(cosines, -np.inf)
    return cosines


def features_of_noise(model: bytes) -> Floats:
    """Returns the features of some noise, (n, d) float32, by which a tower is found to be right."""
    return _of_noise(_runner(model, careful=True))


@dataclass(frozen=True)
class _Runner:
    """A session with the size of what it takes, (3, height, width)."""

    encode: Callable[[Floats], Floats]
    size: tuple[int, ...]


def _of_noise(runner: _Runner) -> Floats:
    noise = np.random.default_rng(0).normal(size=(2, *runner.size)).astype(np.float32)
    return runner.encode(noise)


def _are_alike(found: Floats, exact: Floats) -> bool:
    return found.shape == exact.shape and np.allclose(found, exact, 1e-3, 1e-3 * exact.std())


def _runner(model: Path | bytes, careful: bool = False, given: Declared | None = None) -> _Runner:
    """Loads a model; a `careful` one never saturates.

    Where the processor has no VNNI, sums of uint8 by int8 products saturate at 16 bits, and the
    vectors are far off. Where it has, being careful takes twice as long for the same numbers.
    """
    _import("onnxruntime")
    if isinstance(model, Path):
        opened = _opened(model, careful)
        size = tuple(opened.get_inputs()[0].shape[1:])
        return _Runner(lambda pixels: opened.run(None, {"pixels": pixels})[0], size)
    session = Session(model, given, ("features", None), careful)
    dimensions = session.given.dimensions or ()
    return _Runner(session.run, tuple(size or 0 for size in dimensions[1:]))


def _opened(file: Path, careful: bool = False) -> Any:
    _import("onnxruntime")
    return open_file(file, careful)


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise EncoderUnavailable(
            f"--precision int8 needs {name}, which is not installed. Run: {INSTALL}"
        ) from error
