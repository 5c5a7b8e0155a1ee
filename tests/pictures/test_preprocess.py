"""Preprocessing: the pixels of a picture are those of OpenCLIP's own transform."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from datasette_clip_search.pictures.decode import decode_picture
from datasette_clip_search.pictures.preprocess import Preprocess

open_clip = pytest.importorskip("open_clip")


def photo(width: int, height: int, seed: int = 0) -> Image.Image:
    """Return smooth colour with fine noise, in which every shift and every blur shows."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (6, 8, 3), np.uint8))
    pixels = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.int16)
    noisy = pixels + random.integers(-40, 41, (height, width, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def theirs(image: Image.Image, cfg: dict) -> np.ndarray:
    from open_clip.transform import PreprocessCfg, image_transform_v2

    tensor = image_transform_v2(PreprocessCfg(**cfg), is_train=False)(image).numpy()
    mean, std = (np.array(cfg[name])[:, None, None] for name in ("mean", "std"))
    return ((tensor * std + mean) * 255).round().transpose(1, 2, 0)


def config(**options: object) -> dict:
    from dataclasses import asdict

    return asdict(open_clip.transform.PreprocessCfg(**options))


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(2, 700),
    height=st.integers(2, 700),
    size=st.sampled_from([32, 96, 224, (64, 96), (96, 64)]),
    resize_mode=st.sampled_from(["shortest", "longest", "squash"]),
    interpolation=st.sampled_from(["bicubic", "bilinear"]),
    fill_color=st.sampled_from([0, 127]),
)
def test_same_pixels_as_open_clip(width, height, size, resize_mode, interpolation, fill_color):
    cfg = config(
        size=size, resize_mode=resize_mode, interpolation=interpolation, fill_color=fill_color
    )
    if max(width, height) > 40 * min(width, height):
        width = height
    image = photo(width, height)
    ours = Preprocess.from_open_clip(cfg).pixels(image)
    turned = image.transpose(Image.Transpose.TRANSPOSE)
    turned_size = size[::-1] if isinstance(size, tuple) else size
    other = theirs(turned, {**cfg, "size": turned_size}).transpose(1, 0, 2)
    # Pillow may resize either direction first, and rounds between them.
    difference = np.minimum(np.abs(ours - theirs(image, cfg)), np.abs(ours - other))
    # Whole numbers between the two directions of a resize, and crops at fractions of a pixel.
    assert difference.max() <= 16
    assert difference.mean() < 0.3


@pytest.mark.parametrize(("width", "height"), [(4000, 3000), (2500, 4001), (1803, 901)])
def test_reduced_jpeg_shows_the_same(width, height):
    cfg = config()
    preprocess = Preprocess.from_open_clip(cfg)
    output = io.BytesIO()
    photo(width, height).save(output, "JPEG", quality=90)
    reduced = decode_picture(output.getvalue(), smallest_side=preprocess.smallest_side)
    assert reduced.image.width < width
    ours = preprocess.pixels(reduced.image, (reduced.width, reduced.height)).astype(float)
    exact = theirs(Image.open(output), cfg)
    assert np.abs(ours - exact).mean() < 2.5
    a, b = (pixels.ravel() - pixels.mean() for pixels in (ours, exact))
    assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.999


def test_identity_distinguishes_settings():
    one, two = (Preprocess.from_open_clip(config(size=size)) for size in (224, 256))
    assert one.identity != two.identity
    assert one.identity == Preprocess.from_open_clip(config(size=224)).identity
