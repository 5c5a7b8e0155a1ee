"""Pictures encoded in many formats, and how alike two pictures are."""

import io
from functools import cache

import numpy as np
import pytest
from PIL import Image, ImageFilter

from datasette_clip_search.pictures import formats

RED, BLUE = (255, 0, 0), (0, 0, 255)


UNTURN = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def encode(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    output = io.BytesIO()
    image.save(output, format, **options)
    return output.getvalue()


def with_facts(orientation: int = 1) -> bytes:
    """Return EXIF with a camera, a time, a place and an orientation."""
    exif = Image.Exif()
    exif[271], exif[272], exif[274] = "Acme", "Snap 3", orientation
    exif.get_ifd(0x8769)[36867] = "2021:07:04 12:30:59"
    gps = exif.get_ifd(0x8825)
    gps[1], gps[2], gps[3], gps[4] = "S", (33.0, 30.0, 36.0), "E", (70.0, 0.0, 0.0)
    return exif.tobytes()


@cache
def scene(size: tuple[int, int] = (320, 240)) -> Image.Image:
    """Return a picture like a photograph, with every part a little different."""
    noise = np.random.default_rng(0).integers(0, 256, (size[1] // 8, size[0] // 8, 3), np.uint8)
    soft = Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)
    soft.paste(RED, (0, 0, size[0] // 4, size[1] // 4))
    return soft.filter(ImageFilter.GaussianBlur(1))


def likeness(picture: Image.Image, expected: Image.Image) -> float:
    """Return the PSNR in decibels."""
    assert picture.size == expected.size
    error = np.mean((np.asarray(picture, float) - np.asarray(expected, float)) ** 2)
    return 10 * np.log10(255**2 / max(error, 1e-9))


def needs(format: str) -> None:
    """Skip a test whose format has no library here."""
    if format == "HEIF":
        pytest.importorskip("pillow_heif")
        assert formats.has_heif()
