"""What the tests of the built book share: the book, a browser, a page in it."""

import os
import shutil
from pathlib import Path

import pytest

from tools import compiled  # noqa: F401  (before any test imports umap)

HTML = Path(__file__).resolve().parents[1] / "_build" / "html"


@pytest.fixture(scope="session")
def book():
    """The folder of the built book."""
    if not (HTML / "index.html").exists():
        reason = "the book is not built: run `make book` first"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return HTML


@pytest.fixture(scope="session")
def browser():
    """One Chromium for all tests."""
    names = ("chromium", "chromium-browser", "google-chrome")
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if path is None:
        reason = "no Chromium found (set CHROMIUM to the path of one)"
        pytest.fail(reason) if os.environ.get("REQUIRE_BROWSER") == "1" else pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", *quiet]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=arguments)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def watched():
    """A function: lists that fill with what a page asks other hosts for, and with its errors."""

    def watch(page, local=("file:", "data:")):
        outside, errors = [], []
        page.on("request", lambda r: None if r.url.startswith(local) else outside.append(r.url))
        page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        return outside, errors

    return watch


@pytest.fixture
def tab(browser, book, watched):
    """Open a page from disk and note what it asks other hosts for, and what goes wrong in it."""
    wide = {"width": 1280, "height": 900}
    context = browser.new_context(viewport=wide, color_scheme="light", reduced_motion="reduce")
    page = context.new_page()
    page.outside, page.errors = watched(page)
    # what a page still loads when a test goes on to the next one is given up, and not missing
    page.on(
        "requestfailed",
        lambda r: None if r.failure == "net::ERR_ABORTED" else page.errors.append(r.url),
    )

    def open_page(name):
        page.goto((book / f"{name}.html").as_uri())
        if page.locator("script[src*=mathjax]").count():
            page.evaluate("MathJax.startup.promise")
        return page

    yield open_page
    context.close()
    assert page.outside == []
    assert page.errors == []
