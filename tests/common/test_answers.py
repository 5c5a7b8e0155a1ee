"""The share of the right answers, compared with sets of the nearest."""

import numpy as np
import pytest

from datasette_clip_search.common.answers import EQUAL_COSINES, shares_found


@pytest.mark.parametrize("k", [1, 3, 10])
@pytest.mark.parametrize("seed", range(3))
def test_it_is_the_share_of_the_same_ids(k, seed):
    rng = np.random.default_rng(seed)
    cosines = rng.random((50, 200))
    found = np.array([rng.permutation(200)[:k] for _ in range(50)])
    nearest = np.argsort(-cosines, axis=1)[:, :k]
    expected = [len(np.intersect1d(a, b)) / k for a, b in zip(found, nearest, strict=True)]
    theirs = np.take_along_axis(cosines, found, axis=1)
    assert shares_found(theirs, cosines, k).tolist() == expected


def test_copies_of_the_last_one_are_as_good():
    nearest = np.array([[0.9, 0.8, 0.8, 0.1]])
    assert shares_found(np.array([[0.9, 0.8 - EQUAL_COSINES / 2]]), nearest, 2) == [1]
    assert shares_found(np.array([[0.9, 0.8 - 2 * EQUAL_COSINES]]), nearest, 2) == [0.5]


def test_no_share_is_above_one():
    nearest = np.array([[0.5, 0.5, 0.5]])
    assert shares_found(np.array([[0.5, 0.5, 0.5]]), nearest, 2) == [1]


def test_nan_cosines_are_not_found():
    nearest = np.array([[0.5, 0.4, -np.inf]])
    assert shares_found(np.array([[np.nan, 0.5]]), nearest, 2) == [0.5]
