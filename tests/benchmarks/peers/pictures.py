"""Makes the pictures to embed, the same on every machine, no two of them equal.

python pictures.py KIND COUNT FOLDER

KIND is `ordinary`, JPEGs of 500x375 of 40 to 60 KB, or `large`, JPEGs of 12 megapixels of 3 to
5 MB: what decoding costs depends on the bytes as well as on the pixels.

Where the environment variable CLIP_SEARCH_TESTDATA names a folder with `corpora/photos`, they are
made of those photographs by cropping, mirroring and brightening; elsewhere of noise and shapes.
"""

import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

SIZES = {"ordinary": (500, 375), "large": (4000, 3000)}
QUALITY = {"ordinary": 85, "large": 90}
# The grain of a sensor is what makes the files of a camera as large as they are.
GRAIN = {"ordinary": 0.0, "large": 6.5}
GRAIN_OF_SHAPES = {"ordinary": 7.5, "large": 6.5}


def photographs() -> list[Path]:
    """Return the real photographs of this machine, if it has any."""
    folder = os.environ.get("CLIP_SEARCH_TESTDATA")
    return sorted(Path(folder, "corpora", "photos").glob("*.jpg")) if folder else []


def make(kind: str, count: int, folder: Path) -> None:
    """Write `count` pictures of one kind into a new folder."""
    folder.mkdir(parents=True)
    originals = photographs()
    width, height = size = SIZES[kind]
    # Twelve million normal numbers take a second; shifted by other amounts they are other grain.
    noise = np.random.default_rng(0).normal(size=(height, width)).astype(np.float32)
    for number in range(count):
        rng = np.random.default_rng([list(SIZES).index(kind), number])
        if originals:
            picture = _vary(originals[number % len(originals)], rng)
            grain = GRAIN[kind]
        else:
            picture, grain = _shapes(rng), GRAIN_OF_SHAPES[kind]
        picture = picture.resize(size, Image.Resampling.BICUBIC)
        if grain:
            shift = (int(rng.integers(height)), int(rng.integers(width)))
            pixels = np.asarray(picture, np.float32)
            pixels = pixels + grain * np.roll(noise, shift, (0, 1))[..., None]
            picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        picture.save(folder / f"{number:05}.jpg", quality=QUALITY[kind])


def _vary(path: Path, rng: np.random.Generator) -> Image.Image:
    """Return a part of a photograph, as no other number gives it."""
    with Image.open(path) as original:
        picture = original.convert("RGB")
    part = rng.uniform(0.8, 1)
    width, height = round(picture.width * part), round(picture.height * part)
    left = int(rng.integers(picture.width - width + 1))
    top = int(rng.integers(picture.height - height + 1))
    picture = picture.crop((left, top, left + width, top + height))
    if rng.random() < 0.5:
        picture = ImageOps.mirror(picture)
    return ImageEnhance.Brightness(picture).enhance(rng.uniform(0.8, 1.2))


def _shapes(rng: np.random.Generator) -> Image.Image:
    """Return coloured clouds of every size with shapes on them: energy as in photographs."""
    width, height = SIZES["ordinary"]
    pixels = np.full((height, width, 3), 128, np.float32)
    for octave in range(1, 8):
        cells = rng.integers(0, 256, (3 * 2**octave // 4 + 1, 2**octave + 1, 3), np.uint8)
        cloud = Image.fromarray(cells).resize((width, height), Image.Resampling.BICUBIC)
        pixels += (np.asarray(cloud, np.float32) - 128) / 1.6**octave
    picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(10, 40))):
        x, y = rng.integers(0, width), rng.integers(0, height)
        w, h = rng.integers(8, 160, 2)
        colour = tuple(int(value) for value in rng.integers(0, 256, 3))
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        shape((int(x), int(y), int(x + w), int(y + h)), fill=colour)
    return picture.filter(ImageFilter.GaussianBlur(0.6))


if __name__ == "__main__":
    make(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
