"""Signs (an icon and a word) and ticks on the pages of the built book.

Every prediction, exercise, check, solution, extension and warning of a lesson is marked alike on
every page, and is announced by its name; ticks stay in the reader's own browser.
"""

import json
import re
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from lesson_pages import SIGNS, put_signs
from test_book import EVERY_PAGE, LESSONS, ROOT, soup_of, violations
from test_notebooks import headings, markdown

from tools.notebooks import tags

LEGEND = "book/how_to_use"

pytestmark = pytest.mark.book


def marks(lesson: str) -> dict[str, int]:
    """How often a notebook marks what gets a sign."""
    nb = nbformat.read(ROOT / f"{lesson}.ipynb", as_version=4)
    text = "\n".join(cell.source for cell in markdown(nb))
    titles = headings(nb, 2) + headings(nb, 3)
    tagged = [tag for cell in nb.cells for tag in tags(cell)]
    return {
        "predict": text.count("**Predict"),
        "exercise": sum(title.startswith("Exercise ") for title in titles),
        "extension": sum("Extension" in title for title in titles),
        "check": tagged.count("check"),
        "solution": tagged.count("solution"),
        "warning": text.count("**A warning.**"),
    }


@pytest.mark.parametrize("page", LESSONS)
def test_every_mark_of_a_lesson_has_its_sign_and_its_name(book, page):
    soup = soup_of(book / f"{page}.html")
    notes = soup.select(".admonition.predict[role=note][aria-label=Predict] > p > .sign.predict")
    found = {"predict": len(notes)}
    for kind in ("exercise", "extension"):
        sections = soup.select(f"section.{kind}[role=group]")
        for section in sections:
            heading = section.select_one(f"h2:has(.sign.{kind}), h3:has(.sign.{kind})")
            plain = re.sub(r"[#()]", "", heading.get_text())
            assert re.sub(r"[()]", "", section["aria-label"]) == plain
            assert kind.capitalize() in plain
        found[kind] = len(sections)
    for kind in ("check", "solution"):
        cells = soup.select(f".cell.tag_{kind}[role=group][aria-label={kind.capitalize()}]")
        for cell in cells:
            labels = cell.select(f"details.hide > summary > p > .sign.{kind}")
            assert [one.get_text() for one in labels] == [f"Show the {kind}", f"Hide the {kind}"]
        words = soup.select(f"details.{kind} > summary .sign.{kind}")
        found[kind] = len(cells) + len(words)
    said = soup.select(".admonition.warning[role=note][aria-label] > p > .sign.warning")
    found["warning"] = len(said) - len(soup.select("article :is(.tag_not-executed)"))
    wanted = marks(page)
    assert found["warning"] >= wanted.pop("warning")  # and one for what was not executed
    del found["warning"]
    assert found == wanted
    assert len(soup.select("details.answer .sign.answer")) == len(soup.select("details.answer"))


@pytest.mark.parametrize("page", EVERY_PAGE)
def test_no_page_has_a_mark_without_its_sign(book, page):
    soup = soup_of(book / f"{page}.html")
    bold = [one.get_text() for one in soup.select("p > strong")]
    assert {"Predict", "Predict.", "A warning."}.isdisjoint(bold)
    assert soup.select(".admonition.warning > .admonition-title:not(:has(.sign))") == []
    kinds = {one["class"][-1] for one in soup.select(".sign")}
    assert kinds <= set(SIGNS)


def test_legend_explains_every_sign(book):
    shown = [one["class"][-1] for one in soup_of(book / f"{LEGEND}.html").select("td .sign")]
    assert sorted(shown) == sorted(SIGNS)


def test_signs_change_only_what_they_should():
    def with_signs(html):
        soup = BeautifulSoup(html, "html.parser")
        put_signs(soup)
        return str(soup)

    kept = "<h3>An extension</h3><p>a &lt; b, <strong>Cause.</strong> c</p><pre>Predict.\n</pre>"
    assert with_signs(kept) == kept
    inside = with_signs("<p>Kind failures.\n<strong>Predict</strong> the <em>cause</em>.</p>")
    assert inside.startswith("<p>Kind failures.\n</p><div")
    assert inside.endswith("<p>Predict the <em>cause</em>.</p></div>")


def test_icons_are_drawn_and_a_reader_hears_the_names(tab):
    page = tab(LEGEND)
    icon = "one => getComputedStyle(one, '::before').content"
    icons = page.locator("td .sign").evaluate_all(f"all => all.map({icon})")
    assert len(set(icons)) == len(SIGNS)
    assert page.evaluate("document.fonts.load('900 16px \"Font Awesome 6 Free\"')")
    page = tab("notebooks/07_save_and_hand_over")
    wanted = marks("notebooks/07_save_and_hand_over")
    assert page.get_by_role("note", name="Predict").count() == wanted["predict"]
    assert page.get_by_role("group", name="Check", exact=True).count() == wanted["check"]
    exercises = page.get_by_role("group", name=re.compile(r"^Exercise \d · "))
    assert exercises.count() == wanted["exercise"]
    assert exercises.last.get_by_role("heading", name="Extension").count() == 1
    # the icon itself is not read: the name is the word, for what is heard and what is clicked
    tree = page.locator("section.exercise").first.aria_snapshot()
    assert "Show the check" in tree
    assert not re.search("[\ue000-\uf8ff]", tree)


def done(page) -> list[str]:
    """The pages that the list on the left shows as done."""
    links = page.locator(".bd-links a", has=page.locator(".done-mark"))
    return [text.split(" ")[0] for text in links.all_inner_texts()]


def test_ticks_are_kept_counted_and_cleared_by_keyboard(tab):
    first, second = LESSONS[1], LESSONS[2]
    page = tab(first)
    count, box = page.locator(".done-count"), page.get_by_label("I have done this lesson")
    assert count.inner_text().strip() == f"0 of {len(LESSONS)} lessons done"
    assert page.get_by_role("button", name="Clear the ticks").count() == 0
    box.focus()
    page.keyboard.press("Space")
    assert box.is_checked()
    says = page.locator(".done-lesson").get_by_role("status")
    assert says.inner_text().strip() == f"1 of {len(LESSONS)} lessons done."
    tab(second)
    assert not box.is_checked()
    assert done(page) == [Path(first).name[:2]]
    assert page.get_by_role("link", name=re.compile(r"^01 .*\(done\)$")).count() == 1
    box.check()
    tab(LEGEND)
    assert len(done(page)) == 2
    assert violations(page) == []
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Clear the ticks").focus()
    page.keyboard.press("Enter")
    assert done(page) == []
    tab(first)
    assert not box.is_checked()
    assert page.evaluate("Object.keys(localStorage).filter(key => key.includes('lessons'))") == []


# what the theme itself says of it is not ours
REFUSE = """Object.defineProperty(window, "localStorage", {
  get() { throw new DOMException("refused", "SecurityError"); },
});"""
FULL = """Storage.prototype.setItem = () => {
  throw new DOMException("refused", "QuotaExceededError");
};"""


@pytest.mark.parametrize("script", [REFUSE, FULL])
def test_ticks_work_where_the_browser_keeps_nothing(tab, script):
    page = tab(LEGEND)  # opens the tab
    page.add_init_script(script)
    tab(LESSONS[1])
    page.get_by_label("I have done this lesson").check()
    assert len(done(page)) == 1
    assert "does not keep the ticks" in page.locator(".done-lesson").inner_text()
    tab(LESSONS[2])
    assert done(page) == []
    ours = [one for one in page.errors if not re.search("refused|theme mode", one)]
    page.errors[:] = ours


def test_broken_ticks_are_forgotten(tab):
    page = tab(LEGEND)
    for broken in ("{", "5", '[["x"]]'):
        page.evaluate(
            "text => localStorage.setItem('harmony-in-practice: lessons done', text)", broken
        )
        tab(LESSONS[1])
        assert page.locator(".done-count").inner_text().startswith("0 of ")
        page.get_by_label("I have done this lesson").check()
        assert len(done(page)) == 1
        assert json.loads(page.evaluate("Object.values(localStorage)[0]"))
        page.get_by_label("I have done this lesson").uncheck()
