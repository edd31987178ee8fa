"""The executed lessons, of which the book is made: complete, described in words, quick and small.

Run after `make lessons`; `make test` sees to that.  On a slow machine `LESSON_SECONDS=120 make
test` moves the limit of time.
"""

import json
import os
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from test_notebooks import check_alt, code, exercise_groups, lessons, read

from tools.notebooks import LESSONS, RAN, ROOT, tags

# `make lessons` runs two side by side, which slows both: alone a lesson takes less
SECONDS = float(os.environ.get("LESSON_SECONDS", 90))
MEGABYTES = 2000
# lessons with a *Predict* in an exercise: its solution, which is folded, answers it
SOLVED = {
    "00_quickstart": 2,
    "02_harmony_with_scanpy": 2,
    "07_save_and_hand_over": 4,
    "12_r_and_seurat": 2,
}


def executed(path: Path):
    copy = ROOT / "_build" / "executed" / path.name
    if not copy.exists():
        pytest.fail(f"{path.stem} has no executed copy that passed: run `make lessons`")
    return nbformat.read(copy, as_version=4)


def ran(path: Path):
    """The executed copy; skips the test where the lesson's needs were not met."""
    nb = executed(path)
    if any("not-executed" in tags(cell) for cell in nb.cells):
        reason = f"{path.stem} was not executed: it needs {nb.metadata['needs']}"
        pytest.fail(reason) if os.environ.get("REQUIRE_R") == "1" else pytest.skip(reason)
    return nb


@lessons
def test_executed_copy_is_this_lesson(path: Path) -> None:
    nb, lesson = executed(path), read(path)
    nbformat.validate(nb)
    sources = [cell.source for cell in nb.cells if cell.id != "not-executed"]
    assert sources == [cell.source for cell in lesson.cells]
    counts = [cell.execution_count for cell in code(nb)]
    assert counts == list(range(1, len(counts) + 1))


@lessons
def test_every_picture_has_words(path: Path) -> None:
    pictures = 0
    for cell in code(ran(path)):
        shown = [o.data["image/png"] for o in cell.outputs if "image/png" in o.get("data", {})]
        assert len(shown) == len(set(shown)), f"cell {cell.execution_count} shows a picture twice"
        if shown:
            pictures += 1
            check_alt(cell)
    assert pictures, "a lesson without a picture"


@lessons
def test_time_and_memory(path: Path) -> None:
    """Clock time; processor time where the machine was busy with something else meanwhile."""
    ran(path)
    cost = json.loads((RAN / f"{path.stem}.json").read_text())
    assert min(cost["seconds"], cost["cpu_seconds"]) <= SECONDS, f"{path.stem}: {cost}"
    assert cost["peak_mb"] <= MEGABYTES, f"{path.stem}: {cost}"


@lessons
def test_no_answer_lies_open(path: Path) -> None:
    """Folded in the book: solutions, the code of checks, and words that answer a prediction."""
    html = ROOT / "_build" / "html" / "notebooks" / f"{path.stem}.html"
    page = BeautifulSoup(html.read_text(encoding="utf-8"), "html.parser")
    assert not page.select("details[open]:is(.hide, .sd-dropdown)")

    cells = read(path).cells
    solutions = [cell for cell in cells if "solution" in tags(cell)]
    in_words = sum(cell.cell_type == "markdown" for cell in solutions)
    assert len(page.select(".tag_solution > details.hide")) == len(solutions) - in_words
    assert len(page.select("details.solution")) == in_words

    checks = page.select(".tag_check")
    assert len(checks) == sum("check" in tags(cell) for cell in cells)
    for check in checks:
        assert check.select("details .cell_input"), "the code of a check lies open"
        assert check.select("details .cell_output") == [], "what a check says is folded"

    # each question of a lesson has its folded answer, but for those whose exercise has a solution
    predicts = sum(cell.source.count("**Predict") for cell in cells)
    assert len(page.select("details.answer")) == predicts - (path.stem in SOLVED)


@pytest.mark.parametrize("path", [p for p in LESSONS if p.stem in SOLVED], ids=lambda p: p.stem)
def test_an_exercise_that_asks_for_a_prediction_has_its_solution(path: Path) -> None:
    asking = [
        number
        for number, cells in enumerate(exercise_groups(read(path)), 1)
        if any("**Predict" in cell.source for cell in cells if "solution" not in tags(cell))
    ]
    assert asking == [SOLVED[path.stem]]


def test_no_executed_copy_is_left_over() -> None:
    """A lesson that was renamed leaves no copy behind for the book to pick up."""
    copies = {path.name for path in (ROOT / "_build" / "executed").glob("*.ipynb")}
    assert copies == {path.name for path in LESSONS}
