"""Pages of results in Debian's Chromium: what they log and request, their layout, axe."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, sync_playwright

WIDTHS = (400, 768, 1280, 1920)
"""Widths of a window, in CSS pixels, at which a page is checked."""

OUTSIDE = """() => [...document.querySelectorAll("body *")].filter((node) => {
  const box = node.getBoundingClientRect();
  if (node.closest(".links, .skip") || getComputedStyle(node).position === "absolute") return false;
  return box.width > 0 && (box.right > document.documentElement.clientWidth + 1 || box.left < -1);
}).map((node) => node.outerHTML.slice(0, 120))"""
"""Script: the elements that reach beyond the window."""

CLIPPED = """() => [...document.querySelectorAll("table, figure")].filter((node) =>
  node.scrollWidth > node.parentNode.clientWidth + 1).map((node) => node.innerText.slice(0, 60))"""
"""Script: the tables and figures that are wider than what holds them."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium without a window; without it the test is skipped, and fails under CI."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        assert not os.environ.get("CI"), "install chromium"
        pytest.skip("Debian's package chromium is not installed")
    flags = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=flags)
        yield browser
        browser.close()


class Opened:
    """A page that is open.

    Attributes:
        page: Playwright's page.
        faults: messages of its console and errors of its scripts.
        requests: addresses that it requested.
        seconds: time from the request of the page to the presence of `ready`.
    """

    def __init__(self, browser: Browser, address: str, ready: str = "body", **context) -> None:
        """Open an address; `ready` is a selector, `context` options of a browser context."""
        self.context = browser.new_context(**context)
        self.page = self.context.new_page()
        self.faults: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda line: self.faults.append(line.text))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        start = time.monotonic()
        self.page.goto(address)
        self.page.wait_for_selector(ready, state="attached")
        self.seconds = time.monotonic() - start

    def check_layout(self, width: int) -> None:
        """Check that nothing is wider than the window, folds closed and open; nor any fault."""
        for _ in range(2):
            assert self.page.evaluate(OUTSIDE) == []
            assert self.page.evaluate(CLIPPED) == []
            assert self.page.evaluate("document.documentElement.scrollWidth") == width
            self.open_details()
        assert self.faults == []
        assert self.is_offline()

    def open_details(self) -> None:
        self.page.evaluate("document.querySelectorAll('details').forEach((d) => (d.open = true))")

    def is_offline(self) -> bool:
        """Whether all requests were for local files."""
        return all(url.startswith(("file:", "blob:", "data:")) for url in self.requests)

    def axe_faults(self) -> list[tuple[str, str]]:
        """Rule and impact of each violation that axe-core finds; it must have run its rules."""
        found = Axe().run(self.page).response
        assert len(found["passes"]) > 10
        return [(fault["id"], fault["impact"]) for fault in found["violations"]]
