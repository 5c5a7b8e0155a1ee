"""All the places by name, including those in the sea and in the air."""

import math
import random
from collections.abc import Callable

import built_places
import landscapes
from paint import SKIES, blend, blob, gradient, grain, jitter, lit, rain_streaks, ridge, sky
from PIL import Image, ImageDraw
from vocabulary import PLACES


def draw_place(name: str, light: str, size: tuple[int, int], rng: random.Random) -> Image.Image:
    """Draw a place in a light ("day", "night", "sunset" or "rain") as an RGB picture."""
    picture = _PAINTERS[name](light, size, rng)
    if light == "rain" and PLACES[name].has_weather:
        rain_streaks(picture, rng)
    return grain(picture, rng)


def underwater(light: str, size: tuple[int, int], rng: random.Random) -> Image.Image:
    """Draw the depths of the sea, with weeds and bubbles."""
    width, height = size
    water = [jitter(colour, rng) for colour in ((92, 206, 226), (28, 122, 178), (10, 56, 112))]
    picture = gradient(size, water)
    rays = Image.new("L", size, 0)
    ray = ImageDraw.Draw(rays)
    for _ in range(5):
        x, wide = rng.uniform(0, width), width * rng.uniform(0.02, 0.08)
        lean = width * rng.uniform(-0.25, 0.25)
        ray.polygon(
            [(x, 0), (x + wide, 0), (x + wide * 2 + lean, height), (x + lean, height)], fill=34
        )
    picture.paste((220, 250, 255), (0, 0), rays)
    draw = ImageDraw.Draw(picture)
    bed = jitter((148, 158, 128), rng)
    line = ridge(rng, width, height * rng.uniform(0.84, 0.9), height * 0.03)
    for _ in range(12):
        x, sway = rng.uniform(0, width), rng.uniform(0, 6)
        tall, weed = height * rng.uniform(0.12, 0.34), jitter((36, 130, 92), rng, 24)
        stalk = [
            (x + math.sin(sway + t * 0.9) * width * 0.012, height * 0.92 - tall * t / 9)
            for t in range(10)
        ]
        draw.line(stalk, fill=weed, width=max(2, height // 70), joint="curve")
    draw.polygon([*line, (width, height), (0, height)], fill=blend(bed, water[1], 0.3))
    for _ in range(26):
        x, y, r = (
            rng.uniform(0, width),
            rng.uniform(0, height * 0.85),
            height * rng.uniform(0.004, 0.014),
        )
        draw.ellipse((x - r, y - r, x + r, y + r), outline=(206, 242, 250), width=1)
    return picture


def in_the_sky(light: str, size: tuple[int, int], rng: random.Random) -> Image.Image:
    """Draw the sky above the clouds."""
    width, height = size
    picture = sky(light, size, height * 1.15, rng)
    draw = ImageDraw.Draw(picture)
    white = lit((250, 252, 255), light)
    for row in range(3):
        for _ in range(7):
            x, y = rng.uniform(0, width), height * (0.84 + 0.08 * row) + rng.uniform(-9, 9)
            puff = blend(white, SKIES[light][1], 0.35 - 0.16 * row)
            blob(draw, x, y, height * rng.uniform(0.07, 0.12), puff, rng)
    return picture


_PAINTERS: dict[str, Callable[[str, tuple[int, int], random.Random], Image.Image]] = {
    "beach": landscapes.beach,
    "forest": landscapes.forest,
    "mountains": landscapes.mountains,
    "snow": landscapes.snow,
    "city": built_places.city,
    "desert": landscapes.desert,
    "meadow": landscapes.meadow,
    "road": built_places.road,
    "lake": landscapes.lake,
    "kitchen": built_places.kitchen,
    "living room": built_places.living_room,
    "underwater": underwater,
    "farm": built_places.farm,
    "sky": in_the_sky,
}
