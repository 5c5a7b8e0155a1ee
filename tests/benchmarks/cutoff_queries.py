"""The queries of cutoff.py, and which pictures are right for each."""

import csv
import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

# A word or phrase is right for a photograph when so many of its five captions have it.
CAPTIONS_THAT_AGREE = 2
# How much of the unwanted is taken away, by weight.
MINUS = -0.7

STOP_WORDS = (
    "a an the and or of in on at with to is are be by for from his her its their him he she it "
    "they them another other some two three one while up down into out through over near next "
    "front top side onto off as that who which has have there this across around behind along "
    "under against about like very several group look wear stand sit hold walk run play jump "
    "watch take get go lay something"
)
# None of these is in any caption of the photographs; what is, is left out when it is used.
NOT_ON_PHOTOGRAPHS = (
    "an elephant in the savanna; a giraffe; a penguin; a spaceship; a pyramid in egypt; a piano; "
    "a computer keyboard; a cathedral interior; a zebra; a submarine; an airplane cockpit; "
    "a volcano; a windmill; a lighthouse; a chessboard; a violin; a microscope; a satellite; "
    "tulips; a kangaroo; an astronaut; a dinosaur skeleton; the eiffel tower; a refrigerator; "
    "a banana; a parrot; a butterfly; a snake; a whale; a galaxy; stock market prices"
)
NOT_ON_DRAWINGS = (
    "elephant; tiger; panda; monkey; giraffe; zebra; kangaroo; crocodile; peacock; corn; tomato; "
    "broccoli; pineapple; basketball; alarm clock; crown; shoe; stock market; quantum physics; "
    "democracy; wedding; galaxy; person"
)


@dataclass(frozen=True)
class Query:
    """What is asked for, as words with weights; its kind; the rows of the right pictures."""

    terms: tuple[tuple[str, float], ...]
    group: str
    right: frozenset[int]


def _one(text: str, group: str, right: Iterable[int] = ()) -> Query:
    return Query(((text, 1),), group, frozenset(right))


def _mixes(words: dict[str, frozenset[int]]) -> list[Query]:
    """Return two words together, and one without another, where both leave two pictures."""
    mixes = []
    for (a, has_a), (b, has_b) in itertools.permutations(sorted(words.items()), 2):
        if len(has_a & has_b) >= 2 and len(has_a - has_b) >= 2:
            mixes.append(Query(((a, 1), (b, MINUS)), "one without another", has_a - has_b))
            if a < b:
                mixes.append(Query(((a, 1), (b, 1)), "two words mixed", has_a & has_b))
    return mixes


def stem(word: str) -> str:
    for ending in ("ing", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)]
            break
    if len(word) > 3 and word[-1] == word[-2]:
        word = word[:-1]
    return word.rstrip("e") if len(word) > 3 else word


def photographs(names: list[str], captions: Path) -> list[Query]:
    """Return queries for photographs that people have captioned five times each."""
    of = defaultdict(list)
    with open(captions, newline="") as file:
        for row in csv.DictReader(file):
            of[row["file"]].append(row["caption"].lower().strip(" ."))
    stop = {stem(word) for word in STOP_WORDS.split()}
    counts: dict[tuple[str, ...], Counter[int]] = defaultdict(Counter)
    spellings: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    for row, name in enumerate(names):
        for caption in of[name]:
            words = re.findall("[a-z]+", caption)
            seen = set()
            for length, start in itertools.product((1, 2), range(len(words))):
                some = words[start : start + length]
                key = tuple(stem(word) for word in some)
                if len(some) == length and not stop & set(key):
                    spellings[key][" ".join(some)] += 1
                    seen.add(key)
            counts.update({key: counts[key] + Counter([row]) for key in seen})
    queries, words = [], {}
    for key, by_row in sorted(counts.items()):
        right = frozenset(row for row, n in by_row.items() if n >= CAPTIONS_THAT_AGREE)
        text = spellings[key].most_common(1)[0][0]
        if len(right) >= 2:
            frequent = "word of 10 pictures or more" if len(right) >= 10 else "word of 2 to 9"
            queries.append(_one(text, "phrase" if len(key) > 1 else frequent, right))
            if len(key) == 1 and len(right) >= 10:
                words[text] = right
    queries += _mixes(words)
    queries += [_one(of[name][0], "whole caption", [row]) for row, name in enumerate(names)]
    for text in NOT_ON_PHOTOGRAPHS.split("; "):
        if not any((stem(word),) in counts for word in text.split()):
            queries.append(_one(text, "nothing"))
    return queries


def drawings(names: list[str], truth: Path) -> list[Query]:
    """Return queries for the demo's pictures, of which each has a thing, a place and a light."""
    with open(truth, newline="") as file:
        facts = {row["file"]: row for row in csv.DictReader(file)}
    rows = [facts[name] for name in names]
    groups: dict[str, Callable[[dict[str, str]], str]] = {
        "thing": lambda row: row["thing"],
        "place": lambda row: row["place"],
        "light": lambda row: row["light"] if row["light"] != "day" else "",
        "thing and place": lambda row: row["thing"] and f"{row['thing']} {row['place']}",
        "whole caption": lambda row: row["caption"],
    }
    queries, words = [], {}
    for group, text_of in groups.items():
        right = defaultdict(set)
        for number, row in enumerate(rows):
            right[text_of(row)].add(number)
        found = {text: frozenset(some) for text, some in sorted(right.items()) if text}
        queries += [_one(text, group, some) for text, some in found.items()]
        if group in ("place", "light"):
            words |= found
    queries += _mixes(words)
    queries += [_one(text, "nothing") for text in NOT_ON_DRAWINGS.split("; ")]
    return queries
