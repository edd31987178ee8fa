"""The shared wrapper of the checks: one plain sentence for every answer, and never a traceback."""

from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from helpers import practice

BAD_NUMBERS = ["1.5", True, np.nan, np.inf, [1, 2], [], {"a": 1.5}, {1.5}, 1j, object(), len, "x"]
BAD_NUMBERS += [  # what NumPy would turn into numbers
    pd.Series([value], dtype=object) for value in ("1.5", True, np.bool_(True), b"1.5", None)
]
BAD_NUMBERS += [pd.DataFrame({"x": ["1.5"]}), pd.Series([True], dtype="boolean")]
GOOD_NUMBERS = [
    1.5,
    np.float32(1.5),
    np.array(1.5),
    [1.5],
    (1.5,),
    np.array([[1.5]]),
    pd.Series([1.5]),
    pd.DataFrame({"x": [1.5]}),
    pd.Series([1.5], dtype=object),
    pd.Series([np.float32(1.5)], dtype=object),
    pd.Series([Decimal("1.5")]),
    pd.Series([1.5], dtype="Float64"),
]


def said(check, answer, capsys) -> str:
    check(answer)
    text = capsys.readouterr().out.strip()
    assert "\n" not in text
    return text


@practice.wants("the median, one number", truth=lambda: 1.5)
def check_7(answer, truth):
    """Judge a number."""
    return "Right: so it is." if practice.agrees(practice.number(answer), truth) else "Not yet."


def test_none_is_not_answered_yet(capsys):
    wanted = "Not answered yet: set answer_7 to the median, one number."
    assert said(check_7, None, capsys) == wanted


@pytest.mark.parametrize("answer", GOOD_NUMBERS, ids=practice.described)
def test_a_number_of_any_type_is_one(answer, capsys):
    assert said(check_7, answer, capsys) == "Right: so it is."


def test_numbers_among_words_and_truth_values_are_no_numbers():
    table = pd.DataFrame({"n": [1, 2], "kept": [True, False], "name": ["a", "2"]})
    for columns in (["n", "kept"], ["n", "name"], ["name"]):
        with pytest.raises(practice.UnsuitableError):
            practice.array(table[columns])
    mixed = pd.DataFrame({"n": [1, 2], "share": pd.Series([0.5, np.nan], dtype=object)})
    np.testing.assert_array_equal(practice.array(mixed), [[1, 0.5], [2, np.nan]])


@pytest.mark.parametrize("answer", BAD_NUMBERS, ids=practice.described)
def test_what_is_no_number_ends_in_a_sentence(answer, capsys):
    text = said(check_7, answer, capsys)
    assert (
        text == f"This is {practice.described(answer)}, and the check wants the median, one number."
    )


def test_an_error_inside_a_check_is_one_sentence(capsys):
    @practice.wants("a table")
    def check_1(answer):
        return answer["no such column"]

    text = said(check_1, {}, capsys)
    assert text.startswith("This is a dict of length 0, and the check wants a table; it met a Key")


def test_truth_is_computed_once_and_only_when_needed(capsys):
    calls = []

    @practice.wants("anything", truth=lambda: calls.append(1))
    def check_1(answer, truth):
        return "Right: anything."

    said(check_1, None, capsys)
    assert not calls
    said(check_1, 1, capsys)
    said(check_1, 2, capsys)
    assert len(calls) == 1


def test_warnings_of_a_check_stay_out_of_the_lesson(capsys):
    @practice.wants("a number")
    def check_1(answer):
        return f"Right: {np.log(np.float64(answer))}."

    check_1(-1.0)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("abc", "the text 'abc'"),
        ("x" * 90, f"the text '{'x' * 37}...'"),
        (np.zeros((3, 2)), "an array of shape 3 x 2"),
        (pd.Series([1, 2]), "a Series of shape 2"),
        ([1, 2], "a list of length 2"),
        (np.float64(2), "2.0"),
        (True, "True"),
        (print, "a function"),
        (object(), "an object"),
    ],
)
def test_described(answer, words):
    assert practice.described(answer) == words


def test_names():
    for answer in [
        "a, b",
        ["a", "b"],
        {"a", "b"},
        ("b", "a"),
        pd.Series(["a", "b"]),
        pd.Index(["b", "a"]),
    ]:
        assert practice.names(answer) == {"a", "b"}
    for answer in [3, [1, 2], [], {"a": 1}, [None]]:
        with pytest.raises(practice.UnsuitableError):
            practice.names(answer)


def test_name():
    assert practice.name(" pDC") == practice.name(np.str_("pDC")) == practice.name(["pDC"]) == "pDC"
    for answer in ["pDC, DC", ["pDC", "DC"], 3, []]:
        with pytest.raises(practice.UnsuitableError):
            practice.name(answer)


def test_labels():
    for answer in [["0", "1"], np.array([0, 1]), pd.Series(["0", "1"], dtype="category")]:
        assert practice.labels(answer, 2).tolist() == ["0", "1"]
    for answer in [["0"], "01", 3, {"0", "1"}, ["0", None], [["0", "1"]]]:
        with pytest.raises(practice.UnsuitableError):
            practice.labels(answer, 2)


def test_mapping():
    for answer in [{1: "x", 2: "y"}, {"1": "x", " 2": "y"}, pd.Series(["x", "y"], index=[1, 2])]:
        assert practice.mapping(answer, [1, 2]) == {"1": "x", "2": "y"}
    for answer in [["x", "y"], {1: "x"}, {1: 0, 2: 0, 3: 0}, "xy"]:
        with pytest.raises(practice.UnsuitableError):
            practice.mapping(answer, [1, 2])
    assert practice.mapping({"a": 1}, ["a", "b"], optional=["b"]) == {"a": 1}


def test_several_and_a():
    assert practice.several(["a", 1], 2) == ("a", 1)
    assert practice.several(np.array([1, 2]), 2) == (1, 2)
    for answer in ["ab", {1, 2}, {1: 2, 3: 4}, [1], 5]:
        with pytest.raises(practice.UnsuitableError):
            practice.several(answer, 2)
    assert practice.a(callable, len) is len
    assert practice.a(dict, {}) == {}
    with pytest.raises(practice.UnsuitableError):
        practice.a(dict, [])


def test_agrees_takes_two_printed_digits():
    truth = 0.33499
    assert practice.agrees(round(truth, 2), truth)
    assert practice.agrees([0.33, 0.98], [1 / 3, 50 / 51])
    assert not practice.agrees(0.36, truth)
    assert not practice.agrees([0.33, 0.96], [1 / 3, 50 / 51])
