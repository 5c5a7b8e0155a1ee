"""Take the README's screenshot of the search page, from a running demo.

make demo                        # in another terminal
python demo/make_screenshot.py
"""

import argparse
import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright

PAGE = "http://127.0.0.1:8001/-/clip-search/demo?q=dog+on+beach&k=12"


def main() -> None:
    """Open the page in headless Chromium and save the part that a visitor sees first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default=PAGE)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("screenshot.png"))
    options = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1100, "height": 760})
        page.goto(options.url, wait_until="networkidle")
        page.screenshot(path=options.out)
        browser.close()
    print(f"Saved {options.out}")


if __name__ == "__main__":
    main()
