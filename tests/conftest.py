"""Pictures, models and databases that the tests share."""

import json
import os
import random
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

ROOT = Path(__file__).parent.parent
DEMO_MODEL = ROOT / "demo" / "model"
DEMO_PICTURES = ROOT / "demo" / "pictures"

TINY_CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


def make_model(folder: Path, seed: int = 0, dimension: int = 16) -> Path:
    """Saves a genuine OpenCLIP model with random weights, too small to mean anything."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(seed)
    folder.mkdir(parents=True)
    settings = {**TINY_CONFIG, "embed_dim": dimension}
    model = open_clip.CLIP(**settings)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    config = {"model_cfg": settings, "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder


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
    from datasette_clip_search.query_encoder import is_torch_here

    monkeypatch.setitem(sys.modules, "torch", None)
    is_torch_here.cache_clear()
    yield
    is_torch_here.cache_clear()


def make_picture(path: Path, seed: int = 0, size: tuple[int, int] = (64, 48)) -> Path:
    """Saves a picture of random coloured blocks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    blocks = Image.frombytes("RGB", (8, 6), random.Random(seed).randbytes(8 * 6 * 3))
    blocks.resize(size, Image.Resampling.NEAREST).save(path)
    return path


def make_database(folder: Path, count: int, model: Path) -> Path:
    """Embeds so many pictures that mean nothing, for vectors that are only to be read."""
    for seed in range(count):
        make_picture(folder / "pictures" / f"{seed:02}.png", seed)
    options = ["--pretrained", model, "--text-tower", "32-bit"]
    result = run("embed-images", folder / "photos.db", folder, *options)
    assert result.exit_code == 0, result.output
    return folder / "photos.db"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of six pictures in three formats, one in a folder of its own."""
    folder = tmp_path / "pictures"
    for seed, name in enumerate(["a.jpg", "b.png", "c.webp", "d.jpg", "e.jpg", "deep/f.jpg"]):
        make_picture(folder / name, seed)
    return folder


def run(*arguments: str | os.PathLike[str]) -> Result:
    """Runs sqlite-utils with our command added."""
    from sqlite_utils.cli import cli

    return CliRunner().invoke(cli, [os.fspath(argument) for argument in arguments])


def rows(database: Path, sql: str, *parameters: object) -> list[tuple]:
    connection = sqlite3.connect(database)
    try:
        return connection.execute(sql, parameters).fetchall()
    finally:
        connection.close()


@pytest.fixture
def configured() -> Iterator[Callable[..., None]]:
    """Replaces fields of CONFIG for a test."""
    from datasette_clip_search.config import CONFIG

    before: dict[str, object] = {}

    def configure(**fields: object) -> None:
        for name, value in fields.items():
            before.setdefault(name, getattr(CONFIG, name))
            object.__setattr__(CONFIG, name, value)

    yield configure
    for name, value in before.items():
        object.__setattr__(CONFIG, name, value)


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
