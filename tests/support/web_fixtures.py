"""Databases and Datasettes that the tests of the web pages share."""

import shutil

import pytest
from datasette.app import Datasette

from support.commands import run
from support.pictures import make_picture
from support.web import ONE, wait_for_loading


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny_model):
    """A folder with thirty pictures and their database, only to be copied."""
    folder = tmp_path_factory.mktemp("web")
    for seed in range(30):
        size = (48, 64) if seed % 3 == 0 else (64, 48)
        make_picture(folder / "pictures" / f"picture {seed:02}.png", seed, size)
    result = run("embed-images", folder / "photos.db", folder, "--pretrained", tiny_model)
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def folder(made, tmp_path):
    shutil.copytree(made, tmp_path / "site")
    return tmp_path / "site"


@pytest.fixture
def serve(configured, monkeypatch):
    """Makes Datasettes; `config` is 1.0's configuration, which is 0.65's metadata."""
    opened = []
    configured(load_after_seconds=0)
    # With rich, which development tools bring, Datasette 0.65 fails at addresses without a route.
    monkeypatch.setattr("datasette.handle_exception.rich", None, raising=False)

    def serve(*files, config=None, **options):
        options["config" if ONE else "metadata"] = config or {}
        opened.append(Datasette([str(file) for file in files], **options))
        return opened[-1]

    yield serve
    wait_for_loading()
    for datasette in opened:
        if ONE:
            datasette.close()


@pytest.fixture
def photos(folder, serve):
    return serve(folder / "photos.db")
