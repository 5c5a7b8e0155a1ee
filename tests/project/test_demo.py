"""The demo's pictures and model are as demo/README.md describes them."""

import csv
import json
import re
from pathlib import Path

import pytest

from support.databases import rows
from support.paths import DEMO_MODEL, DEMO_PICTURES, ROOT

pytest.importorskip("open_clip")


@pytest.fixture(scope="module")
def truth():
    with open(ROOT / "demo" / "pictures.csv", newline="") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


@pytest.fixture
def find(demo_database, connect):
    """Return a function that searches and returns files as pictures.csv names them."""
    connection = connect(demo_database)

    def find(query: str, k: int) -> list[str]:
        found = connection.execute("select path from clip_search(?, ?)", [query, k])
        return [Path(path).relative_to(DEMO_PICTURES).as_posix() for (path,) in found]

    return find


def test_every_picture_is_reported(truth, demo_database):
    files = {p.relative_to(DEMO_PICTURES).as_posix() for p in DEMO_PICTURES.rglob("*.*")}
    assert files == set(truth)
    assert 140 <= len(files) <= 200
    assert rows(demo_database, "select count(*) from images") == [(len(files),)]
    formats = {format for (format,) in rows(demo_database, "select format from images")}
    assert formats == {"JPEG", "PNG", "WEBP"}


def test_names_do_not_give_the_answer_away(truth):
    for file, row in truth.items():
        words = set(re.findall(r"[a-z]+", file.lower()))
        assert not words & {row["thing"], row["place"]}, file


def test_model_is_small_and_ordinary():
    assert sum(file.stat().st_size for file in DEMO_MODEL.iterdir()) <= 17_000_000
    config = json.loads((DEMO_MODEL / "open_clip_config.json").read_text())
    assert set(config) == {"model_cfg", "preprocess_cfg"}


def test_dog_on_beach(truth, find):
    """Every dog on a beach comes before anything else."""
    dogs = {f for f, row in truth.items() if (row["thing"], row["place"]) == ("dog", "beach")}
    assert 2 <= len(dogs) <= 6
    assert set(find("dog on beach", len(dogs))) == dogs
    assert any(row["thing"] == "dog" and row["place"] != "beach" for row in truth.values())
    assert any(row["thing"] != "dog" and row["place"] == "beach" for row in truth.values())


def test_captions_find_their_pictures(truth, find):
    """Recall@10 of the captions, which no training has seen with these pictures."""
    hits = sum(file in find(row["caption"], 10) for file, row in truth.items())
    assert hits / len(truth) >= 0.9


@pytest.mark.parametrize("word", ["dog", "pizza", "car", "snow", "beach", "forest", "city"])
def test_single_words(truth, find, word):
    """At least four of the first five show it, or all there are."""
    right = [file for file, row in truth.items() if word in (row["thing"], row["place"])]
    assert right
    found = find(word, 5)
    assert sum(file in right for file in found) >= min(4, len(right))
