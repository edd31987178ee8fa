"""Charts with sliders: what a cell hands over. tests/test_book_explorables.py sees them move."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from helpers import explore


def chart(table, **more):
    rng = np.random.default_rng(0)
    points = pd.DataFrame({"side": ["a", "b"] * 10, "type": [["x", "y", "x", "z"]] * 20})
    places = [rng.normal(size=(20, 2)) for _ in range(len(table))]
    cells = explore.cells(
        points, places, ["side", "type"], shape="side", axes=("1", "2"), arrows=5, **more
    )
    bars = explore.bars(table, "share")
    return explore.Explorable([cells, bars], table, choices={"colour": ["side", "type"]})


def table(index):
    numbers = np.arange(len(index), dtype=float)
    return pd.DataFrame({"setting": [f"no. {n:.0f}" for n in numbers], "share": numbers}, index)


FOUR = pd.MultiIndex.from_product([[1, 2], [0.5, 1.0]], names=["theta", "lamb"])


def test_hands_over_plain_json_and_its_numbers_as_text():
    bundle = chart(table(FOUR))._repr_mimebundle_()
    spec = json.loads(json.dumps(bundle[explore.MIME]))
    assert spec["usermeta"]["rows"][3] == ["no. 3", "3.00"]
    assert bundle["text/plain"].splitlines()[4].split() == ["no.", "3", "3.00"]
    ranges = [p["bind"] for p in spec["params"] if p.get("bind", {}).get("input") == "range"]
    assert [(r["name"], r["min"], r["max"], r["step"]) for r in ranges] == [
        ("theta ", 1, 2, 1),
        ("lamb ", 0.5, 1, 0.5),
    ]


def test_start_is_the_position_of_that_row():
    data = table(FOUR)
    spec = explore.Explorable([explore.bars(data, "share")], data, start=2).spec
    assert [p["value"] for p in spec["params"] if "bind" in p] == [2, 0.5]


def test_colours_cover_lists_of_labels():
    layer = chart(table(FOUR)).spec["hconcat"][0]["layer"][0]["encoding"]["color"]["scale"]
    assert layer["domain"] == ["a", "b", "x", "y", "z"]
    assert len(layer["range"]) == 5


def test_axes_hold_every_place():
    data = table(pd.RangeIndex(2, name="round"))
    points = pd.DataFrame({"side": ["a", "b"]})
    places = [np.array([[0, 0], [1, 1]]), np.array([[-5, 0], [1, 9]])]
    cells = explore.cells(points, places, ["side"], shape="side", axes=("1", "2"))
    encoding = explore.Explorable([cells], data).spec["hconcat"][0]["layer"][0]["encoding"]
    assert encoding["x"]["scale"]["domain"] == [-5, 1]
    assert encoding["y"]["scale"]["domain"] == [0, 9]


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (pd.Index([0, 1, 3], name="round"), "even steps"),
        (pd.Index([0], name="round"), "even steps"),
        (pd.Index([2, 1], name="round"), "even steps"),
        (FOUR[:3], "each combination"),
        (FOUR[[1, 0, 2, 3]], "each combination"),
    ],
)
def test_unusable_positions_are_refused(index, message):
    with pytest.raises(ValueError, match=message):
        explore.Explorable([explore.bars(table(index), "share")], table(index))


def test_jupyterlab_draws_this_kind():
    static = Path(sys.prefix) / "share" / "jupyter" / "lab" / "static"
    assert any(explore.MIME in path.read_text(encoding="utf-8") for path in static.glob("*.js"))
