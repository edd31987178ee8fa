"""The links of the workshop copies lead to files that exist, at the one address of the course."""

from urllib.parse import unquote

import nbformat
import pytest
import yaml

from tools.launch import PAGE, links, page
from tools.notebooks import LESSONS
from tools.pages import ROOT

CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
NAME = CONFIG["repository"]["url"].split("github.com/")[1]


def test_page_is_fresh() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "book/before_the_day.md: run `make tables`"


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_both_links_lead_to_the_copy_without_solutions(lesson) -> None:
    binder, colab = links()[lesson.stem]
    branch = CONFIG["repository"]["branch"]
    start, path = binder.split("?urlpath=")
    assert start == f"https://mybinder.org/v2/gh/{NAME}/{branch}"
    assert "/" not in path
    binder_file = unquote(path).removeprefix("lab/tree/")
    start = f"https://colab.research.google.com/github/{NAME}/blob/{branch}/"
    assert colab.startswith(start)
    assert binder_file == colab.removeprefix(start)
    copy = nbformat.read(ROOT / binder_file, as_version=4)
    assert not any("solution" in cell.metadata.get("tags", []) for cell in copy.cells)
    code = next(cell.source for cell in copy.cells if cell.cell_type == "code")
    assert f"https://github.com/{NAME}" in code, "on Colab the first cell fetches the course"


def test_every_lesson_has_its_row() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for lesson in LESSONS:
        assert f"| {lesson.stem.replace('_', ' ')} |" in text
