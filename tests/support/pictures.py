"""Pictures of random blocks."""

import random
from pathlib import Path

from PIL import Image


def make_picture(path: Path, seed: int = 0, size: tuple[int, int] = (64, 48)) -> Path:
    """Save a picture of random coloured blocks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    blocks = Image.frombytes("RGB", (8, 6), random.Random(seed).randbytes(8 * 6 * 3))
    blocks.resize(size, Image.Resampling.NEAREST).save(path)
    return path
