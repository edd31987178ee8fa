"""The slides, built from the executed lessons and looked at in a browser, with no network."""

import os
import re

import pytest
import yaml
from bs4 import BeautifulSoup

from tools import slides
from tools.notebooks import tags
from tools.teach import SOURCE, lesson, workshop

pytestmark = pytest.mark.book

BLOCKS = yaml.safe_load(SOURCE.read_text(encoding="utf-8"))["blocks"]
# what is wider or higher than the slide, or lies outside of it
CUT = """() => Array.from({length: Reveal.getTotalSlides()}, (_, number) => {
  Reveal.slide(number);
  const scale = Reveal.getScale(), now = Reveal.getCurrentSlide().getBoundingClientRect();
  return [...Reveal.getCurrentSlide().querySelectorAll("h1, h2, p, li, img, table, pre")]
    .filter(one => !one.closest("aside")).filter(one => {
      const box = one.getBoundingClientRect();
      return box.right > now.left + 1281 * scale || box.bottom > now.top + 721 * scale
        || box.left < now.left - 1 || one.scrollWidth > one.clientWidth + 2;
    }).map(one => one.tagName + " " + (one.innerText || one.alt).slice(0, 60));
}).flat()"""


@pytest.fixture(scope="module")
def decks(tmp_path_factory):
    """The folder of the slides."""
    if not any(slides.EXECUTED.glob("*.ipynb")):
        reason = "the lessons are not executed: run `make lessons` first"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    out = tmp_path_factory.mktemp("slides") / "slides"
    assert slides.build(out) == list(BLOCKS)
    return out


@pytest.fixture
def show(browser, decks, watched):
    """Open a deck from disk; it may ask for nothing else and complain of nothing."""
    context = browser.new_context(viewport={"width": 1280, "height": 720})
    page = context.new_page()
    outside, errors = watched(page, ("file:", "data:", "blob:"))
    page.on("requestfailed", lambda r: errors.append(r.url))

    def open_deck(name):
        page.goto((decks / f"{name}.html").as_uri())
        page.wait_for_function("Reveal.isReady()")
        page.evaluate("document.fonts.ready")
        return page

    yield open_deck
    context.close()
    assert outside == []
    assert errors == []


@pytest.mark.parametrize("name", ["index", *BLOCKS])
def test_nothing_is_cut(show, name):
    assert show(name).evaluate(CUT) == []


@pytest.mark.parametrize(
    ("name", "numbers"), [("index", [0]), ("quickstart", [0, 2, 3]), ("own", [2])]
)
def test_axe_finds_nothing_serious(show, name, numbers):
    """On every kind of slide: title, list, table, picture, printed text."""
    from axe_playwright_python.sync_playwright import Axe

    page = show(name)
    for number in numbers:
        page.evaluate("number => Reveal.slide(number)", number)
        # without preload it asks for no style sheet, which a page from disk may not
        found = Axe().run(page, options={"preload": False}).response["violations"]
        found = [rule for rule in found if rule["impact"] in ("serious", "critical")]
        assert [(rule["id"], [n["html"][:100] for n in rule["nodes"]]) for rule in found] == []


def test_keyboard_goes_through_a_deck(show):
    page = show("counts")
    for number in range(page.evaluate("Reveal.getTotalSlides()")):
        assert page.evaluate("Reveal.getIndices().h") == number
        page.keyboard.press("ArrowRight")
    assert page.evaluate("Reveal.isLastSlide()")


@pytest.mark.parametrize("name", [name for name in BLOCKS if "lesson" in BLOCKS[name]])
def test_deck_has_its_pictures_words_and_notes(decks, name):
    soup = BeautifulSoup((decks / f"{name}.html").read_text(encoding="utf-8"), "html.parser")
    assert soup.html["lang"] == "en"
    cells = {cell.id: cell for cell in lesson(BLOCKS[name]["lesson"]).cells}
    shown = 0
    for item in BLOCKS[name]["slides"]:
        (heading,) = [h for h in soup.select("h2") if h.get_text() == plain(item["headline"])]
        one = heading.find_parent("section")
        assert len(one.select("img, table, pre")) == 1, "one picture a slide"
        assert one.select_one("aside.notes").get_text().split() == plain(item["notes"]).split()
        if one.img:
            assert one.img["alt"] == cells[item["cell"]].metadata.mystnb.image.alt
            assert (decks / one.img["src"]).exists()
            assert "no-figure" not in tags(cells[item["cell"]])
            shown += 1
    assert shown > 0, "a deck without a picture"


def plain(text):
    """What Sphinx makes of straight quotes and of signs."""
    text = re.sub(r'(?<!\w)"', "“", text).replace('"', "”")
    return re.sub(r"[`*]", "", text.replace("'", "’"))


def test_speaker_sees_the_notes(show):
    page = show("quickstart")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    with page.expect_popup() as waiting:
        page.keyboard.press("s")
    speaker = waiting.value
    first = workshop()["blocks"]["quickstart"]["slides"][0]
    start = " ".join(first["notes"].split()[:5])
    speaker.wait_for_function("words => document.body.innerText.includes(words)", arg=start)


def test_missing_lesson_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"00_quickstart.ipynb .* run `make lessons`"):
        slides.build(tmp_path / "slides", executed=tmp_path)
