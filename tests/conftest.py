"""Fixtures that tests of every folder use."""

import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# Before they are imported: a failing assert in them shows its values, as one in a test does.
pytest.register_assert_rewrite("support")

from support.commands import run
from support.models import make_model
from support.paths import DEMO_MODEL, DEMO_PICTURES
from support.pictures import make_picture


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("open_clip")
    return make_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("open_clip")
    return make_model(tmp_path_factory.mktemp("models") / "other", seed=1)


@pytest.fixture
def no_torch(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Takes torch away, and what was remembered of it."""
    from datasette_clip_search.models.open_clip_library import is_torch_installed

    monkeypatch.setitem(sys.modules, "torch", None)
    is_torch_installed.cache_clear()
    yield
    is_torch_installed.cache_clear()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of six pictures in three formats, one in a folder of its own."""
    folder = tmp_path / "pictures"
    for seed, name in enumerate(["a.jpg", "b.png", "c.webp", "d.jpg", "e.jpg", "deep/f.jpg"]):
        make_picture(folder / name, seed)
    return folder


@pytest.fixture
def configured() -> Iterator[Callable[..., None]]:
    """Set fields of CONFIG until the test ends: `configured(max_k=10)`."""
    from datasette_clip_search.common.config import CONFIG
    from support.config import set_config

    before = dict(vars(CONFIG))
    yield set_config
    set_config(**before)


@pytest.fixture
def connect() -> Callable[..., sqlite3.Connection]:
    """Opens connections with the SQL functions, and closes them afterwards."""
    from datasette_clip_search.sql import add_functions

    opened: list[sqlite3.Connection] = []

    def connect(database: Path | str, **options: object) -> sqlite3.Connection:
        connection = sqlite3.connect(database, **options)
        opened.append(connection)
        add_functions(connection)
        return connection

    yield connect
    for connection in opened:
        connection.close()


@pytest.fixture(scope="session")
def demo_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's pictures, embedded by the demo's model. Only to be read."""
    pytest.importorskip("open_clip")
    database = tmp_path_factory.mktemp("demo") / "demo.db"
    model = ["--model", "demo", "--pretrained", DEMO_MODEL]
    result = run("embed-images", database, DEMO_PICTURES, *model)
    assert result.exit_code == 0, result.output
    return database


@pytest.fixture
def tiny_database(tmp_path: Path, pictures: Path, tiny_model: Path) -> Path:
    """The six pictures, embedded by the model that means nothing."""
    database = tmp_path / "photos.db"
    result = run("embed-images", database, pictures, "--pretrained", tiny_model)
    assert result.exit_code == 0, result.output
    return database
