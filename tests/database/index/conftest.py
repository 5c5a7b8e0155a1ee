"""Databases with an index, made once for all tests of indexes."""

import shutil

import pytest

from datasette_clip_search.database.index import IndexChoice
from datasette_clip_search.database.index.kinds import KINDS
from support.indexes import COUNT, build_index
from support.vector_database import clustered, make


@pytest.fixture(scope="session")
def vectors():
    """The vectors of `made`, to be read only."""
    return clustered(COUNT)


@pytest.fixture(scope="session")
def made(tmp_path_factory, vectors):
    """A database of 6,000 pictures without an index, to be copied only."""
    return make(tmp_path_factory.mktemp("index") / "p.db", vectors)


@pytest.fixture(scope="session", params=KINDS)
def indexed(request, tmp_path_factory, made):
    """A database with an index, of each kind."""
    copy = tmp_path_factory.mktemp(request.param) / "p.db"
    shutil.copy(made, copy)
    build_index(copy, IndexChoice(request.param))
    return copy, request.param
