"""The questions of each lesson's quiz (notebooks/quiz/): complete, answerable, and not guessable.

What the page makes of them is tested by test_book_quiz.py.
"""

import json
import re
import runpy
from collections import Counter
from functools import cache

import pytest
import yaml
from bs4 import BeautifulSoup
from jsonschema import Draft202012Validator
from test_environment import tracked

from tools.notebooks import LESSONS, ROOT

QUIZZES = {path.stem: ROOT / "notebooks" / "quiz" / f"{path.stem}.yml" for path in LESSONS}
lessons = pytest.mark.parametrize("name", QUIZZES)

TEXT = {"type": "string", "minLength": 3, "pattern": r"[.?!]$"}
ANSWER = {
    "type": "object",
    "required": ["text", "feedback"],
    "properties": {"text": TEXT, "feedback": TEXT | {"minLength": 30}, "right": {"const": True}},
    "additionalProperties": False,
}
QUESTION = {
    "type": "object",
    "required": ["question", "see", "answers"],
    "properties": {
        "question": TEXT,
        "see": {"type": "string"},
        "answers": {"type": "array", "minItems": 3, "maxItems": 4, "items": ANSWER},
    },
    "additionalProperties": False,
}
SCHEMA = {"type": "array", "minItems": 5, "maxItems": 6, "items": QUESTION}


def read(name: str) -> list[dict]:
    assert QUIZZES[name].is_file(), f"lesson {name} has no quiz: write {QUIZZES[name].name}"
    return yaml.safe_load(QUIZZES[name].read_text(encoding="utf-8"))


@cache
def cells(name: str) -> list[dict]:
    lesson = ROOT / "notebooks" / f"{name}.ipynb"
    return json.loads(lesson.read_text(encoding="utf-8"))["cells"]


def texts(questions: list[dict]) -> list[str]:
    """Every text that a reader sees, the titles of sections aside."""
    answers = [answer for question in questions for answer in question["answers"]]
    return [
        *(question["question"] for question in questions),
        *(answer[part] for answer in answers for part in ("text", "feedback")),
    ]


def places_of_the_right(questions: list[dict]) -> list[int]:
    return [
        next(i for i, answer in enumerate(question["answers"]) if answer.get("right"))
        for question in questions
    ]


def test_a_quiz_for_each_lesson_and_no_other() -> None:
    folder = ROOT / "notebooks" / "quiz"
    assert {path.stem for path in tracked() if path.parent == folder} <= set(QUIZZES)
    assert all(path.is_file() for path in QUIZZES.values())


@lessons
def test_every_question_has_one_right_answer_and_feedback_for_every_wrong_one(name: str) -> None:
    faults = [
        f"{'/'.join(map(str, fault.absolute_path))}: {fault.message}"
        for fault in Draft202012Validator(SCHEMA).iter_errors(read(name))
    ]
    assert faults == []
    for question in read(name):
        right = sum("right" in answer for answer in question["answers"])
        assert right == 1, f"{right} right answers: {question['question']}"


@lessons
def test_nothing_is_said_twice(name: str) -> None:
    twice = [text for text, n in Counter(texts(read(name))).items() if n > 1]
    assert twice == []


@lessons
def test_the_right_answer_cannot_be_guessed(name: str) -> None:
    """Not by its place, nor by its length."""
    questions = read(name)
    places = Counter(places_of_the_right(questions))
    assert len(places) >= 3, "the right answers stand in fewer than three places"
    assert max(places.values()) <= len(questions) // 2, "most right answers stand in one place"
    longest = [
        max(range(len(question["answers"])), key=lambda i: len(question["answers"][i]["text"]))
        for question in questions
    ]
    is_right = [a == b for a, b in zip(longest, places_of_the_right(questions), strict=True)]
    assert sum(is_right) <= 3, "most right answers are the longest"


@lessons
def test_section_to_see_is_one_of_the_lesson(name: str) -> None:
    markdown = [cell["source"] for cell in cells(name) if cell["cell_type"] == "markdown"]
    markdown = "\n".join("".join(source) for source in markdown)
    opening = {"You will be able to", "Before you start", "Time", "Imports", "Exercises", "Next"}
    sections = set(re.findall(r"^###? (.+?) *$", markdown, flags=re.MULTILINE)) - opening
    assert [question["see"] for question in read(name) if question["see"] not in sections] == []


@lessons
def test_numbers_are_printed_or_written_in_the_lesson(name: str) -> None:
    """A quiz measures nothing: what it states in decimals or per cent, its lesson has."""
    lesson = ""
    for cell in cells(name):
        lesson += "".join(cell["source"])
        for output in cell.get("outputs", []):
            lesson += "".join(output.get("text") or output.get("data", {}).get("text/plain", ""))
    stated = re.findall(r"\d+\.\d+(?:\.\d+)*|\d+(?= %)", " ".join(texts(read(name))))
    assert [number for number in stated if number not in lesson] == []


@lessons
def test_a_sentence_is_a_line_and_markdown_stays_within_it(name: str) -> None:
    lines = QUIZZES[name].read_text(encoding="utf-8").splitlines()
    # a new sentence begins with a capital letter, after a full stop or a question mark
    assert [line for line in lines if re.search(r"[a-z)`*][.?!] +[A-Z`*]", line)] == []
    assert [text for text in texts(read(name)) if text.count("`") % 2 or "](" in text] == []


def test_texts_are_escaped() -> None:
    """A text is Markdown, never HTML: it cannot put an element into the page."""
    render = runpy.run_path(str(ROOT / "book" / "_ext" / "quiz.py"))["render"]
    nasty = "<img src=x> & `a < b`"
    answers = [{"text": nasty, "feedback": nasty, "right": True}]
    html = render([{"question": nasty, "see": nasty, "answers": answers}], {nasty: '"x"'})
    page = BeautifulSoup(html, "html.parser")
    assert page.find_all("img") == []
    assert page.legend.get_text() == "Question 1. <img src=x> & a < b"
    assert page.select_one(".quiz-see a")["href"] == '#"x"'
