"""Charts with sliders in the built book: from disk, by keyboard, in words, and of little weight.

As tests/test_book.py: after `make book`, with the Chromium that it finds or asks for.
"""

import json
import re

import pytest
from lesson_pages import VEGALITE, explorable
from test_book import soup_of, violations
from test_notebooks import code, read

from helpers import explore
from tools.notebooks import LESSONS, ROOT

pytestmark = pytest.mark.book

CHARTS = {
    f"notebooks/{path.stem}": sum("Explorable(" in cell.source for cell in code(read(path)))
    for path in LESSONS
}
pages = pytest.mark.parametrize("name", [name for name, number in CHARTS.items() if number])


@pages
def test_chart_is_in_the_page_with_its_words(book, name):
    charts = soup_of(book / f"{name}.html").select(".explorable")
    assert len(charts) == CHARTS[name]
    for chart in charts:
        spec = json.loads(chart.select_one("script").get_text())
        assert len(chart.select_one("[role=img]")["aria-label"]) >= 40
        assert len(chart.select("tbody tr")) == len(spec["params"][0]["value"])


def test_all_charts_and_their_library_weigh_under_2_mb(book):
    static = book / "_static"
    size = sum(path.stat().st_size for path in [*static.glob("vega/*"), static / "explorable.js"])
    for name in CHARTS:
        charts = soup_of(book / f"{name}.html").select(".explorable")
        size += sum(len(str(chart).encode()) for chart in charts)
    assert size < 2e6


MOVED = "([picture, seen]) => picture.outerHTML !== seen"
AT_THE_END = "one => one.max === undefined || one.value === one.max"  # a list begins at its top


@pages
def test_chart_answers_to_the_keyboard(tab, name):
    page = tab(name)
    for chart in page.locator(".explorable").all():
        chart.locator("svg").wait_for()
        picture = chart.locator("svg").element_handle()
        controls, output = chart.locator("input, select"), chart.locator("output")
        assert chart.locator("input[type=range]").count() > 0
        assert controls.evaluate_all("all => all.every(one => one.labels.length === 1)")
        controls.first.focus()
        for control in controls.all():
            assert control.evaluate("one => one === document.activeElement"), "Tab leads elsewhere"
            seen, said = picture.evaluate("picture => picture.outerHTML"), output.inner_text()
            page.keyboard.press("ArrowDown" if control.evaluate(AT_THE_END) else "ArrowUp")
            page.wait_for_function(MOVED, arg=[picture, seen])
            if control.get_attribute("type") == "range":
                assert output.inner_text() != said, "the numbers stand still"
                words = control.get_attribute("aria-valuetext")
                assert control.locator("+ span").inner_text() == words
                assert words in output.inner_text().partition(". ")[0], "a position, not a value"
            page.keyboard.press("Tab")
        page.keyboard.press("Enter")  # the focus is on the summary of the table now
        chosen = chart.locator("tr[data-now]:visible td").all_inner_texts()
        assert output.inner_text().startswith(f"{chosen[0]}. ")
        said = output.inner_text().removesuffix(".").split("; ")
        assert [one.rpartition(": ")[2] for one in said] == chosen[1:]


@pages
def test_chart_fills_the_column_and_the_download_keeps_it(tab, book, name):
    page = tab(name)
    page.set_viewport_size({"width": 1400, "height": 900})
    for chart in page.locator(".explorable").all():
        chart.locator("svg").wait_for()
        width = chart.locator("svg").bounding_box()["width"]
        assert width == pytest.approx(chart.bounding_box()["width"], abs=1)
    kept = json.loads((book / "_sources" / f"{name}.ipynb").read_text(encoding="utf-8"))
    outputs = [output for cell in kept["cells"] for output in cell.get("outputs", [])]
    charts = [output["data"] for output in outputs if explore.MIME in output.get("data", {})]
    assert len(charts) == CHARTS[name]
    assert all("usermeta" in chart[explore.MIME] and "text/plain" in chart for chart in charts)


@pages
def test_chart_is_accessible_and_fits_a_phone(tab, name):
    page = tab(name)
    page.set_viewport_size({"width": 390, "height": 844})
    page.reload()
    for chart in page.locator(".explorable").all():
        chart.locator("svg").wait_for()
        chart.locator("summary").click()
        alt = chart.locator("[role=img]").get_attribute("aria-label")
        assert chart.get_by_role("img", name=alt, exact=True).count() == 1
        assert chart.locator("svg").evaluate("one => one.getBoundingClientRect().right") <= 390
        first, second = [chart.locator(f".concat_{i}_group").bounding_box() for i in (0, 1)]
        assert second["y"] > first["y"] + first["height"], "the panels do not stack"
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert violations(page) == []


def test_data_cannot_end_the_script():
    html = explorable({"data": "</script><b>", "usermeta": {"columns": [], "rows": []}}, "")
    assert html.count("</script>") == 1


def test_book_and_charts_speak_the_same_vega():
    assert VEGALITE == explore.MIME
    (major,) = re.findall(r"vegalite\.v(\d+)\+", explore.MIME)
    about = (ROOT / "book" / "_static" / "vega" / "ABOUT.txt").read_text(encoding="utf-8")
    versions = dict(re.findall(r"(Vega|Vega-Lite) (\d+\.\d+\.\d+)", about))
    for name, file in {"Vega": "vega.min.js", "Vega-Lite": "vega-lite.min.js"}.items():
        text = (ROOT / "book" / "_static" / "vega" / file).read_text(encoding="utf-8")
        assert f'"{versions[name]}"' in text, f"ABOUT.txt and {file} differ"
    assert versions["Vega-Lite"].split(".")[0] == major
