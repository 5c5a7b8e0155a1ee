"""Fixtures of the web pages: a folder of pictures, its site, a browser."""

import csv
import shutil

import pytest

from support.browser import PATIENCE, launched
from support.commands import run
from support.paths import DEMO_PICTURES
from support.pictures import make_picture
from support.servers import served


@pytest.fixture(scope="session")
def thirty_embedded(tmp_path_factory, tiny_model):
    """A folder with thirty pictures and their database. Only to be copied."""
    folder = tmp_path_factory.mktemp("web")
    for seed in range(30):
        size = (48, 64) if seed % 3 == 0 else (64, 48)
        make_picture(folder / "pictures" / f"picture {seed:02}.png", seed, size)
    result = run("embed-images", folder / "photos.db", folder, "--pretrained", tiny_model)
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def folder(thirty_embedded, tmp_path):
    return shutil.copytree(thirty_embedded, tmp_path / "site")


@pytest.fixture
def photos(folder, serve):
    return serve(folder / "photos.db")


@pytest.fixture(scope="session")
def truth():
    """What the demo's pictures show, by their paths in the folder of pictures."""
    with open(DEMO_PICTURES.with_suffix(".csv"), newline="") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


# For a module: Playwright's event loop and those of asynchronous tests can't run together.
@pytest.fixture(scope="module")
def browser():
    with launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def site(demo_database):
    """The address of a server of the demo's database."""
    with served(demo_database) as url:
        yield url


@pytest.fixture
def open_page(browser):
    """Open pages of a given width; afterwards none may have complained in the console."""
    contexts, complaints = [], []

    def open_page(url, width=1280, **options):
        contexts.append(browser.new_context(viewport={"width": width, "height": 800}, **options))
        contexts[-1].set_default_timeout(PATIENCE)
        page = contexts[-1].new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
