"""The report of harmony-audit in a browser: wide, narrow, dark, and on paper."""

import pytest
from audit_cells import planted

from helpers import audit

pytestmark = [pytest.mark.book, pytest.mark.filterwarnings("ignore::UserWarning")]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """With labels and in full, so that every table and picture is there, and long names."""
    adata = planted(n=420, n_genes=150)
    long = "a donor whose name somebody thought should say everything, "
    adata.obs["run"] = long + adata.obs["run"]
    adata.obs["type"] = "CD4+ central memory helper " + adata.obs["type"]
    settings = {"max_iter_harmony": 8, "epsilon_harmony": 0}
    found = audit.audit(adata, "run", label="type", keep=["state"], settings=settings)
    found.cells.notes.append("A note on " + "an-unbroken-name-" * 12)
    command = "harmony-audit " + "/a/long/path/without/a/space" * 8
    return found.save(tmp_path_factory.mktemp("report") / "out", command=command) / "audit.html"


@pytest.fixture
def page(browser, report, watched):
    """The report from disk; it may ask for nothing else and complain of nothing."""
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    tab = context.new_page()
    wanted, errors = watched(tab)
    tab.goto(report.as_uri())
    yield tab
    context.close()
    assert wanted == []
    assert errors == []


def violations(page):
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [(rule["id"], [node["html"][:100] for node in rule["nodes"]]) for rule in found]


OPEN = 'document.querySelectorAll("details").forEach(one => { one.open = true; })'
# what is wider than the box that shows it, where the box cannot be scrolled
CUT = """() => [...document.querySelectorAll("main *")].filter(one => {
  const style = getComputedStyle(one);
  return one.scrollWidth > one.clientWidth + 1 && one.clientWidth && style.overflowX !== "auto"
    && style.display !== "inline";
}).map(one => one.tagName + " " + one.innerText.slice(0, 50))"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 390])
def test_readable_by_everyone_wide_and_narrow_light_and_dark(page, width, scheme):
    page.set_viewport_size({"width": width, "height": 844})
    page.emulate_media(color_scheme=scheme)
    for folded in (True, False):
        if not folded:
            page.evaluate(OPEN)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, "scrolls sideways"
        assert page.evaluate(CUT) == []
        assert violations(page) == []
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") == (scheme == "light")


def test_all_pictures_are_drawn(page):
    sizes = page.locator("img").evaluate_all("all => all.map(i => [i.naturalWidth, i.alt.length])")
    assert len(sizes) >= 7
    assert all(width > 300 and alt >= 30 for width, alt in sizes), sizes


def test_folded_parts_open_by_keyboard(page):
    first = page.locator("details").first
    first.locator("summary").focus()
    page.keyboard.press("Enter")
    assert first.evaluate("one => one.open")
    assert first.locator("table, pre").first.is_visible()


def test_printed_all_parts_are_open_and_on_white(page):
    page.emulate_media(color_scheme="dark")
    folded = page.locator("details:not([open])").count()
    assert folded >= 10
    page.evaluate(
        """() => addEventListener("beforeprint", () => {
          window.left = document.querySelectorAll("details:not([open])").length;
        })"""
    )
    page.pdf(format="A4")
    assert page.evaluate("left") == 0
    assert page.locator("details:not([open])").count() == folded  # the screen is as before
    page.emulate_media(media="print", color_scheme="dark")
    page.set_viewport_size({"width": 718, "height": 1000})  # A4 less two margins of 1 cm
    page.evaluate(OPEN)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    edge = "all => Math.max(...all.map(one => one.getBoundingClientRect().right))"
    assert page.locator("pre, img, p, li").evaluate_all(edge) <= 718
    assert page.evaluate("document.documentElement.scrollWidth") <= 718, "cut on paper"
