"""The cheat sheet has two pages of A4, and nothing on it that could be typed was not run."""

import contextlib
import json
import re
import shlex
import shutil
import subprocess
import sys

import pytest
import typst
from click.testing import CliRunner
from test_skill import SKILL, SNIPPETS

from helpers import command
from helpers.data import load_pbmc, plant_run
from tools import cheatsheet
from tools.environment import ROOT


def code(block: bool) -> list[str]:
    """The text of what is printed as code: in frames of its own, or within a sentence."""
    wanted = f"raw.where(block: {str(block).lower()})"
    found = typst.query(cheatsheet.SOURCE, wanted, **cheatsheet.FIXED)
    return [shown["text"] for shown in json.loads(found)]


def test_two_pages_of_a4_that_are_full_and_no_fuller() -> None:
    pages = typst.compile(cheatsheet.SOURCE, format="svg", **cheatsheet.FIXED)
    assert len(pages) == 2
    for page in pages:
        assert re.search(rb'width="595\.27\d*pt" height="841\.88\d*pt"', page)


def test_its_code_is_the_code_that_test_skill_runs() -> None:
    assert code(block=True)[:-1] == [snippet.rstrip("\n") for snippet in SNIPPETS]
    words = {word for text in code(block=False) for word in re.findall(r"\w+", text)}
    assert words - set(re.findall(r"\w+", SKILL)) <= {"obsp"}  # the slot of the graph


def test_a_line_of_code_that_would_be_broken_is_an_error(tmp_path) -> None:
    folder = tmp_path / "book"
    folder.mkdir()
    shutil.copy(cheatsheet.SOURCE, folder)
    for wide in ("", "#" * 90):
        (tmp_path / "SKILL.md").write_text(SKILL.replace("import os", wide + "import os"))
        places = cheatsheet.FIXED | {"root": tmp_path}
        raised = pytest.raises(RuntimeError, match="wider than its frame")
        with raised if wide else contextlib.nullcontext():
            typst.compile(folder / cheatsheet.SOURCE.name, **places)


def test_both_tables_are_printed_whole() -> None:
    printed = set(code(block=False))
    for head in ("| if |", "| you see |"):
        table = SKILL.split(head)[1].split("\n\n")[0]
        assert len(table.splitlines()) > 4
        assert set(re.findall("`([^`]+)`", table)) <= printed


def test_the_command_makes_the_report(tmp_path, monkeypatch) -> None:
    name, *arguments = shlex.split(code(block=True)[-1])
    assert name == "harmony-audit"
    monkeypatch.chdir(tmp_path)
    plant_run(load_pbmc())[::15].write_h5ad("cells.h5ad")
    done = CliRunner().invoke(command.main, [*arguments, "--quick"])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "report" / "audit.html").exists()


def test_make_cheatsheet_writes_it_where_it_says() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tools.cheatsheet"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout == "The cheat sheet: _build/cheatsheet.pdf\n", done.stderr
    assert cheatsheet.TARGET.read_bytes().startswith(b"%PDF-")
    assert cheatsheet.TARGET.stat().st_size < 300_000
