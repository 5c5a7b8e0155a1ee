"""What clip_tags() gains by several prompts for each label, and what it costs.

    python tests/benchmarks/tags.py

Prints the share of pictures whose most probable label is the right one, for the bare label, for
every template alone and for the mean of all; then the time of a join over 10,000 pictures. The
demo's pictures are told of by demo/pictures.csv; where CLIP_SEARCH_TESTDATA names a folder with
photographs and captions, a photograph gets the label that most of its captions mention.
"""

import csv
import json
import os
import re
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))
from datasette_clip_search.database.model import choose_model
from datasette_clip_search.models.queries.torch_models import torch_model_of
from datasette_clip_search.search.tags import TEMPLATES, ensembled
from datasette_clip_search.sql import add_functions
from support.commands import run
from support.paths import DEMO_MODEL, DEMO_PICTURES, ROOT

DATA = Path(os.environ.get("CLIP_SEARCH_TESTDATA", "/nowhere"))
LABELS = {
    "who": {
        "dog": "dogs?|pupp(y|ies)",
        "man": "man|men|guys?",
        "woman": "wom[ae]n|lady|ladies",
        "boy": "boys?",
        "girl": "girls?",
    },
    "where": {
        "beach": "beach|sand|sandy|ocean|shore|surf|waves?",
        "snow": "snow|snowy|ski|skier|skiing|snowboard",
        "swimming pool": "pool",
        "grass": "grass|grassy|lawn|field",
        "street": "street|sidewalk|road|city|crosswalk",
        "mountain": "mountains?|cliff|hill|rocks?|rocky|climb(s|ing|er)?",
        "lake": "lake|pond|river|creek|stream",
        "room": "bed|couch|room|kitchen|indoors|restaurant|table|floor",
    },
}


def demo_truth(column: str) -> dict[str, str]:
    with open(ROOT / "demo" / "pictures.csv", newline="") as file:
        return {Path(row["file"]).name: row[column] for row in csv.DictReader(file) if row[column]}


def photo_truth(folder: Path, patterns: dict[str, str]) -> dict[str, str]:
    """Return the label of every photograph of which three captions mention one and no other."""
    mentions: dict[str, Counter[str]] = {}
    with open(folder / "captions.csv", newline="") as file:
        for row in csv.DictReader(file):
            counts = mentions.setdefault(row["file"], Counter())
            for label, pattern in patterns.items():
                counts[label] += bool(re.search(rf"\b({pattern})\b", row["caption"].lower()))
    first = {file: counts.most_common(2) for file, counts in mentions.items()}
    return {file: a[0] for file, (a, b) in first.items() if a[1] >= 3 and b[1] <= 1}


def databases() -> Iterator[tuple[str, sqlite3.Connection, dict[str, dict[str, str]]]]:
    photographs = DATA / "corpora" / "photos"
    with tempfile.TemporaryDirectory() as folder:
        for name, pictures, model in (
            ("demo", DEMO_PICTURES, DEMO_MODEL),
            ("photographs", photographs, DATA / "models" / "flickr-lit"),
        ):
            if not model.is_dir():
                continue
            database = Path(folder) / f"{name}.db"
            result = run("embed-images", database, pictures, "--pretrained", model)
            assert result.exit_code == 0, result.output
            connection = sqlite3.connect(database)
            add_functions(connection)
            if name == "demo":
                truths = {column: demo_truth(column) for column in ("thing", "place")}
            else:
                truths = {kind: photo_truth(pictures, of) for kind, of in LABELS.items()}
            yield name, connection, truths
            connection.close()


def accuracy(connection: sqlite3.Connection, truth: dict[str, str], templates: list[str]) -> float:
    encoder = torch_model_of(connection, choose_model(connection, None)[1])
    labels = sorted(set(truth.values()))
    vectors = ensembled(encoder, labels, templates)
    sql = "select path, embedding from images join clip_embeddings on id = image_id"
    right = [
        labels[int(np.argmax(vectors @ np.frombuffer(blob, "<f4")))] == truth[Path(path).name]
        for path, blob in connection.execute(sql)
        if Path(path).name in truth
    ]
    return sum(right) / len(right)


def print_accuracies(
    name: str, connection: sqlite3.Connection, truths: dict[str, dict[str, str]]
) -> None:
    heads = [f"{kind}: {len(set(t.values()))} of {len(t)}" for kind, t in truths.items()]
    print(f"\n{name:<28}" + "".join(f"{head:>20}" for head in heads))
    for templates in [*([template] for template in TEMPLATES), list(TEMPLATES)]:
        shares = [accuracy(connection, truth, templates) for truth in truths.values()]
        shown = repr(templates[0]) if len(templates) == 1 else f"mean of these {len(templates)}"
        print(f"{shown:<28}" + "".join(f"{share:>20.3f}" for share in shares))


def print_confidence(connection: sqlite3.Connection, truths: dict[str, dict[str, str]]) -> None:
    """Print how probable the first label is said to be, and how often it is right."""
    for kind, truth in truths.items():
        sql = """select path, label, probability from images join clip_tags(images.id, ?)
            where rank = 1"""
        tagged = [
            (probability, label == truth[Path(path).name])
            for path, label, probability in connection.execute(
                sql, [json.dumps(sorted(set(truth.values())))]
            )
            if Path(path).name in truth
        ]
        said, right = np.array(tagged, float).T
        print(f"{kind}: said {said.mean():.2f}, right {right.mean():.2f}")


def print_times(connection: sqlite3.Connection) -> None:
    print(f"\n{'labels':>8}{'first call, ms':>16}{'10,000 pictures, s':>20}{'µs each':>10}")
    sql = """with recursive n(n) as (select 1 union all select n + 1 from n limit 10000),
        some as (select 1 + n % (select count(*) from images) as id from n)
        select count(*), sum(probability) from some join clip_tags(some.id, ?) where rank = 1"""
    for count in (3, 10, 100):
        labels = json.dumps([f"label {count} {number}" for number in range(count)])
        started = time.perf_counter()
        connection.execute("select * from clip_tags(1, ?)", [labels]).fetchall()
        encoded = time.perf_counter()
        assert connection.execute(sql, [labels]).fetchone()[0] == 10_000
        seconds = time.perf_counter() - encoded
        first = (encoded - started) * 1000
        print(f"{count:>8}{first:>16.0f}{seconds:>20.2f}{seconds * 100:>10.0f}")


def main() -> None:
    for name, connection, truths in databases():
        print_accuracies(name, connection, truths)
        print_confidence(connection, truths)
        print_times(connection)


if __name__ == "__main__":
    main()
