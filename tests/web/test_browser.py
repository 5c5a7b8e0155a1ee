"""The search page in a real browser, on a real server, over the demo's pictures."""

import re

import pytest

from support.browser import has_loaded, shown_rows
from support.paths import DEMO_MODEL

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.skipif(not DEMO_MODEL.is_dir(), reason="demo/model is not there")


def test_search_then_more_like_this_then_back(site, open_page, truth):
    page = open_page(f"{site}/demo")
    page.locator("summary", has=page.locator("#actions-menu-links-title")).click()
    page.get_by_text("Search pictures").click()
    assert has_loaded(page)
    start = page.url
    page.get_by_role("searchbox").fill("dog on beach")
    page.get_by_role("button", name="Search", exact=True).click()
    page.wait_for_url(f"{start}?q=dog+on+beach")
    assert has_loaded(page)
    first = shown_rows(page, truth)[0]
    assert (first["thing"], first["place"]) == ("dog", "beach")

    card = page.locator(".clip-grid li").first
    name = card.locator(".clip-name").inner_text()
    card.get_by_text("More like this").click()
    page.wait_for_url(re.compile(r"\?like=\d+$"))
    sync_api.expect(page.get_by_role("heading", name=f"Like {name}")).to_be_visible()
    assert has_loaded(page)
    assert {"dog", "beach"}.intersection(shown_rows(page, truth)[0].values())

    page.go_back()
    sync_api.expect(page.get_by_role("searchbox")).to_have_value("dog on beach")
    card.locator("a.clip-picture").click()
    page.wait_for_url(re.compile(r"/demo/images/\d+$"))


def test_keyboard_alone_is_enough(site, open_page, truth):
    page = open_page(f"{site}/-/clip-search")
    # The search box has the focus from the start.
    sync_api.expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.type("dog on beach")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"q=dog\+on\+beach"))
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
    page.wait_for_url(re.compile(r"\?like=\d+$"))
    assert len(shown_rows(page, truth)) == 24


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("query", ["", "?q=dog+on+beach", "?like=1", "?q=" + "x" * 300])
def test_fits_a_phone(site, open_page, scheme, query):
    page = open_page(f"{site}/-/clip-search/demo{query}", width=360, color_scheme=scheme)
    assert has_loaded(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    columns = page.locator(".clip-grid li").evaluate_all(
        "all => new Set(all.map(each => each.getBoundingClientRect().left)).size"
    )
    assert columns == 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(site, open_page, scheme):
    """WCAG 2 requires a contrast ratio of at least 4.5 for text."""
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
    assert has_loaded(page)
    assert page.locator(".clip-picture").evaluate_all(boxes) == heights
    assert len({round(height) for height in heights}) == 1


def test_thumbnails_fill_their_boxes(site, open_page):
    """Some thumbnails have 250 pixels, and a column is wider."""
    page = open_page(f"{site}/-/clip-search/demo?q=dog")
    assert has_loaded(page)
    fills = """all => all.filter(each => each.naturalWidth).map(each => {
        const box = each.parentElement.getBoundingClientRect(), own = each.getBoundingClientRect();
        const shape = each.naturalWidth / each.naturalHeight;
        return [Math.max(own.width / box.width, own.height / box.height),
                own.width / own.height / shape]
    })"""
    shown = page.locator(".clip-picture img").evaluate_all(fills)
    assert len(shown) > 3
    for filled, shape in shown:
        assert filled == pytest.approx(1, abs=0.01)
        assert shape == pytest.approx(1, abs=0.02)


def test_works_without_javascript(site, open_page, truth):
    page = open_page(f"{site}/-/clip-search/demo", java_script_enabled=False)
    page.get_by_role("searchbox").fill("dog on beach")
    page.get_by_role("searchbox").press("Enter")
    sync_api.expect(page.locator(".clip-grid li")).to_have_count(24)
