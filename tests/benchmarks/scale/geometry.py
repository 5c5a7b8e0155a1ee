"""Synthetic vectors with the geometry of CLIP's: as many as wanted, always the same.

A picture is a sparse mixture of concepts (as SpLiCE, arXiv 2402.10376, finds CLIP's vectors to be)
in a cone about its modality's mean. It belongs to a scene, of which a few are common and most are
rare; has some concepts of its own; or is one of a burst, next to the same picture. A text names
some of a picture's concepts, in the cone of texts: that is the modality gap.

    python tests/benchmarks/scale/geometry.py [FILE.npz]

prints how the vectors lie, and beside them those of a file: `X` (n, d) of real pictures, `T` (m, d)
of real texts and `own` (m,), which picture each describes.
"""

import sys
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from datasette_clip_search.common.cores import on_all_cores

Vectors = NDArray[np.float32]

DIMENSION = 512
CONCEPTS = 2048
SCENES = 20_000
BATCH = 20_000
OWN_CONCEPTS = 6
NAMED_CONCEPTS = 3
# Shares of a picture's variance about the mean of all.
SCENE, OWN, NOISE = 0.6, 0.3, 0.1
# The squared length of a modality's mean vector, which is the mean cosine of its pairs.
IMAGE_CONE, TEXT_CONE = 0.40, 0.45
# The cosine of the two means.
MEANS = 0.48
# How much of a text is what its picture shows; the rest is how it says it.
TEXT_MEANING = 0.09
# How much wider a text is meant than what it names.
VAGUE = 0.8
# Pictures taken in a burst, and how far apart they are.
BURSTS, BURST_NOISE = 0.15, 0.06


def _unit(vectors: Vectors) -> Vectors:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


class Geometry:
    """A space of pictures and texts; equal seeds make equal vectors."""

    def __init__(self, seed: int = 0, dimension: int = DIMENSION):
        rng = np.random.default_rng([seed, 0])
        self.seed, self.dimension = seed, dimension
        spectrum = (np.arange(dimension) + 6.0) ** -0.9
        self.spectrum = (spectrum / np.linalg.norm(spectrum)).astype(np.float32)
        self.rotation = np.linalg.qr(rng.normal(size=(dimension, dimension)))[0].astype(np.float32)
        self.concepts = _unit(self._noise(rng, CONCEPTS))
        # Words are said about as often as their rank's inverse (Zipf).
        self.often = _zipf(CONCEPTS, 1.0)
        self.scene_often = _zipf(SCENES, 0.9)
        mixed = np.zeros((SCENES, CONCEPTS), np.float32)
        chosen = rng.choice(CONCEPTS, (SCENES, 5), p=self.often)
        np.put_along_axis(mixed, chosen, rng.gamma(2, 1, chosen.shape).astype(np.float32), 1)
        self.scenes = _unit(mixed @ self.concepts)
        self.centre = (self.scene_often @ self.scenes).astype(np.float32)
        means = _unit(rng.normal(size=(2, dimension)).astype(np.float32))
        means[1] = _unit(means[1] - (means[1] @ means[0]) * means[0])
        self.image_mean = means[0]
        self.text_mean = MEANS * means[0] + np.float32(np.sqrt(1 - MEANS**2)) * means[1]

    def pictures(self, count: int, start: int = 0) -> Iterator[Vectors]:
        """Yield unit vectors (n, d) of `count` pictures from `start`, a multiple of BATCH, on."""
        numbers = range(start // BATCH, -(-(start + count) // BATCH))
        for number, vectors in zip(numbers, on_all_cores(self._batch, numbers), strict=True):
            yield vectors[: start + count - number * BATCH]

    def image_queries(self, count: int, seed: int = 0) -> Vectors:
        """Return unit vectors (n, d) of pictures that are like others, and none of them."""
        return self._batch(-1 - seed)[:count]

    def text_queries(self, count: int, seed: int = 0) -> Vectors:
        """Return unit vectors (n, d) of texts that describe pictures which are none of them."""
        return self.texts_of(-1 - seed)[:count]

    def texts_of(self, batch: int) -> Vectors:
        """Return a text (n, d) for every picture of a batch."""
        scenes, own, weights = self._shown(self._rng(batch))
        named = self._mixed(own[:, :NAMED_CONCEPTS], weights[:, :NAMED_CONCEPTS])
        meant = _unit(scenes + OWN**0.5 * named)
        rng = np.random.default_rng([self.seed, 3, batch % 2**32])
        normal = rng.standard_normal((len(meant), self.dimension), np.float32)
        # Words are vague; what else they say lies where pictures differ little.
        meant = _unit(meant + VAGUE * _unit(self._noise(rng, len(meant))))
        way = _unit((normal * self.spectrum[::-1]) @ self.rotation)
        said = TEXT_MEANING**0.5 * meant + (1 - TEXT_MEANING) ** 0.5 * way
        return _unit(TEXT_CONE**0.5 * self.text_mean + (1 - TEXT_CONE) ** 0.5 * said)

    def _rng(self, batch: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, 1, batch % 2**32])

    def _shown(self, rng: np.random.Generator) -> tuple[Vectors, NDArray[np.int64], Vectors]:
        """Draw what a batch shows: scenes (n, d), and concepts (n, m) with their weights."""
        scene = rng.choice(SCENES, BATCH, p=self.scene_often)
        own = rng.choice(CONCEPTS, (BATCH, OWN_CONCEPTS), p=self.often)
        weights = rng.gamma(2, 1, own.shape).astype(np.float32)
        return SCENE**0.5 * (self.scenes[scene] - self.centre), own, weights

    def _mixed(self, chosen: NDArray[np.int64], weights: Vectors) -> Vectors:
        mixed = np.zeros((len(chosen), self.dimension), np.float32)
        for place in range(chosen.shape[1]):
            # Of a concept that was chosen twice, the last weight counts.
            again = (chosen[:, place + 1 :] == chosen[:, place, None]).any(axis=1)
            weight = np.where(again, np.float32(0), weights[:, place])
            mixed += weight[:, None] * self.concepts[chosen[:, place]]
        return _unit(mixed)

    def _batch(self, batch: int) -> Vectors:
        rng = self._rng(batch)
        scenes, own, weights = self._shown(rng)
        about = scenes + OWN**0.5 * self._mixed(own, weights)
        about += NOISE**0.5 * _unit(self._noise(rng, BATCH))
        bursts = np.flatnonzero(rng.random(BATCH) < BURSTS)
        bursts = bursts[bursts > 0]
        about[bursts] = about[bursts - 1]
        about = _unit(about) + BURST_NOISE**0.5 * _unit(self._noise(rng, BATCH))
        vectors = IMAGE_CONE**0.5 * self.image_mean + (1 - IMAGE_CONE) ** 0.5 * _unit(about)
        return _unit(vectors)

    def _noise(self, rng: np.random.Generator, count: int) -> Vectors:
        normal = rng.standard_normal((count, self.dimension), np.float32)
        return (normal * self.spectrum) @ self.rotation


def _zipf(count: int, exponent: float) -> NDArray[np.float64]:
    weights = (np.arange(count) + 5.0) ** -exponent
    return weights / weights.sum()


def describe(name: str, pictures: Vectors, texts: Vectors, own: NDArray[np.int64]) -> str:
    """Return how vectors lie: the cones, the gap, the spectrum and the nearest neighbours."""
    n = len(pictures)
    cosines = pictures @ pictures.T
    pairs = cosines[~np.eye(n, dtype=bool)]
    np.fill_diagonal(cosines, -1)
    near = -np.sort(-cosines, axis=1)
    mean = pictures.mean(0)
    variances = np.linalg.svd(pictures - mean, compute_uv=False) ** 2
    variances /= variances.sum()
    across = texts @ pictures.T
    true = across[np.arange(len(texts)), own]
    rank = np.median((across > true[:, None]).sum(1) + 1)
    angles = np.sqrt(np.maximum(2 - 2 * near[:, :20].astype(np.float64), 1e-6))
    local = np.median(1 / np.maximum(np.log(angles[:, -1:] / angles[:, :-1]).mean(1), 1e-6))
    share = [f"{variances[:m].sum():.2f}" for m in (10, 50, 100, 200) if m <= n]
    return (
        f"{name}: {n} x {pictures.shape[1]}; pairs {pairs.mean():.2f} ± {pairs.std():.2f}; "
        f"effective dimension {1 / (variances**2).sum():.0f}, local {local:.0f}; variance in the "
        f"first 10, 50, 100, 200: {' '.join(share)}; nearest {np.median(near[:, 0]):.2f}, "
        f"10th {np.median(near[:, 9]):.2f}; text and picture: true {true.mean():.3f}, "
        f"all {across.mean():.3f} ± {across.std():.3f}, true one's rank {rank:.0f}"
    )


def main() -> None:
    geometry = Geometry()
    pictures = next(geometry.pictures(BATCH))
    texts = geometry.texts_of(0)
    for count in (200, 5000):
        texted = min(count, 1000)
        print(describe("synthetic", pictures[:count], texts[:texted], np.arange(texted)))
    if sys.argv[1:]:
        real = np.load(sys.argv[1])
        print(describe("real", real["X"], real["T"], real["own"]))


if __name__ == "__main__":
    main()
