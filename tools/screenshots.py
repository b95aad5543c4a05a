"""Pictures of every page in both themes, for docs/: `python -m tools.screenshots URL CUSTOMER`.

The service behind the address runs already: `make demo`.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

FOLDER = Path(__file__).parents[1] / "docs" / "pages"
WIDTH = 1200
HEIGHT = 1250
"""Of a picture at most, but for pages that are shown whole: they end where no line is cut."""
WHOLE = {"customer"}
SETTLE_MILLISECONDS = 3_000
"""Within which the page has looked again."""

WAITING = ".waiting"
"""Where the page will show something that is being computed."""

LINES = "tr, li, h1, h2, h3, p, summary, figcaption, svg:not(.bar), footer"
END_OF_PICTURE = """([lines, most]) => {
  const boxes = [...document.querySelectorAll(lines)].map((each) => each.getBoundingClientRect());
  const ends = boxes.map((box) => Math.ceil(box.bottom + scrollY)).filter((y) => y <= most);
  const cuts = (y) => boxes.some((box) => box.top + scrollY < y - 2 && y < box.bottom + scrollY);
  return Math.max(...ends.filter((y) => !cuts(y)));
}"""


def main(url: str, customer: str) -> None:
    """Take the pictures."""
    pages = {
        "overview": "/",
        "customers": "/customers",
        "customer": f"/customers/{customer}",
        "due": "/due",
        "changes": "/changes",
        "flows": "/flows",
        "cohorts": "/cohorts",
        "model": "/model",
        "operations": "/operations",
    }
    FOLDER.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        for theme in ("light", "dark"):
            size = {"width": WIDTH, "height": 800}
            page = browser.new_page(color_scheme=theme, viewport=size)
            for name, path in pages.items():
                page.goto(url.rstrip("/") + path)
                page.wait_for_timeout(SETTLE_MILLISECONDS)
                page.wait_for_selector(WAITING, state="detached")
                height = page.evaluate("document.documentElement.scrollHeight")
                if height > HEIGHT and name not in WHOLE:
                    height = page.evaluate(END_OF_PICTURE, [LINES, HEIGHT])
                page.screenshot(
                    path=FOLDER / f"{name}-{theme}.png",
                    full_page=True,
                    clip={"x": 0, "y": 0, "width": WIDTH, "height": height},
                )
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
