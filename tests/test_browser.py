"""The search page in a real browser, on a real server, over the demo's pictures."""

import csv
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from urllib.request import urlopen

import pytest
from conftest import DEMO_MODEL, DEMO_PICTURES
from PIL import Image

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.skipif(not DEMO_MODEL.is_dir(), reason="demo/model is not there")

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
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "datasette", str(demo_database), "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        for _ in range(300):
            assert server.poll() is None, "the server ended"
            try:
                urlopen(f"{url}/-/versions.json").close()
                break
            except OSError:
                time.sleep(0.1)
        yield url
    finally:
        server.terminate()
        server.wait()


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


def shown(page, truth):
    """Returns what the pictures of the grid show, best first."""
    paths = page.locator(".clip-grid .clip-name").evaluate_all("all => all.map(each => each.title)")
    return [truth[path.partition("pictures/")[2]] for path in paths]


def loaded(page):
    """Waits until the pictures in view are there, and returns whether all of them are."""
    page.wait_for_load_state("networkidle")
    return page.locator(".clip-grid img").evaluate_all(
        "all => all.every(each => each.getBoundingClientRect().top > innerHeight"
        " || each.naturalWidth > 0)"
    )


def test_search_then_more_like_this_then_back(site, open_page, truth):
    page = open_page(f"{site}/demo")
    page.locator("summary", has=page.locator("#actions-menu-links-title")).click()
    page.get_by_text("Search pictures").click()
    assert loaded(page)
    start = page.url
    page.get_by_role("searchbox").fill("dog on beach")
    page.get_by_role("button", name="Search", exact=True).click()
    page.wait_for_url(f"{start}?q=dog+on+beach", timeout=60_000)
    assert loaded(page)
    first = shown(page, truth)[0]
    assert (first["thing"], first["place"]) == ("dog", "beach")

    card = page.locator(".clip-grid li").first
    name = card.locator(".clip-name").inner_text()
    card.get_by_text("More like this").click()
    page.wait_for_url(re.compile(r"\?like=\d+$"), timeout=60_000)
    sync_api.expect(page.get_by_role("heading", name=f"Like {name}")).to_be_visible()
    assert loaded(page)
    assert {"dog", "beach"}.intersection(shown(page, truth)[0].values())

    page.go_back()
    sync_api.expect(page.get_by_role("searchbox")).to_have_value("dog on beach")
    card.locator("a.clip-picture").click()
    page.wait_for_url(re.compile(r"/demo/images/\d+$"), timeout=60_000)


def test_keyboard_alone_is_enough(site, open_page, truth):
    page = open_page(f"{site}/-/clip-search")
    # The box has the focus from the start.
    sync_api.expect(page.get_by_role("searchbox")).to_be_focused(timeout=60_000)
    page.keyboard.type("dog on beach")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"q=dog\+on\+beach"), timeout=60_000)
    page.get_by_role("searchbox").focus()
    visited = []
    while "More like" not in (visited or [""])[-1]:
        assert len(visited) < 10
        page.keyboard.press("Tab")
        visited.append(
            page.evaluate("document.activeElement.ariaLabel || document.activeElement.innerText")
        )
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
        assert outline != "0px", visited
    assert visited[:4] == ["Search", "Search by a picture", "SQL", "JSON"]
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"\?like=\d+$"), timeout=60_000)
    assert len(shown(page, truth)) == 24


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A picture of the demo's as a camera would have taken it: 12 megapixels, over a megabyte."""
    path = tmp_path_factory.mktemp("camera") / "large.jpg"
    with Image.open(DEMO_PICTURES / "2023-summer" / "IMG_2041.jpg") as picture:
        picture.resize((4000, 3000)).save(path, quality=97)
    assert path.stat().st_size > 1_000_000
    return path


def test_search_by_a_picture_of_ones_own(site, open_page, truth, large):
    page = open_page(f"{site}/-/clip-search/demo?q=dog&k=6")
    page.evaluate(
        """() => {
            const real = window.fetch;
            window.fetch = (url, options) => {
                sessionStorage.setItem("sent", options.body.size);
                return real(url, options);
            };
        }"""
    )
    page.get_by_label("Search by a picture").set_input_files(large)
    page.wait_for_url(re.compile(r"\?vector=[^&]+&k=6$"), timeout=60_000)
    sync_api.expect(page.get_by_role("heading", name="Like your picture")).to_be_visible()
    sync_api.expect(page.get_by_alt_text("Your picture")).to_be_visible()
    assert loaded(page)
    assert shown(page, truth)[0]["file"] == "2023-summer/IMG_2041.jpg"
    assert len(shown(page, truth)) == 6
    # It is sent no larger than it is of use.
    assert 10_000 < int(page.evaluate("sessionStorage.getItem('sent')")) < 500_000
    page.go_back()
    sync_api.expect(page.get_by_role("searchbox")).to_have_value("dog")
    sync_api.expect(page.get_by_role("status")).to_have_text("")


@pytest.mark.parametrize("how", ["drop", "paste"])
def test_a_picture_may_be_dropped_or_pasted(site, open_page, truth, how):
    page = open_page(f"{site}/-/clip-search/demo")
    data = (DEMO_PICTURES / "phone" / "PXL_20230601_124824315.jpg").read_bytes()
    page.evaluate(
        """([how, bytes]) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], "a.jpg", {type: "image/jpeg"}));
            const options = {bubbles: true, cancelable: true};
            document.querySelector("h1").dispatchEvent(how == "drop"
                ? new DragEvent("drop", {dataTransfer: transfer, ...options})
                : new ClipboardEvent("paste", {clipboardData: transfer, ...options}));
        }""",
        [how, list(data)],
    )
    page.wait_for_url(re.compile(r"\?vector=[^&]+$"), timeout=60_000)
    assert shown(page, truth)[0]["file"] == "phone/PXL_20230601_124824315.jpg"


def test_a_picture_may_be_sent_without_a_browser(site):
    """As curl --data-binary does."""
    data = (DEMO_PICTURES / "2023-summer" / "IMG_2041.jpg").read_bytes()
    with urlopen(f"{site}/-/clip-search/demo.json?k=1", data) as response:
        [found] = json.load(response)["results"]
    assert found["path"].endswith("2023-summer/IMG_2041.jpg")


def test_what_is_no_picture_is_told_on_the_page(site, browser, tmp_path):
    """Chromium itself complains of the refusal in its console, so that open_page() does not do."""
    (tmp_path / "notes.txt").write_text("milk, eggs")
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(f"{site}/-/clip-search/demo")
        page.get_by_label("Search by a picture").set_input_files(tmp_path / "notes.txt")
        told = page.get_by_role("status")
        sync_api.expect(told).to_contain_text("can't be searched with", timeout=60_000)
        assert page.url == f"{site}/-/clip-search/demo"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("query", ["", "?q=dog+on+beach", "?like=1", "?q=" + "x" * 300])
def test_fits_a_phone(site, open_page, scheme, query):
    page = open_page(f"{site}/-/clip-search/demo{query}", width=360, color_scheme=scheme)
    assert loaded(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    columns = page.locator(".clip-grid li").evaluate_all(
        "all => new Set(all.map(each => each.getBoundingClientRect().left)).size"
    )
    assert columns == 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(site, open_page, scheme):
    """By the contrast ratio of WCAG 2: at least 4.5 for text."""
    page = open_page(f"{site}/-/clip-search/demo?q=dog", color_scheme=scheme)
    colours = page.evaluate(
        """() => ['h1', '.clip-facts', '.clip-name', '.clip-meta', '.clip-foot a', '.clip-score']
            .map(each => getComputedStyle(document.querySelector(each)).color)
            .concat(getComputedStyle(document.body).backgroundColor)"""
    )
    *texts, ground = [luminance(colour) for colour in colours]
    for text, colour in zip(texts, colours, strict=False):
        lighter, darker = max(text, ground), min(text, ground)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, colour


def luminance(colour):
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_nothing_moves_while_pictures_load(site, open_page):
    page = open_page(f"{site}/-/clip-search/demo?q=dog")
    boxes = "all => all.map(each => each.getBoundingClientRect().height)"
    heights = page.locator(".clip-picture").evaluate_all(boxes)
    assert loaded(page)
    assert page.locator(".clip-picture").evaluate_all(boxes) == heights
    assert len({round(height) for height in heights}) == 1


def test_works_without_javascript(site, open_page, truth):
    page = open_page(f"{site}/-/clip-search/demo", java_script_enabled=False)
    page.get_by_role("searchbox").fill("dog on beach")
    page.get_by_role("searchbox").press("Enter")
    sync_api.expect(page.locator(".clip-grid li")).to_have_count(24)
