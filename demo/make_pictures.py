"""Draw the demo's pictures, in folders such as a person might have.

    python demo/make_pictures.py --font PATH

Drawing again gives the same pictures. pictures.csv, beside the folder, says what each one shows.
"""

import argparse
import csv
import random
import sys
from datetime import datetime, timedelta
from pathlib import Path

from captions import with_article
from glyphs import DEBIAN_FONT, FontMissing, Glyphs
from PIL import Image
from scenes import Scene, draw_scene
from vocabulary import LIGHTS, PLACES, THINGS

HERE = Path(__file__).resolve().parent
FIRST_SEED = 2**40  # beyond the seeds of training scenes

# place: things, each with a light where it is not day; "-" is the place with nothing in it.
CONTENTS = {
    "beach": "dog, dog sunset, dog, dog rain, crab, umbrella, sailing boat sunset, palm,"
    " palm night, ice cream, football, kite, turtle, horse sunset, -, -, - sunset, - night",
    "forest": "fox, deer, bear, owl night, squirrel, hedgehog, mushroom, rabbit, tent night, dog,"
    " bicycle, - rain, -",
    "mountains": "goat, eagle, tent sunset, train, sheep, helicopter rain, -, - sunset",
    "snow": "dog, dog night, snowman, snowman night, penguin, penguin sunset, fox, owl night, deer,"
    " -, - night",
    "city": "taxi night, taxi rain, bus, car, car night, fire engine, bicycle, cat night, dog,"
    " motorcycle sunset, - night, - night, - sunset",
    "desert": "camel, camel sunset, cactus, cactus night, snake, lion sunset, motorcycle, -,"
    " rocket night",
    "meadow": "butterfly, butterfly, bee, horse, sheep, sunflower, tulip, football, dog, frog rain,"
    " snail rain, castle",
    "road": "car, car, truck, bus rain, motorcycle sunset, bicycle, ambulance night, deer night,"
    " - sunset",
    "lake": "duck, duck rain, swan, swan sunset, flamingo, sailing boat, fish, guitar night, -,"
    " tent sunset",
    "kitchen": "pizza, pizza, hamburger, fries, sushi, cake, doughnut, cookie, bread, cheese,"
    " coffee, apple, apple, banana, strawberry, wine, carrot, fried egg, cat",
    "living room": "cat, cat, dog, teddy bear, guitar, chair, book, present, drum, parrot, camera",
    "underwater": "fish, fish, shark, whale, dolphin, octopus, turtle, -",
    "farm": "cow, cow sunset, pig, rooster, horse, tractor, tractor rain, goat, pumpkin night, cat",
    "sky": "aeroplane, aeroplane sunset, helicopter, balloon, kite, eagle, rocket night, -,"
    " - sunset",
}
CAMERAS = {
    "2023-summer": ("Canon", "Canon EOS 250D"),
    "phone": ("Google", "Pixel 7a"),
    "old-disk/backup": ("SONY", "DSC-W830"),
}
# Approximate places to take such a picture: latitude and longitude.
SPOTS = {
    "beach": (37.0179, -8.9250), "forest": (48.5562, 8.2039), "mountains": (46.5763, 7.9905),
    "snow": (66.5436, 25.8473), "city": (40.7420, -73.9890), "desert": (31.1000, -4.0120),
    "meadow": (53.4310, -1.7800), "road": (36.1250, -115.3150), "lake": (46.3640, 14.0940),
    "kitchen": (52.3702, 4.8952), "living room": (52.3702, 4.8952), "farm": (43.7950, 1.2350),
}  # fmt: skip
SIZES = ((480, 360), (480, 360), (480, 320), (360, 480), (400, 400))


def read_contents() -> list[Scene]:
    """Return the demo's scenes, in an order that mixes the places."""
    scenes: list[Scene] = []
    for place, row in CONTENTS.items():
        for entry in row.split(", "):
            words = entry.strip().split(" ")
            light = words.pop() if words[-1] in LIGHTS else "day"
            thing = " ".join(words)
            seed = FIRST_SEED + len(scenes)
            if thing == "-":
                scenes.append(Scene(None, "", place, light, seed, 0))
                continue
            rng = random.Random(seed)
            # A different glyph each time, so that there is a red car and a blue one.
            drawn = sum(scene.thing == thing for scene in scenes)
            glyphs = THINGS[thing].glyphs
            copies = rng.choices((1, 2, 3), (10, 2, 1))[0]
            scenes.append(Scene(thing, glyphs[drawn % len(glyphs)], place, light, seed, copies))
    random.Random(FIRST_SEED).shuffle(scenes)
    return scenes


def caption(scene: Scene) -> str:
    """Describe in plain words what a scene shows."""
    place = PLACES[scene.place]
    light = LIGHTS[scene.light][0] if place.has_weather else ""
    if scene.thing is None:
        return f"nothing but the {place.name} {light}".strip()
    thing = THINGS[scene.thing]
    colour = thing.colours[thing.glyphs.index(scene.glyph)] if thing.colours else ""
    what = with_article(scene.thing, colour)
    return f"{what} {place.phrases[0]} {light}".strip()


def name_file(number: int, taken: datetime) -> str:
    """Name a file as cameras, phones and scanners do: never by what the picture shows."""
    kind = number % 10
    if kind < 4:
        return f"2023-summer/IMG_{2041 + number}.jpg"
    if kind < 7:
        return f"phone/PXL_{taken:%Y%m%d_%H%M%S}{number * 7 % 1000:03d}.jpg"
    if kind < 9:
        return f"old-disk/backup/DSC{317 + number:05d}.JPG"
    if number % 60 == 19:
        return f"old-disk/scan-{number // 10:03d}.png"
    return f"phone/received-{number:04d}.webp"


def photo_details(folder: str, taken: datetime, scene: Scene, rng: random.Random) -> Image.Exif:
    """Return the EXIF that a camera would write: itself, the time and often the place."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = CAMERAS[folder]
    stamp = taken.strftime("%Y:%m:%d %H:%M:%S")
    exif[0x0132] = stamp
    exif.get_ifd(0x8769)[0x9003] = stamp
    if scene.place in SPOTS and folder != "old-disk/backup":
        latitude, longitude = (at + rng.uniform(-0.02, 0.02) for at in SPOTS[scene.place])
        exif.get_ifd(0x8825).update(
            {
                1: "N" if latitude >= 0 else "S",
                2: _degrees(latitude),
                3: "E" if longitude >= 0 else "W",
                4: _degrees(longitude),
            }
        )
    return exif


def _degrees(angle: float) -> tuple[float, float, float]:
    minutes, whole = abs(angle) % 1 * 60, int(abs(angle))
    return float(whole), float(int(minutes)), round(minutes % 1 * 60, 2)


def make_pictures(font: str, folder: Path, truth: Path) -> None:
    """Draw every picture into the folder, and write what each shows to the truth file."""
    glyphs = Glyphs(font)
    rows = []
    for number, scene in enumerate(read_contents()):
        rng = random.Random(scene.seed + 1)
        hour = {"day": 12, "night": 22, "sunset": 20, "rain": 15}[scene.light]
        month = rng.choice((1, 2)) if scene.place == "snow" else rng.choice((6, 7, 8))
        taken = datetime(2023, month, 1, hour) + timedelta(
            days=rng.randrange(27), seconds=rng.randrange(3000)
        )
        name = name_file(number, taken)
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        width, height = rng.choice(SIZES) if path.suffix != ".png" else (320, 240)
        picture = draw_scene(scene, glyphs, (width * 2, height * 2))
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
        if path.suffix.lower() == ".jpg":
            parent = str(Path(name).parent)
            picture.save(path, quality=86, exif=photo_details(parent, taken, scene, rng))
        elif path.suffix == ".webp":
            picture.save(path, quality=84)
        else:
            picture.save(path, optimize=True)
        rows.append(
            (name, scene.thing or "", scene.place, " ".join(sorted(scene.facts & set(LIGHTS))),
             scene.copies, caption(scene))
        )  # fmt: skip
    with truth.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("file", "thing", "place", "light", "copies", "caption"))
        writer.writerows(sorted(rows))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Draw the demo's pictures.")
    parser.add_argument("--font", default=DEBIAN_FONT, help="Noto Color Emoji")
    options = parser.parse_args()
    try:
        make_pictures(options.font, HERE / "pictures", HERE / "pictures.csv")
    except FontMissing as error:
        sys.exit(str(error))
