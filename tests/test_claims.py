"""The claims of each lesson quote it: what a test says in its docstring stands in the prose.

` ... ` in a docstring leaves something out, as in any quotation.
"""

import ast
import re
from pathlib import Path

import nbformat
import pytest
from test_environment import tracked

from tools.notebooks import LESSONS, ROOT

CLAIMS = ROOT / "tests" / "claims"
lessons = pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)


def plain(text: str) -> str:
    """One line, without emphasis, code marks and the addresses of links."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return re.sub(r"\s+", " ", re.sub(r"[*`]", "", text)).strip().lower()


def quoted(path: Path) -> dict[str, str]:
    """Test function -> the first paragraph of its docstring, of one file of claims."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    tests = [n for n in body if isinstance(n, ast.FunctionDef) and n.name.startswith("test_")]
    return {n.name: (ast.get_docstring(n) or "").split("\n\n")[0] for n in tests}


def prose(lesson: Path) -> str:
    cells = nbformat.read(lesson, as_version=4).cells
    return plain("\n".join(c.source for c in cells if c.cell_type == "markdown"))


@lessons
def test_each_lesson_has_claims(path):
    assert len(quoted(CLAIMS / f"test_{path.stem}.py")) >= 5


def test_no_claims_are_left_of_a_lesson_that_is_gone():
    of = {p.stem for p in tracked() if p.parent == CLAIMS}
    assert of <= {f"test_{p.stem}" for p in LESSONS}


@lessons
def test_claims_quote_their_lesson(path):
    text = prose(path)
    said = quoted(CLAIMS / f"test_{path.stem}.py")
    wrong = {name: sentence for name, sentence in said.items() if not stands(sentence, text)}
    assert not wrong, f"not in {path.name}: {wrong}"


def stands(sentence: str, text: str) -> bool:
    """Whether each part of the quotation occurs in the prose."""
    return bool(sentence) and all(p.rstrip(".:") in text for p in plain(sentence).split(" ... "))
