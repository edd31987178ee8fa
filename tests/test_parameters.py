"""The tables of book/parameters.md are those of lesson 09, and complete."""

import inspect

import harmonypy
import nbformat
import pandas as pd

from tools.parameters import GROUPS, LESSON, PAGE, PRINTED, SCANPY, measured, page, said


def test_tables_are_fresh() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "book/parameters.md: run `make tables`"


def test_every_parameter_that_matters_is_measured() -> None:
    nb = nbformat.read(LESSON, as_version=4)
    names = [name for group in GROUPS.values() for name in group]
    beside = {"data_mat", "meta_data", "vars_use", "verbose", "random_state", "ncores"}
    parameters = set(inspect.signature(harmonypy.run_harmony).parameters) - beside
    assert set(names) - set(SCANPY) == parameters
    sentences = said(nb)
    assert set(sentences) == set(names)
    for name in names:
        assert set(sentences[name]) == {"what it does", "often said", "when to touch it"}, name
    scores, others = measured(nb)
    both = pd.concat([scores, others])
    assert {*both["parameter"]} == {PRINTED.get(name, name) for name in names} | {"uncorrected"}
    for _, rows in both[both["parameter"] != "uncorrected"].groupby(["parameter", "scaling"]):
        assert len(rows["value"].unique()) >= 2
    assert {*both.groupby("parameter")["scaling"].nunique()} == {2}


def test_a_changed_number_or_sentence_makes_the_page_stale(monkeypatch, tmp_path) -> None:
    text = LESSON.read_text(encoding="utf-8")
    for old, new in [("theta;0;", "theta;0.1;"), ("Limits the rounds", "Bounds the rounds")]:
        assert old in text
        changed = tmp_path / "lesson.ipynb"
        changed.write_text(text.replace(old, new), encoding="utf-8")
        monkeypatch.setattr("tools.parameters.LESSON", changed)
        assert PAGE.read_text(encoding="utf-8") != page()
