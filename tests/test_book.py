"""The built book: complete, offline, readable by everyone, and true in what its pages state.

Looks at ``_build/html``, which ``make book`` writes. The tests that open pages need a Chromium:
found as chromium, chromium-browser or google-chrome, or named by the environment variable CHROMIUM.
Without one they are skipped, or fail when REQUIRE_BROWSER=1.
"""

import inspect
import io
import json
import re
import runpy
import subprocess
import sys
import tomllib
from functools import cache
from importlib.metadata import version
from pathlib import Path
from urllib.parse import unquote

import anndata as ad
import harmonypy
import matplotlib.image
import numpy as np
import pandas as pd
import pytest
import yaml
from accessible_html import repair
from bs4 import BeautifulSoup
from lesson_pages import gutter
from packaging.requirements import Requirement

from helpers import metrics
from tools import launch

ROOT = Path(__file__).resolve().parents[1]
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
PAGES = runpy.run_path(str(ROOT / "book" / "build.py"))["pages"](TOC)
LESSONS = [page for page in PAGES if page.startswith("notebooks/")]
EVERY_PAGE = [*PAGES, "index", "search", "genindex"]

pytestmark = pytest.mark.book


@cache  # many tests read a page, and none changes it
def soup_of(path):
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


# --- what the files say ---


@pytest.mark.parametrize("page", EVERY_PAGE)
def test_page_exists_and_has_one_title(book, page):
    path = book / f"{page}.html"
    assert path.exists(), f"{page} is in _toc.yml but not in the book"
    if page not in ("index", "search", "genindex"):
        assert len(soup_of(path).select("article h1")) == 1


def test_no_page_of_a_removed_source_is_left(book):
    built = {path.relative_to(book).with_suffix("").as_posix() for path in book.rglob("*.html")}
    assert {page for page in built if not page.startswith("_")} == set(EVERY_PAGE)


@pytest.mark.parametrize("page", LESSONS)
def test_computed_figures_have_alt_text(book, page):
    for image in soup_of(book / f"{page}.html").select(".cell_output img:not([aria-hidden] img)"):
        alt, name = image.get("alt", ""), Path(image["src"]).name
        where = f"{page}: {name} says {alt!r}"
        assert name not in alt, f"{where}; give the cell mystnb.image.alt"
        assert Path(name).stem not in alt, f"{where}; give the cell mystnb.image.alt"
        assert len(alt) >= 40, f"{where}; say what the figure shows, in a sentence"


@pytest.mark.parametrize("page", EVERY_PAGE)
def test_page_names_no_other_host(book, page):
    soup = soup_of(book / f"{page}.html")
    loaded = [tag["src"] for tag in soup.select("[src]")]
    loaded += [link["href"] for link in soup.select("link[href]") if "canonical" not in link["rel"]]
    assert [url for url in loaded if re.match(r"(https?:)?//", url)] == []
    inline = [script.get_text() for script in soup.select("script:not([src])")]
    assert [text for text in inline if "//" in text.replace("// ", "")] == []


def test_stylesheets_name_no_other_host(book):
    outside = re.compile(r"(url\(|@import)\s*[\"']?(https?:)?//")
    found = [css.name for css in book.rglob("*.css") if outside.search(css.read_text("utf-8"))]
    assert found == []


@pytest.mark.parametrize("page", LESSONS)
def test_lesson_can_be_launched_and_downloaded(book, page):
    links = [a["href"] for a in soup_of(book / f"{page}.html").select(".article-header-buttons a")]
    launched = [unquote(link) for link in links if re.search(r"mybinder|colab", link)]
    without_solutions = launch.links()[Path(page).name]
    assert launched == [unquote(link) for link in without_solutions]
    (download,) = [link for link in links if link.endswith(".ipynb") and "://" not in link]
    kept = json.loads((book / page).parent.joinpath(download).read_text(encoding="utf-8"))
    lesson = ROOT / f"{page}.ipynb"
    if not lesson.exists():
        pytest.skip(f"{lesson.name} is not in notebooks/")
    original = json.loads(lesson.read_text(encoding="utf-8"))
    sources = [
        ["".join(cell["source"]) for cell in nb["cells"] if cell.get("id") != "not-executed"]
        for nb in (kept, original)
    ]
    assert sources[0] == sources[1], "the book was built from another version of the lesson"


# --- what the pages state ---


def test_missing_lesson_stops_the_build_in_one_sentence(tmp_path):
    command = [sys.executable, "book/build.py", "--out", str(tmp_path / "_build")]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode != 0
    (message,) = run.stderr.splitlines()
    assert LESSONS[0] in message
    assert "was not executed" in message


def test_parameter_table_is_the_signature():
    page = (ROOT / "book" / "parameters.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| `?([^`|]+?)`? \|", page, flags=re.MULTILINE)
    stated = dict(rows)
    real = {
        name: "required" if parameter.default is parameter.empty else repr(parameter.default)
        for name, parameter in inspect.signature(harmonypy.run_harmony).parameters.items()
    }
    assert stated == real
    assert f"harmonypy {version('harmonypy')}" in page, "read the page again for this version"


def test_parameter_page_is_right_about_what_none_and_epsilon_cluster_mean():
    rng = np.random.default_rng(0)
    cells = rng.normal(size=(600, 8))
    cells[::2] += 2
    obs = pd.DataFrame({"batch": np.tile(["a", "b"], 300)})

    def harmony(**parameters):
        return harmonypy.run_harmony(cells, obs, "batch", verbose=False, **parameters)

    default = harmony()
    assert default.K == 600 / 30
    assert np.array_equal(default.Z_corr, harmony(theta=2).Z_corr)
    assert np.array_equal(default.Z_corr, harmony(epsilon_cluster=1e9).Z_corr)
    # with room for more steps it is consulted, and first in the fifth
    assert set(harmony(epsilon_cluster=1e9, max_iter_kmeans=20).kmeans_rounds) == {5}
    # smaller alpha, and smaller lamb, correct more
    moved = [np.abs(harmony(**p).Z_corr - cells).sum() for p in ({"alpha": 0.9}, {"alpha": 0.01})]
    assert moved[0] < moved[1]


def test_check_of_an_installation_prints_what_its_page_says():
    page = (ROOT / "book" / "install.md").read_text(encoding="utf-8")
    check, versions = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    (printed,) = re.findall(r"```text\n(.*?)```", page, flags=re.DOTALL)

    def run(lines):
        command = [sys.executable, "-c", lines]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert run(check) == printed
    assert re.search(r"'pynndescent': '0\.[56]\.", run(versions))


def test_installation_asks_for_what_the_course_asks_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = {Requirement(one).name: Requirement(one) for one in project["dependencies"]}
    page = (ROOT / "book" / "install.md").read_text(encoding="utf-8")
    lines = re.findall(r"^python -m pip install (.+)$", page, flags=re.MULTILINE)
    assert len(lines) == 2
    assert len(set(lines)) == 1
    for text in re.findall(r'"([^"]+)"', lines[0]):
        stated = Requirement(text)
        assert set(stated.specifier) <= set(asked[stated.name].specifier), text


def test_every_reference_has_a_doi_and_every_metric_a_reference():
    bib = (ROOT / "book" / "references.bib").read_text(encoding="utf-8")
    dois = re.findall(r"^\s*doi\s*=\s*\{(10\.[^}]+)\}", bib, flags=re.MULTILINE)
    assert len(dois) == len(set(dois)) == len(re.findall(r"^@", bib, flags=re.MULTILINE))
    assert set(metrics.metric_info()["doi"]) <= set(dois)


def test_front_page_numbers():
    front = (ROOT / "book" / "index.md").read_text(encoding="utf-8")
    (cells,) = re.findall(r"([\d,]+) blood cells", front)
    pbmc = ad.read_h5ad(ROOT / "data" / "kang_pbmc.h5ad", backed="r")
    assert pbmc.n_obs == int(cells.replace(",", ""))
    (minutes,) = re.findall(r"quickstart takes about (\d+) minutes to read", front)
    lesson = ROOT / "notebooks" / "00_quickstart.ipynb"
    if not lesson.exists():
        pytest.skip("00_quickstart.ipynb is not in notebooks/")
    cells = json.loads(lesson.read_text(encoding="utf-8"))["cells"]
    opening = " ".join("".join(cell["source"]) for cell in cells[:6])
    assert re.search(rf"\b{minutes}\b[^.;\n]*\bmin", opening), f"its Time is not {minutes} minutes"


def test_repair_changes_only_what_it_should():
    def repaired(html):
        soup = BeautifulSoup(html, "html.parser")
        repair(soup)
        return str(soup)

    kept = "<pre>a &lt; b  &amp;\n  c</pre><p>\\(x &lt; y\\)</p><table><tr><th>n</th></tr></table>"
    assert repaired(kept) == kept
    assert repaired("<table><tr><th></th></tr></table>") == "<table><tr><td></td></tr></table>"


# --- what a browser shows ---


# axe takes most of its time to weigh the contrast of each word that is shown: one of each kind in
# each kind of place says the same, and so does one coloured word of code.  And the dots of a chart,
# hidden from screen readers as they are, are hundreds.
LEAVE_OUT_WHAT_REPEATS = """() => {
  const seen = new Set();
  for (const word of document.querySelectorAll(".highlight span[class]")) {
    const block = word.closest(".highlight").parentElement;
    const kind = [word, block, block.parentElement].map(node => node.className).join("|");
    if (seen.has(kind)) word.replaceWith(word.textContent);
    seen.add(kind);
  }
  for (const drawn of document.querySelectorAll("[aria-hidden=true] > svg.marks"))
    drawn.replaceChildren();
}"""
MARK_ONE_OF_EACH_KIND = """() => {
  const seen = new Set();
  for (const one of document.querySelectorAll("body *")) {
    one.removeAttribute("data-weighed");
    const says = [...one.childNodes].some(node => node.nodeType === 3 && node.data.trim());
    if (!says || !one.checkVisibility()) continue;
    const style = getComputedStyle(one);
    const kind = [style.color, style.fontSize, style.fontWeight, style.opacity];
    for (let place = one; place && kind.length < 16; place = place.parentElement)
      kind.push(place.tagName, place.className, getComputedStyle(place).backgroundColor);
    if (!seen.has(kind.join("|"))) one.dataset.weighed = "";
    seen.add(kind.join("|"));
  }
}"""


def violations(page):
    """Serious and critical findings of axe, one line each; of contrast in both themes."""
    from axe_playwright_python.sync_playwright import Axe

    def serious(where=None, **options):
        # axe would fetch the stylesheets again, which a browser refuses for files on disk
        options = {"resultTypes": ["violations"], "preload": False} | options
        return [
            f"{rule['id']}: {rule['nodes'][0]['html'][:200]}"
            for rule in Axe().run(page, where, options).response["violations"]
            if rule["impact"] in ("serious", "critical")
        ]

    page.evaluate(LEAVE_OUT_WHAT_REPEATS)
    rules = {"label-content-name-mismatch": True, "color-contrast": False}
    found = serious(rules={name: {"enabled": on} for name, on in rules.items()})
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_function(f"document.documentElement.dataset.theme === '{scheme}'")
        page.evaluate(MARK_ONE_OF_EACH_KIND)
        contrast = serious("[data-weighed]", runOnly={"type": "rule", "values": ["color-contrast"]})
        found += [f"{scheme}: {one}" for one in contrast]
    return found


# A block or table whose end one must scroll for, within it or within a box around it. Folded ones
# are opened first.
CUT = """selector => {
  document.querySelectorAll("details").forEach(one => { one.open = true; });
  const cut = block => {
    for (let box = block; !box.matches("article"); box = box.parentElement)
      if (box.scrollWidth > box.clientWidth + 1 && getComputedStyle(box).overflowX !== "visible")
        return true;
    return false;
  };
  const blocks = [...document.querySelectorAll(`article.bd-article :is(${selector})`)];
  return [blocks.length, blocks.filter(cut).map(block => block.innerText.slice(0, 60))];
}"""


@pytest.mark.parametrize("name", [page for page in EVERY_PAGE if page != "index"])
def test_page_is_quiet_accessible_whole_on_a_wide_screen_and_fits_a_phone(tab, name):
    page = tab(name)
    unread = page.locator("mjx-merror, .math:not(:has(mjx-container))").all_inner_texts()
    assert unread == [], "formulas that MathJax cannot read"
    assert violations(page) == []
    assert page.locator(".search-button-field:visible").count() == 1, "one search box"
    page.set_viewport_size({"width": 1400, "height": 900})
    assert page.evaluate(CUT, "table, pre, img, .explorable-picture")[1] == []
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390, "the page scrolls sideways"


FOLDED = "details:not([open])"


@pytest.mark.parametrize("name", PAGES)
def test_print_is_whole(tab, name):
    """Printed on A4: nothing folded, nothing cut, nothing to click; the screen is as before."""
    page = tab(name)
    page.emulate_media(color_scheme="dark")
    page.wait_for_function("document.documentElement.dataset.theme === 'dark'")
    folded = page.locator(FOLDED).count()
    assert folded or name not in LESSONS  # other pages need have no folds
    page.evaluate(
        f"""() => addEventListener("beforeprint", () => {{
          window.left = document.querySelectorAll("article {FOLDED}").length;
          window.ground = getComputedStyle(document.body).backgroundColor;
        }})"""
    )
    page.pdf(format="A4")
    assert page.evaluate("[left, ground]") == [0, "rgb(255, 255, 255)"]
    page.wait_for_function("document.documentElement.dataset.theme === 'dark'")
    assert page.locator(FOLDED).count() == folded

    page.emulate_media(media="print")
    page.set_viewport_size({"width": 718, "height": 1000})  # A4 less two margins of 1 cm
    page.wait_for_load_state("networkidle")
    assert page.evaluate(CUT, "pre, table, img, svg")[1] == []
    edge = "all => Math.max(...all.map(one => one.getBoundingClientRect().right))"
    assert page.locator("article :is(pre, table, img, svg)").evaluate_all(edge) <= 718
    idle = ".bd-sidebar-primary, .bd-sidebar-secondary, .explorable-controls, .prev-next-area"
    assert page.locator(idle).locator("visible=true").count() == 0


@pytest.mark.parametrize("name", LESSONS)
def test_pictures_are_readable_on_a_phone(tab, name):
    """Each opens by itself; of panels side by side, each is about as wide as the column."""
    page = tab(name)
    page.set_viewport_size({"width": 390, "height": 844})
    for picture in page.locator(".cell_output .picture:not(.cut) img:visible").all():
        link = picture.locator("xpath=..")
        assert link.get_attribute("href") == picture.get_attribute("src")
        if picture.evaluate("one => one.naturalWidth > 2 * one.naturalHeight"):
            assert picture.bounding_box()["width"] >= 1.9 * link.bounding_box()["width"]
            assert link.evaluate("one => { one.scrollLeft = 999; return one.scrollLeft; }") > 100


@pytest.mark.parametrize("name", LESSONS)
def test_before_stands_above_after_on_a_phone(tab, name):
    """Of a picture of two panels a phone shows one above the other, and a wide screen the whole."""
    cells = json.loads((ROOT / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    pairs = sum(
        "plots.before_after(" in "".join(cell["source"])
        for cell in cells
        if cell["cell_type"] == "code" and "solution" not in cell["metadata"].get("tags", [])
    )
    page = tab(name)
    links = page.locator(".cell_output .picture.cut:visible").all()
    assert len(links) >= pairs
    for link in links:
        assert link.locator("img:visible").count() == 1
        assert link.locator(".rest[aria-hidden=true] img[alt='']").count() == 1
    page.set_viewport_size({"width": 390, "height": 844})
    for link in links:
        first, second = (half.bounding_box() for half in link.locator(".half").all())
        assert second["y"] >= first["y"] + first["height"] - 1
        column = link.locator("xpath=..").bounding_box()["width"]
        shown = []
        for half, box in zip(link.locator(".half").all(), (first, second), strict=True):
            assert box["width"] == pytest.approx(column, abs=1)
            picture = half.locator("img").bounding_box()
            ends = picture["x"], picture["x"] + picture["width"]
            shown += [(edge - ends[0]) / picture["width"] for edge in (box["x"], box["x"] + column)]
        assert shown == pytest.approx([0, shown[1], shown[1], 1], abs=0.01)  # nothing is left out


def test_only_a_blank_band_near_the_middle_parts_two_panels():
    def picture(*bands, size=(300, 1000)):
        pixels = np.zeros(size)
        for start, stop in bands:
            pixels[:, start:stop] = 1
        file = io.BytesIO()
        matplotlib.image.imsave(file, pixels, cmap="gray", vmin=0, vmax=1, format="png")
        return file.getvalue()

    assert gutter(picture((430, 480), (800, 950))) == pytest.approx(0.455)
    for other in [(), ((490, 510),), ((300, 390),)]:
        assert gutter(picture(*other)) is None
    assert gutter(picture((430, 480), size=(1000, 1000))) is None


@pytest.mark.parametrize("name", LESSONS)
def test_links_of_a_lesson_work_in_jupyterlab_and_in_the_book(book, name):
    """JupyterLab opens files beside the notebook, and knows no roles of Sphinx."""
    for path in [ROOT / f"{name}.ipynb", ROOT / "notebooks/exercises" / f"{Path(name).name}.ipynb"]:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        texts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
        assert re.findall(r"\{[a-z:]+\}`", "\n".join(texts)) == []
        links = re.findall(r"\]\((?!https?://)([^)\s]+)\)", "\n".join(texts))
        assert [link for link in links if not (path.parent / link).resolve().is_file()] == []
    page = book / f"{name}.html"
    inside = soup_of(page).select("article a.internal[href]:not([href^='#'])")
    files = [link["href"].partition("#")[0] for link in inside]
    assert [file for file in files if not (page.parent / file).is_file()] == []


def test_top_leads_to_the_front_page(tab):
    page = tab("index")
    page.wait_for_url("**/book/index.html")
    assert page.get_by_role("heading", level=1).inner_text() == "Harmony in Practice"


def test_search_works_from_disk(tab):
    page = tab(PAGES[0])
    page.keyboard.press("Control+K")
    page.keyboard.type("doublet")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=doublet")
    page.get_by_text("found").first.wait_for()
    results = page.locator("#search-results li a").all_inner_texts()
    assert any("Glossary" in result for result in results)


@pytest.mark.parametrize("name", LESSONS)
def test_solutions_are_folded_and_open_by_keyboard(tab, name):
    page = tab(name)
    solutions = page.locator(".cell.tag_solution details")
    assert solutions.count() > 0, "a lesson without a folded solution"
    first = solutions.first
    assert not first.evaluate("details => details.open")
    first.locator("summary").focus()
    assert page.evaluate("document.activeElement.innerText").strip() == "Show the solution"
    page.keyboard.press("Enter")
    assert first.evaluate("details => details.open")
    assert first.locator("pre").first.is_visible()
