"""Vectors are published whole or as fp16, and the loss of rounding is measured."""

import json
import sqlite3
from contextlib import closing

import numpy as np
import pytest

from datasette_clip_search.database.vectors import decode_vectors, encode_float16, is_vector
from datasette_clip_search.publish.rounding_loss import published_recall
from support.commands import run
from support.databases import rows
from support.pictures import make_picture
from support.publishing import publish


def test_fp16_finds_the_same_pictures(demo_database, tmp_path, connect):
    result = run("clip-publish", demo_database, tmp_path / "p.db", "--vectors", "fp16")
    assert result.exit_code == 0
    assert "Recall@10:" in result.stdout
    assert rows(tmp_path / "p.db", "select distinct length(embedding) from clip_embeddings") == [
        (256,)
    ]
    before, after = connect(demo_database), connect(tmp_path / "p.db")
    sql = "select id, score from clip_search(?, 10)"
    for query in ("dog on beach", 7, 99):
        expected = dict(before.execute(sql, (query,)).fetchall())
        found = dict(after.execute(sql, (query,)).fetchall())
        assert len(expected.keys() & found.keys()) >= 9
        for image_id in expected.keys() & found.keys():
            assert found[image_id] == pytest.approx(expected[image_id], abs=1e-3)
    # An fp16 vector is a query too, and its length is 1 again.
    sql = (
        "select s.id, s.score from clip_embeddings, clip_search(embedding, 1) s where image_id = 5"
    )
    [(image_id, score)] = after.execute(sql).fetchall()
    assert image_id == 5
    assert score == pytest.approx(1, abs=1e-6)


def test_more_can_be_embedded_into_fp16_vectors(tiny_database, tmp_path, tiny_model):
    database = publish(tiny_database, tmp_path / "p.db", "--vectors", "fp16")
    make_picture(tmp_path / "new" / "one.png", 77)
    result = run("embed-images", database, tmp_path / "new", "--pretrained", tiny_model)
    assert result.exit_code == 0, result.output
    sql = "select length(embedding), count(*) from clip_embeddings group by 1 order by 1"
    assert rows(database, sql) == [(32, 6), (64, 1)]
    result = run("query", database, "select count(*) as n from clip_search(1, 100)")
    assert json.loads(result.stdout) == [{"n": 6}]
    again = publish(database, tmp_path / "again.db", "--vectors", "fp16")
    assert rows(again, sql) == [(32, 7)]


def test_recall_is_measured():
    """Compare with brute force, for unchanged vectors and for coarse ones."""
    random = np.random.default_rng(3)
    vectors = random.standard_normal((300, 32)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = np.arange(300)
    coarse = vectors + 0.1 * random.standard_normal((300, 32)).astype(np.float32)

    def chunks(published):
        return lambda: ((ids[at : at + 70], vectors[at : at + 70], published[at : at + 70])
                        for at in range(0, 300, 70))  # fmt: skip

    def brute(published):
        def nearest(of):
            scores = of @ of.T
            np.fill_diagonal(scores, -1)
            return np.argsort(-scores, axis=1)[:, :10]

        pairs = zip(nearest(vectors), nearest(published), strict=True)
        return np.mean([len(set(one) & set(other)) / 10 for one, other in pairs])

    assert published_recall(chunks(vectors), 300, 300) == (1.0, 300)
    assert 0.3 < brute(coarse) < 0.9
    assert published_recall(chunks(coarse), 300, 300) == (
        pytest.approx(brute(coarse), abs=1e-6),
        300,
    )
    assert published_recall(chunks(vectors), 300, 7) == (1.0, 7)


def test_fp16_vectors():
    vector = np.full(64, 1 / 8, np.float32)
    whole = vector.astype("<f4").tobytes()
    for blobs in [[encode_float16(vector)] * 3, [whole, encode_float16(vector)], [whole]]:
        assert decode_vectors(blobs, 64) == pytest.approx(np.stack([vector] * len(blobs)))
    assert decode_vectors([], 64).shape == (0, 64)
    assert is_vector(encode_float16(vector), 64)
    assert is_vector(whole, 64)
    assert not is_vector(encode_float16(vector * 2), 64)
    assert not is_vector(b"\xff" * 128, 64)
    assert not is_vector(b"\xff" * 127, 64)
    assert not is_vector(None, 64)


def test_broken_vector_is_not_published(tiny_database, tmp_path):
    with closing(sqlite3.connect(tiny_database)) as connection, connection:
        connection.execute("update clip_embeddings set embedding = x'00' where image_id = 3")
    result = run("clip-publish", tiny_database, tmp_path / "p.db")
    assert result.exit_code == 1
    assert "The embedding of picture 3 is not a vector of 16 numbers" in result.stderr
    assert not list(tmp_path.glob("*p.db*"))
