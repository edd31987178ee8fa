"""The workshop copies in notebooks/exercises/ are what `make exercises` writes."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import nbformat
import pytest
from test_environment import tracked
from test_notebooks import code, lessons, read

from tools import notebooks
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
    files = {path.name for path in tracked() if path.parent == EXERCISES}
    assert files - {"README.md"} <= {path.name for path in LESSONS}


@pytest.mark.skipif(shutil.which("git") is None, reason="there is no Git")
@pytest.mark.parametrize("repository", [True, False])
def test_make_exercises_removes_only_what_git_tracks(
    repository: bool, tmp_path: Path, monkeypatch, capsys
) -> None:
    """A copy of a lesson that is gone goes; a notebook that a learner made stays, and is named."""
    gone, own = tmp_path / "99_gone.ipynb", tmp_path / "Untitled.ipynb"
    gone.write_text("{}")
    own.write_text("mine")
    if repository:
        for command in (["init", "--quiet"], ["add", gone.name]):
            subprocess.run(["git", *command], cwd=tmp_path, check=True)
    else:  # nor may one above it speak for this folder
        monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setattr(notebooks, "EXERCISES", tmp_path)
    monkeypatch.setattr(notebooks, "LESSONS", LESSONS[:1])
    notebooks.exercises()
    said = capsys.readouterr().out
    assert own.read_text() == "mine"
    assert "Untitled.ipynb: left as it is" in said
    assert gone.exists() != repository
    assert (tmp_path / LESSONS[0].name).exists()


@lessons
def test_workshop_copy_holds_no_answer(path: Path) -> None:
    nb = nbformat.read(EXERCISES / path.name, as_version=4)
    nbformat.validate(nb)
    assert not any("solution" in tags(cell) for cell in nb.cells)
    assert all(not cell.outputs and cell.execution_count is None for cell in code(nb))
    places = sum("exercise" in tags(cell) for cell in nb.cells)
    checks = sum("check" in tags(cell) for cell in nb.cells)
    assert places == checks >= 3


# what a line may hold that JupyterLab shows of a folded cell: which answer is wanted, as the check
# says it to everyone, or the name of a function
NEUTRAL_CHECK = re.compile(
    r"""@practice\.wants\(f?(?:"[^"]+"|'[^']+')(?:, truth=\w+)?\)"""
    r"|@practice\.cache"
    r"|def \w+\((?:answer)?\):"
)


@lessons
@pytest.mark.parametrize("folder", ["notebooks", "notebooks/exercises"])
def test_what_shows_of_a_folded_cell_holds_no_answer(path: Path, folder: str) -> None:
    """JupyterLab shows the first line of a cell whose source is hidden, of Markdown as well.

    It shows no line of the output where both are hidden, as they are in a solution.
    """
    neutral = {"code": {"# one way to do it", "# needs the fetched files"}}
    neutral["markdown"] = {"**In words.**"}
    folded = 0
    for cell in nbformat.read(ROOT / folder / path.name, as_version=4).cells:
        hidden = cell.metadata.get("jupyter", {})
        if not {"solution", "check"} & set(tags(cell)):
            assert not hidden, "a cell is folded that is neither a solution nor a check"
            continue
        folded += 1
        assert hidden["source_hidden"]
        first, *rest = cell.source.splitlines()
        assert rest
        if "solution" in tags(cell):
            assert first in neutral[cell.cell_type], first
            assert hidden.get("outputs_hidden", False) == (cell.cell_type == "code")
        else:
            assert NEUTRAL_CHECK.fullmatch(first), first
    assert folded >= 3


def test_a_first_line_that_tells_is_seen() -> None:
    for line in ('@practice.wants("one number", truth=lambda: 2 * 2)', "answer_1 = 4", "# it is 4"):
        assert not NEUTRAL_CHECK.fullmatch(line)
    for line in ('@practice.wants("one number", truth=sum_1)', "def sum_1():", "@practice.cache"):
        assert NEUTRAL_CHECK.fullmatch(line)


def links(path: Path) -> list[str]:
    """The relative links of a notebook."""
    cells = nbformat.read(path, as_version=4).cells
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    return re.findall(r"\]\((?![a-z]+:|#)([^)#\s]+)", text)


@lessons
def test_links_of_a_workshop_copy_work(path: Path) -> None:
    for link in links(EXERCISES / path.name):
        assert (EXERCISES / link).exists(), link


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_make_my_keeps_links_and_what_a_learner_wrote(tmp_path: Path) -> None:
    """Its copies lie one folder higher, beside each other."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copytree(EXERCISES, tmp_path / EXERCISES.relative_to(ROOT))
    own = tmp_path / "my" / LESSONS[0].name
    own.parent.mkdir()
    own.write_text("mine")
    subprocess.run(["make", "-s", "my"], cwd=tmp_path, check=True, capture_output=True)
    assert own.read_text() == "mine"
    copies = {path.name for path in own.parent.iterdir()}
    assert copies == {path.name for path in LESSONS}
    own.unlink()
    subprocess.run(["make", "-s", "my"], cwd=tmp_path, check=True, capture_output=True)
    n_out = 0
    for copy in own.parent.iterdir():
        for link in links(copy):
            aim = Path(os.path.normpath(ROOT / "my" / link))  # ROOT/my itself need not be there
            assert aim.exists() or (aim.parent == ROOT / "my" and aim.name in copies), link
            n_out += link.startswith("../")
    assert n_out > 0


def test_git_leaves_a_learners_own_copies_alone() -> None:
    command = ["git", "check-ignore", "--quiet", "my/00_quickstart.ipynb"]
    code = subprocess.run(command, cwd=ROOT, capture_output=True).returncode
    if code == 128:
        pytest.skip("this is no Git repository, but an unpacked archive")
    assert code == 0


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
