"""Searching by an uploaded picture in a real browser."""

import json
import re
from urllib.request import urlopen

import pytest
from PIL import Image

from support.browser import has_loaded, shown_rows
from support.paths import DEMO_MODEL, DEMO_PICTURES

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.skipif(not DEMO_MODEL.is_dir(), reason="demo/model is not there")


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A picture of the demo in the size of a camera's: 12 megapixels, over a megabyte."""
    path = tmp_path_factory.mktemp("camera") / "large.jpg"
    with Image.open(DEMO_PICTURES / "2023-summer" / "IMG_2041.jpg") as picture:
        picture.resize((4000, 3000)).save(path, quality=97)
    assert path.stat().st_size > 1_000_000
    return path


def test_search_by_an_uploaded_picture(site, open_page, truth, large):
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
    page.wait_for_url(re.compile(r"\?vector=[^&]+&k=6$"))
    sync_api.expect(page.get_by_role("heading", name="Like your picture")).to_be_visible()
    sync_api.expect(page.get_by_alt_text("Your picture")).to_be_visible()
    assert has_loaded(page)
    assert shown_rows(page, truth)[0]["file"] == "2023-summer/IMG_2041.jpg"
    assert len(shown_rows(page, truth)) == 6
    # The browser shrinks it before the upload.
    assert 10_000 < int(page.evaluate("sessionStorage.getItem('sent')")) < 500_000
    page.go_back()
    sync_api.expect(page.get_by_role("searchbox")).to_have_value("dog")
    sync_api.expect(page.get_by_role("status")).to_have_text("")


@pytest.mark.parametrize(("name", "size"), [("a.ico", (256, 256)), ("a.png", (5120, 2880))])
def test_pictures_that_the_server_refuses_are_sent_as_jpeg(
    site, open_page, truth, tmp_path, name, size
):
    """A format that only the browser reads, and a screenshot with many pixels in a small file."""
    with Image.open(DEMO_PICTURES / "2023-summer" / "IMG_2041.jpg") as picture:
        picture.quantize(16).resize(size).save(tmp_path / name)
    assert (tmp_path / name).stat().st_size < 1_000_000
    page = open_page(f"{site}/-/clip-search/demo")
    page.get_by_label("Search by a picture").set_input_files(tmp_path / name)
    page.wait_for_url(re.compile(r"\?vector=[^&]+$"))
    sync_api.expect(page.get_by_alt_text("Your picture")).to_be_visible()


GIVE = """([how, bytes, texts]) => {
    const transfer = new DataTransfer();
    if (bytes) {
        const file = new File([new Uint8Array(bytes)], "a.jpg", {type: "image/jpeg"});
        transfer.items.add(file);
    }
    for (const [type, text] of Object.entries(texts)) transfer.setData(type, text);
    const options = {bubbles: true, cancelable: true};
    const goesOn = document.querySelector("h1").dispatchEvent(how == "drop"
        ? new DragEvent("drop", {dataTransfer: transfer, ...options})
        : new ClipboardEvent("paste", {clipboardData: transfer, ...options}));
    return !goesOn;
}"""


def give(page, how, data, texts):
    """Drop or paste on the page; return whether the page handles it instead of the browser."""
    return page.evaluate(GIVE, [how, data and list(data), texts])


PHONE = DEMO_PICTURES / "phone" / "PXL_20230601_124824315.jpg"
HTML = {"text/html": "<img src='https://example.org/a.jpg'>"}


@pytest.mark.parametrize(
    ("how", "texts"),
    [("drop", {}), ("paste", {}), ("paste", HTML), ("paste", {"text/plain": "a.jpg"})],
)
def test_a_picture_may_be_dropped_or_pasted(site, open_page, truth, how, texts):
    page = open_page(f"{site}/-/clip-search/demo")
    assert give(page, how, PHONE.read_bytes(), texts)
    page.wait_for_url(re.compile(r"\?vector=[^&]+$"))
    assert shown_rows(page, truth)[0]["file"] == f"phone/{PHONE.name}"


def hold(page):
    """Hold the requests of a page back; return the list of them."""
    held = []
    page.route("**/demo.json?*", lambda route: held.append(route))
    return held


def test_words_are_pasted_even_with_a_picture_of_them(site, open_page):
    page = open_page(f"{site}/-/clip-search/demo")
    hold(page)
    words = {"text/plain": "dog", "text/html": "<b>dog</b>"}
    assert not give(page, "paste", PHONE.read_bytes(), words)
    sync_api.expect(page.get_by_role("status")).to_have_text("")


def test_a_dropped_address_is_explained(site, open_page):
    page = open_page(f"{site}/-/clip-search/demo")
    assert give(page, "drop", None, {"text/uri-list": "https://example.org/a.jpg", **HTML})
    sync_api.expect(page.get_by_role("status")).to_contain_text("Only an address was dropped")


def test_an_address_may_be_dropped_into_the_box(site, open_page):
    page = open_page(f"{site}/-/clip-search/demo")
    box = page.get_by_role("searchbox")
    link = page.get_by_text("More like this").first
    link.hover()
    page.mouse.down()
    page.get_by_role("heading", name="Search pictures").hover()
    sync_api.expect(page.locator("body.clip-dropping")).to_have_count(1)
    box.hover()
    page.mouse.up()
    sync_api.expect(box).to_have_value(re.compile(r"\?like=\d+$"))
    sync_api.expect(page.locator("body.clip-dropping")).to_have_count(0)


def test_the_last_picture_wins(site, open_page, truth):
    page = open_page(f"{site}/-/clip-search/demo")
    held = hold(page)
    choose = page.get_by_label("Search by a picture").set_input_files
    for path in [DEMO_PICTURES / "2023-summer" / "IMG_2041.jpg", PHONE]:
        with page.expect_request("**/demo.json?*"):
            choose(path)
    while len(held) < 2:
        page.wait_for_timeout(10)
    first, second = held
    first.fulfill(json={"ok": False, "error": "This comes too late"})
    page.wait_for_timeout(200)
    sync_api.expect(page.get_by_role("status")).to_contain_text("Searching by your picture")
    second.continue_()
    page.wait_for_url(re.compile(r"\?vector=[^&]+$"))
    assert shown_rows(page, truth)[0]["file"] == f"phone/{PHONE.name}"


def test_a_shared_address_does_not_show_the_uploaded_picture(site, open_page):
    with urlopen(f"{site}/-/clip-search/demo.json?k=1", PHONE.read_bytes()) as response:
        vector = json.load(response)["query"]["vector"]
    page = open_page(f"{site}/-/clip-search/demo?vector={vector}")
    sync_api.expect(page.get_by_role("heading", name="Like your picture")).to_be_visible()
    assert has_loaded(page)
    sync_api.expect(page.get_by_alt_text("Your picture")).to_be_hidden()


def test_a_picture_may_be_sent_without_a_browser(site):
    """curl --data-binary sends it in the same way."""
    data = (DEMO_PICTURES / "2023-summer" / "IMG_2041.jpg").read_bytes()
    with urlopen(f"{site}/-/clip-search/demo.json?k=1", data) as response:
        [found] = json.load(response)["results"]
    assert found["path"].endswith("2023-summer/IMG_2041.jpg")


def test_the_page_reports_a_file_that_is_not_a_picture(site, browser, tmp_path):
    """Chromium logs the refusal in its console, which open_page() does not allow."""
    (tmp_path / "notes.txt").write_text("milk, eggs")
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(f"{site}/-/clip-search/demo")
        page.get_by_label("Search by a picture").set_input_files(tmp_path / "notes.txt")
        told = page.get_by_role("status")
        sync_api.expect(told).to_contain_text("can't be used for a search")
        assert page.url == f"{site}/-/clip-search/demo"
