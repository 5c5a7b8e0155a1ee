"""Which thumbnail to store: bytes, time and likeness of formats, qualities, sizes and filters.

    python tests/benchmarks/thumbnails.py --output /tmp/thumbnails

Takes the photographs that CLIP_SEARCH_TESTDATA names, or else the demo's pictures, and prints a
row for every way: bytes per picture, milliseconds of one thread per picture from the decoded
picture to the bytes, and the PSNR and SSIM to the exact resize (LANCZOS, not encoded). The
folder gets contact-320.png and others: the same crops by every way, three times as large.
"""

import argparse
import io
import itertools
import os
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from datasette_clip_search.common.config import CONFIG
from datasette_clip_search.pictures.decode import decode_picture

SIZES = (250, 320, 400)
CODECS = [("JPEG", {"quality": quality}) for quality in (70, 75, 80)] + [
    ("WEBP", {"quality": quality, "method": method})
    for quality in (70, 75, 80)
    for method in (0, 2, 4)
]
CROP, ZOOM = 96, 3


class Filter(NamedTuple):
    name: str
    resample: Image.Resampling
    reducing_gap: float | None


FILTERS = [
    Filter("LANCZOS", Image.Resampling.LANCZOS, None),
    Filter("BICUBIC", Image.Resampling.BICUBIC, None),
    Filter("BICUBIC, gap 2", Image.Resampling.BICUBIC, 2.0),
    Filter("BICUBIC, gap 1.2", Image.Resampling.BICUBIC, 1.2),
    Filter("HAMMING", Image.Resampling.HAMMING, None),
    Filter("HAMMING, gap 1.2", Image.Resampling.HAMMING, 1.2),
    Filter("BILINEAR", Image.Resampling.BILINEAR, None),
]
# What make_thumbnail() does where it can't take the mean of whole pixels.
CHOSEN = FILTERS[5]


def pictures(count: int) -> list[Image.Image]:
    data = Path(os.environ.get("CLIP_SEARCH_TESTDATA", "/nowhere")) / "corpora" / "photos"
    folder = data if data.is_dir() else Path(__file__).parents[2] / "demo" / "pictures"
    files = sorted(path for path in folder.rglob("*") if path.suffix in {".jpg", ".webp", ".png"})
    print(f"{min(count, len(files))} pictures of {folder.name}/")
    return [decode_picture(path.read_bytes()).image for path in files[:count]]


def shrink(image: Image.Image, size: int, way: Filter) -> Image.Image:
    scale = min(1.0, size / max(image.size))
    width, height = (max(1, round(side * scale)) for side in image.size)
    return image.resize((width, height), way.resample, reducing_gap=way.reducing_gap)


def encode(image: Image.Image, format: str, options: dict[str, int]) -> bytes:
    output = io.BytesIO()
    image.save(output, format, **options)
    return output.getvalue()


def psnr(a: Image.Image, b: Image.Image) -> float:
    error = np.mean((np.asarray(a, float) - np.asarray(b, float)) ** 2)
    return 10 * np.log10(255**2 / max(error, 1e-9))


def ssim(a: Image.Image, b: Image.Image) -> float:
    """Structural similarity of the greys (Wang et al., 2004), with a box of 7 pixels."""

    def mean(values: np.ndarray) -> np.ndarray:
        image = Image.fromarray(values.astype(np.float32))
        for axis in (0, 1):
            sums = np.cumsum(np.asarray(image, np.float64), axis=axis)
            sums = np.concatenate([np.zeros_like(sums.take([0], axis)), sums], axis)
            high, low = range(7, sums.shape[axis]), range(sums.shape[axis] - 7)
            image = Image.fromarray(
                ((sums.take(high, axis) - sums.take(low, axis)) / 7).astype(np.float32)
            )
        return np.asarray(image, np.float64)

    x, y = (np.asarray(image.convert("L"), np.float64) for image in (a, b))
    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    parts = (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    return float(parts.mean())


def milliseconds(work, items) -> float:
    """The mean over items of the fastest of three times."""
    total = 0.0
    for item in items:
        times = []
        for _ in range(3):
            started = time.perf_counter()
            work(item)
            times.append(time.perf_counter() - started)
        total += min(times)
    return 1000 * total / len(items)


def compare_filters(images: list[Image.Image]) -> None:
    large = [image.resize((1000, 750), Image.Resampling.BICUBIC) for image in images[:10]]
    print(f"\n{'size':>4}  {'filter':<18}{'ms':>7}{'ms of 1000x750':>16}{'PSNR':>7}")
    for size, way in itertools.product(SIZES, FILTERS):
        likeness = np.mean(
            [psnr(shrink(each, size, way), shrink(each, size, FILTERS[0])) for each in images]
        )
        ordinary = milliseconds(lambda image: shrink(image, size, way), images)  # noqa: B023
        thousand = milliseconds(lambda image: shrink(image, size, way), large)  # noqa: B023
        shown = "exact" if way is FILTERS[0] else f"{likeness:.1f}"
        print(f"{size:>4}  {way.name:<18}{ordinary:>7.2f}{thousand:>16.2f}{shown:>7}")


def compare_codecs(images: list[Image.Image]) -> None:
    print(f"\n{'size':>4}  {'codec':<22}{'bytes':>7}{'ms':>7}{'PSNR':>7}{'SSIM':>8}")
    for size in SIZES:
        small = [shrink(image, size, FILTERS[0]) for image in images]
        for format, options in CODECS:
            encoded = [encode(image, format, options) for image in small]
            again = [Image.open(io.BytesIO(data)).convert("RGB") for data in encoded]
            pairs = list(zip(small, again, strict=True))
            took = milliseconds(
                lambda image: encode(shrink(image, size, CHOSEN), format, options),  # noqa: B023
                images,
            )
            name = f"{format} " + " ".join(f"{key[0]}{value}" for key, value in options.items())
            print(
                f"{size:>4}  {name:<22}{np.mean([len(data) for data in encoded]):>7.0f}{took:>7.2f}"
                f"{np.mean([psnr(*pair) for pair in pairs]):>7.1f}"
                f"{np.mean([ssim(*pair) for pair in pairs]):>8.4f}"
            )


def compare_whole(images: list[Image.Image]) -> None:
    """The mean of whole pixels, where that comes near enough to the size, beside CHOSEN."""
    print(f"\n{'of':>10}{'to':>6}  {'way':<18}{'ms':>7}{'PSNR':>7}{'as JPEG':>9}{'bytes':>8}")
    for side in (500, 640, 800, 1008):
        large = [
            image.resize((side, side * 3 // 4), Image.Resampling.LANCZOS) for image in images[:10]
        ]
        size = CONFIG.thumbnail_size
        ways = {
            CHOSEN.name: lambda image: shrink(image, size, CHOSEN),  # noqa: B023
            "whole pixels": lambda image: image.reduce(
                -(-max(image.size) // CONFIG.thumbnail_size)
            ),
        }
        for name, way in ways.items():
            small = [way(image) for image in large]
            exact = [
                image.resize(each.size, Image.Resampling.LANCZOS)
                for image, each in zip(large, small, strict=True)
            ]
            files = [encode(each, "JPEG", {"quality": CONFIG.thumbnail_quality}) for each in small]
            shown = [Image.open(io.BytesIO(data)).convert("RGB") for data in files]
            print(
                f"{side:>10}{small[0].width:>6}  {name:<18}{milliseconds(way, large):>7.2f}"
                f"{np.mean([psnr(*pair) for pair in zip(small, exact, strict=True)]):>7.1f}"
                f"{np.mean([psnr(*pair) for pair in zip(shown, exact, strict=True)]):>9.1f}"
                f"{np.mean([len(data) for data in files]):>8.0f}"
            )


def contact_sheet(images: list[Image.Image], size: int) -> Image.Image:
    """Rows are pictures, columns are ways: the middle of each."""
    ways = [(way.name, way, None, {}) for way in (FILTERS[0], FILTERS[1], CHOSEN)] + [
        (format, CHOSEN, format, options)
        for format, options in CODECS
        if options.get("method") in {None, 2}
    ]
    cell = CROP * ZOOM
    sheet = Image.new("RGB", (len(ways) * (cell + 8), len(images) * (cell + 24)), "white")
    draw = ImageDraw.Draw(sheet)
    for row, image in enumerate(images):
        for column, (name, way, format, options) in enumerate(ways):
            small = shrink(image, size, way)
            left, top = (small.width - CROP) // 2, (small.height - CROP) // 2
            data = encode(small, format or "PNG", options)
            shown = Image.open(io.BytesIO(data)).convert("RGB")
            shown = shown.crop((left, top, left + CROP, top + CROP))
            shown = shown.resize((cell, cell), Image.Resampling.NEAREST)
            place = (column * (cell + 8), row * (cell + 24))
            label = " ".join([name, *map(str, options.values()), f"{len(data)} B"])
            draw.text((place[0] + 4, place[1] + 4), label, fill="black")
            sheet.paste(shown, (place[0], place[1] + 20))
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="folder for the contact sheets")
    parser.add_argument("--pictures", type=int, default=200, help="how many at most")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    images = pictures(arguments.pictures)
    compare_filters(images)
    compare_whole(images)
    compare_codecs(images)
    for size in SIZES:
        contact_sheet(images[:4], size).save(arguments.output / f"contact-{size}.png")


if __name__ == "__main__":
    main()
