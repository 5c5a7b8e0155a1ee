"""Where to cut off the hits of a query: a flat cut on the cosine against one on z_score.

    python tests/benchmarks/cutoff.py FOLDER

Embeds the demo's drawings with the demo's model and, where CLIP_SEARCH_TESTDATA names a folder
with corpora/photos and models/flickr-lit, photographs with that, asks some hundred queries of
each, and writes cutoff.md, a table, and cutoff.png, the calibration plot, to FOLDER. "In a cone"
are the photographs' very vectors, moved together until true pairs have cosines of 0.26 and all
pairs of 0.21, as larger CLIP models have them: it is no model of its own, and made so that only
the scale of the cosines differs.
"""

import argparse
import os
import sqlite3
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cutoff_queries
import numpy as np
from click.testing import CliRunner
from cutoff_plot import plot
from cutoff_queries import Query
from numpy.typing import NDArray

from datasette_clip_search.database.connection import quote
from datasette_clip_search.database.index.crowd import Crowd
from datasette_clip_search.database.model import choose_model
from datasette_clip_search.database.vectors import read_vectors
from datasette_clip_search.search.query import query_vector

ROOT = Path(__file__).resolve().parents[2]
# A query whose own best cut has a lower F1 is one that the model does not understand.
UNDERSTOOD = 0.5
# Mean cosines of true pairs and of all pairs: here, and in the cone.
PAIRS_HERE, PAIRS_IN_CONE = (0.53, 0.01), (0.26, 0.21)

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """A model with its pictures (n, d) and query vectors (q, d), and the queries they are of."""

    name: str
    pictures: NDArray[np.float32]
    vectors: NDArray[np.float32]
    queries: list[Query]

    @property
    def is_right(self) -> NDArray[np.bool_]:
        right = np.zeros((len(self.queries), len(self.pictures)), bool)
        for row, query in enumerate(self.queries):
            right[row, list(query.right)] = True
        return right


def embedded(name: str, model: Path, pictures: Path, read: Callable[..., list[Query]]) -> Case:
    from sqlite_utils.cli import cli

    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "photos.db"
        arguments = ["embed-images", str(database), str(pictures), "--pretrained", str(model)]
        result = CliRunner().invoke(cli, [*arguments, "--no-thumbnails"])
        if result.exit_code:
            sys.exit(result.output)
        connection = sqlite3.connect(database)
        table, chosen = choose_model(connection, None)
        ids, vectors = read_vectors(connection, chosen)
        paths = dict(connection.execute(f"select id, path from {quote(table)}"))
        queries = read([str(Path(paths[id]).relative_to(pictures)) for id in ids.tolist()])
        asked = []
        for query in queries:
            terms = [w * query_vector(connection, chosen, table, text) for text, w in query.terms]
            asked.append(np.sum(terms, axis=0) / np.linalg.norm(np.sum(terms, axis=0)))
        connection.close()
    return Case(name, vectors, np.array(asked, np.float32), queries)


def in_a_cone(case: Case) -> Case:
    """Return the case with every cosine c turned into a + bc, by unit vectors that have it."""
    (true, every), (true_there, every_there) = PAIRS_HERE, PAIRS_IN_CONE
    b = (true_there - every_there) / (true - every)
    cosine = (every_there - b * every) / (1 - b)
    ends = np.sqrt(1 - b) * np.array([[1, 0], [cosine, np.sqrt(1 - cosine**2)]])

    def moved(vectors: NDArray[np.float32], end: Matrix) -> NDArray[np.float32]:
        wide = np.hstack([np.sqrt(b) * vectors, np.tile(end, (len(vectors), 1))])
        return wide.astype(np.float32)

    pictures, vectors = moved(case.pictures, ends[0]), moved(case.vectors, ends[1])
    return replace(case, name=f"{case.name} in a cone", pictures=pictures, vectors=vectors)


def cosine(case: Case) -> Matrix:
    return (case.vectors @ case.pictures.T).astype(np.float64)


def z_about_mean(case: Case) -> Matrix:
    cosines = cosine(case)
    return (cosines - cosines.mean(1, keepdims=True)) / cosines.std(1, keepdims=True)


def z_about_median(case: Case) -> Matrix:
    """The column z_score, by the very code that makes it."""
    crowd = Crowd(np.arange(len(case.pictures)), case.pictures)
    return np.array([crowd.z_scores(v, case.pictures @ v) for v in case.vectors])


def median_and_mad(case: Case) -> Matrix:
    above = cosine(case) - np.median(cosine(case), axis=1, keepdims=True)
    return above / (1.4826 * np.median(abs(above), axis=1, keepdims=True))


def percentile(case: Case) -> Matrix:
    return cosine(case).argsort(1).argsort(1) / len(case.pictures) * 100


Z_SCORE = "z_score: standard deviations above the median"
MEASURES = {
    "cosine": cosine,
    Z_SCORE: z_about_median,
    "standard deviations above the mean": z_about_mean,
    "median absolute deviations above the median": median_and_mad,
    "percentile": percentile,
}


class Judged:
    """A case by one measure: F1 (cuts, queries), as a share of what each query's own cut has."""

    def __init__(self, case: Case, scores: Matrix, cuts: Matrix):
        right = case.is_right
        groups = np.array([query.group for query in case.queries])
        order = (-cosine(case)).argsort(1)
        true = np.take_along_axis(right, order, 1).cumsum(1)
        own = (2 * true / (np.arange(1, right.shape[1] + 1) + right.sum(1, keepdims=True))).max(1)
        f1 = np.empty((len(cuts), len(scores)))
        let_through = np.empty(len(cuts))
        for row, cut in enumerate(cuts):
            above = scores > cut
            f1[row] = 2 * (above & right).sum(1) / np.maximum(1, above.sum(1) + right.sum(1))
            let_through[row] = above[groups == "nothing"].sum(1).mean()
        understood = own >= UNDERSTOOD
        self.groups = {
            group: f1[:, understood & (groups == group)]
            for group in dict.fromkeys(groups[understood])
        }
        self.own = np.mean([own[understood & (groups == group)].mean() for group in self.groups])
        self.let_through = let_through
        self.f1 = self.curve(slice(None))

    def curve(self, part: slice) -> Matrix:
        """Return the mean F1 at every cut over a part of the queries, all kinds weighing alike."""
        halves = [f1[:, part] for f1 in self.groups.values() if f1[:, part].size]
        return np.mean([f1.mean(1) for f1 in halves], axis=0)


@dataclass(frozen=True)
class Result:
    """All cases by one measure."""

    cuts: Matrix
    cases: dict[str, Judged]

    @property
    def shared(self) -> int:
        """The row of the cut that is best over all cases, each counting as much."""
        return int(np.mean([judged.f1 for judged in self.cases.values()], axis=0).argmax())

    def halves(self) -> float:
        """Return the F1 of one half of the queries at the best shared cut of the other half."""
        parts = slice(0, None, 2), slice(1, None, 2)
        curves = [np.mean([j.curve(part) for j in self.cases.values()], axis=0) for part in parts]
        return statistics.mean([curves[1][curves[0].argmax()], curves[0][curves[1].argmax()]])

    def elsewhere(self) -> float:
        """Return the mean F1 of each case at the best cut of each other one."""
        pairs = [
            here.f1[there.f1.argmax()]
            for here in self.cases.values()
            for there in self.cases.values()
            if here is not there
        ]
        return float(np.mean(pairs)) if pairs else float("nan")


def judge(cases: list[Case], measure: Callable[[Case], Matrix]) -> Result:
    scores = [measure(case) for case in cases]
    pool = np.concatenate([some.ravel() for some in scores])
    shares = np.concatenate([np.linspace(0, 0.9, 60), np.linspace(0.9, 0.9999, 240)])
    cuts = np.unique(np.quantile(pool, shares))
    return Result(
        cuts,
        {c.name: Judged(c, s, cuts) for c, s in zip(cases, scores, strict=True)},
    )


def table(cases: list[Case], results: dict[str, Result]) -> str:
    names = [case.name for case in cases]
    head = ["cut-off on", "shared cut", *names, "mean", "other half", "other model"]
    head += [f"let through, {name}" for name in names]
    lines = [head, ["---"] + ["---:"] * (len(head) - 1)]
    own = [f"{j.own:.2f}" for j in results["cosine"].cases.values()]
    lines.append(["each query's own best", "", *own, "", "", "", *[""] * len(names)])
    for label, result in results.items():
        row = result.shared
        f1 = [judged.f1[row] for judged in result.cases.values()]
        best = [judged.f1.argmax() for judged in result.cases.values()]
        cells = [
            f"{at:.2f} ({j.f1[b]:.2f} at {result.cuts[b]:.2f})"
            for at, j, b in zip(f1, result.cases.values(), best, strict=True)
        ]
        through = [f"{j.let_through[row]:.1f}" for j in result.cases.values()]
        figures = [np.mean(f1), result.halves(), result.elsewhere()]
        shown = [f"{figure:.2f}" for figure in figures]
        lines.append([label, f"{result.cuts[row]:.2f}", *cells, *shown, *through])
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    notes = [
        "Mean F1 of the queries at one cut-off for all models, in brackets at the best one for "
        "each. *Other half*: at the best cut of the other half of the queries; *other model*: at "
        "the best cut of each other model. *Let through*: pictures for a query that none matches.",
        f"Only queries whose own best cut has an F1 of {UNDERSTOOD} or more; every kind of query "
        "weighs alike:",
    ]
    for case in cases:
        judged = results["cosine"].cases[case.name]
        kinds = ", ".join(f"{f1.shape[1]} of *{group}*" for group, f1 in judged.groups.items())
        nothing = sum(query.group == "nothing" for query in case.queries)
        notes.append(
            f"- {case.name}, {len(case.pictures)} pictures: {kinds}; {nothing} match nothing"
        )
    return "\n\n".join([text, *notes[:2]]) + "\n\n" + "\n".join(notes[2:]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where cutoff.md and cutoff.png go")
    folder = parser.parse_args().folder
    demo = ROOT / "demo"
    truth = demo / "pictures.csv"
    cases = [
        embedded("drawings", demo / "model", demo / "pictures",
                 lambda names: cutoff_queries.drawings(names, truth)),
    ]  # fmt: skip
    data = Path(os.environ.get("CLIP_SEARCH_TESTDATA", "/nowhere"))
    photos, model = data / "corpora" / "photos", data / "models" / "flickr-lit"
    if model.is_dir():
        captions = photos / "captions.csv"
        read = embedded("photographs", model, photos,
                        lambda names: cutoff_queries.photographs(names, captions))  # fmt: skip
        cases += [read, in_a_cone(read)]
    else:
        print("Without photographs: CLIP_SEARCH_TESTDATA names no folder of them")
    rounds = [cases] if len(cases) == 1 else [cases[:2], cases]
    tables = []
    for some in rounds:
        results = {label: judge(some, measure) for label, measure in MEASURES.items()}
        tables.append(f"## {', '.join(case.name for case in some)}\n\n{table(some, results)}")
    text = "\n".join(tables)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cutoff.md").write_text(text)
    print(text)
    panels = [
        ("A flat cut on the cosine", "score > …", (-0.05, 0.7), results["cosine"]),
        ("A cut on z_score", "z_score > …", (-0.5, 4.2), results[Z_SCORE]),
    ]
    print(plot(panels, folder / "cutoff.png"))


if __name__ == "__main__":
    main()
