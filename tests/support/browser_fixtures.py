"""A real browser and a real server over the demo's pictures, which tests share."""

import csv
import os
import shutil

import pytest
from playwright import sync_api

from support.paths import DEMO_PICTURES
from support.servers import served

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def truth():
    """What the demo's pictures show, by the path that follows the folder's."""
    with open(DEMO_PICTURES.with_suffix(".csv"), newline="") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def browser():
    found = os.environ.get("CLIP_SEARCH_CHROMIUM") or next(
        filter(None, map(shutil.which, NAMES)), None
    )
    with sync_api.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        except sync_api.Error as error:
            pytest.skip(f"There is no Chromium to be had: {str(error).splitlines()[0]}")
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def site(demo_database):
    """The address of a server of the demo's database."""
    with served(demo_database) as url:
        yield url


@pytest.fixture
def open_page(browser):
    """Opens pages of a given size; afterwards none may have complained in the console."""
    contexts, complaints = [], []

    def open_page(url, width=1280, **options):
        contexts.append(browser.new_context(viewport={"width": width, "height": 800}, **options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
