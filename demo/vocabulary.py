"""The vocabulary of the demo: what a picture can show, where, and in what light."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Thing:
    """An object that a scene can show: its words, the glyphs that draw it and their colours."""

    words: tuple[str, ...]
    glyphs: str
    category: str
    colours: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.words[0]


@dataclass(frozen=True)
class Place:
    """A place for a scene: nouns that name it, phrases that say where, and wider categories."""

    nouns: tuple[str, ...]
    phrases: tuple[str, ...]
    notions: tuple[str, ...] = ()
    has_weather: bool = True
    has_ground: bool = True

    @property
    def name(self) -> str:
        return self.nouns[0]


def _things(category: str, *rows: str) -> list[Thing]:
    """Read rows of `word,synonym glyphs [colour,colour]`, one colour for each glyph."""
    things = []
    for row in rows:
        words, glyphs, *colours = row.split(" ")
        things.append(
            Thing(
                tuple(word.replace("_", " ") for word in words.split(",")),
                glyphs,
                category,
                tuple(colours[0].split(",")) if colours else (),
            )
        )
    return things


_THINGS = [
    *_things(
        "animal",
        "dog,puppy,hound 🐕🐩🦮",
        "cat,kitten,kitty 🐈",
        "horse,pony 🐎",
        "cow 🐄",
        "pig,piglet 🐖",
        "sheep,ewe 🐑",
        "goat 🐐",
        "elephant 🐘",
        "lion 🦁",
        "tiger 🐅",
        "bear 🐻",
        "panda 🐼",
        "monkey 🐒",
        "rabbit,bunny 🐇",
        "fox 🦊",
        "deer 🦌",
        "camel 🐪",
        "giraffe 🦒",
        "zebra 🦓",
        "kangaroo 🦘",
        "squirrel 🐿",
        "hedgehog 🦔",
        "mouse 🐁",
        "turtle,tortoise 🐢",
        "snake 🐍",
        "crocodile,alligator 🐊",
        "frog,toad 🐸",
        "fish 🐟🐠 blue,yellow",
        "shark 🦈",
        "whale 🐋",
        "dolphin 🐬",
        "octopus 🐙",
        "crab 🦀",
        "butterfly 🦋",
        "bee,bumblebee 🐝",
        "snail 🐌",
    ),
    *_things(
        "bird",
        "penguin 🐧",
        "owl 🦉",
        "duck 🦆",
        "rooster,chicken,hen 🐓",
        "eagle 🦅",
        "parrot 🦜",
        "flamingo 🦩",
        "peacock 🦚",
        "swan 🦢",
    ),
    *_things(
        "food",
        "pizza,pizza_slice 🍕",
        "hamburger,burger,cheeseburger 🍔",
        "fries,chips 🍟",
        "taco 🌮",
        "sushi 🍣",
        "ice_cream 🍦",
        "cake,birthday_cake 🎂",
        "doughnut,donut 🍩",
        "cookie,biscuit 🍪",
        "bread,loaf 🍞",
        "cheese 🧀",
        "fried_egg 🍳",
        "coffee ☕",
        "beer 🍺",
        "wine 🍷",
        "carrot 🥕",
        "corn 🌽",
        "tomato 🍅",
        "broccoli 🥦",
    ),
    *_things(
        "fruit",
        "apple 🍎🍏 red,green",
        "banana 🍌",
        "orange,tangerine 🍊",
        "lemon 🍋",
        "grapes 🍇",
        "strawberry 🍓",
        "watermelon 🍉",
        "pineapple 🍍",
        "cherry,cherries 🍒",
    ),
    *_things(
        "vehicle",
        "car,automobile 🚗🚙 red,blue",
        "taxi,cab 🚕 yellow",
        "bus 🚌",
        "ambulance 🚑",
        "fire_engine,fire_truck 🚒",
        "truck,lorry 🚚",
        "tractor 🚜",
        "bicycle,bike,cycle 🚲",
        "motorcycle,motorbike 🏍",
        "train,locomotive 🚂",
        "aeroplane,airplane,plane 🛩",
        "helicopter 🚁",
        "rocket,spaceship 🚀",
        "sailing_boat,sailboat,boat ⛵",
        "ship,steamer 🚢",
    ),
    *_things(
        "plant",
        "rose 🌹",
        "sunflower 🌻",
        "tulip 🌷",
        "cactus 🌵",
        "palm,palm_tree 🌴",
        "mushroom,toadstool 🍄",
    ),
    *_things(
        "object",
        "football,soccer_ball ⚽",
        "basketball 🏀",
        "guitar 🎸",
        "drum 🥁",
        "umbrella,parasol ⛱",
        "balloon 🎈",
        "kite 🪁",
        "present,gift 🎁",
        "book 📕📗📘 red,green,blue",
        "alarm_clock,clock ⏰",
        "camera 📷",
        "chair 🪑",
        "teddy_bear,teddy 🧸",
        "snowman ⛄",
        "tent ⛺",
        "pumpkin,jack-o'-lantern 🎃",
        "house,home 🏠",
        "castle 🏰",
        "hat,top_hat 🎩",
        "shoe,sneaker,trainer 👟",
        "crown 👑",
    ),
]

_PLACES = [
    Place(
        ("beach", "seaside", "seashore", "coast", "shore", "sand"),
        ("on the beach", "at the beach", "at the seaside", "on the shore", "by the sea",
         "on a sandy beach", "at the coast", "by the ocean", "on the sand"),
        ("sea", "water"),
    ),
    Place(
        ("forest", "woods", "wood", "woodland", "trees"),
        ("in the forest", "in the woods", "in a forest", "among the trees", "in a wood"),
    ),
    Place(
        ("mountains", "mountain", "alps", "peaks"),
        ("in the mountains", "on a mountain", "before the mountains", "in the alps",
         "high in the mountains"),
    ),
    Place(
        ("snow", "winter", "snowy field"),
        ("in the snow", "on the snow", "in winter", "in a snowy field", "in deep snow"),
    ),
    Place(
        ("city", "town", "skyline", "skyscrapers", "street"),
        ("in the city", "in town", "in the street", "before the skyline", "downtown",
         "on a city street"),
    ),
    Place(
        ("desert", "dunes", "sand dunes"),
        ("in the desert", "in a desert", "among the dunes", "on a sand dune"),
    ),
    Place(
        ("meadow", "grass", "field", "flowers"),
        ("in a meadow", "in the meadow", "on the grass", "in a green field", "among flowers"),
    ),
    Place(
        ("road", "highway", "motorway"),
        ("on the road", "on a road", "on the highway", "on a country road", "on the motorway"),
    ),
    Place(
        ("lake", "pond", "lakeside"),
        ("by the lake", "at the lake", "at a lake", "by a pond", "on the bank of a lake"),
        ("water",),
    ),
    Place(
        ("kitchen", "table", "kitchen table"),
        ("on the table", "in the kitchen", "on a wooden table", "on the kitchen table",
         "on a table"),
        ("indoors", "inside"),
        has_weather=False,
    ),
    Place(
        ("living room", "room", "carpet", "lounge"),
        ("in the living room", "on the carpet", "in a room", "on the rug", "in the lounge",
         "at home"),
        ("indoors", "inside"),
        has_weather=False,
    ),
    Place(
        ("underwater", "sea floor", "deep sea"),
        ("under water", "underwater", "under the sea", "at the bottom of the sea",
         "beneath the waves"),
        ("sea", "water"),
        has_weather=False,
        has_ground=False,
    ),
    Place(
        ("farm", "barn", "farmyard"),
        ("on the farm", "on a farm", "at the farm", "by the barn", "in the farmyard"),
    ),
    Place(
        ("sky", "clouds", "air"),
        ("in the sky", "in the air", "among the clouds", "above the clouds", "in a cloudy sky"),
        has_ground=False,
    ),
]  # fmt: skip

THINGS = {thing.name: thing for thing in _THINGS}
PLACES = {place.name: place for place in _PLACES}

LIGHTS = {
    "day": ("by day", "on a sunny day", "in the sunshine", "in daylight"),
    "night": ("at night", "by night", "under the stars", "in the dark", "at midnight"),
    "sunset": ("at sunset", "in the evening", "at dusk", "at sunrise"),
    "rain": ("in the rain", "on a rainy day", "on a wet day"),
}
LIGHT_NOUNS = {
    "day": ("sunny", "daylight", "sunny day"),
    "night": ("night", "stars", "moon"),
    "sunset": ("sunset", "sunrise", "dusk", "evening"),
    "rain": ("rain", "rainy", "bad weather"),
}
CATEGORIES = {
    "animal": ("animal", "an animal", "animals", "a wild animal"),
    "bird": ("bird", "a bird", "birds"),
    "food": ("food", "something to eat", "a meal"),
    "fruit": ("fruit", "a piece of fruit", "fruits"),
    "vehicle": ("vehicle", "a vehicle", "vehicles", "transport"),
    "plant": ("plant", "a plant", "plants"),
}
WIDER_CATEGORIES = {"bird": "animal", "fruit": "food"}
