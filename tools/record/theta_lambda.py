"""Write theta_lambda.json for a chart with sliders: ``python -m tools.record.theta_lambda``.

Harmony for every theta and lambda below, on all cells with the planted run and scaled genes, with
one seed and 20 rounds, the stop rule off: 20 runs, about a minute. Kept are the course's three
numbers, over all cells, and for some cells, drawn at random, their labels and where they are on
PC1 and PC2.
"""

import json

import numpy as np
from anndata import AnnData

from helpers import metrics
from helpers.data import PBMC_FILE, load_pbmc, plant_run, prepare
from helpers.integrate import FINISHED, harmonize

FILE = PBMC_FILE.with_name("theta_lambda.json")
THETA, LOG10_LAMB = [0, 1, 2, 3, 4], [-1, 0, 1, 2]
N_DRAWN = 600


def start() -> tuple[AnnData, np.ndarray]:
    """All cells with their PCs, and the numbers of the cells to draw."""
    cells = prepare(plant_run(load_pbmc()))
    return cells, np.random.default_rng(0).permutation(cells.n_obs)[:N_DRAWN]


def measure(cells: AnnData, drawn: np.ndarray, theta: float, log10_lamb: float) -> dict:
    """One setting: its scores over all cells, and the places of the drawn cells."""
    lamb = 10.0**log10_lamb
    rounds = FINISHED | {"max_iter_harmony": 20}
    harmonize(cells, "run", adjusted_basis="trial", theta=theta, lamb=lamb, **rounds)
    keys = {"batch_key": "run", "label_key": "cell_type", "keep_key": "condition"}
    scores = metrics.three_numbers(cells, use_reps=["trial"], **keys).loc["trial"].round(3)
    Z = cells.obsm["trial"]
    return {
        "theta": theta,
        "log10 of lamb": log10_lamb,
        "setting": f"theta = {theta}, lamb = {lamb:g}",
        **scores.to_dict(),
        "places": Z[drawn, :2].astype(float).round(1).tolist(),
    }


def main() -> None:
    """Run every setting and write the file."""
    cells, drawn = start()
    labels = cells.obs[["run", "cell_type", "condition"]].astype(str).iloc[drawn]
    runs = [measure(cells, drawn, theta, log10) for theta in THETA for log10 in LOG10_LAMB]
    record = {"cells": labels.to_dict("list"), "runs": runs}
    FILE.write_text(json.dumps(record, separators=(",", ":")) + "\n", encoding="utf-8")
    print(f"{FILE.name}: {FILE.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
