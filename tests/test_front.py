"""The front door: what its pages are filled with is true of the lessons; one address for all."""

import json
import os
import re
from dataclasses import dataclass

import nbformat
import pytest
import yaml
from test_environment import tracked

from tools import front
from tools.notebooks import LESSONS, ROOT

TOC = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
KNOWN = yaml.safe_load((ROOT / "book" / "lessons.yml").read_text(encoding="utf-8"))
ADDRESS = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]["url"]
lessons = pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)


def read(name):
    return nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)


def cell(name, id_):
    (found,) = [one for one in read(name).cells if one.id == id_]
    return found


@lessons
def test_lessons_yml_says_what_the_lesson_says(path):
    """The lessons called necessary are those that it links; the picture is one of its cells."""
    assert set(KNOWN[path.stem]) <= {"level", "needs", "picture", "afterwards"}
    assert KNOWN[path.stem]["level"] in {"beginner", "intermediate", "advanced"}
    assert not KNOWN[path.stem]["afterwards"].endswith(".")
    nb = nbformat.read(path, as_version=4)
    if "picture" in KNOWN[path.stem]:
        assert front.PRACTICE.isdisjoint(
            cell(path.stem, KNOWN[path.stem]["picture"]).metadata.get("tags", [])
        )
    (before,) = [c.source for c in nb.cells if c.source.startswith("## Before you start")]
    needs = set(KNOWN[path.stem]["needs"])
    bullets = re.findall(r"^- \*Necessary:\*.*$", before, flags=re.MULTILINE)
    links = re.findall(r"\]\((\d\d_\w+)\.ipynb\)", bullets[0] if bullets else before)
    assert needs == set(links) if bullets else needs <= set(links)
    assert all(other < path.stem or KNOWN[other] for other in needs)


def test_map_leaves_out_what_follows_from_another_arrow():
    @dataclass
    class One:
        name: str
        needs: list

    found = [One("a", []), One("b", ["a"]), One("c", ["b"]), One("d", ["a", "c"])]
    assert front.needs(found) == {"a": [], "b": ["a"], "c": ["b"], "d": ["c"]}


def test_picture_of_the_front_page_says_the_numbers_that_its_lesson_prints():
    name, table, picture = front.HERO
    rows = re.findall(
        r"^(\S+) +(\d\.\d\d) +\d\.\d\d +(\d\.\d\d)$",
        cell(name, table).outputs[0]["data"]["text/plain"],
        flags=re.MULTILINE,
    )
    assert [row[0] for row in rows] == ["uncorrected", "corrected", "over-corrected"]
    alt = cell(name, picture).metadata["mystnb"]["image"]["alt"]
    said = re.split(r"(?:Uncorrected|Corrected|Over-corrected):", alt)[1:]
    for words, (_, mixing, kept) in zip(said, rows, strict=True):
        assert re.findall(r"\d\.\d\d", words) == [mixing, kept]
    # and the caption: both mix the runs, the last has lost the biology
    mixing, kept = ([float(row[i]) for row in rows] for i in (1, 2))
    assert min(mixing[1:]) > mixing[0] + 0.5
    assert kept[1] > kept[0] - 0.03
    assert kept[2] < kept[0] - 0.2


def test_unknown_place_stops_the_build_in_one_sentence():
    assert front.fill("p.md", "see {{ a }} and {{b}}", {"a": "this"}) == "see this and {{b}}"
    with pytest.raises(SystemExit, match=r"p\.md asks for \['nobody'\]"):
        front.fill("p.md", "{{ nobody }}", {"a": "this"})


def test_status_has_the_cost_of_each_lesson_and_says_where_there_is_none(tmp_path):
    found = [
        front.Lesson(name, "part", read(name), **KNOWN[name])
        for name in ("00_quickstart", "01_qc_and_pca")
    ]
    file = tmp_path / "00_quickstart.json"
    file.write_text(json.dumps({"seconds": 60.5, "cpu_seconds": 31.2, "peak_mb": 800}))
    os.utime(file, (1_800_000_000, 1_800_000_000))
    first, second = front.status(found, tmp_path).splitlines()[2:]
    assert first.endswith("| 60.5 | 31.2 | 800 | 2027-01-15 |")
    assert second.startswith("| [01 · Quality control and PCA](../notebooks/01_qc_and_pca.ipynb)")
    assert "not run here" in second


def test_figures_of_exercises_are_not_shown():
    png = {"image/png": "iVBORw0KGgo="}
    cells = [nbformat.v4.new_markdown_cell("## A `name`\n\nText.\n\n### B")]
    for tags in ([], ["solution"], ["check"]):
        made = nbformat.v4.new_code_cell(
            outputs=[nbformat.v4.new_output("display_data", png)], metadata={"tags": tags}
        )
        cells.append(made)
    (one,) = front.pictures(nbformat.v4.new_notebook(cells=cells))
    assert (one.cell, one.section) == (cells[1].id, "B")


def test_one_place_names_the_repository():
    """Pages of the book say {{ repository }}; whoever reads a file alone finds the same address."""
    repository = ADDRESS.partition("github.com/")[2]
    spelled = [
        path.relative_to(ROOT).as_posix()
        for path in tracked()
        if path.is_relative_to(ROOT / "book")
        and path.suffix in {".md", ".yml", ".py", ".html", ".js", ".css", ".svg", ".j2"}
        and f"github.com/{repository}" in path.read_text(encoding="utf-8")
    ]
    assert spelled == []
    alone = [ROOT / "README.md", ROOT / "CITATION.cff", *LESSONS]
    for path in alone:
        named = re.findall(r"github\.com/([\w.-]+/harmony-in-practice)", path.read_text("utf-8"))
        assert set(named) == {repository}, path.name
