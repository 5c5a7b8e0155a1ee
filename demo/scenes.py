"""Scenes: which thing is where, in what light, and which facts are true of it."""

import hashlib
import random
from dataclasses import dataclass

from glyphs import Glyphs
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter
from places import draw_place
from vocabulary import LIGHTS, PLACES, THINGS, WIDER_CATEGORIES

HELD_OUT_PERCENT = 15
EMPTY_SHARE = 0.06


@dataclass(frozen=True)
class Scene:
    """One scene; the same scene is always drawn the same, pixel for pixel."""

    thing: str | None
    glyph: str
    place: str
    light: str
    seed: int
    copies: int = 1

    @property
    def facts(self) -> frozenset[str]:
        """The facts that are true of this scene."""
        place = PLACES[self.place]
        facts = {self.place, *place.notions} - {"inside"}
        if place.has_weather:
            facts.add(self.light)
        if self.thing is not None:
            thing = THINGS[self.thing]
            facts |= {self.thing, thing.category}
            facts.add(WIDER_CATEGORIES.get(thing.category, thing.category))
            if thing.colours:
                facts.add(thing.colours[thing.glyphs.index(self.glyph)])
        return frozenset(facts)


def is_held_out(thing: str | None, place: str) -> bool:
    """Tell whether training never shows this thing in this place."""
    if thing is None:
        return False
    if (thing, place) == ("dog", "beach"):
        return True
    digest = hashlib.sha256(f"{thing}@{place}".encode()).digest()
    return int.from_bytes(digest[:4], "big") % 100 < HELD_OUT_PERCENT


def random_scene(rng: random.Random) -> Scene:
    """Choose any scene, held out or not."""
    place = rng.choice(list(PLACES))
    light = rng.choices(list(LIGHTS), (4, 2, 2, 2))[0] if PLACES[place].has_weather else "day"
    seed = rng.randrange(2**32)
    if rng.random() < EMPTY_SHARE:
        return Scene(None, "", place, light, seed, 0)
    thing = rng.choice(list(THINGS))
    glyph = rng.choice(THINGS[thing].glyphs)
    return Scene(thing, glyph, place, light, seed, rng.choices((1, 2, 3), (8, 2, 1))[0])


def training_scene(rng: random.Random) -> Scene:
    """Choose a scene that is not held out."""
    while True:
        scene = random_scene(rng)
        if not is_held_out(scene.thing, scene.place):
            return scene


def draw_scene(scene: Scene, glyphs: Glyphs, size: tuple[int, int]) -> Image.Image:
    """Draw a scene as an RGB picture, its things inside the central square."""
    rng = random.Random(scene.seed)
    picture = draw_place(scene.place, scene.light, size, rng)
    width, height = size
    square = min(size)
    largest = rng.uniform(0.30, 0.56) * (1.0, 0.78, 0.68)[max(scene.copies, 1) - 1]
    spots = rng.sample((0.28, 0.5, 0.72), scene.copies) if scene.copies > 1 else [
        rng.uniform(0.32, 0.68)
    ]  # fmt: skip
    ground = PLACES[scene.place].has_ground
    base = rng.uniform(0.66, 0.86) if ground else rng.uniform(0.55, 0.85)
    for spot in spots[: scene.copies]:
        side = max(8, round(square * largest * rng.uniform(0.88, 1.0)))
        sprite = glyphs.sprite(scene.glyph, side, rng.random() < 0.5, rng.uniform(-9, 9))
        sprite = _lit(sprite, scene)
        x = width / 2 + (spot - 0.5) * square - sprite.width / 2
        y = height / 2 + (base - 0.5 + rng.uniform(-0.04, 0.04)) * square - sprite.height
        if ground:
            _shadow(picture, x, y, sprite)
        picture.paste(sprite, (round(x), round(y)), sprite)
    return picture


def _lit(sprite: Image.Image, scene: Scene) -> Image.Image:
    if not PLACES[scene.place].has_weather:
        return sprite
    brightness = {"day": 1.0, "night": 0.8, "sunset": 0.95, "rain": 0.9}[scene.light]
    alpha = sprite.getchannel("A")
    sprite = ImageEnhance.Brightness(sprite.convert("RGB")).enhance(brightness)
    sprite.putalpha(alpha)
    return sprite


def _shadow(picture: Image.Image, x: float, y: float, sprite: Image.Image) -> None:
    """Put a soft shadow where the sprite stands."""
    width, height = max(4, round(sprite.width * 1.2)), max(4, round(sprite.width * 0.36))
    mask = Image.new("L", (width, height), 0)
    draw = ImageDraw.Draw(mask)
    draw.ellipse((width * 0.12, height * 0.25, width * 0.88, height * 0.75), fill=95)
    mask = mask.filter(ImageFilter.GaussianBlur(height / 9))
    left, top = round(x - sprite.width * 0.1), round(y + sprite.height - height * 0.55)
    picture.paste((12, 14, 28), (left, top), mask)
