"""Thumbnails: what is stored in the database for showing."""

import io

from PIL import Image

from ..config import CONFIG

THUMBNAIL_FORMAT = "jpeg"


def make_thumbnail(image: Image.Image, size: int = CONFIG.thumbnail_size) -> bytes:
    """Returns a small JPEG of an RGB image, without any metadata.

    The longer side is at most `size` pixels; a smaller image keeps its size.
    """
    scale = min(1.0, size / max(image.size))
    width, height = (max(1, round(side * scale)) for side in image.size)
    # It differs from LANCZOS by far less than JPEG loses, at half the time, and a much larger
    # picture is halved first: tests/benchmarks/thumbnails.py.
    small = (
        image.resize((width, height), Image.Resampling.HAMMING, reducing_gap=1.2)
        if scale < 1
        else image.copy()
    )
    small.info.clear()
    output = io.BytesIO()
    small.save(output, "JPEG", quality=CONFIG.thumbnail_quality)
    return output.getvalue()
