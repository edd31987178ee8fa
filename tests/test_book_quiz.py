"""The quiz on the pages of the lessons: by keyboard, by screen reader, on a phone, on paper.

What it asks is tested by test_quiz.py.
"""

import pickle

import pytest
from bs4 import BeautifulSoup
from test_book import LESSONS, violations
from test_quiz import places_of_the_right, read

from tools.notebooks import ROOT

pytestmark = pytest.mark.book


def questions_of(page_name):
    return read(page_name.removeprefix("notebooks/"))


@pytest.mark.parametrize("name", LESSONS)
def test_quiz_stands_before_next_and_its_links_lead_to_sections(book, name):
    page = BeautifulSoup((book / f"{name}.html").read_text(encoding="utf-8"), "html.parser")
    assert len(page.select("#quiz .quiz-question")) == len(questions_of(name))
    assert page.select_one("#quiz").find_next_sibling("section")["id"] == "next"
    for question, link in zip(questions_of(name), page.select(".quiz-see a"), strict=True):
        heading = page.find(id=link["href"][1:]).find(["h2", "h3"])
        assert heading.get_text().removesuffix("#").replace("’", "'") == question["see"]
    (entry,) = page.select('.bd-sidebar-secondary a[href="#quiz"]')
    assert entry.get_text(strip=True) == "Check yourself"


def test_answered_by_keyboard(tab):
    """Every question: nothing chosen, a wrong answer, the right one; each is read out."""
    page = tab(LESSONS[0])
    for number, question in enumerate(questions_of(LESSONS[0])):
        place = page.locator(".quiz-question").nth(number)
        says = place.get_by_role("status")
        assert says.get_attribute("aria-live") == "polite"
        group = place.get_by_role("group")
        assert group.count() == 1, "the choices are no group with a name"
        fold = place.locator(".quiz-answers")
        assert not fold.is_visible(), "the answers can be seen before the question is answered"

        place.get_by_role("button").focus()
        page.keyboard.press("Enter")
        assert says.inner_text() == "Choose an answer first."

        # into the group, and down through its choices as a keyboard does
        (right,) = places_of_the_right([question])
        place.get_by_role("radio").first.focus()
        page.keyboard.press("Space")
        for chosen, answer in enumerate(question["answers"]):
            if chosen:
                page.keyboard.press("ArrowDown")
            assert place.get_by_role("radio").nth(chosen).is_checked()
            assert says.inner_text() == "", "says of one answer what belongs to another"
            page.keyboard.press("Tab")
            assert page.evaluate("document.activeElement.className") == "quiz-check"
            page.keyboard.press("Space")
            begins = "Right:" if chosen == right else "Not this one:"
            heard = says.inner_text()
            assert heard.startswith(begins)
            first_words = answer["feedback"].split("`")[0].split("*")[0].strip()
            assert first_words in heard
            assert heard.endswith(f"See {question['see']}.")
            if chosen == right:
                assert fold.is_visible(), "solved, and the other answers are not explained"
            page.keyboard.press("Shift+Tab")


def test_answered_quiz_is_accessible_on_a_wide_screen_and_a_phone(tab):
    page = tab(LESSONS[0])
    for number, choice in enumerate([0, 1, 2, 3]):
        place = page.locator(".quiz-question").nth(number)
        place.get_by_role("radio").nth(choice).check()
        place.get_by_role("button").click()
    for fold in page.locator(".quiz-answers:visible").all():
        fold.locator("summary").click()
    assert page.locator(".quiz-says[data-right=true], .quiz-says[data-right=false]").count() == 4
    # the rest of the page, and the quiz before it is answered, are looked at by test_book.py
    page.evaluate(
        "document.querySelectorAll('article section:not(#quiz, :has(#quiz))')"
        ".forEach(one => one.remove())"
    )
    assert violations(page) == []

    page.set_viewport_size({"width": 390, "height": 844})
    edges = """all => all.map(one => {
      const words = document.createRange();
      words.selectNodeContents(one);
      const box = words.getBoundingClientRect();
      return [box.left, box.right];
    })"""
    boxes = page.locator("#quiz :is(label, button, output, li, legend)").evaluate_all(edges)
    assert min(left for left, _ in boxes) >= 0
    assert max(right for _, right in boxes) <= 390
    heights = "all => all.map(one => one.getBoundingClientRect().height)"
    sizes = page.locator("#quiz :is(.quiz-choice, .quiz-check)").evaluate_all(heights)
    assert min(sizes) >= 24, "too small for a finger (WCAG 2.5.8)"


def test_without_javascript_it_is_questions_with_folded_answers(browser, book):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((book / f"{LESSONS[0]}.html").as_uri())
    assert page.locator("#quiz button:visible").count() == 0, "a button that does nothing"
    first = page.locator(".quiz-question").first
    assert not first.locator("li").first.is_visible()
    first.locator("summary").click()
    answers = questions_of(LESSONS[0])[0]["answers"]
    for answer, line in zip(answers, first.locator("li").all(), strict=True):
        assert line.is_visible()
        begins = "Right:" if answer.get("right") else "Not this one:"
        assert line.inner_text().startswith(begins)
    context.close()


def test_on_paper_every_question_has_its_answers(tab):
    """As solutions are, and without the buttons; the screen is as before."""
    page = tab(LESSONS[0])
    page.evaluate(
        """() => addEventListener("beforeprint", () => {
          window.unseen = [...document.querySelectorAll(".quiz-answers:not([open])")].length;
        })"""
    )
    page.pdf(format="A4")
    assert page.evaluate("unseen") == 0
    assert page.locator(".quiz-answers:visible").count() == 0
    page.emulate_media(media="print")
    assert page.locator(".quiz-answers:visible").count() == len(questions_of(LESSONS[0]))
    assert page.locator(".quiz-check:visible").count() == 0


def test_a_changed_question_makes_its_page_again():
    """Sphinx is told of the file, and make knows it as a source of the book."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (pages,) = [line for line in makefile.splitlines() if line.startswith("PAGES")]
    assert "notebooks/quiz" in pages
    env = ROOT / "_build" / ".doctrees" / "environment.pickle"
    if not env.exists():
        pytest.skip("no cache of Sphinx beside the book")
    dependencies = pickle.loads(env.read_bytes()).dependencies
    for name in LESSONS:
        assert any(file.endswith(f"{name[10:]}.yml") for file in dependencies[name]), name
