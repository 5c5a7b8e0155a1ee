"""Measure the demo's model on scenes that it has never seen, and print the README's figures.

python demo/measure_model.py --font PATH
"""

import argparse
import csv
import io
import random
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import open_clip
import torch
from captions import Caption, describe_anew
from glyphs import DEBIAN_FONT, Glyphs
from PIL import Image
from scenes import Scene, draw_scene, is_held_out, random_scene
from vocabulary import PLACES, THINGS

HERE = Path(__file__).resolve().parent
DEMO_QUERIES = (
    "dog on beach", "a puppy by the sea", "beach", "a dog in the snow", "pizza",
    "city at night", "boat at sunset", "red car", "animals in the forest", "rain",
)  # fmt: skip


class Model:
    """The demo's model: texts and pictures in, unit vectors out."""

    def __init__(self, folder: Path) -> None:
        name = f"local-dir:{folder.resolve()}"
        self._model, _, self._preprocess = open_clip.create_model_and_transforms(name)
        self._model.eval()
        self._tokenizer = open_clip.get_tokenizer(name)

    def pictures(self, pictures: Iterable[Image.Image]) -> np.ndarray:
        """Return a unit vector for each picture (n, dimensions)."""
        pixels = torch.stack([self._preprocess(picture) for picture in pictures])
        with torch.inference_mode():
            return np.asarray(self._model.encode_image(pixels, normalize=True))

    def texts(self, texts: list[str]) -> np.ndarray:
        """Return a unit vector for each text (n, dimensions)."""
        with torch.inference_mode():
            return np.asarray(self._model.encode_text(self._tokenizer(texts), normalize=True))


def as_photo(picture: Image.Image) -> Image.Image:
    """Return a picture as it looks after a round trip through a JPEG file."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=85)
    return Image.open(file).convert("RGB")


def draw_gallery(count: int, seed: int, glyphs: Glyphs) -> tuple[list[Scene], list[Image.Image]]:
    """Draw scenes as the demo's pictures are drawn, including held-out combinations."""
    rng = random.Random(seed)
    scenes: list[Scene] = []
    while len(scenes) < count:
        scene = random_scene(rng)
        if scene.thing is not None:
            scenes.append(scene)
    large = (draw_scene(scene, glyphs, (960, 720)) for scene in scenes)
    return scenes, [as_photo(p.resize((480, 360), Image.Resampling.LANCZOS)) for p in large]


def ranks(scores: np.ndarray, captions: list[Caption], scenes: list[Scene]) -> np.ndarray:
    """Return for each caption the rank, from 1, of the first scene that it describes truthfully."""
    found = []
    for row, caption in zip(scores, captions, strict=True):
        order = np.argsort(-row)
        hits = (place for place, i in enumerate(order, 1) if caption.facts <= scenes[i].facts)
        found.append(next(hits))
    return np.array(found)


def r_precision(scores: np.ndarray, fact: str, scenes: list[Scene]) -> float | None:
    """Return the share of right scenes among the first n, where n is the number of right scenes."""
    right = np.array([fact in scene.facts for scene in scenes])
    count = int(right.sum())
    return float(right[np.argsort(-scores)[:count]].mean()) if count else None


def print_recall(name: str, found: np.ndarray) -> None:
    """Print one row of the recall table."""
    cells = " | ".join(f"{(found <= k).mean():.3f}" for k in (1, 5, 10))
    print(f"| {name} | {len(found)} | {cells} | {np.median(found):.0f} |")


def measure_gallery(model: Model, count: int, seed: int, glyphs: Glyphs) -> None:
    """Print the recall of captions in new wordings in a gallery of new scenes."""
    scenes, pictures = draw_gallery(count, seed, glyphs)
    vectors = model.pictures(pictures)
    rng = random.Random(seed)
    captions = [describe_anew(scene, rng) for scene in scenes]
    found = ranks(model.texts([c.text for c in captions]) @ vectors.T, captions, scenes)
    unseen = np.array([is_held_out(scene.thing, scene.place) for scene in scenes])
    print(f"\nGallery of {count} new scenes, one query for each, in wordings never trained:\n")
    print("| queries | number | recall@1 | recall@5 | recall@10 | median rank |")
    print("| --- | --- | --- | --- | --- | --- |")
    print_recall("all", found)
    print_recall("combinations never trained", found[unseen])
    print("\nSingle words over the same gallery, R-precision (mean):\n")
    for kind, words in (("things", list(THINGS)), ("places", list(PLACES)),
                        ("night, sunset, rain", ["night", "sunset", "rain"])):  # fmt: skip
        scores = model.texts(words) @ vectors.T
        got = [r_precision(row, word, scenes) for row, word in zip(scores, words, strict=True)]
        print(f"- {kind}: {np.mean([value for value in got if value is not None]):.3f}")


def measure_pictures(model: Model, folder: Path, truth: Path) -> None:
    """Print what the demo's own queries find among the demo's own pictures."""
    with truth.open(newline="") as file:
        rows = list(csv.DictReader(file))
    vectors = model.pictures(Image.open(folder / row["file"]).convert("RGB") for row in rows)
    scores = model.texts(list(DEMO_QUERIES)) @ vectors.T
    print(f"\nThe first five of the {len(rows)} pictures for some queries:\n")
    print("| query | what the first five show |")
    print("| --- | --- |")
    for query, row in zip(DEMO_QUERIES, scores, strict=True):
        first = [rows[i] for i in np.argsort(-row)[:5]]
        print(f"| {query} | {'; '.join(picture['caption'] for picture in first)} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Measure the demo's model.")
    parser.add_argument("--font", default=DEBIAN_FONT, help="Noto Color Emoji")
    parser.add_argument("--model", type=Path, default=HERE / "model")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=9001)
    parser.add_argument("--gallery-only", action="store_true")
    options = parser.parse_args()
    demo_model = Model(options.model)
    measure_gallery(demo_model, options.count, options.seed, Glyphs(options.font))
    if not options.gallery_only:
        measure_pictures(demo_model, HERE / "pictures", HERE / "pictures.csv")
