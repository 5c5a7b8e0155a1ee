"""Fixtures that tests of every folder use."""

import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# Before they are imported: a failing assert in them shows its values, as one in a test does.
pytest.register_assert_rewrite("support")

from support.commands import run
from support.models import make_model
from support.paths import DEMO_MODEL, DEMO_PICTURES
from support.pictures import make_picture

if TYPE_CHECKING:
    from datasette.app import Datasette


# What --quick does without, as where it is not installed: whatever imports it is skipped.
HEAVY = ("torch", "open_clip", "playwright")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--quick", action="store_true", help="Skip what needs PyTorch or a browser, or is slow"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes seconds of a processor, so --quick skips it")
    if config.getoption("--quick"):
        for name in HEAVY:
            assert name not in sys.modules, f"{name} was imported before the tests"
            sys.modules[name] = None


# The files that take longest. They come first, so that no process waits for another's at the end.
LONGEST = ("test_pythons.py", "test_published_install.py", "test_survival.py", "test_interrupts.py")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONGEST)
    if config.getoption("--quick"):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="--quick skips slow tests"))


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
    """Hide torch, and forget that it was found."""
    from datasette_clip_search.models.open_clip_library import is_torch_installed

    monkeypatch.setitem(sys.modules, "torch", None)
    is_torch_installed.cache_clear()
    yield
    is_torch_installed.cache_clear()


@pytest.fixture(scope="session")
def six_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pictures in three formats, one in a folder of its own. Only to be copied."""
    folder = tmp_path_factory.mktemp("six") / "pictures"
    for seed, name in enumerate(["a.jpg", "b.png", "c.webp", "d.jpg", "e.jpg", "deep/f.jpg"]):
        make_picture(folder / name, seed)
    return folder


@pytest.fixture
def pictures(tmp_path: Path, six_pictures: Path) -> Path:
    """A test's own copy of the six pictures, with their times of change."""
    return shutil.copytree(six_pictures, tmp_path / "pictures")


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
    """Open connections with the SQL functions, and close them afterwards."""
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


@pytest.fixture(scope="session")
def six_embedded(six_pictures: Path, tiny_model: Path) -> Path:
    """The database of the six pictures, beside their folder. Only to be copied."""
    database = six_pictures.with_name("photos.db")
    result = run("embed-images", database, six_pictures, "--pretrained", tiny_model)
    assert result.exit_code == 0, result.output
    return database


@pytest.fixture
def tiny_database(tmp_path: Path, pictures: Path, six_embedded: Path) -> Path:
    """The six pictures, embedded by the model that means nothing; a test's own copy."""
    # And the files beside it, such as its index.
    for file in six_embedded.parent.glob("photos.db*"):
        shutil.copy(file, tmp_path)
    return tmp_path / "photos.db"


@pytest.fixture
def serve(
    configured: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., "Datasette"]]:
    """Make Datasettes; `config` is 1.0's configuration, which is 0.65's metadata."""
    from datasette.app import Datasette

    from support.web import ONE, wait_for_loading

    opened: list[Datasette] = []
    configured(load_after_seconds=0)
    # With rich, which development tools bring, Datasette 0.65 fails at addresses without a route.
    monkeypatch.setattr("datasette.handle_exception.rich", None, raising=False)

    def serve(*files: Path, config: object = None, **options: object) -> Datasette:
        options["config" if ONE else "metadata"] = config or {}
        opened.append(Datasette([str(file) for file in files], **options))
        return opened[-1]

    yield serve
    wait_for_loading()
    for datasette in opened:
        if ONE:
            datasette.close()
