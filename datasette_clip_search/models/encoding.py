"""Encoders as callers see them, and the arithmetic that all of them share."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from ..common.arrays import Pixels, Vectors
from ..pictures.preprocess import Preprocess

Heed = Callable[[], None]
"""A function that long work calls repeatedly; it may raise an exception to end the work."""


class PictureEncoder(Protocol):
    """A model or tower that turns pictures into vectors; threads may share it.

    `device` and `precision` are recorded with its vectors. `matmul` is the setting of
    torch.set_float32_matmul_precision that it needs, None where it doesn't use torch.
    """

    @property
    def label(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def dimension(self) -> int: ...
    @property
    def preprocess(self) -> Preprocess: ...
    @property
    def device(self) -> str: ...
    @property
    def precision(self) -> str: ...
    @property
    def matmul(self) -> str | None: ...
    def encode_pixels(self, pixels: Pixels, heed: Heed | None = None) -> Vectors:
        """Return the unit vectors (n, dimension), float32, of pixels (n, height, width, 3), uint8.

        Long work calls `heed`, which may raise to end it.
        """


class TextEncoder(Protocol):
    """A model or tower that turns texts into vectors; threads may share it."""

    @property
    def key(self) -> str:
        """Identifies the encoder: another encoder's vectors have another key."""

    @property
    def logit_scale(self) -> float:
        """The factor that the model learned for cosines, before a softmax or a sigmoid."""

    def encode_texts(self, texts: Sequence[str], heed: Heed | None = None) -> Vectors:
        """Return the unit vectors (n, dimension), float32, of n texts.

        Long work calls `heed`, which may raise to end it.
        """


def unit(features: Vectors) -> Vectors:
    """Return vectors (n, d), float32, scaled to length 1."""
    vectors: Vectors = features / np.linalg.norm(features, axis=-1, keepdims=True)
    return vectors


def least_cosine(vectors: Vectors, exact: Vectors) -> float:
    """Return the least cosine between unit vectors and the exact ones, row by row."""
    return float(np.nan_to_num((vectors * exact).sum(axis=1)).min())


def normalized(preprocess: Preprocess, pixels: Pixels) -> Vectors:
    """Return the input of an image tower (n, 3, height, width), float32, for uint8 pixels."""
    mean, std = (np.array(values, np.float32) * 255 for values in (preprocess.mean, preprocess.std))
    scaled = (pixels.astype(np.float32) - mean) / std
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def reference_pixels(preprocess: Preprocess) -> Pixels:
    """Make a picture of smooth colour and noise, (1, height, width, 3) uint8."""
    height, width = preprocess.height, preprocess.width
    noise = np.random.default_rng(0).uniform(0, 255, (1, height, width, 3))
    ramp = np.linspace(0, 255, height)[:, None, None] + np.linspace(0, 255, width)[:, None]
    return ((noise + ramp) / 3).astype(np.uint8)
