"""clip_duplicates: its pairs and groups against brute force, and its errors."""

import shutil
import sqlite3
import threading
import time
import tracemalloc

import numpy as np
import pytest

from datasette_clip_search.database.prepare import create_tables
from datasette_clip_search.search import duplicates as module
from datasette_clip_search.search.near_pairs import TooManyPairs, find_pairs

MODEL = "insert into clip_models values (?, ?, 'made', ?, ?, '{}', ?, 0, null)"
IMAGE = """insert into images (id, path, content_hash, size, mtime, width, height, format, taken)
    values (?, ?, '', ?, ?, ?, 1, 'JPEG', ?)"""
EMBEDDING = "insert into clip_embeddings (model_id, image_id, embedding) values (?, ?, ?)"


def unit(vectors) -> np.ndarray:
    vectors = np.asarray(vectors, np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def pictures_like_ours(count: int, dimension: int = 64, seed: int = 0) -> np.ndarray:
    """Return clustered vectors, with near and exact copies among them."""
    random = np.random.default_rng(seed)
    strength = np.arange(1, dimension + 1) ** -0.5
    centres = random.normal(size=(count // 50 + 1, dimension)) * strength
    vectors = centres[random.integers(0, len(centres), count)]
    vectors = unit(vectors + random.normal(size=(count, dimension)) * strength)
    near = random.integers(0, count, (2, count // 5))
    distance = random.uniform(0, 0.5, (near.shape[1], 1))
    vectors[near[0]] += distance * unit(random.normal(size=(near.shape[1], dimension)))
    vectors[near[1]] = vectors[near[0]] + distance * unit(
        random.normal(size=(near.shape[1], dimension))
    )
    vectors = unit(vectors)
    same = random.integers(0, count, (2, count // 50))
    vectors[same[0]] = vectors[same[1]]
    return vectors


def database(path, vectors, facts=None, models=1):
    """Make a database of pictures with the ids 1, 2, …; facts are (width, size, mtime, taken)."""
    connection = sqlite3.connect(path)
    create_tables(connection, "images")
    for model in range(1, models + 1):
        connection.execute(MODEL, [model, f"m{model}", vectors.shape[1], str(model), model == 1])
    for position, vector in enumerate(vectors):
        width, size, mtime, taken = facts[position] if facts else (1, 1, 0, None)
        image = position + 1
        connection.execute(IMAGE, [image, f"{image:03}.jpg", size, mtime, width, taken])
        connection.execute(EMBEDDING, [1, image, vector.astype("<f4").tobytes()])
    connection.commit()
    connection.close()
    return path


def brute_force(vectors, threshold, better=None):
    """Return the groups by definition: positions, keeper first, in the order of keepers."""
    exact = vectors.astype(np.float64)
    cosine = np.minimum((exact @ exact.T).round(6), 1)
    left = list(better if better is not None else range(len(vectors)))
    groups = []
    while left:
        keeper = left.pop(0)
        near = [other for other in left if cosine[keeper, other] >= threshold]
        left = [other for other in left if other not in near]
        if near:
            near.sort(key=lambda other: (-cosine[keeper, other], other))
            groups.append([keeper, *near])
    groups.sort(key=lambda group: (-len(group), -cosine[group[0], group[-1]], group[0]))
    return groups


@pytest.mark.parametrize("threshold", [0.7, 0.9, 0.97, 1.0])
@pytest.mark.parametrize(("count", "dimension"), [(300, 64), (6000, 100)])
def test_no_pair_is_missed(count, dimension, threshold):
    vectors = pictures_like_ours(count, dimension)
    pairs = find_pairs(vectors, threshold, 10**7)
    found = set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
    first_equal = {vector.tobytes(): at for at, vector in reversed([*enumerate(vectors)])}
    assert pairs.copy_of.tolist() == [first_equal[vector.tobytes()] for vector in vectors]
    close = vectors @ vectors.T >= threshold - 1e-5
    first, second = np.nonzero(np.triu(close, 1))
    cosine = np.einsum("ij,ij->i", vectors[first], vectors[second], dtype=float).round(6)
    is_first = pairs.copy_of == np.arange(count)
    wanted = (cosine >= threshold) & is_first[first] & is_first[second]
    assert found == set(zip(first[wanted].tolist(), second[wanted].tolist(), strict=True))
    assert len(found) == len(pairs.first)
    assert threshold == 1 or len(found) > 5


def test_vectors_without_axes_are_compared_in_full():
    vectors = unit(np.random.default_rng(0).normal(size=(5100, 64)))
    vectors[4000] = unit(vectors[:1] + vectors[1:2] * 0.6)[0]
    pairs = find_pairs(vectors, 0.7, 10)
    assert (pairs.first.tolist(), pairs.second.tolist()) == ([0], [4000])


def test_vectors_are_held_twice_at_most():
    """A visitor of a small server can start a comparison of all vectors."""
    vectors = unit(np.random.default_rng(0).normal(size=(4000, 768)))
    tracemalloc.start()
    try:
        find_pairs(vectors, 0.9, 10)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Besides those of the arguments.
    assert most < 1.5 * vectors.nbytes


def test_exact_copies_make_no_pairs_but_others_have_a_limit():
    same = np.ones((3000, 4), np.float32) / 2
    assert len(find_pairs(same, 0.9, 10).first) == 0
    near = unit(same + np.random.default_rng(0).normal(size=same.shape) * 0.01)
    with pytest.raises(TooManyPairs):
        find_pairs(near, 0.9, 10_000)


@pytest.mark.parametrize("threshold", [0.8, 0.95])
def test_groups_are_those_of_brute_force(tmp_path, connect, threshold):
    vectors = pictures_like_ours(300, seed=1)
    connection = connect(database(tmp_path / "p.db", vectors))
    sql = "select * from clip_duplicates(?)"
    found = connection.execute(sql, [threshold]).fetchall()
    wanted = brute_force(vectors, threshold)
    assert len(wanted) > 10
    members = [
        (number, len(group), at + 1, f"{at + 1:03}.jpg", int(at == group[0]))
        for number, group in enumerate(wanted, 1)
        for at in group
    ]
    assert [(*row[:4], row[5]) for row in found] == members
    cosines = [row[4] for row in found]
    keepers = {row[0]: row[2] - 1 for row in found if row[5]}
    actual = [float(vectors[keepers[row[0]]] @ vectors[row[2] - 1]) for row in found]
    assert cosines == pytest.approx(actual, abs=2e-6)
    assert all(row[4] == 1 for row in found if row[5])
    # A higher threshold uses the pairs of a lower one.
    higher = connection.execute("select id from clip_duplicates(0.981)").fetchall()
    assert [id for (id,) in higher] == [
        at + 1 for group in brute_force(vectors, 0.981) for at in group
    ]


@pytest.mark.parametrize(
    ("facts", "keeper"),
    [
        ([(2, 1, 0, None), (3, 1, 9, None), (1, 9, 0, None)], 2),
        ([(1, 5, 0, None), (1, 6, 9, None), (1, 4, 0, None)], 2),
        (
            [(1, 1, 9, "2020-01-01T00:00:00"), (1, 1, 9, "2019-01-01T00:00:00"), (1, 1, 2e9, None)],
            2,
        ),
        ([(1, 1, 2e9, "2020-01-01T00:00:00"), (1, 1, 1e9, None), (1, 1, 1.9e9, None)], 2),
        ([(1, 1, 0, None), (1, 1, 0, None), (1, 1, 0, None)], 1),
    ],
    ids=["pixels", "size", "taken", "modified", "id"],
)
@pytest.mark.parametrize("spread", [0, 0.01], ids=["equal", "near"])
def test_the_best_picture_is_kept(tmp_path, connect, facts, keeper, spread):
    vectors = unit(np.eye(3, 8) * spread + [1, 0, 0, 0, 0, 0, 0, 1])
    connection = connect(database(tmp_path / "p.db", vectors, facts))
    sql = "select id, group_size, keep from clip_duplicates()"
    assert connection.execute(sql).fetchall()[0] == (keeper, 3, 1)


def test_chains_are_cut(tmp_path, connect):
    """Ten pictures: each has a cosine of 0.97 to the next, but the first and last are different."""
    angle = np.arccos(0.97) * np.arange(10)
    vectors = unit(np.stack([np.cos(angle), np.sin(angle)], axis=1))
    connection = connect(database(tmp_path / "p.db", vectors))
    rows = connection.execute("select group_number, id, keep from clip_duplicates(0.95)").fetchall()
    assert rows == [row for n in range(5) for row in ((n + 1, 2 * n + 1, 1), (n + 1, 2 * n + 2, 0))]


def test_joins_limits_and_later_changes(tmp_path, connect):
    vectors = unit([[1, 0], [1, 0.01], [1, 0.02], [0, 1], [0.01, 1], [-1, 0]])
    connection = connect(database(tmp_path / "p.db", vectors))

    def ids(sql: str) -> list[int]:
        return [id for (id,) in connection.execute(sql)]

    assert ids("select id from clip_duplicates") == [1, 2, 3, 4, 5]
    assert ids("select id from clip_duplicates() order by group_number limit 2 offset 2") == [3, 4]
    assert ids("select i.id from clip_duplicates() d join images i using (id) where keep") == [1, 4]
    assert ids(
        "select b.id from clip_duplicates() a join clip_duplicates() b using (group_number) "
        "where a.id = 5 and a.id <> b.id"
    ) == [4]
    assert ids(
        "select id from clip_search(?1, 9) join clip_duplicates() using (id)".replace("?1", "6")
    )
    assert ids("select id from images where id not in (select id from clip_duplicates())") == [6]
    connection.execute("delete from images where id in (1, 4)")
    assert ids("select id from clip_duplicates()") == [2, 3]
    # Deleted, although the vectors have not changed.
    connection.execute("drop trigger clip_image_deleted")
    connection.execute("delete from images where id = 3")
    assert ids("select id from clip_duplicates()") == []


OUT = "threshold must be a number from 0.7 to 1, the least cosine of near-duplicates, but it is "


@pytest.mark.parametrize(
    ("threshold", "shown"),
    [
        (None, "NULL"),
        (float("nan"), "NULL"),
        ("high", "'high'"),
        ("nan", "'nan'"),
        ("0,95", "'0,95'"),
        ("0_9", "'0_9'"),
        (b"0.95", "a blob"),
        (0.69, "0.69"),
        (-1, "-1"),
        ("1.01", "1.01"),
        (95, "95"),
        (float("inf"), "inf"),
        ("9" * 5000, "'999999"),
    ],
)
def test_bad_thresholds(tmp_path, connect, threshold, shown):
    connection = connect(database(tmp_path / "p.db", unit([[1, 0], [1, 0]])))
    with pytest.raises(sqlite3.OperationalError) as caught:
        connection.execute("select * from clip_duplicates(?)", [threshold])
    assert (OUT + shown) in str(caught.value)


@pytest.mark.parametrize("threshold", [1, 1.0, "1", "0.95", ".9", 0.7])
def test_good_thresholds(tmp_path, connect, threshold):
    connection = connect(database(tmp_path / "p.db", unit([[1, 0], [1, 0]])))
    found = connection.execute("select id, similarity from clip_duplicates(?)", [threshold])
    assert found.fetchall() == [(1, 1), (2, 1)]


def test_models_and_databases_without_pictures(tmp_path, connect):
    connection = connect(database(tmp_path / "p.db", unit([[1, 0], [1, 0]]), models=2))

    def count(model: object) -> int:
        return len(connection.execute("select * from clip_duplicates(1, ?)", [model]).fetchall())

    assert (count(1), count("m1"), count(None), count("m2")) == (2, 2, 2, 0)
    with pytest.raises(sqlite3.OperationalError, match="There is no model 'm3' in this database"):
        count("m3")
    one = connect(database(tmp_path / "one.db", unit([[1, 0]])))
    assert one.execute("select * from clip_duplicates()").fetchall() == []
    with pytest.raises(sqlite3.OperationalError, match="holds no embeddings to search"):
        connect(tmp_path / "none.db").execute("select * from clip_duplicates()")


def test_too_many_pairs(tmp_path, connect, configured):
    configured(max_duplicate_pairs=10)
    vectors = unit(np.eye(9, 10) * 0.2 + np.eye(1, 10, 9))
    connection = connect(database(tmp_path / "p.db", vectors))
    for _ in range(2):
        with pytest.raises(sqlite3.OperationalError, match="Raise the threshold") as caught:
            connection.execute("select * from clip_duplicates(0.9)")
        told = str(caught.value)
        assert "More than 10 pairs of pictures have a similarity of at least 0.9" in told
    assert connection.execute("select * from clip_duplicates(0.99)").fetchall() == []


def test_a_time_limit_ends_the_wait_and_not_the_work(tmp_path, connect, monkeypatch):
    """As in Datasette, whose progress handler ends a statement. Later, the answer is ready."""
    vectors = pictures_like_ours(300)
    path = database(tmp_path / "p.db", vectors)
    shutil.copy(path, tmp_path / "other.db")
    connection, other = connect(path), connect(tmp_path / "other.db")
    go_on, searches = threading.Event(), []

    def slow(*arguments):
        searches.append(arguments)
        assert go_on.wait(60)
        return find_pairs(*arguments)

    monkeypatch.setattr(module, "find_pairs", slow)
    for waiting in (connection, connection, other):
        end = time.monotonic() + 0.2
        waiting.set_progress_handler(lambda end=end: time.monotonic() > end, 1000)
        with pytest.raises(sqlite3.OperationalError, match=r"^interrupted$"):
            waiting.execute("select * from clip_duplicates(0.9)").fetchall()
        waiting.set_progress_handler(None, 0)
    # One thread for each database, so that no database waits for another.
    assert len(searches) == 2
    go_on.set()
    first = connection.execute("select id from clip_duplicates(0.9)").fetchall()
    assert len(searches) == 2
    assert other.execute("select id from clip_duplicates(0.9)").fetchall() == first != []
    assert len(searches) == 2
    # The pairs serve every higher threshold.
    assert connection.execute("select count(*) from clip_duplicates(0.97)").fetchone() > (0,)
    assert len(searches) == 2


def test_an_error_in_the_thread_is_reported_once(tmp_path, connect, monkeypatch):
    connection = connect(database(tmp_path / "p.db", unit([[1, 0], [1, 0]])))
    with monkeypatch.context() as patched:
        patched.setattr(module, "find_pairs", lambda *arguments: [][0])
        with pytest.raises(sqlite3.OperationalError, match="clip_duplicates failed: IndexError"):
            connection.execute("select * from clip_duplicates()")
    assert len(connection.execute("select * from clip_duplicates()").fetchall()) == 2
