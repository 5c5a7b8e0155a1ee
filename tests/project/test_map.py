"""datasette-cluster-map shows where pictures were taken, without any configuration."""

import json
import os
from pathlib import Path
from urllib.request import urlopen

import pytest

from support.browser import launched
from support.commands import run
from support.databases import rows
from support.paths import DEMO_MODEL
from support.servers import served
from support.web import ONE

pytest.importorskip("open_clip")
pytest.importorskip("datasette_cluster_map")

PLACES = Path(os.environ.get("CLIP_SEARCH_TESTDATA", "/nowhere")) / "corpora" / "gps"

pytestmark = [
    pytest.mark.skipif(not DEMO_MODEL.is_dir(), reason="demo/model is not there"),
    pytest.mark.skipif(not PLACES.is_dir(), reason="CLIP_SEARCH_TESTDATA has no corpora/gps"),
]


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    database = tmp_path_factory.mktemp("map") / "places.db"
    model = ["--model", "demo", "--pretrained", DEMO_MODEL]
    result = run("embed-images", database, PLACES, *model)
    assert result.exit_code == 0, result.output
    return database


@pytest.fixture(scope="module")
def site(database):
    """The address of a server of the database, with every plugin that is installed."""
    with served(database) as url:
        yield url


def test_places_are_rows_with_coordinates(database, site):
    with urlopen(f"{site}/places/images.json?_shape=array&latitude__notnull=1") as response:
        found = json.load(response)
    # These photographs were all taken in and around Arezzo.
    assert len(found) == rows(database, "select count(latitude) from images")[0][0] > 5
    assert all(43 < row["latitude"] < 44 and 11 < row["longitude"] < 12 for row in found)


@pytest.mark.skipif(
    ONE,
    reason="Datasette 1.0a41 refuses the _extra=next_url that datasette-cluster-map 0.18 asks for",
)
def test_markers_are_on_the_map(site):
    sync_api = pytest.importorskip("playwright.sync_api")
    with launched() as browser:
        page = browser.new_page()
        # There may be no network, and the map's own tiles are not what is asked for.
        page.route("**/*.png", lambda route: route.abort())
        page.goto(f"{site}/places/images")
        marks = page.locator(".leaflet-marker-icon")
        sync_api.expect(marks.first).to_be_visible()
        # A cluster shows how many pictures it holds, a single picture has a mark without text.
        numbers = marks.evaluate_all("all => all.map(each => Number(each.innerText) || 1)")
    assert sum(numbers) > 5
