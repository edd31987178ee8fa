"""The instructor guide: its minutes add up, and all that it names is in the lessons.

Its tables of wrong answers come from executed lessons: tests/test_book_teach.py looks at these.
"""

import json
import re
from itertools import pairwise

import pytest
import yaml
from test_reading_time import MINUTES_AN_EXERCISE, minutes

from tools.notebooks import tags
from tools.pages import ROOT, parts
from tools.slides import COLUMNS, ROWS
from tools.teach import (
    HUB,
    PAGE,
    ROOM,
    catalogue,
    exercise,
    hub_text,
    lesson,
    plan_table,
    questions_table,
    section,
    timed,
    workshop,
)

PLANS, BLOCKS = workshop()["plans"], workshop()["blocks"]
ROWS_OF_LESSONS = [
    pytest.param(row, id=f"{plan}-{row['block']}")
    for plan, rows in PLANS.items()
    for row in rows
    if "sections" in row
]
WITH_LESSON = [name for name, block in BLOCKS.items() if "lesson" in block]


def of(row: dict):
    return lesson(BLOCKS[row["block"]]["lesson"])


@pytest.mark.parametrize(("plan", "total"), [("one_day", 6 * 60), ("half_day", 3 * 60)])
def test_minutes_add_up(plan: str, total: int) -> None:
    assert sum(row["minutes"] for row in PLANS[plan]) == total
    rows = timed(PLANS[plan])
    for one, following in pairwise(rows):
        assert one["to"] == following["from"], "the clock has a gap"
    without = 0
    for row in rows:
        without = 0 if "name" in row else without + row["minutes"]
        assert without <= 120, "two hours without a break"


@pytest.mark.parametrize("row", ROWS_OF_LESSONS)
def test_a_row_has_the_minutes_of_the_reading_rate_and_a_tenth_more(row: dict) -> None:
    reading = sum(minutes(section(of(row), title))[0] for title in row["sections"])
    alone = MINUTES_AN_EXERCISE * len(row.get("exercises", []))
    wanted = ROOM * (reading + alone)
    assert row["minutes"] >= wanted, f"{row['minutes']} minutes, and {wanted:.0f} are planned"


@pytest.mark.parametrize("row", ROWS_OF_LESSONS)
def test_exercises_of_a_row_exist_and_have_their_word(row: dict) -> None:
    for number in row.get("exercises", []):
        title = exercise(of(row), number)
        assert "Extension" not in title, "an extension is for those who are fast"
        assert number in BLOCKS[row["block"]]["say"], f"nothing is said on {title}"


@pytest.mark.parametrize("name", WITH_LESSON)
def test_word_is_for_a_planned_exercise(name: str) -> None:
    rows = [row for plan in PLANS.values() for row in plan if row.get("block") == name]
    planned = {number for row in rows for number in row.get("exercises", [])}
    assert set(BLOCKS[name].get("say", {})) == planned


@pytest.mark.parametrize("name", WITH_LESSON)
def test_slides_show_a_picture_or_a_short_table_of_the_plan(name: str) -> None:
    (row,) = [row for row in PLANS["one_day"] if row.get("block") == name]
    planned = {cell.id: cell for title in row["sections"] for cell in section(of(row), title)}
    assert BLOCKS[name]["slides"]
    for item in BLOCKS[name]["slides"]:
        assert item["cell"] in planned, "it shows a cell that the plan leaves out"
        cell = planned[item["cell"]]
        text = "".join(o.get("text", "") or o.data["text/plain"] for o in cell.outputs)
        if "<Figure size" in text:
            assert len(cell.metadata.mystnb.image.alt) >= 40
            assert "no-figure" not in tags(cell)
        else:
            lines = text.rstrip().split("\n")
            assert 0 < len(lines) <= ROWS, f"{item['cell']}: {len(lines)} lines"
            assert max(map(len, lines)) <= COLUMNS, item["cell"]
        assert len(item["headline"].split()) <= 12
        assert item["notes"].strip()


@pytest.mark.parametrize("name", WITH_LESSON)
def test_numbers_of_a_block_are_in_its_lesson(name: str) -> None:
    """Decimals, and whole numbers from 10 on, but the numbers of lessons and of percentages."""
    nb = lesson(BLOCKS[name]["lesson"])
    outputs = [o for c in nb.cells if c.cell_type == "code" for o in c.outputs]
    said = "\n".join([c.source for c in nb.cells] + [json.dumps(o) for o in outputs])
    text = json.dumps(BLOCKS[name] | {"slides": [s | {"cell": ""} for s in BLOCKS[name]["slides"]]})
    text = re.sub(r"\b[lL]esson \d\d|\d\d_\w+|\\u\w{4}", "", text)
    for number in re.findall(r"\d+\.\d+|\b\d{2,}\b", text):
        assert re.search(rf"(?<![\d.]){re.escape(number)}(?!\d)", said), number


def test_questions_cover_the_catalogue() -> None:
    """Those on the method, and the messages of what comes before Harmony."""
    entries = catalogue()
    asked = [question["entry"] for question in workshop()["questions"]]
    wanted = [
        title
        for title, entry in entries.items()
        if entry.group.startswith(("Questions about the method", "Before Harmony"))
    ]
    assert set(asked) == set(wanted)
    assert len(asked) == len(set(asked))


@pytest.mark.parametrize("part", [*PLANS, "questions", "hub"])
def test_part_is_fresh(part: str) -> None:
    made = {"questions": questions_table, "hub": hub_text}
    text = made[part]() if part in made else plan_table(PLANS[part])
    written = parts(PAGE.read_text(encoding="utf-8"))[part]
    assert written == text.strip(), "book/teach.md is stale: run `make teach`"


def test_mail_says_what_the_readme_says() -> None:
    (mail,) = re.findall(r"```text\n(Subject.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    mail = mail.replace("{{ repository }}", config["repository"]["url"])  # as book/build.py does
    commands = re.findall(r"^    (.+)$", mail, flags=re.MULTILINE)
    assert commands[-1] == "make lab"
    for command in commands:
        target = command.removeprefix("make ")
        known = re.search(rf"^{target}:.*## ", makefile, flags=re.MULTILINE)
        assert known if command.startswith("make ") else command in readme, command
    for words in ["Python 3.11, 3.12 or 3.13", "about 2 GB of disk"]:
        assert words.lower() in " ".join(readme.split()).lower()
        assert words.lower() in " ".join(mail.split()).lower()
    assert max(map(len, mail.splitlines())) <= 76


def test_sizes_are_of_this_course() -> None:
    """What was recorded of the kernels makes sense, and names the lessons that are planned."""
    found = json.loads(HUB.read_text(encoding="utf-8"))
    for n, run in found["at_once"].items():
        assert len(run["kernels"]) == int(n)
        assert all(kernel["held_mb"] <= kernel["peak_mb"] for kernel in run["kernels"])
        # pages that all kernels share are counted once, so together they hold less than their sum
        assert run["together_mb"] <= sum(kernel["peak_mb"] for kernel in run["kernels"])
    assert {BLOCKS[name]["lesson"] for name in WITH_LESSON} <= set(found["lessons"])


def test_recording_makes_no_lesson_run_again() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (read,) = re.findall(r"^READ +:= .*filter-out ([^,]*),", makefile, flags=re.MULTILINE)
    assert f"data/{HUB.name}" in read.split()
