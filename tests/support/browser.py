"""Small helpers of the tests in a real browser."""


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
