"""A headless Chromium for pages: what a reader would click, type and see."""

from __future__ import annotations

import os
import shutil

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


@pytest.fixture(scope="session")
def browser():
    """Chromium of this machine (REVTAF_CHROMIUM names another), driven by Playwright, which brings no browser here."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
    place = os.environ.get("REVTAF_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if place is None:
        pytest.skip("no Chromium on this machine: apt install chromium, or set REVTAF_CHROMIUM")
    with playwright.sync_playwright() as driver:
        # Root, as in a container, has no sandbox; the pages are our own.
        running = driver.chromium.launch(executable_path=place, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def tab(browser):
    """A tab of 1180 x 900. A script's error fails the test, and so does a request to another place than the page's."""
    page = browser.new_page(viewport={"width": 1180, "height": 900})
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    yield page
    own = "/".join(page.url.split("/")[:3])
    page.close()
    assert errors == [] and all(url.startswith((own, "data:")) for url in asked)
