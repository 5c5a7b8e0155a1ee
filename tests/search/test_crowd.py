"""z_score against numpy, and what must not change it."""

import csv
import json
import shutil
import sqlite3

import numpy as np
import pytest

from datasette_clip_search.database.index.crowd import SIZE
from support.databases import make_database, rows
from support.paths import DEMO_PICTURES, ROOT
from support.vector_database import snapshot_of

pytest.importorskip("open_clip")


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def random_unit(*shape, seed=0):
    return unit(np.random.default_rng(seed).normal(size=shape))


def recomputed(cosines):
    cosines = cosines.astype(np.float64)
    return (cosines - np.median(cosines)) / cosines.std()


def stored(database):
    """Return the vectors of a database by id."""
    sql = "select image_id, embedding from clip_embeddings"
    return {id: np.frombuffer(blob, "<f4") for id, blob in rows(database, sql)}


@pytest.fixture(scope="module")
def database(tmp_path_factory, tiny_model):
    return make_database(tmp_path_factory.mktemp("crowd"), 30, tiny_model)


def test_column_is_what_numpy_computes(database, connect):
    vectors = stored(database)
    query = random_unit(16)
    cosines = np.array([vector @ query for vector in vectors.values()])
    expected = dict(zip(vectors, recomputed(cosines), strict=True))
    sql = "select id, z_score from clip_search(?, 100)"
    found = connect(database).execute(sql, [query.tobytes()]).fetchall()
    assert len(found) == 30
    assert dict(found) == pytest.approx(expected, abs=1e-4)
    assert [z for _, z in found] == sorted((z for _, z in found), reverse=True)


def test_picture_that_is_the_query_does_not_count(database, connect):
    vectors = stored(database)
    others = {id: vector @ vectors[7] for id, vector in vectors.items() if id != 7}
    expected = dict(zip(others, recomputed(np.array([*others.values()])), strict=True))
    found = dict(connect(database).execute("select id, z_score from clip_search(7, 100)"))
    assert found == pytest.approx(expected, abs=1e-4)


def test_k_does_not_change_it(database, connect):
    connection = connect(database)
    few = connection.execute("select * from clip_search('dog', 3)").fetchall()
    many = connection.execute("select * from clip_search('dog', 30)").fetchall()
    assert few == many[:3]
    hits = json.loads(connection.execute("select clip_search_json('dog', 3)").fetchone()[0])
    assert [hit["z_score"] for hit in hits] == [row[-1] for row in few]


def test_cut_off_in_sql_returns_what_lies_above(database, connect):
    connection = connect(database)
    sql = "select rank, z_score from clip_search('dog', 30)"
    above = [row for row in connection.execute(sql).fetchall() if row[1] > 0.5]
    assert 0 < len(above) < 20
    assert connection.execute(f"{sql} where z_score > 0.5").fetchall() == above


@pytest.fixture
def changed(database, tmp_path, connect):
    """Return a connection to a copy of the database, changed by a statement."""

    def changed(statement):
        copy = tmp_path / "photos.db"
        shutil.copy(database, copy)
        connection = sqlite3.connect(copy)
        with connection:
            connection.execute(statement)
        connection.close()
        return connect(copy)

    return changed


@pytest.mark.parametrize(
    ("count", "query", "is_known"),
    [(9, "'dog'", False), (10, "'dog'", True), (10, "1", False), (11, "1", True)],
)
def test_too_few_pictures_give_no_z_scores(changed, count, query, is_known):
    connection = changed(f"delete from images where id > {count}")
    found = connection.execute(f"select z_score from clip_search({query}, 20)").fetchall()
    assert len(found) == count - (query == "1")
    assert all((z_score is not None) is is_known for (z_score,) in found)


def test_uniform_pictures_give_no_z_scores(changed):
    connection = changed(
        "update clip_embeddings set embedding = "
        "(select embedding from clip_embeddings where image_id = 1)"
    )
    found = connection.execute("select z_score from clip_search('dog', 30)").fetchall()
    assert found == [(None,)] * 30
    hits = json.loads(connection.execute("select clip_search_json('dog', 2)").fetchone()[0])
    assert [hit["z_score"] for hit in hits] == [None, None]


def test_sample_is_spread_over_the_collection():
    vectors = random_unit(3 * SIZE, 8)
    ids = np.arange(len(vectors)) * 2 + 5
    crowd = snapshot_of(ids, vectors).crowd(None)
    assert len(crowd.ids) == SIZE
    assert (crowd.ids[0], crowd.ids[-1]) == (ids[0], ids[-1])
    assert set(np.diff(crowd.ids)) <= {4, 6, 8}
    assert np.array_equal(crowd.vectors, vectors[(crowd.ids - 5) // 2])


def test_sample_represents_the_collection():
    vectors = random_unit(20_000, 32)
    query = random_unit(32, seed=1)
    snapshot = snapshot_of(np.arange(len(vectors)), vectors)
    _, cosines = snapshot.nearest(None, query, 100)
    expected = recomputed(vectors @ query)
    found = snapshot.crowd(None).z_scores(query, cosines)
    assert found == pytest.approx(sorted(expected, reverse=True)[:100], rel=0.08)


def narrow(vectors, direction, by):
    """Move vectors into a cone, like those of CLIP: a cosine c becomes by² + (1 - by²)c."""
    return np.hstack([np.sqrt(1 - by**2) * vectors, np.tile(by * direction, (len(vectors), 1))])


def test_a_cone_moves_cosines_but_not_z_scores():
    pictures, query = random_unit(500, 32), random_unit(1, 32, seed=1)
    direction = random_unit(8, seed=2)
    cosines = {}
    z_scores = {}
    for by in (0, 0.9):
        vectors, [vector] = (unit(narrow(some, direction, by)) for some in (pictures, query))
        snapshot = snapshot_of(np.arange(len(vectors)), vectors)
        _, cosines[by] = snapshot.nearest(None, vector, 20)
        z_scores[by] = snapshot.crowd(None).z_scores(vector, cosines[by])
    assert (cosines[0.9] - cosines[0]).min() > 0.2
    assert z_scores[0.9] == pytest.approx(z_scores[0], abs=1e-3)


def test_common_matches_still_stand_out():
    """A quarter of the pictures show the subject: relative to the mean, none would be above 2."""
    direction = random_unit(256, seed=3)
    pictures = random_unit(400, 256)
    pictures[:100] = unit(pictures[:100] * 0.1 + direction)
    cosines = pictures @ direction
    crowd = snapshot_of(np.arange(400), pictures).crowd(None)
    z_scores = np.array(crowd.z_scores(direction, cosines))
    assert (z_scores[:100] > 2).all()
    assert not (z_scores[100:] > 2).any()
    assert ((cosines - cosines.mean()) / cosines.std()).max() < 2


def f1(found, right):
    return 2 * len(found & right) / (len(found) + len(right))


def test_one_cut_off_serves_words_and_mixes(demo_database, connect):
    """A place, and the place by day: no single threshold of the cosine fits both."""
    with open(ROOT / "demo" / "pictures.csv", newline="") as file:
        truth = {str(DEMO_PICTURES / row["file"]): row for row in csv.DictReader(file)}
    connection = connect(demo_database)

    def vector(words):
        return np.frombuffer(
            connection.execute("select clip_vector(?)", [words]).fetchone()[0], "<f4"
        )

    def mean_f1(column, cut):
        each = [
            f1({hit["path"] for hit in hits if hit[column] > cut}, right) for hits, right in answers
        ]
        return np.mean(each)

    answers = []
    for place in ("beach", "city", "forest", "kitchen", "snow"):
        there = {path: row["light"] for path, row in truth.items() if row["place"] == place}
        by_day = {path for path, light in there.items() if light != "night"}
        without_night = vector(place) - np.float32(0.7) * vector("night")
        for query, right in ((vector(place), set(there)), (without_night, by_day)):
            sql = "select clip_search_json(?, 1000)"
            [text] = connection.execute(sql, [query.tobytes()]).fetchone()
            answers.append((json.loads(text), right))
            assert len(answers[-1][0]) == len(truth)
    assert mean_f1("z_score", 2) > 0.98
    assert max(mean_f1("score", cut) for cut in np.arange(0, 0.7, 0.01)) < 0.9
