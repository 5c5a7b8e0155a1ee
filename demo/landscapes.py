"""Beach, forest, mountains, snow, desert, meadow and lake, drawn procedurally at any size."""

import math
import random

from paint import (
    Colour,
    blend,
    gradient,
    jitter,
    lit,
    ridge,
    sky,
    speckle,
)
from PIL import Image, ImageDraw


def beach(light: str, size: tuple[int, int], rng: random.Random) -> Image.Image:
    """Draw sea, surf and sand."""
    width, height = size
    horizon, shore = height * rng.uniform(0.30, 0.42), height * rng.uniform(0.55, 0.64)
    picture = sky(light, size, horizon, rng)
    sea = [jitter(lit(c, light), rng) for c in ((36, 118, 176), (86, 192, 204))]
    picture.paste(gradient((width, height - int(horizon)), sea), (0, int(horizon)))
    draw = ImageDraw.Draw(picture)
    for _ in range(26):
        y = rng.uniform(horizon + 2, shore)
        reach = width * rng.uniform(0.03, 0.14) * (0.4 + (y - horizon) / (shore - horizon))
        x = rng.uniform(0, width)
        draw.line((x, y, x + reach, y), fill=blend(sea[1], (255, 255, 255), 0.5), width=1)
    sand = jitter(lit((238, 208, 150), light), rng)
    phase, bend = rng.uniform(0, 6), height * 0.022
    for lift, colour in (
        (0.035, blend(sea[1], (255, 255, 255), 0.55)),
        (0.018, blend(sand, (250, 250, 245), 0.75)),
        (0.0, blend(sand, (96, 70, 40), 0.25)),
        (-0.045, sand),
    ):
        edge = [
            (x, shore - lift * height + bend * math.sin(phase + x * 9 / width))
            for x in range(0, width + 8, 8)
        ]
        draw.polygon([*edge, (width, height), (0, height)], fill=colour)
    speckle(picture, (0, int(shore + height * 0.08)), blend(sand, (110, 80, 40), 0.35), 300, rng)
    speckle(picture, (0, int(shore + height * 0.08)), blend(sand, (255, 255, 255), 0.5), 120, rng)
    return picture


def forest(light: str, size: tuple[int, int], rng: random.Random) -> Image.Image:
    """Draw rows of conifers, the far ones paler."""
    width, height = size
    floor = height * rng.uniform(0.66, 0.74)
    picture = sky(light, size, floor, rng)
    draw = ImageDraw.Draw(picture)
    for depth in range(4):
        green = blend((150, 190, 160), (22, 74, 42), depth / 3)
        tall = height * (0.34 + 0.13 * depth)
        x = -width * 0.05
        while x < width * 1.05:
            _conifer(draw, x, floor, tall * rng.uniform(0.75, 1.15),
                     jitter(lit(green, light), rng, 9))  # fmt: skip
            x += width * (0.045 + 0.016 * depth) * rng.uniform(0.8, 1.5)
    ground = jitter(lit((92, 84, 46), light), rng)
    draw.rectangle((0, floor, width, height), fill=ground)
    draw.polygon(
        [*ridge(rng, width, floor, height * 0.018), (width, height), (0, height)], fill=ground
    )
    for tint in ((126, 100, 52), (60, 92, 40), (150, 116, 60)):
        speckle(picture, (0, int(floor)), lit(tint, light), 140, rng, 2)
    return picture


def _conifer(draw: ImageDraw.ImageDraw, x: float, base: float, tall: float, colour: Colour) -> None:
    trunk = tall * 0.03
    draw.rectangle(
        (x - trunk, base - tall * 0.2, x + trunk, base), fill=blend(colour, (60, 40, 24), 0.7)
    )
    for step in range(4):
        top = base - tall * (1 - step * 0.2)
        half, drop = tall * (0.09 + 0.042 * step), tall * 0.32
        draw.polygon([(x, top), (x + half, top + drop), (x - half, top + drop)], fill=colour)
        shade = blend(colour, (0, 0, 0), 0.14)
        draw.polygon([(x, top), (x + half, top + drop), (x, top + drop)], fill=shade)


def mountains(light: str, size: tuple[int, int], rng: random.Random) -> Image.Image:
    """Draw snow-capped peaks above green hills."""
    width, height = size
    foot = height * rng.uniform(0.62, 0.7)
    picture = sky(light, size, foot, rng)
    draw = ImageDraw.Draw(picture)
    for depth in range(2):
        rock = jitter(lit(((138, 150, 180), (98, 104, 126))[depth], light), rng, 9)
        snow = lit((246, 248, 255), light)
        x = -width * rng.uniform(0.0, 0.2)
        while x < width * 1.1:
            tall = height * rng.uniform(0.28, 0.42) * (1.15, 0.85)[depth]
            half = tall * rng.uniform(0.75, 1.0)
            _peak(draw, (x, foot - tall), half, foot, rock, snow, rng)
            x += half * rng.uniform(0.8, 1.3)
    for depth, green in enumerate(((96, 136, 92), (120, 160, 84))):
        line = ridge(rng, width, foot + height * 0.07 * depth, height * 0.03)
        colour = jitter(lit(green, light), rng, 8)
        draw.polygon([*line, (width, height), (0, height)], fill=colour)
    speckle(picture, (0, int(foot + height * 0.1)), lit((140, 140, 136), light), 50, rng, 3)
    return picture


def _peak(
    draw: ImageDraw.ImageDraw,
    top: tuple[float, float],
    half: float,
    foot: float,
    rock: Colour,
    snow: Colour,
    rng: random.Random,
) -> None:
    x, y = top
    draw.polygon([(x - half, foot), top, (x + half, foot)], fill=rock)
    draw.polygon(
        [top, (x + half, foot), (x + half * 0.1, foot)], fill=blend(rock, (20, 20, 50), 0.25)
    )
    cap = rng.uniform(0.3, 0.42)
    cy, ch = y + (foot - y) * cap, half * cap
    jag = (foot - y) * 0.07
    rim = [
        (x - ch, cy),
        (x - ch * 0.5, cy - jag),
        (x - ch * 0.2, cy + jag),
        (x + ch * 0.1, cy - jag),
        (x + ch * 0.5, cy + jag),
        (x + ch, cy),
    ]
    draw.polygon([top, *rim], fill=snow)
    draw.polygon([top, *rim[3:]], fill=blend(snow, rock, 0.3))


def snow(light: str, size: tuple[int, int], rng: random.Random) -> Image.Image:
    """Draw white hills with firs, now and then in falling snow."""
    width, height = size
    ground = height * rng.uniform(0.5, 0.6)
    picture = sky(light, size, ground, rng, pale=True)
    draw = ImageDraw.Draw(picture)
    for depth in range(3):
        white = lit(((206, 220, 238), (226, 236, 248), (246, 249, 255))[depth], light)
        level = ground + height * 0.09 * depth
        line = ridge(rng, width, level, height * 0.04)
        if depth < 2:
            for _ in range(rng.randint(3, 7)):
                x, tall = rng.uniform(0, width), height * rng.uniform(0.14, 0.26)
                _conifer(draw, x, level + 4, tall, lit((78, 110, 110), light))
                _conifer(draw, x, level - tall * 0.12, tall * 0.86, lit((240, 246, 252), light))
        draw.polygon([*line, (width, height), (0, height)], fill=white)
    speckle(picture, (0, int(height * 0.75)), lit((214, 226, 244), light), 160, rng, 2)
    flake = max(1.0, height / 190)
    for _ in range(rng.choice((20, 90, 140))):
        x, y, r = rng.uniform(0, width), rng.uniform(0, height), flake * rng.uniform(0.6, 1.6)
        draw.ellipse((x - r, y - r, x + r, y + r), fill=(255, 255, 255))
    return picture


def desert(light: str, size: tuple[int, int], rng: random.Random) -> Image.Image:
    """Draw dunes before table mountains."""
    width, height = size
    horizon = height * rng.uniform(0.42, 0.52)
    picture = sky(light, size, horizon + height * 0.08, rng, clouds=False)
    draw = ImageDraw.Draw(picture)
    for _ in range(rng.randint(1, 2)):
        x, wide, tall = rng.uniform(0, width), width * rng.uniform(0.1, 0.2), height * 0.13
        rock = jitter(lit((176, 96, 66), light), rng)
        draw.polygon(
            [
                (x, horizon - tall),
                (x + wide, horizon - tall * 0.95),
                (x + wide * 1.25, horizon + 9),
                (x - wide * 0.25, horizon + 9),
            ],
            fill=rock,
        )
    for depth in range(4):
        sand = jitter(lit(blend((240, 190, 124), (214, 142, 70), depth / 3), light), rng, 7)
        level = horizon + height * (0.03 + 0.13 * depth)
        crest_x, crest = width * rng.uniform(0.2, 0.8), level - height * rng.uniform(0.05, 0.1)
        curve = [
            (x, level - (level - crest) * math.exp(-(((x - crest_x) / (width * 0.3)) ** 2)))
            for x in range(-4, width + 8, 4)
        ]
        draw.polygon([*curve, (width, height), (0, height)], fill=sand)
        lee = [point for point in curve if point[0] >= crest_x]
        draw.polygon(
            [*lee, (width, level + height * 0.05), (crest_x + width * 0.12, height)],
            fill=blend(sand, (120, 60, 30), 0.22),
        )
    return picture


def meadow(light: str, size: tuple[int, int], rng: random.Random) -> Image.Image:
    """Draw grass and wild flowers."""
    width, height = size
    horizon = height * rng.uniform(0.44, 0.54)
    picture = sky(light, size, horizon, rng)
    draw = ImageDraw.Draw(picture)
    for depth in range(3):
        green = jitter(lit(((138, 186, 104), (112, 178, 76), (88, 164, 56))[depth], light), rng, 8)
        line = ridge(rng, width, horizon + height * 0.09 * depth, height * 0.035)
        draw.polygon([*line, (width, height), (0, height)], fill=green)
    for _ in range(170):
        x, y = rng.uniform(0, width), rng.uniform(horizon + height * 0.2, height)
        tall = height * rng.uniform(0.02, 0.045)
        blade = jitter(lit((64, 136, 42), light), rng, 16)
        draw.line((x, y, x + rng.uniform(-0.3, 0.3) * tall, y - tall), fill=blade, width=1)
    for _ in range(46):
        x, y = rng.uniform(0, width), rng.uniform(horizon + height * 0.16, height)
        r = height * rng.uniform(0.005, 0.011)
        petal = rng.choice(((255, 255, 255), (255, 226, 90), (244, 110, 150), (170, 120, 230)))
        draw.ellipse((x - r, y - r, x + r, y + r), fill=lit(petal, light))
    return picture


def lake(light: str, size: tuple[int, int], rng: random.Random) -> Image.Image:
    """Draw a lake that mirrors its hills, behind a reedy bank."""
    width, height = size
    horizon, bank = height * rng.uniform(0.36, 0.44), height * rng.uniform(0.68, 0.76)
    picture = sky(light, size, horizon, rng)
    draw = ImageDraw.Draw(picture)
    for depth, green in enumerate(((132, 164, 150), (70, 118, 82))):
        line = ridge(rng, width, horizon - height * (0.07 - 0.05 * depth), height * 0.05)
        colour = jitter(lit(green, light), rng, 8)
        draw.polygon([*line, (width, horizon), (0, horizon)], fill=colour)
    mirrored = picture.crop((0, 0, width, int(horizon))).transpose(
        Image.Transpose.FLIP_TOP_BOTTOM
    ).resize((width, int(bank - horizon) + 12))  # fmt: skip
    water = Image.new("RGB", mirrored.size, jitter(lit((52, 116, 160), light), rng))
    picture.paste(Image.blend(mirrored, water, 0.45), (0, int(horizon)))
    for _ in range(40):
        y = rng.uniform(horizon, bank)
        x, reach = rng.uniform(0, width), width * rng.uniform(0.02, 0.1)
        ripple = blend(lit((170, 206, 226), light), (255, 255, 255), 0.15)
        draw.line((x, y, x + reach, y), fill=ripple, width=1)
    grass = jitter(lit((104, 156, 66), light), rng)
    line = ridge(rng, width, bank, height * 0.02)
    draw.polygon([*line, (width, height), (0, height)], fill=grass)
    for _ in range(34):
        x, tall = rng.uniform(0, width), height * rng.uniform(0.05, 0.14)
        y = bank + height * 0.03
        stalk = jitter(lit((72, 122, 52), light), rng, 14)
        tip = x + rng.uniform(-0.2, 0.2) * tall
        draw.line((x, y, tip, y - tall), fill=stalk, width=max(1, height // 240))
    return picture
