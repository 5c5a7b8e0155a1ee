"""Exact search by rounded vectors: the same answer as from all exact vectors, in every case."""

import sqlite3
from contextlib import closing

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasette_clip_search.database.index import IndexChoice, flat
from datasette_clip_search.database.index.build import build_index
from datasette_clip_search.database.index.exact import LENGTH, slack
from datasette_clip_search.database.index.index import Index
from datasette_clip_search.database.index.kinds import FLAT
from datasette_clip_search.database.model import default_model
from support.vector_database import clustered, make

DIMENSION = 32


def rounded(vectors):
    """Make an exact index with rounded vectors, as a file holds it."""
    index = faiss.index_factory(vectors.shape[1], FLAT.factory, faiss.METRIC_INNER_PRODUCT)
    index.add(vectors)
    return Index(index, np.arange(len(vectors)) * 3, FLAT)


def unit(vectors):
    vectors = vectors.astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def spread_out(rng, count):
    return unit(rng.standard_normal((count, DIMENSION)))


def all_alike(rng, count):
    return np.repeat(spread_out(rng, 1), count, axis=0)


def copies(rng, count):
    return spread_out(rng, count)[rng.integers(0, max(1, count // 60), count)]


def closer_than_rounding(rng, count):
    return unit(spread_out(rng, 1) + 1e-5 * rng.standard_normal((count, DIMENSION)))


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32),
    make=st.sampled_from([spread_out, all_alike, copies, closer_than_rounding]),
    count=st.integers(1, 3000),
    k=st.integers(1, 100),
    share=st.sampled_from([None, 0.01, 0.5, 0.99]),
    length=st.sampled_from([1, 1e-3, 50]),
)
def test_matches_a_search_of_all_exact_vectors(seed, make, count, k, share, length):
    rng = np.random.default_rng(seed)
    vectors = make(rng, count)
    query = np.float32(length) * spread_out(rng, 1)[0]
    chosen = None if share is None else rng.random(count) < share
    k = min(k, count if chosen is None else int(chosen.sum()))
    if not k:
        return
    ids, scores = rounded(vectors).exact(query, k, chosen)
    _, best = flat(np.arange(count) * 3, vectors).exact(query, k, chosen)
    np.testing.assert_array_equal(scores, best)
    assert len(set(ids.tolist())) == k
    allowed = np.arange(count) if chosen is None else np.flatnonzero(chosen)
    assert set(ids.tolist()) <= set((allowed * 3).tolist())
    np.testing.assert_allclose(vectors[ids // 3] @ query, scores, atol=1e-5 * length)


def test_rounded_vectors_do_the_work():
    """Where vectors lie apart, few exact ones are read."""
    vectors = clustered(2000)
    base = rounded(vectors)
    # If they were read, all but the nearest to the first would be equally good.
    exact = faiss.rev_swig_ptr(base._exact.get_xb(), vectors.size).reshape(vectors.shape)
    near = np.argsort(-(vectors @ vectors[0]))[:100]
    exact[np.setdiff1d(np.arange(2000), near)] = vectors[0]
    ids, _ = base.exact(vectors[0], 10, None)
    assert set(ids // 3) == set(near[:10])


@pytest.mark.parametrize("scale", [1e-6, 1, LENGTH])
def test_rounding_moves_no_product_by_more(scale):
    rng = np.random.default_rng(0)
    for dimension in (8, 512, 2048):
        vectors = scale * unit(rng.standard_normal((1000, dimension)))
        base = rounded(vectors.astype(np.float32))
        for query in unit(rng.standard_normal((20, dimension))):
            scores, found = base._rounded.search(query[None], 1000)
            assert np.abs(scores[0] - vectors[found[0]] @ query).max() < slack(query)


@pytest.mark.parametrize("length", [1, 1.5, 1e5])
def test_vectors_that_are_no_unit_vectors_are_not_rounded(tmp_path, length):
    vectors = clustered(1500)
    vectors[700] *= length
    file = make(tmp_path / "p.db", vectors)
    with closing(sqlite3.connect(file)) as connection:
        _, model = default_model(connection)
        base, _ = build_index(connection, model, IndexChoice("flat"), lambda *_: None, tmp_path)
    assert (base._rounded is None) == (length > 1)
    ids, scores = base.exact(vectors[700], 3, None)
    assert ids[0] == 701
    assert scores[0] == pytest.approx(length**2, rel=1e-3)
    np.testing.assert_array_equal(base.vectors, vectors)
