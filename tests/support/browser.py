"""A real browser, and what its pages show."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

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
# Longer than any page takes on a busy machine: a test that waits so long has failed.
PATIENCE = 120_000


@contextmanager
def launched() -> Iterator[object]:
    """Launch Chromium; skip the test where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api")
    found = os.environ.get("CLIP_SEARCH_CHROMIUM") or next(
        filter(None, map(shutil.which, NAMES)), None
    )
    with sync_api.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(
                executable_path=found, args=FLAGS, timeout=PATIENCE
            )
        except sync_api.Error as error:
            pytest.skip(f"Chromium does not start: {str(error).splitlines()[0]}")
        sync_api.expect.set_options(timeout=PATIENCE)
        yield browser
        browser.close()


def shown_rows(page, truth):
    """Return the rows of pictures.csv of the pictures in the grid, best first."""
    paths = page.locator(".clip-grid .clip-name").evaluate_all("all => all.map(each => each.title)")
    return [truth[path.partition("pictures/")[2]] for path in paths]


def has_loaded(page):
    """Wait until the pictures in view have loaded; return whether every one of them shows."""
    page.wait_for_load_state("networkidle")
    return page.locator(".clip-grid img").evaluate_all(
        "all => all.every(each => each.getBoundingClientRect().top > innerHeight"
        " || each.naturalWidth > 0)"
    )
