"""Brushes that the places share: skies, ridges, gradients, light and grain."""

import math
import random

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

Colour = tuple[int, int, int]

SKIES: dict[str, tuple[Colour, ...]] = {
    "day": ((74, 150, 224), (198, 230, 248)),
    "night": ((8, 12, 40), (34, 44, 92)),
    "sunset": ((72, 62, 128), (236, 116, 88), (255, 208, 122)),
    "rain": ((96, 106, 122), (168, 176, 184)),
}


def blend(first: Colour, second: Colour, share: float) -> Colour:
    """Mix two colours, `share` of the second."""
    mixed = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return tuple(mixed)  # type: ignore[return-value]


def jitter(colour: Colour, rng: random.Random, reach: int = 12) -> Colour:
    """Move a colour a little at random."""
    moved = (min(255, max(0, channel + rng.randint(-reach, reach))) for channel in colour)
    return tuple(moved)  # type: ignore[return-value]


def lit(colour: Colour, light: str) -> Colour:
    """Return a daylight colour as it looks in another light."""
    if light == "night":
        return blend(blend(colour, (0, 0, 0), 0.5), (20, 30, 84), 0.42)
    if light == "sunset":
        return blend(blend(colour, (0, 0, 0), 0.14), (226, 110, 70), 0.26)
    if light == "rain":
        return blend(blend(colour, (0, 0, 0), 0.16), (110, 118, 130), 0.38)
    return colour


def gradient(size: tuple[int, int], colours: list[Colour]) -> Image.Image:
    """Return a picture that fades downwards through the colours."""
    width, height = size
    stops = np.linspace(0, max(height - 1, 1), len(colours))
    rows = [np.interp(np.arange(height), stops, [c[i] for c in colours]) for i in range(3)]
    column = np.stack(rows, axis=1).astype(np.uint8)[:, None, :]
    return Image.fromarray(column).resize((width, height), Image.Resampling.NEAREST)


def ridge(rng: random.Random, width: int, level: float, reach: float) -> list[tuple[float, float]]:
    """Return a rolling line from left to right as points, `reach` high about `level`."""
    waves = [(rng.uniform(1, 9), rng.uniform(0, 6.3), rng.uniform(0.3, 1)) for _ in range(4)]
    points = []
    for x in range(0, width + 6, 6):
        lift = sum(a * math.sin(f * x / width + p) / f**0.5 for f, p, a in waves)
        points.append((float(x), level + lift * reach / 2))
    return points


def sky(
    light: str,
    size: tuple[int, int],
    horizon: float,
    rng: random.Random,
    *,
    pale: bool = False,
    clouds: bool = True,
) -> Image.Image:
    """Return a picture of sky down to the horizon, with sun, moon, stars or clouds."""
    width, height = size
    colours = [jitter(colour, rng, 10) for colour in SKIES[light]]
    if pale and light == "day":
        colours = [blend(colour, (226, 234, 242), 0.6) for colour in colours]
    picture = Image.new("RGB", size, colours[-1])
    picture.paste(gradient((width, max(1, int(horizon))), colours), (0, 0))
    draw = ImageDraw.Draw(picture)
    x = width * (0.5 + rng.choice((-1, 1)) * rng.uniform(0.2, 0.4))
    if light == "night":
        _stars(draw, width, horizon, rng)
        y, r = height * rng.uniform(0.08, 0.2), height * rng.uniform(0.035, 0.06)
        _glow(picture, x, y, r * 3, (190, 200, 240), 0.4)
        draw.ellipse((x - r, y - r, x + r, y + r), fill=(248, 244, 214))
        draw.ellipse((x - r * 0.5, y - r * 0.4, x - r * 0.1, y), fill=(226, 220, 190))
    elif light == "sunset":
        y, r = horizon - height * rng.uniform(0.02, 0.12), height * rng.uniform(0.05, 0.08)
        _glow(picture, x, y, r * 4, (255, 222, 150), 0.8)
        draw.ellipse((x - r, y - r, x + r, y + r), fill=(255, 240, 190))
    elif light == "day":
        y, r = height * rng.uniform(0.06, 0.16), height * rng.uniform(0.035, 0.055)
        _glow(picture, x, y, r * 3.2, (255, 250, 214), 0.9)
        draw.ellipse((x - r, y - r, x + r, y + r), fill=(255, 250, 206))
    if clouds and light != "night":
        _clouds(picture, light, horizon, rng)
    return picture


def _stars(draw: ImageDraw.ImageDraw, width: int, horizon: float, rng: random.Random) -> None:
    for _ in range(90):
        x, y = rng.uniform(0, width), rng.uniform(0, horizon)
        r, shine = rng.uniform(0.3, 1.1) * width / 480, rng.randint(140, 255)
        draw.ellipse((x - r, y - r, x + r, y + r), fill=(shine, shine, min(255, shine + 20)))


def _glow(
    picture: Image.Image, x: float, y: float, reach: float, colour: Colour, strength: float
) -> None:
    side = max(4, int(reach * 2))
    mask = Image.radial_gradient("L").resize((side, side))
    mask = ImageChops.invert(mask).point(lambda v: max(0.0, v - 70) * strength)
    picture.paste(colour, (int(x - side / 2), int(y - side / 2)), mask)


def _clouds(picture: Image.Image, light: str, horizon: float, rng: random.Random) -> None:
    width, height = picture.size
    shape = (max(2, width // 2), max(2, height // 2))
    mask = Image.new("L", shape, 0)
    draw = ImageDraw.Draw(mask)
    for _ in range(rng.randint(5, 8) if light == "rain" else rng.randint(1, 4)):
        x, y = rng.uniform(0, shape[0]), rng.uniform(0.1, 0.6) * horizon / 2
        r = shape[1] * rng.uniform(0.03, 0.06)
        for puff in range(5):
            px, pr = (
                x + (puff - 2) * r * 1.1,
                r * rng.uniform(0.7, 1.2) * (1.3 - 0.2 * abs(puff - 2)),
            )
            draw.ellipse((px - pr, y - pr * 0.8, px + pr, y + pr * 0.6), fill=225)
    mask = mask.filter(ImageFilter.GaussianBlur(shape[1] / 90)).resize(picture.size)
    colour = {"day": (255, 255, 255), "sunset": (255, 190, 160), "rain": (78, 86, 102)}[light]
    picture.paste(colour, (0, 0), mask)


def blob(
    draw: ImageDraw.ImageDraw, x: float, y: float, reach: float, colour: Colour, rng: random.Random
) -> None:
    """Draw a puffy mass, such as a bush or a cloud."""
    for _ in range(6):
        r = reach * rng.uniform(0.45, 0.75)
        px, py = x + rng.uniform(-0.7, 0.7) * reach, y + rng.uniform(-0.35, 0.25) * reach
        draw.ellipse((px - r, py - r, px + r, py + r), fill=jitter(colour, rng, 5))


def speckle(
    picture: Image.Image,
    corner: tuple[int, int],
    colour: Colour,
    count: int,
    rng: random.Random,
    size: int = 1,
) -> None:
    """Scatter small dots from a corner to the picture's lower right."""
    width, height = picture.size
    draw = ImageDraw.Draw(picture)
    reach = size * width / 480
    for _ in range(count):
        x, y = rng.uniform(corner[0], width), rng.uniform(corner[1], height)
        draw.ellipse((x - reach, y - reach * 0.7, x + reach, y + reach * 0.7), fill=colour)


def rain_streaks(picture: Image.Image, rng: random.Random) -> None:
    """Draw falling rain over the whole picture."""
    width, height = picture.size
    mask = Image.new("L", picture.size, 0)
    draw = ImageDraw.Draw(mask)
    for _ in range(150):
        x, y = rng.uniform(0, width * 1.1), rng.uniform(-0.1, 1) * height
        fall = height * rng.uniform(0.03, 0.07)
        draw.line((x, y, x - fall * 0.3, y + fall), fill=rng.randint(70, 150),
                  width=max(1, height // 360))  # fmt: skip
    picture.paste((214, 224, 236), (0, 0), mask)


def grain(picture: Image.Image, rng: random.Random) -> Image.Image:
    """Add a camera's faint noise and uneven brightness."""
    noise = np.random.default_rng(rng.randrange(2**32))
    pixels = np.asarray(picture, dtype=np.float32) * rng.uniform(0.94, 1.06)
    speckled = pixels + noise.normal(0, 2.2, pixels.shape[:2])[:, :, None]
    return Image.fromarray(np.clip(speckled, 0, 255).astype(np.uint8))
