"""What a mix of queries finds: the plain sum, the sum without the means, and clip_mix.

    python tests/benchmarks/mixing.py [--pretrained MODEL --pictures FOLDER --captions CSV]

Without options it takes the demo, and the photographs and the model in CLIP_SEARCH_TESTDATA. The
CSV has the columns `file` and `caption`, with one row or more for a picture.

What a picture shows are the words of its captions: it has a word that two captions hold (or its
only one), and lacks a word that none holds. All queries are made of these: for each picture, and
each word that it has or lacks. A hit has what the query asks for, and something else of what the
source has; the source itself does not count. The intervals are bootstrapped over the sources.

The models at hand have little of a modality gap. So each is measured again with one put in, of the
size that OpenAI's CLIP has: cosines of about 0.26 between a picture and its caption, 0.21 between
any picture and any caption, 0.5 between pictures.
"""

import argparse
import csv
import os
import random
import re
import sqlite3
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from click.testing import CliRunner
from sqlite_utils.cli import cli

from datasette_clip_search.database.model import default_model
from datasette_clip_search.models.queries.torch_models import torch_model_of
from datasette_clip_search.search.modality_gap import everyday_vectors, sides_of

ROOT = Path(__file__).parents[2]
DATA = os.environ.get("CLIP_SEARCH_TESTDATA")
WAYS = ("plain sum", "means subtracted", "clip_mix")
MOST_QUERIES = 2000
K = 10
PLAIN_WORDS = """a across against along an and another around as at away background be behind being
    between black blue brown by day down during each for from front gray green grey group has have
    having he her him his in into is it its large light little many near next nothing of off old on
    one orange other out outside over pink purple red several she small some something that the
    their them there they this three through to top toward towards two under up very wearing what
    where which while white who with yellow young"""


@dataclass(frozen=True)
class Space:
    """Unit vectors of one model: of n pictures, of v words, of n captions, of everyday texts.

    `has` and `lacks`, (n, v), tell what the pictures show.
    """

    name: str
    words: list[str]
    has: np.ndarray
    lacks: np.ndarray
    pictures: np.ndarray
    of_words: np.ndarray
    captions: np.ndarray
    everyday: np.ndarray


@dataclass(frozen=True)
class Query:
    """Weighted vectors, each a text's or not; the hits, (n,); the source and what is left out."""

    terms: list[tuple[np.ndarray, bool, float]]
    hits: np.ndarray
    source: int
    left_out: list[int]


def words_of(caption: str) -> set[str]:
    words = set(re.findall("[a-z]+", caption.lower())).difference(PLAIN_WORDS.split())
    return {re.sub("(?<=[a-z]{3}[^s])s$", "", word) for word in words}


def embed(name: str, model: str, pretrained: Path, pictures: Path, captions: Path) -> Space:
    told = defaultdict(list)
    with open(captions, newline="") as file:
        for row in csv.DictReader(file):
            told[os.path.normpath(pictures / row["file"])].append(row["caption"])
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "pictures.db"
        arguments = ["embed-images", str(database), str(pictures), "--no-thumbnails"]
        arguments += ["--model", model, "--pretrained", str(pretrained)]
        result = CliRunner().invoke(cli, arguments)
        if result.exit_code:
            raise SystemExit(result.output)
        connection = sqlite3.connect(database)
        sql = "select path, embedding from images join clip_embeddings on id = image_id order by id"
        rows = connection.execute(sql).fetchall()
        encoder = torch_model_of(connection, default_model(connection)[1])
        connection.close()
    paths = [os.path.normpath(Path(folder) / path) for path, _ in rows]
    counts = [Counter(word for text in told[path] for word in words_of(text)) for path in paths]
    least = [min(2, len(told[path])) for path in paths]
    pictures_with = Counter(
        word
        for words, enough in zip(counts, least, strict=True)
        for word, count in words.items()
        if count >= enough
    )
    words = sorted(w for w, count in pictures_with.items() if 3 <= count <= len(paths) / 3)
    of_all = zip(counts, least, strict=True)
    has = [[count[word] >= enough for word in words] for count, enough in of_all]
    return Space(
        name,
        words,
        np.array(has),
        np.array([[not count[word] for word in words] for count in counts]),
        np.array([np.frombuffer(blob, "<f4") for _, blob in rows]),
        encoder.encode_texts(words),
        encoder.encode_texts([told[path][0] for path in paths]),
        everyday_vectors(encoder),
    )


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def with_gap(space: Space, extra: int = 64) -> Space:
    """Put pictures and texts apart, and into each text what no picture has.

    With 0.7 of itself in each picture, and of the rest one offset for all, pictures have a cosine
    of 0.5. What a text has in common with pictures is made so small, and the two offsets so alike,
    that captions have the cosines wanted. Offsets are orthogonal to all vectors, as real ones
    nearly are (arXiv 2603.29080): one word alone finds what it found before.
    """
    rng = np.random.default_rng(0)
    true = np.mean(np.sum(space.pictures * space.captions, axis=1))
    everyone = np.mean(space.pictures @ space.captions.T)
    shared = 0.05 / (0.7 * (true - everyone))
    alike = (0.21 - 0.7 * shared * everyone) / (np.sqrt(1 - 0.49) * 0.8)

    def picture(vectors: np.ndarray) -> np.ndarray:
        offset = np.tile([np.sqrt(1 - 0.49), 0], (len(vectors), 1))
        rest = np.zeros((len(vectors), extra))
        return np.hstack([0.7 * vectors, offset, rest]).astype(np.float32)

    def text(vectors: np.ndarray) -> np.ndarray:
        offset = np.tile([0.8 * alike, 0.8 * np.sqrt(1 - alike**2)], (len(vectors), 1))
        noise = unit(rng.normal(size=(len(vectors), extra))) * np.sqrt(1 - 0.64 - shared**2)
        return np.hstack([shared * vectors, offset, noise]).astype(np.float32)

    return replace(
        space,
        name=f"{space.name}, with a gap",
        pictures=picture(space.pictures),
        of_words=text(space.of_words),
        captions=text(space.captions),
        everyday=text(space.everyday),
    )


def queries(space: Space) -> Iterator[tuple[str, Query]]:
    """Yield every query with the name of its task."""
    has, lacks = space.has, space.lacks
    for source, vector in enumerate(space.pictures):
        picture = (vector, False, 1.0)
        own, absent = np.flatnonzero(has[source]), np.flatnonzero(lacks[source])
        for kept in own:
            for word in absent:
                text = space.of_words[word]
                hits = has[:, kept] & has[:, word]
                yield "picture + word", Query([picture, (text, True, 1)], hits, source, [source])
                for gone in own[own != kept]:
                    terms = [picture, (text, True, 1), (space.of_words[gone], True, -1)]
                    rest = hits & lacks[:, gone]
                    yield "picture + word - word", Query(terms, rest, source, [source])
            for gone in own[own != kept]:
                hits, text = has[:, kept] & lacks[:, gone], space.of_words[gone]
                for weight in (1, 0.5, 0.25):
                    terms = [picture, (text, True, -weight)]
                    yield f"picture - {weight} word", Query(terms, hits, source, [source])
        for target in range(len(space.pictures)):
            if target != source and (has[source] & has[target]).any():
                hits = np.arange(len(space.pictures)) == target
                terms = [picture, (space.captions[target], True, 1)]
                yield "picture + caption", Query(terms, hits, source, [source])
    for one in range(len(space.words)):
        for other in range(len(space.words)):
            texts = [(space.of_words[one], True, 1.0), (space.of_words[other], True, 1.0)]
            both = has[:, one] & has[:, other]
            if one < other:
                yield "word + word", Query(texts, both, one, [])
            elif one != other and both.any():
                texts[1] = (space.of_words[other], True, -1.0)
                yield "word - word", Query(texts, has[:, one] & lacks[:, other], one, [])
    for one, other in np.argwhere(np.triu(space.has.astype(int) @ space.has.T, 1)):
        terms = [(space.pictures[one], False, 1.0), (space.pictures[other], False, 1.0)]
        hits = has[:, has[one] & has[other]].all(axis=1)
        yield "picture + picture", Query(terms, hits, one, [one, other])


def measure(space: Space, query: Query, sides: object) -> np.ndarray:
    """Return nDCG@10 and recall@10, (3, 2), of all WAYS."""
    mixes = []
    # As clip_mix decides it: one side alone is added up.
    both = len({is_text for _, is_text, _ in query.terms}) == 2
    for way in WAYS:
        total = 0
        for vector, is_text, weight in query.terms:
            if way == WAYS[2] and both:
                vector = sides.centred(vector, is_text)
            elif way == WAYS[1]:
                vector = vector - (sides.texts if is_text else sides.pictures)
            total = total + weight * vector
        mixes.append(total)
    scores = space.pictures @ np.array(mixes).T
    scores[query.left_out] = -np.inf
    found = query.hits[np.argsort(-scores, axis=0, kind="stable")[:K]]
    gains = 1 / np.log2(np.arange(2, K + 2))
    most = min(K, query.hits.sum())
    return np.stack([gains @ found / gains[:most].sum(), found.sum(axis=0) / most], axis=1)


def interval(values: np.ndarray, sources: np.ndarray) -> tuple[float, float]:
    """Bootstrap the 95% interval of the mean of values, by drawing sources."""
    _, group = np.unique(sources, return_inverse=True)
    sums, counts = np.bincount(group, values), np.bincount(group)
    drawn = np.random.default_rng(0).integers(0, len(sums), size=(2000, len(sums)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    return tuple(np.quantile(means, [0.025, 0.975]))


def compare(space: Space) -> dict[str, tuple[np.ndarray, tuple[float, float]]]:
    """Print the table of a space; return nDCG@10, (3,), and the interval of clip_mix's gain."""
    tasks = defaultdict(list)
    for task, query in queries(space):
        query.hits[query.left_out] = False
        if query.hits.any():
            tasks[task].append(query)
    mean = space.pictures.mean(axis=0)
    others = space.pictures - mean
    sides = sides_of((mean, others.T @ others / len(others)), space.everyday)
    pairs = space.pictures @ space.captions.T
    among = space.pictures @ space.pictures.T
    print(
        f"\n{space.name}: {len(space.pictures)} pictures, {len(space.words)} words. Cosine of true "
        f"pairs {np.diag(pairs).mean():.2f}, of all {pairs.mean():.2f}, of pictures "
        f"{among.mean():.2f}; pictures' scores spread {sides.scale:.1f} times as far as words'\n"
    )
    print("| nDCG@10 | queries |" + "".join(f" {way} |" for way in WAYS), end="")
    print(" gain of clip_mix | better : worse | recall@10 |\n|---|" + "---:|" * 7)
    results = {}
    for task, asked in tasks.items():
        asked = random.Random(0).sample(asked, min(MOST_QUERIES, len(asked)))
        values = np.array([measure(space, query, sides) for query in asked])
        ndcg, recall = values[..., 0], values[..., 1].mean(axis=0)
        gain = ndcg[:, 2] - ndcg[:, 0]
        low, high = interval(gain, np.array([query.source for query in asked]))
        results[task] = ndcg.mean(axis=0), (low, high)
        print(
            f"| {task} | {len(asked)} |" + "".join(f" {v:.3f} |" for v in ndcg.mean(axis=0)), end=""
        )
        print(f" {gain.mean():+.3f} ({low:+.3f} to {high:+.3f}) |", end="")
        print(f" {(gain > 1e-9).sum()} : {(gain < -1e-9).sum()} |", end="")
        print(f" {recall[0]:.3f} → {recall[2]:.3f} |")
    return results


def plot(results: dict[str, dict[str, tuple[np.ndarray, tuple[float, float]]]], file: Path) -> str:
    """Draw the gains, if matplotlib is there; return a sentence that says so."""
    try:
        import matplotlib
    except ImportError:
        return "No plot was drawn: matplotlib is not installed. Run: pip install matplotlib"
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    size = (4.2 * len(results), 3.6)
    figure, panels = plt.subplots(1, len(results), figsize=size, squeeze=False, sharey=True)
    for panel, (name, tasks) in zip(panels[0], results.items(), strict=True):
        for place, (means, (low, high)) in enumerate(tasks.values()):
            gain = means[2] - means[0]
            panel.barh(place, gain, color="#1f6f8b" if gain > 0 else "#b9b4a7")
            panel.plot([low, high], [place, place], color="#555555")
        panel.set_yticks(range(len(tasks)), list(tasks))
        panel.set_title(name, fontsize=10)
        panel.axvline(0, color="#555555", linewidth=0.8)
        panel.set_xlabel("gain in nDCG@10 over the plain sum")
    panels[0][0].invert_yaxis()
    figure.tight_layout()
    figure.savefig(file, dpi=150)
    return f"The plot is {file}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="mixing")
    parser.add_argument("--pretrained", type=Path)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--captions", type=Path)
    parser.add_argument("--plot", type=Path, default=Path("mixing.png"))
    options = parser.parse_args()
    given = (options.pretrained, options.pictures, options.captions)
    if any(given) and not all(given):
        parser.error("--pretrained, --pictures and --captions belong together")
    demo = ROOT / "demo"
    todo = [("Demo", "demo", demo / "model", demo / "pictures", demo / "pictures.csv")]
    if all(given):
        todo = [(options.pictures.name, options.model, *given)]
    elif DATA:
        photos = Path(DATA) / "corpora" / "photos"
        model = Path(DATA) / "models" / "flickr-lit"
        todo.append(("Photographs", "photographs", model, photos, photos / "captions.csv"))
    results = {}
    for name, model, pretrained, pictures, captions in todo:
        space = embed(name, model, pretrained, pictures, captions)
        for each in (space, with_gap(space)):
            results[each.name] = compare(each)
    print(f"\n{plot(results, options.plot)}")


if __name__ == "__main__":
    main()
