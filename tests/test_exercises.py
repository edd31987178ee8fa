"""The workshop copies in notebooks/exercises/ are what `make exercises` writes."""

import re
import subprocess
from pathlib import Path

import nbformat
from test_notebooks import code, lessons, read

from tools.notebooks import EXERCISES, LESSONS, ROOT, as_text, exercise_copy, tags
from tools.trials import faults, said_by


@lessons
def test_workshop_copy_is_fresh(path: Path) -> None:
    copy = EXERCISES / path.name
    assert copy.exists(), f"{copy.name} is missing: run `make exercises`"
    assert copy.read_text(encoding="utf-8") == as_text(exercise_copy(read(path))), (
        f"{copy.name} is stale: run `make exercises`"
    )


def test_no_workshop_copy_is_left_over() -> None:
    assert {path.name for path in EXERCISES.glob("*.ipynb")} == {path.name for path in LESSONS}


@lessons
def test_workshop_copy_holds_no_answer(path: Path) -> None:
    nb = nbformat.read(EXERCISES / path.name, as_version=4)
    nbformat.validate(nb)
    assert not any("solution" in tags(cell) for cell in nb.cells)
    assert all(not cell.outputs and cell.execution_count is None for cell in code(nb))
    places = sum("exercise" in tags(cell) for cell in nb.cells)
    checks = sum("check" in tags(cell) for cell in nb.cells)
    assert places == checks >= 3


@lessons
def test_links_of_a_workshop_copy_work(path: Path) -> None:
    for cell in nbformat.read(EXERCISES / path.name, as_version=4).cells:
        if cell.cell_type == "markdown":
            for link in re.findall(r"\]\((?![a-z]+:|#)([^)#\s]+)", cell.source):
                assert (EXERCISES / link).exists(), link


def test_git_leaves_a_learners_own_copies_alone() -> None:
    command = ["git", "check-ignore", "--quiet", "my/00_quickstart.ipynb"]
    assert subprocess.run(command, cwd=ROOT).returncode == 0


def test_what_a_trial_finds() -> None:
    """tools/trials.py sees a check that is too strict, too lenient, unclear or hardly tried."""

    def row(said: str, words: str) -> dict:
        return {"exercise": 1, "answer": "5", "words": words, "said": said}

    good = [row("Right: 5.", "Right")] * 3 + [row("Not yet: too low.", "too low")] * 5
    assert faults(good) == []
    too_strict = [*good, row("Not yet: too low.", "Right")]
    too_lenient = [*good, row("Right: 5.", "too low")]
    other_hint = [*good, row("Not yet: too high.", "too low")]
    no_sentence = [*good, row("Traceback (most recent call last): KeyError", "KeyError")]
    for rows in (too_strict, too_lenient, other_hint, no_sentence, good[1:], good[:-1]):
        assert len(faults(rows)) == 1
    assert said_by(lambda answer: 1 / answer, 0).startswith("Traceback")
