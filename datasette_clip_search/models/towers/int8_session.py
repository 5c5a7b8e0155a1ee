"""An int8 image tower in ONNX Runtime: the same numbers on every processor and in every batch."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...common.arrays import Vectors
from ..encoding import Heed
from ..onnx_file.graph_model import Declared
from ..onnx_file.session import Session, open_file

Encode = Callable[[Vectors, Heed | None], Vectors]


class Int8Session:
    """An int8 image tower that is loaded, for any number of threads at once."""

    def __init__(
        self,
        model: Path | bytes,
        of_noise: Vectors | None = None,
        given: Declared | None = None,
    ):
        """Load an int8 tower from bytes or from a file, which is not needed afterwards.

        `of_noise` is the result of features_of_noise() on any machine; without it, loading takes
        three times as long. `given` is the expected input, where that is known.

        Raises ValueError for bytes that are not one of our towers.
        """
        self._runner = _load(model, given=given)
        found = _encode_noise(self._runner)
        if of_noise is not None and _are_alike(found, of_noise):
            return
        # Another processor may round floats differently and still be right.
        careful = _load(model, careful=True, given=given)
        if not _are_alike(found, _encode_noise(careful)):
            self._runner = careful

    def encode(self, pixels: Vectors, heed: Heed | None = None) -> Vectors:
        """Return the features (n, d), float32, of preprocessed pixels (n, 3, h, w), float32.

        They are not normalised. A picture's features do not depend on the others in the batch.
        """
        # A single row goes through other code, whose sums differ in the last bit.
        rows = np.repeat(pixels, 2, axis=0) if len(pixels) == 1 else pixels
        return self._runner.encode(rows, heed)[: len(pixels)]


def features_of_noise(model: bytes) -> Vectors:
    """Return the features (n, d), float32, of some noise: the self-test of an int8 tower."""
    return _encode_noise(_load(model, careful=True))


@dataclass(frozen=True)
class _Runner:
    """A session with the size of its input, (3, height, width)."""

    encode: Encode
    size: tuple[int, ...]


def _load(model: Path | bytes, careful: bool = False, given: Declared | None = None) -> _Runner:
    """Load a model; a `careful` one never saturates.

    Where the processor has no VNNI, sums of uint8 by int8 products saturate at 16 bits, and the
    vectors are far off. Where it has, being careful takes twice as long for the same numbers.
    """
    if isinstance(model, Path):
        opened = open_file(model, careful)
        size = tuple(opened.get_inputs()[0].shape[1:])
        return _Runner(lambda pixels, _: opened.run(None, {"pixels": pixels})[0], size)
    session = Session(model, given, ("features", None), careful)
    dimensions = session.given.dimensions or ()
    return _Runner(session.run, tuple(size or 0 for size in dimensions[1:]))


def _encode_noise(runner: _Runner) -> Vectors:
    noise = np.random.default_rng(0).normal(size=(2, *runner.size)).astype(np.float32)
    return runner.encode(noise, None)


def _are_alike(found: Vectors, exact: Vectors) -> bool:
    return found.shape == exact.shape and np.allclose(found, exact, 1e-3, 1e-3 * exact.std())
