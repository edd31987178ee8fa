"""data/theta_lambda.json is what tools/record/theta_lambda.py writes today."""

import json
import runpy

import numpy as np
import pytest

from tools.notebooks import ROOT

RECORD = runpy.run_path(str(ROOT / "tools" / "record" / "theta_lambda.py"))


@pytest.fixture(scope="module")
def start():
    return RECORD["start"]()


@pytest.mark.parametrize("number", [9, 14])  # theta 2 and lambda 1, theta 3 and lambda 10
def test_recorded_run_is_repeated(start, number):
    recorded = json.loads(RECORD["FILE"].read_text(encoding="utf-8"))
    old = recorded["runs"][number]
    cells, drawn = start
    new = RECORD["measure"](cells, drawn, old["theta"], old["log10 of lamb"])
    stale = "run `python -m tools.record.theta_lambda`, and read the text beside it again"
    assert recorded["cells"]["cell_type"] == cells.obs["cell_type"].iloc[drawn].tolist(), stale
    assert len(recorded["runs"]) == len(RECORD["THETA"]) * len(RECORD["LOG10_LAMB"]), stale
    assert old["setting"] == new["setting"], stale
    for score in ["mixing", "types apart", "biology kept"]:
        assert old[score] == pytest.approx(new[score], abs=0.01), stale
    assert np.abs(np.subtract(old["places"], new["places"])).max() < 0.5, stale
