"""The registry of general claims: its record is of today's data and code, its page is current."""

import re

import nbformat
import pytest

from tools import carry
from tools.notebooks import LESSONS

EMBEDDED = ["embedded, scaled", "embedded, unscaled"]


@pytest.fixture(scope="module")
def found():
    return carry.read_record()


def test_names_are_unique_and_there_are_enough():
    names = [c.name for c in carry.CLAIMS]
    assert len(set(names)) == len(names)
    assert 25 <= len(names) <= 50


def test_record_is_of_these_data_and_these_functions(found):
    stale = "run `make carry`: the record was made from other data or other functions"
    assert found["inputs"] == carry.inputs(), stale
    assert set(found["values"]) == {c.name for c in carry.CLAIMS}
    for columns in found["values"].values():
        assert list(columns) == list(carry.SETTINGS)
        assert all(len(values) == len(carry.SEEDS) for values in columns.values())


def test_page_is_what_the_record_says(found):
    assert carry.PAGE.read_text(encoding="utf-8") == carry.page(), "run `make tables`"


def test_many_claims_carry_and_some_do_not(found):
    """At least twenty hold wherever they apply; a registry in which all hold would be too lax."""
    table = carry.verdicts(found)
    carried = table.apply(lambda row: all(v in (True, None) for v in row), axis=1)
    assert carried.sum() >= 20
    assert not carried.all()
    assert table.notna().sum(axis=1).min() >= 3  # each claim applies to three data settings or more


def cells_of(lesson: str) -> list[nbformat.NotebookNode]:
    """The cells of a lesson, named by its two digits."""
    (path,) = [path for path in LESSONS if path.name.startswith(f"{lesson}_")]
    return nbformat.read(path, as_version=4).cells


@pytest.mark.parametrize("claim", carry.CLAIMS, ids=lambda c: c.name)
def test_sentence_stands_in_its_lesson(claim):
    cells = cells_of(claim.lesson)
    prose = " ".join(c.source for c in cells if c.cell_type == "markdown")
    assert claim.sentence.rstrip(".") in re.sub(r"\s+", " ", prose)


def beyond(lesson: str) -> list[str]:
    """The bullets of a lesson's *Beyond these cells*, each a claim of the registry."""
    found = [c.source.split("**Beyond these cells.**")[1:] for c in cells_of(lesson)]
    return [
        line for (text,) in filter(None, found) for line in text.splitlines() if line[:1] == "-"
    ]


def test_what_fails_somewhere_says_so_where_it_is_listed(found):
    """And what holds wherever it applies has no such remark; the settings are those of the page."""
    table, seen = carry.verdicts(found), 0
    places = {"two labs": "two laboratories", "chemistries": "chemistries"}
    places |= {"cell lines": "cell lines", "embedded, scaled": "planted run"}
    places |= {"embedded, unscaled": "planted run", "all cells": "all cells"}
    for claim in carry.CLAIMS:
        sentence = claim.sentence.rstrip(".")
        for line in beyond(claim.lesson):
            if sentence in line:
                seen += 1
                fails = {name for name in table if table.loc[claim.name, name] is False}
                remark = line.partition(f"{sentence} (not")[2]
                assert bool(remark) == bool(fails), line
                for name in fails:
                    assert places[name] in remark, (line, name)
                    if name in EMBEDDED:  # one planted run for each seed
                        values = found["values"][claim.name][name]
                        assert [claim.holds([value]) for value in values].count(False) == 1
                        assert "one planted run of five" in remark, line
    assert seen == sum(len(beyond(lesson)) for lesson in ("00", "02", "03", "04", "05")) > 20


@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_columns_measured_again(name, found):
    """With the first seed: the same verdicts, and numbers near the recorded ones."""
    again = carry.measure(name, carry.SEEDS[0])
    for claim in carry.CLAIMS:
        recorded = found["values"][claim.name][name]
        assert claim.holds([again[claim.name]]) in (claim.holds(recorded[:1]), None), claim.name
        if recorded[0] is not None:
            assert again[claim.name] == pytest.approx(recorded[0], abs=0.03, rel=0.1), claim.name


def test_a_measure_that_finds_nothing_does_not_hold():
    """An embedding that Harmony left as it was fails the claims that say that it works."""
    case = carry.Case("embedded, scaled", 0)
    case.run = lambda *args, **kwargs: case.X
    failing = {"mixing_rises", "mixing_nears_its_reference", "pc_regression_falls", "kbet_rises"}
    for claim in carry.CLAIMS:
        if claim.name in failing:
            assert claim.holds([claim.measure(case)]) is False, claim.name
