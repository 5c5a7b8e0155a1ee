"""clip_mix: its vector against numpy, what it finds, and its errors."""

import csv
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from support.databases import rows
from support.paths import DEMO_PICTURES, ROOT
from support.vector_database import snapshot_of

pytest.importorskip("open_clip")


def vector(blob):
    return np.frombuffer(blob, "<f4")


def unit(total):
    return total / np.linalg.norm(total)


@pytest.fixture
def call(demo_database, connect):
    """Return the value of an SQL expression."""
    connection = connect(demo_database)
    return lambda sql, *parameters: connection.execute(f"select {sql}", parameters).fetchone()[0]


def same(one, other):
    return one == pytest.approx(other, abs=2e-6)


@pytest.mark.parametrize("query", ["'dog'", "7", "clip_vector('dog')", "clip_vector(7)"])
def test_one_query_is_its_own_vector(call, query):
    own = vector(call(f"clip_vector({query})"))
    assert same(vector(call(f"clip_mix({query}, 1)")), own)
    assert same(vector(call(f"clip_mix({query}, 0.01)")), own)
    assert same(vector(call(f"clip_mix({query}, -3)")), -own)


def test_one_side_alone_is_added_up(call):
    dog, snow = (vector(call("clip_vector(?)", word)) for word in ("dog", "snow"))
    mixed = vector(call("clip_mix('dog', 1, 'snow', -0.5)"))
    assert same(mixed, unit(dog - 0.5 * snow))
    seven, eight = (vector(call("clip_vector(?)", image)) for image in (7, 8))
    assert same(vector(call("clip_mix(7, 2, 8, 1)")), unit(2 * seven + eight))
    assert mixed.dtype == np.dtype("<f4")
    assert np.linalg.norm(mixed) == pytest.approx(1, abs=1e-6)


def test_both_sides_lose_their_means_and_get_one_spread(call, demo_database):
    from datasette_clip_search.search.modality_gap import EVERYDAY_TEXTS

    stored = rows(demo_database, "select embedding from clip_embeddings")
    pictures = np.array([vector(blob) for (blob,) in stored], np.float64)
    texts = np.array([vector(call("clip_vector(?)", text)) for text in EVERYDAY_TEXTS], np.float64)
    spreads = []
    for terms in (pictures, texts):
        scores = (terms - terms.mean(axis=0)) @ pictures.T
        spreads.append(np.sqrt(scores.var(axis=1).mean()))
    snow = (vector(call("clip_vector('snow')")) - texts.mean(axis=0)) / spreads[1]
    seven = (vector(call("clip_vector(7)")) - pictures.mean(axis=0)) / spreads[0]
    expected = unit(0.5 * seven + 2 * snow)
    assert vector(call("clip_mix(7, 0.5, 'snow', 2)")) == pytest.approx(expected, abs=1e-5)


def test_order_and_size_of_weights_make_no_difference(call):
    mixed = vector(call("clip_mix(7, 0.5, 'snow', 2)"))
    assert same(vector(call("clip_mix('snow', 2, 7, 0.5)")), mixed)
    assert same(
        vector(call("clip_mix(7, 0.5e308, 'snow', 1.7e308)")),
        vector(call("clip_mix(7, 5, 'snow', 17)")),
    )
    assert same(vector(call("clip_mix(7, '0.5', 'snow', '+2.0')")), mixed)
    # A weight of 0 drops a query, and its side.
    assert same(vector(call("clip_mix(7, 1, 'snow', 0)")), vector(call("clip_vector(7)")))


def test_an_embedding_is_of_a_picture_or_of_words(call):
    mixed = vector(call("clip_mix(7, 1, 'snow', 1)"))
    assert same(vector(call("clip_mix(clip_vector(7), 1, 'snow', 1)")), mixed)
    assert same(vector(call("clip_mix(7, 1, clip_vector('snow'), 1)")), mixed)
    assert same(vector(call("clip_mix(clip_vector(7), 1, clip_vector('snow'), 1)")), mixed)
    plain = unit(vector(call("clip_vector(7)")) + vector(call("clip_vector('snow')")))
    assert np.abs(mixed - plain).max() > 0.01


def test_bytes_of_a_picture(call, demo_database):
    path = rows(demo_database, "select path from images where id = 7")[0][0]
    data = (demo_database.parent / path).read_bytes()
    mixed = vector(call("clip_mix(?, 1, 'snow', 1)", data))
    assert mixed @ vector(call("clip_mix(7, 1, 'snow', 1)")) == pytest.approx(1, abs=1e-3)


def test_a_word_moves_a_picture_to_where_the_word_is(demo_database, connect):
    """For each dog: with the word of another place, the same dog there gets a better rank."""
    with open(ROOT / "demo" / "pictures.csv", newline="") as file:
        truth = {row["file"]: row for row in csv.DictReader(file)}
    shown = {
        image: truth[Path(path).relative_to(DEMO_PICTURES).as_posix()]
        for image, path in rows(demo_database, "select id, path from images")
    }
    connection = connect(demo_database)
    ranks, ranks_without = [], []
    dogs = [image for image, facts in shown.items() if facts["thing"] == "dog"]
    for source in dogs:
        for place in {shown[dog]["place"] for dog in dogs} - {shown[source]["place"]}:
            mix = f"clip_mix({source}, 1, '{place}', 1)"
            for collected, query in ((ranks, mix), (ranks_without, source)):
                found = connection.execute(f"select id from clip_search({query}, 160)")
                others = [image for (image,) in found if image != source]
                first = next(
                    rank
                    for rank, image in enumerate(others, 1)
                    if (shown[image]["thing"], shown[image]["place"]) == ("dog", place)
                )
                collected.append(first)
    assert len(ranks) > 10
    assert np.median(ranks) <= 2
    assert np.median(ranks_without) > 2 * np.median(ranks)


def test_a_search(call, demo_database, connect):
    found = connect(demo_database).execute(
        "select id, score from clip_search(clip_mix('zebra', 1, 'stripes', -0.7, 42, 0.5), 10)"
    )
    assert len(found.fetchall()) == 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "clip_mix takes queries, each with a weight after it, such as clip_mix('zebra', 1"),
        (["dog"], "clip_mix takes queries, each with a weight after it"),
        (["dog", 1, "cat"], "There is no model 'cat' in this database. It has, by id and name: 1"),
        (["dog", 1, "cat"], "an odd number of arguments"),
        # The id of a model, and also of a picture whose weight was forgotten.
        ([3, 1, 1], "There is no model named 1"),
        (["dog", None], "A weight of a mix must be a finite number, but it is NULL"),
        (["dog", "much"], "A weight of a mix must be a finite number, but it is 'much'"),
        (["dog", "1e5000"], "A weight of a mix must be a finite number, but it is '1e5000'"),
        (["dog", b"1"], "A weight of a mix must be a finite number, but it is a blob"),
        (["dog", float("inf")], "A weight of a mix must be a finite number, but it is inf"),
        # SQLite turns NaN into NULL.
        (["dog", float("nan")], "A weight of a mix must be a finite number, but it is NULL"),
        ([None, "much"], "A weight of a mix must be a finite number"),
        (["dog", 0, 1, 0.0], "The weights of the mix are all 0"),
        (["dog", 1, "dog", -1], "The queries of the mix cancel each other out"),
        ([1, 1, "dog", 1, 1, -1, "dog", -1], "The queries of the mix cancel each other out"),
        (["dog", 1] * 17, "The mix has 17 queries and the limit is 16"),
        (["dog", 1, 999, 1], "There is no picture with the id 999 in images"),
        (["dog", 1, 1.5, 1], "The query 1.5 is a float"),
        (["dog", 1, bytes(512), 1], "The embedding is all zeros"),
        (["dog", 1, b"x" * 63, 1], "The blob of 63 bytes is neither"),
    ],
)
def test_bad_input(call, arguments, message):
    marks = ", ".join("?" * len(arguments))
    with pytest.raises(sqlite3.OperationalError) as caught:
        call(f"clip_mix({marks})", *arguments)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "arguments",
    [
        *([None, 1], ["dog", 1, None, 0], [None, 1, 999, 1], [None, 1, "1"]),
        *(["", 1], ["dog", 1, " ", 0]),
    ],
)
def test_null_makes_null(call, arguments):
    marks = ", ".join("?" * len(arguments))
    assert call(f"clip_mix({marks})", *arguments) is None


def test_odd_texts_have_an_answer(call):
    for text in ("<end_of_text>", "a\0b", "🐕" * 200):
        mixed = vector(call("clip_mix(?, 1, 1, 1)", text))
        assert np.linalg.norm(mixed) == pytest.approx(1, abs=1e-6)


def test_pictures_that_are_all_alike_are_added_up(tiny_database, connect):
    with sqlite3.connect(tiny_database) as writing:
        writing.execute("delete from images where id > 1")
    writing.close()
    connection = connect(tiny_database)
    one, dog, mixed = connection.execute(
        "select clip_vector(1), clip_vector('dog'), clip_mix(1, 1, 'dog', 1)"
    ).fetchone()
    assert same(vector(mixed), unit(vector(one) + vector(dog)))


def test_without_the_encoder_embeddings_are_pictures(demo_database, tmp_path):
    """In a process that cannot import torch, a mix of vectors is their sum."""
    database = tmp_path / "demo.db"
    shutil.copy(demo_database, database)
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("delete from clip_towers")
    code = (
        "import sqlite3, sys; sys.modules['torch'] = sys.modules['open_clip'] = None\n"
        "from datasette_clip_search.sql import add_functions\n"
        f"connection = sqlite3.connect({str(database)!r}); add_functions(connection)\n"
        "sql = 'select clip_mix(?, 1, 8, 1)'\n"
        "print(connection.execute(sql, [bytes.fromhex(sys.argv[1])]).fetchone()[0].hex())\n"
        "try: connection.execute(\"select clip_mix('dog', 1, 8, 1)\").fetchone()\n"
        "except sqlite3.OperationalError as error: print(error)"
    )
    other = unit(np.random.default_rng(0).normal(size=128)).astype("<f4")
    result = subprocess.run(
        [sys.executable, "-c", code, other.tobytes().hex()], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    mixed, error = result.stdout.splitlines()
    sql = "select embedding from clip_embeddings where image_id = 8"
    assert same(vector(bytes.fromhex(mixed)), unit(other + vector(rows(demo_database, sql)[0][0])))
    assert "datasette-clip-search[embed]" in error


def test_a_large_collection_is_sampled():
    from datasette_clip_search.database.index.snapshot import DISTRIBUTION_SAMPLE

    count = 2 * DISTRIBUTION_SAMPLE + 1
    vectors = np.random.default_rng(1).normal(1, 1, size=(count, 8)).astype(np.float32)
    mean, covariance = snapshot_of(np.arange(count) * 3, vectors).distribution(None)
    assert mean.shape == (8,)
    assert mean == pytest.approx(vectors.mean(axis=0), abs=0.1)
    assert covariance == pytest.approx(np.cov(vectors.T), abs=0.1)
    again, _ = snapshot_of(np.arange(count), vectors).distribution(None)
    assert (mean == again).all()


def test_everyday_texts_are_many_and_encoded_once(demo_database, connect):
    from datasette_clip_search.database.model import default_model
    from datasette_clip_search.models.queries.text_encoder import text_encoder_of
    from datasette_clip_search.search.modality_gap import EVERYDAY_TEXTS, everyday_vectors

    assert len(set(EVERYDAY_TEXTS)) == len(EVERYDAY_TEXTS) >= 32
    connection = connect(demo_database)
    encoder = text_encoder_of(connection, default_model(connection)[1])
    first = everyday_vectors(encoder)
    assert first.shape == (len(EVERYDAY_TEXTS), 128)
    assert everyday_vectors(encoder) is first
