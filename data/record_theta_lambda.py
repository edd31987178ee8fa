"""Write theta_lambda.json for a chart with sliders: ``python data/record_theta_lambda.py``.

Harmony for every theta and lambda below, on all cells and with one seed, and with so much patience
that it converges: 20 runs, about half a minute. Kept are two scores, over all cells, and for some
cells, drawn at random, their labels and where they are on PC1 and PC2.
"""

import json

import numpy as np
from anndata import AnnData

from helpers import metrics
from helpers.data import PBMC_FILE, load_pbmc, prepare
from helpers.integrate import harmonize

FILE = PBMC_FILE.with_name("theta_lambda.json")
THETA, LOG10_LAMB = [0, 1, 2, 3, 4], [-1, 0, 1, 2]
N_DRAWN = 600


def start() -> tuple[AnnData, np.ndarray]:
    """All cells with their PCs, and the numbers of the cells to draw."""
    cells = prepare(load_pbmc())
    return cells, np.random.default_rng(0).permutation(cells.n_obs)[:N_DRAWN]


def measure(cells: AnnData, drawn: np.ndarray, theta: float, log10_lamb: float) -> dict:
    """One setting: its scores over all cells, and the places of the drawn cells."""
    lamb = 10.0**log10_lamb
    stop = {"max_iter_harmony": 30, "epsilon_harmony": 1e-3}
    harmonize(cells, "condition", adjusted_basis="trial", theta=theta, lamb=lamb, **stop)
    assert cells.uns["trial"]["converged"]
    Z = cells.obsm["trial"]
    ilisi, clisi = metrics.lisi(Z, cells.obs[["condition", "cell_type"]].astype(str)).T
    return {
        "theta": theta,
        "log10 of lamb": log10_lamb,
        "setting": f"theta = {theta}, lamb = {lamb:g}",
        "median iLISI": round(float(np.median(ilisi)), 3),
        "median cLISI": round(float(np.median(clisi)), 3),
        "places": Z[drawn, :2].astype(float).round(1).tolist(),
    }


def main() -> None:
    """Run every setting and write the file."""
    cells, drawn = start()
    labels = cells.obs[["condition", "cell_type"]].astype(str).iloc[drawn]
    runs = [measure(cells, drawn, theta, log10) for theta in THETA for log10 in LOG10_LAMB]
    record = {"cells": labels.to_dict("list"), "runs": runs}
    FILE.write_text(json.dumps(record, separators=(",", ":")) + "\n", encoding="utf-8")
    print(f"{FILE.name}: {FILE.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
