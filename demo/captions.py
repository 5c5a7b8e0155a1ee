"""Captions: sentences and keywords about a scene, and the facts that each one states."""

import random
from dataclasses import dataclass

from scenes import Scene
from vocabulary import CATEGORIES, LIGHT_NOUNS, LIGHTS, PLACES, THINGS, WIDER_CATEGORIES, Thing

MASS_NOUNS = {
    "sushi", "bread", "loaf", "cheese", "coffee", "beer", "wine", "corn", "broccoli", "fries",
    "chips", "grapes", "cherries",
}  # fmt: skip
PLURALS = {"mouse": "mice", "sheep": "sheep", "deer": "deer", "fish": "fish", "pony": "ponies",
           "puppy": "puppies", "wolf": "wolves", "bunny": "bunnies", "loaf": "loaves"}  # fmt: skip

THING_TEMPLATES = (
    "{one}", "{bare}", "{one}", "a photo of {one}", "a picture of {one}", "photo of {bare}",
    "the {bare}", "{many}", "my {bare}", "an image of {one}", "there is {one}", "some {many}",
    "a drawing of {one}",
)  # fmt: skip
THING_PLACE_TEMPLATES = (
    "{one} {where}", "{one} {where}", "{bare} {noun}", "{bare} {where}", "{noun} {bare}",
    "a photo of {one} {where}", "a picture of {one} {where}", "{noun} with {one}",
    "there is {one} {where}", "the {bare} {where}", "{where}, {one}", "{many} {where}",
    "{bare}, {noun}", "photo of {bare} {where}", "an image of {one} {where}", "my {bare} {where}",
    "{noun} and {bare}", "two {many} {where}",
)  # fmt: skip
PLACE_TEMPLATES = (
    "{noun}", "{noun}", "the {noun}", "{where}", "a photo of the {noun}", "a picture taken {where}",
    "photo of {noun}", "an image of the {noun}", "a view of the {noun}", "my day {where}",
)  # fmt: skip
HELD_OUT_TEMPLATES = (
    "i saw {one} {where}", "holiday snapshot of {one} {where}", "{one} that stands {where}",
    "find me {one} {where}", "{bare} photo {where}", "{where} there is {one}",
)  # fmt: skip


@dataclass(frozen=True)
class Caption:
    """A text and the facts a scene must have for the text to be true of it."""

    text: str
    facts: frozenset[str]


def describe(scene: Scene, rng: random.Random) -> Caption:
    """Write a true caption of a scene in one of the trained wordings."""
    place = PLACES[scene.place]
    with_light = place.has_weather and rng.random() < 0.25
    if scene.thing is None or rng.random() < 0.16:
        return _of_place(scene, rng, with_light)
    if rng.random() < 0.07:
        category = THINGS[scene.thing].category
        if rng.random() < 0.5:
            category = WIDER_CATEGORIES.get(category, category)
        if category in CATEGORIES:
            return _of_category(scene, category, rng)
    templates = THING_TEMPLATES if rng.random() < 0.3 else THING_PLACE_TEMPLATES
    return fill(rng.choice(templates), scene, rng, with_light)


def describe_anew(scene: Scene, rng: random.Random) -> Caption:
    """Write a true caption in a wording that training never uses."""
    return fill(rng.choice(HELD_OUT_TEMPLATES), scene, rng, False)


def fill(template: str, scene: Scene, rng: random.Random, with_light: bool) -> Caption:
    """Fill a template with words for a scene that shows a thing."""
    assert scene.thing is not None
    thing, place = THINGS[scene.thing], PLACES[scene.place]
    word = rng.choice(thing.words) if rng.random() < 0.5 else thing.name
    facts = {scene.thing}
    colour = ""
    if thing.colours and rng.random() < 0.45:
        colour = thing.colours[thing.glyphs.index(scene.glyph)]
        facts.add(colour)
    text = template.format(
        one=with_article(word, colour),
        bare=f"{colour} {word}".strip(),
        many=f"{colour} {plural(word)}".strip(),
        noun=rng.choice(place.nouns),
        where=rng.choice(place.phrases),
    )
    if "{noun}" in template or "{where}" in template:
        facts.add(scene.place)
    if with_light:
        text = _add_light(text, scene, rng)
        facts.add(scene.light)
    return Caption(text, frozenset(facts))


def _of_place(scene: Scene, rng: random.Random, with_light: bool) -> Caption:
    place = PLACES[scene.place]
    if place.has_weather and rng.random() < 0.2:
        words = LIGHT_NOUNS[scene.light] + LIGHTS[scene.light]
        return Caption(rng.choice(words), frozenset({scene.light}))
    if place.notions and rng.random() < 0.2:
        notion = rng.choice(place.notions)
        return Caption(notion, frozenset({"indoors" if notion == "inside" else notion}))
    text = rng.choice(PLACE_TEMPLATES).format(
        noun=rng.choice(place.nouns), where=rng.choice(place.phrases)
    )
    facts = {scene.place}
    if with_light:
        text = _add_light(text, scene, rng)
        facts.add(scene.light)
    return Caption(text, frozenset(facts))


def _of_category(scene: Scene, category: str, rng: random.Random) -> Caption:
    text, facts = rng.choice(CATEGORIES[category]), {category}
    if rng.random() < 0.5:
        text, facts = f"{text} {rng.choice(PLACES[scene.place].phrases)}", {category, scene.place}
    return Caption(text, frozenset(facts))


def _add_light(text: str, scene: Scene, rng: random.Random) -> str:
    if rng.random() < 0.25:
        return f"{rng.choice(LIGHT_NOUNS[scene.light])} {text}"
    phrase = rng.choice(LIGHTS[scene.light])
    return f"{text} {phrase}" if rng.random() < 0.8 else f"{phrase}, {text}"


def with_article(word: str, colour: str = "") -> str:
    """Put "a" or "an" before a noun that needs an article."""
    words = f"{colour} {word}".strip()
    if word in MASS_NOUNS:
        return words
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def plural(word: str) -> str:
    """Return a noun's plural."""
    if word in MASS_NOUNS:
        return word
    if word in PLURALS:
        return PLURALS[word]
    if word.endswith(("y",)) and word[-2] not in "aeiou":
        return word[:-1] + "ies"
    return word + ("es" if word.endswith(("s", "x", "ch", "sh", "o")) else "s")


def all_words() -> set[str]:
    """Return every text that trained captions are made from."""
    texts: set[str] = {*(f"{t}" for t in THING_TEMPLATES + THING_PLACE_TEMPLATES + PLACE_TEMPLATES)}
    texts = {text.translate(str.maketrans("{}", "  ")) for text in texts} | {"a", "an", "two"}
    for thing in THINGS.values():
        texts |= _words_of(thing)
    for place in PLACES.values():
        texts |= {*place.nouns, *place.phrases, *place.notions}
    for table in (LIGHTS, LIGHT_NOUNS, CATEGORIES):
        for phrases in table.values():
            texts |= set(phrases)
    return texts


def _words_of(thing: Thing) -> set[str]:
    return {*thing.words, *(plural(word) for word in thing.words), *thing.colours}
