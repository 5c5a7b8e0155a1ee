"""Fixtures of the tests of clip-publish."""

import shutil
from pathlib import Path

import pytest

from support.databases import make_database
from support.publishing import publish


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    return make_database(tmp_path_factory.mktemp("made"), 6, tiny_model).parent


@pytest.fixture
def tiny_database(made: Path, tmp_path: Path) -> Path:
    """A database of six random pictures, in a folder of its own."""
    return Path(shutil.copytree(made, tmp_path / "home")) / "photos.db"


@pytest.fixture(scope="session")
def published(demo_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo database, published without any option. For reading only."""
    return publish(demo_database, tmp_path_factory.mktemp("published") / "published.db")
