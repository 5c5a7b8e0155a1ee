"""City, road, farm, kitchen and living room, drawn procedurally at any size."""

import random

from paint import SKIES, Colour, blend, blob, gradient, jitter, lit, ridge, sky
from PIL import Image, ImageDraw


def city(light: str, size: tuple[int, int], rng: random.Random) -> Image.Image:
    """Draw a skyline along a street, its windows lit by night."""
    width, height = size
    street = height * rng.uniform(0.68, 0.75)
    picture = sky(light, size, street, rng)
    draw = ImageDraw.Draw(picture)
    lamps = {"night": 0.6, "sunset": 0.35, "rain": 0.3, "day": 0.0}[light]
    for depth in range(2):
        x = -width * 0.03
        while x < width:
            wide = width * rng.uniform(0.07, 0.14)
            tall = height * rng.uniform(0.2, 0.42) * (1.3, 0.9)[depth]
            wall = rng.choice(((120, 134, 158), (150, 140, 140), (112, 116, 134), (164, 150, 132)))
            wall = jitter(lit(blend(wall, (190, 200, 216), 0.45 - 0.4 * depth), light), rng, 10)
            draw.rectangle((x, street - tall, x + wide, street), fill=wall)
            if depth:
                _windows(draw, (x, street - tall, x + wide, street), wall, lamps, rng)
            x += wide * rng.uniform(0.95, 1.25)
    kerb = height * 0.03
    draw.rectangle((0, street, width, street + kerb), fill=lit((186, 184, 180), light))
    draw.rectangle(
        (0, street + kerb, width, height), fill=jitter(lit((96, 98, 106), light), rng, 8)
    )
    stripe = lit((232, 232, 226), light)
    start, y = rng.uniform(-0.1, 0), height * rng.uniform(0.9, 0.95)
    for step in range(8):
        x = width * (start + step * 0.16)
        draw.rectangle((x, y, x + width * 0.08, y + height * 0.014), fill=stripe)
    return picture


def _windows(
    draw: ImageDraw.ImageDraw,
    box: tuple[float, float, float, float],
    wall: Colour,
    lamps: float,
    rng: random.Random,
) -> None:
    left, top, right, bottom = box
    pane = (right - left) / rng.choice((5.5, 7.0))
    y = top + pane * 0.8
    while y < bottom - pane:
        x = left + pane * 0.6
        while x < right - pane:
            glass = (255, 214, 120) if rng.random() < lamps else blend(wall, (30, 44, 70), 0.5)
            draw.rectangle((x, y, x + pane * 0.62, y + pane * 0.8), fill=glass)
            x += pane * 1.15
        y += pane * 1.5


def road(light: str, size: tuple[int, int], rng: random.Random) -> Image.Image:
    """Draw a road that runs to the horizon."""
    width, height = size
    horizon = height * rng.uniform(0.40, 0.5)
    picture = sky(light, size, horizon, rng)
    draw = ImageDraw.Draw(picture)
    hill = jitter(lit((120, 150, 130), light), rng)
    line = ridge(rng, width, horizon, height * 0.05)
    draw.polygon([*line, (width, height), (0, height)], fill=hill)
    verge = jitter(lit(rng.choice(((126, 164, 78), (164, 160, 90))), light), rng)
    draw.rectangle((0, horizon + height * 0.02, width, height), fill=verge)
    far_x, top = width * rng.uniform(0.42, 0.58), horizon + height * 0.02
    tarmac = jitter(lit((88, 90, 98), light), rng, 8)
    near = width * rng.uniform(0.44, 0.56)
    middle, far = width / 2, width * 0.02

    def across(t: float, side: float) -> tuple[float, float]:
        centre = far_x + (middle - far_x) * t
        return centre + side * (far + (near - far) * t), top + (height - top) * t

    draw.polygon([across(0, -1), across(0, 1), across(1, 1), across(1, -1)], fill=tarmac)
    paint = lit((240, 240, 232), light)
    for side in (-0.9, 0.86):
        draw.polygon(
            [across(0, side), across(0, side + 0.04), across(1, side + 0.04), across(1, side)],
            fill=paint,
        )
    for step in range(9):
        t, end = (step / 9) ** 2, ((step + 0.55) / 9) ** 2
        dash = [across(t, -0.035), across(t, 0.035), across(end, 0.035), across(end, -0.035)]
        draw.polygon(dash, fill=lit((250, 214, 90), light))
    for _ in range(6):
        t = rng.uniform(0.02, 0.2)
        x, y = across(t, rng.choice((-1, 1)) * rng.uniform(1.6, 4))
        blob(draw, x, y, height * (0.02 + 0.16 * t), lit((70, 120, 62), light), rng)
    return picture


def farm(light: str, size: tuple[int, int], rng: random.Random) -> Image.Image:
    """Draw a red barn, a fence and a ploughed yard."""
    width, height = size
    yard = height * rng.uniform(0.52, 0.6)
    picture = sky(light, size, yard, rng)
    draw = ImageDraw.Draw(picture)
    hill = jitter(lit((150, 180, 100), light), rng)
    draw.polygon(
        [*ridge(rng, width, yard - height * 0.05, height * 0.03), (width, yard), (0, yard)],
        fill=hill,
    )
    x, wide = width * rng.choice((0.03, 0.1, 0.58, 0.66)), width * 0.3
    eave, top, base = yard - height * 0.17, yard - height * 0.33, yard + height * 0.02
    red = jitter(lit((178, 46, 40), light), rng, 9)
    draw.polygon(
        [(x, base), (x, eave), (x + wide * 0.2, top + height * 0.06), (x + wide / 2, top),
         (x + wide * 0.8, top + height * 0.06), (x + wide, eave), (x + wide, base)], fill=red
    )  # fmt: skip
    trim = lit((248, 242, 232), light)
    roof = [(x - 3, eave), (x + wide * 0.2, top + height * 0.06), (x + wide / 2, top),
            (x + wide * 0.8, top + height * 0.06), (x + wide + 3, eave)]  # fmt: skip
    bar = max(2, height // 80)
    draw.line(roof, fill=trim, width=bar)
    door = (x + wide * 0.33, base - height * 0.13, x + wide * 0.67, base)
    draw.rectangle(door, fill=blend(red, (0, 0, 0), 0.3), outline=trim, width=bar)
    draw.line((door[0], door[1], door[2], door[3]), fill=trim, width=bar)
    draw.line((door[0], door[3], door[2], door[1]), fill=trim, width=bar)
    earth = jitter(lit((172, 132, 84), light), rng)
    draw.rectangle((0, base, width, height), fill=earth)
    for row in range(-9, 10):
        draw.line((width / 2 + row * width * 0.07, base, width / 2 + row * width * 0.2, height),
                  fill=blend(earth, (90, 60, 30), 0.4), width=max(1, height // 150))  # fmt: skip
    fence = lit((226, 208, 176), light)
    level = base + height * 0.015
    for rail in (0.03, 0.065):
        draw.line((0, level - rail * height, width, level - rail * height), fill=fence, width=bar)
    for post in range(13):
        px = width * post / 12
        draw.rectangle((px - bar, level - height * 0.085, px + bar, level), fill=fence)
    return picture


def kitchen(light: str, size: tuple[int, int], rng: random.Random) -> Image.Image:
    """Draw a wooden table before a tiled wall."""
    width, height = size
    edge = height * rng.uniform(0.48, 0.58)
    tile = jitter(rng.choice(((222, 232, 230), (236, 226, 208), (206, 224, 236))), rng)
    picture = gradient(size, [blend(tile, (255, 255, 255), 0.3), tile])
    draw = ImageDraw.Draw(picture)
    step, joint = height / rng.uniform(8, 10), blend(tile, (90, 90, 100), 0.5)
    for row in range(int(edge / step) + 1):
        draw.line((0, row * step, width, row * step), fill=joint, width=1)
        shift = step * (row % 2)
        for column in range(int(width / step / 2) + 2):
            x = column * step * 2 + shift
            draw.line((x, row * step, x, (row + 1) * step), fill=joint, width=1)
    _shelf(draw, size, height * rng.uniform(0.17, 0.24), rng)
    wood = jitter(rng.choice(((178, 122, 72), (204, 154, 98), (146, 96, 58))), rng)
    table = gradient((width, height - int(edge)), [blend(wood, (255, 235, 200), 0.25), wood])
    picture.paste(table, (0, int(edge)))
    for _ in range(34):
        y = rng.uniform(edge, height)
        x, reach = rng.uniform(-0.2, 1) * width, width * rng.uniform(0.1, 0.4)
        draw.line(
            (x, y, x + reach, y), fill=blend(wood, (70, 40, 20), rng.uniform(0.1, 0.3)), width=1
        )
    vanishing, dark = width / 2, blend(wood, (60, 34, 16), 0.5)
    for plank in range(-7, 8):
        x = plank * width * 0.11
        draw.line((vanishing + x, edge, vanishing + x * 2.4, height), fill=dark, width=1)
    draw.rectangle((0, edge, width, edge + height * 0.012), fill=blend(wood, (255, 240, 210), 0.45))
    return picture


def _shelf(
    draw: ImageDraw.ImageDraw, size: tuple[int, int], level: float, rng: random.Random
) -> None:
    """Draw a kitchen shelf with jars on it."""
    width, height = size
    left, right = width * rng.uniform(-0.05, 0.1), width * rng.uniform(0.85, 1.05)
    draw.rectangle((left, level, right, level + height * 0.022), fill=(150, 104, 66))
    x = left + width * 0.05
    while x < right - width * 0.1:
        wide, tall = width * rng.uniform(0.04, 0.065), height * rng.uniform(0.06, 0.1)
        jar = rng.choice(((196, 92, 76), (92, 140, 168), (222, 184, 104), (120, 156, 112)))
        draw.rectangle((x, level - tall, x + wide, level), fill=jitter(jar, rng))
        lid = (x + wide * 0.1, level - tall * 1.14, x + wide * 0.9, level - tall)
        draw.rectangle(lid, fill=(240, 236, 228))
        x += wide * rng.uniform(1.3, 3.0)


def living_room(light: str, size: tuple[int, int], rng: random.Random) -> Image.Image:
    """Draw a room with a window, a picture and a rug."""
    width, height = size
    floor = height * rng.uniform(0.58, 0.66)
    wall = jitter(
        rng.choice(((244, 214, 180), (196, 216, 190), (214, 200, 226), (240, 226, 170))), rng
    )
    picture = gradient(size, [wall, blend(wall, (120, 90, 80), 0.15)])
    draw = ImageDraw.Draw(picture)
    for stripe in range(0, 24, 2):
        x = width * stripe / 24
        draw.rectangle((x, 0, x + width / 24, floor), fill=blend(wall, (255, 255, 255), 0.22))
    x, y, side = width * rng.uniform(0.08, 0.6), height * 0.08, height * rng.uniform(0.26, 0.34)
    draw.rectangle((x - 5, y - 5, x + side + 5, y + side + 5), fill=(250, 250, 246))
    picture.paste(gradient((int(side), int(side)), list(SKIES["day"])), (int(x), int(y)))
    bar = max(2, height // 90)
    draw.line((x + side / 2, y, x + side / 2, y + side), fill=(250, 250, 246), width=bar)
    draw.line((x, y + side / 2, x + side, y + side / 2), fill=(250, 250, 246), width=bar)
    curtain = jitter(rng.choice(((196, 70, 70), (70, 110, 160), (84, 140, 100))), rng)
    for left in (x - side * 0.3, x + side * 1.02):
        draw.rectangle((left, y - side * 0.08, left + side * 0.28, y + side * 1.2), fill=curtain)
    fx = (x + width * 0.52) % (width * 0.85)
    draw.rectangle((fx, height * 0.14, fx + width * 0.13, height * 0.3), fill=(120, 80, 50))
    inner = (fx + width * 0.015, height * 0.16, fx + width * 0.115, height * 0.28)
    draw.rectangle(inner, fill=jitter((180, 200, 190), rng, 40))
    wood = jitter((170, 116, 70), rng)
    draw.rectangle((0, floor, width, height), fill=wood)
    for row in range(7):
        level = floor + (height - floor) * (row / 7) ** 1.3
        draw.line((0, level, width, level), fill=blend(wood, (60, 36, 20), 0.4), width=1)
    draw.rectangle((0, floor - height * 0.025, width, floor), fill=(246, 240, 230))
    rug = jitter(rng.choice(((178, 62, 66), (62, 96, 150), (150, 90, 150), (60, 130, 120))), rng)
    middle, low = width / 2, (floor + height) / 2 + height * 0.03
    for grow, colour in ((1.0, rug), (0.86, blend(rug, (255, 230, 190), 0.6)), (0.8, rug)):
        w, h = width * 0.42 * grow, (height - floor) * 0.42 * grow
        draw.ellipse((middle - w, low - h, middle + w, low + h), fill=colour)
    return picture
