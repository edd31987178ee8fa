"""Make ``data/harmony1_recorded.csv``: what the first Harmony does to the cells of lesson 09.

The first Harmony (Korsunsky et al. 2019) is harmonypy 0.0.10. It cannot be installed beside the
course's packages, so this script makes a throw-away environment for it, hands it the PCs, takes
the corrected PCs back, and scores them here. harmonypy as the course has it runs on the same
cells with the same seeds, and a test runs that again: if it still gives the recorded scores, the
cells and scores are the same.

Run ``python -m tools.record.harmony1_recorded`` with the course's Python, once; it needs a
package index and takes some minutes. The head of the file says with what and when it was made.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

from helpers import metrics
from helpers.data import load_pbmc, plant_run, prepare
from helpers.integrate import FINISHED
from tools.environment import throw_away
from tools.pages import ROOT

TARGET = ROOT / "data" / "harmony1_recorded.csv"
SEEDS = [0, 1, 2]
SCALINGS = {"scaled": True, "unscaled": False}
ROUNDS = FINISHED | {"max_iter_harmony": 20}

OLD = "harmonypy 0.0.10"
COMMON = ["numpy==2.4.6", "pandas==2.3.3", "scikit-learn==1.9.1", "scipy==1.17.1"]
ENVIRONMENTS = {OLD: ["harmonypy==0.0.10", *COMMON]}
RUNS = {
    OLD: {
        "defaults": {},
        "theta=2": {"theta": 2.0},
        "theta=2, lamb=10": {"theta": 2.0, "lamb": 10.0},
    },
    "harmonypy": {
        "20 rounds": ROUNDS,
        "20 rounds, lamb=1": {"lamb": 1.0, **ROUNDS},
        "20 rounds, lamb=10": {"lamb": 10.0, **ROUNDS},
    },
}

# What runs in an environment: reads the PCs, run.json and runs.json, writes one file a run.
READ = """
import json, warnings
import numpy as np, pandas as pd
warnings.simplefilter("ignore")
obs = pd.DataFrame({"run": json.load(open("run.json"))})
runs = json.load(open("runs.json"))
"""
THERE = {
    OLD: """
import logging
import harmonypy
logging.getLogger("harmonypy").setLevel(logging.ERROR)
for number, (scaling, seed, settings) in enumerate(runs):
    pcs = np.load(scaling + ".npy")
    run = harmonypy.run_harmony(pcs, obs, "run", random_state=seed, **settings)
    np.save(f"{number}.npy", run.Z_corr.T)
""",
}


def cells(scale: bool) -> tuple[np.ndarray, pd.DataFrame]:
    """The 2,000 cells of lesson 09: 30 PCs, and their run, type and condition."""
    adata = prepare(plant_run(load_pbmc()), scale=scale, n_comps=50)
    withheld = (adata.obs["cell_type"] == "NK") & (adata.obs["run"] == "run 2")
    rows = np.flatnonzero(~withheld)
    rows = np.sort(np.random.default_rng(0).permutation(rows)[:2000])
    obs = adata.obs.iloc[rows][["run", "cell_type"]].astype(str)
    return adata.obsm["X_pca"][rows, :30].astype(np.float64), obs


def scores(embedding: np.ndarray, obs: pd.DataFrame) -> dict[str, float]:
    """Mixing of the runs, and share of NK cells around the NK cells, which run 2 lacks."""
    types = obs["cell_type"].to_numpy()
    near = metrics.nearest_neighbors(embedding)
    mixing = metrics.lisi(embedding, obs["run"], neighbors=near)
    return {
        "mixing": np.median(mixing[types != "NK"]),
        "NK kept": (types[near.indices[types == "NK", :30]] == "NK").mean(),
    }


Start = dict[str, tuple[np.ndarray, pd.DataFrame]]  # for each scaling: PCs, and labels


def run_here(start: Start, runs: list) -> list[np.ndarray]:
    """Correct with the course's own harmonypy."""
    import harmonypy

    return [
        harmonypy.run_harmony(
            start[scaling][0].T, start[scaling][1], "run", verbose=False, random_state=seed, **more
        ).Z_corr
        for scaling, seed, more in runs
    ]


def run_there(name: str, start: Start, runs: list) -> list[np.ndarray]:
    """Correct in an environment of its own, which is removed afterwards."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        python = throw_away(folder / "env", ENVIRONMENTS[name])
        for scaling, (pcs, _) in start.items():
            np.save(folder / f"{scaling}.npy", pcs)
        run = start["scaled"][1]["run"]  # both scalings are of the same cells
        (folder / "run.json").write_text(json.dumps(run.tolist()))
        (folder / "runs.json").write_text(json.dumps(runs))
        subprocess.run([python, "-c", READ + THERE[name]], check=True, cwd=folder)
        return [np.load(folder / f"{number}.npy") for number in range(len(runs))]


def main() -> None:
    """Run everything and write the file whole, or not at all."""
    start = {scaling: cells(scale) for scaling, scale in SCALINGS.items()}
    rows = []
    for name, labelled in RUNS.items():
        there = name in ENVIRONMENTS
        program = name if there else f"{name} {version(name)}"
        keys = [(label, of, seed) for label in labelled for of in SCALINGS for seed in SEEDS]
        runs = [(scaling, seed, labelled[label]) for label, scaling, seed in keys]
        done = run_there(name, start, runs) if there else run_here(start, runs)
        for (label, scaling, seed), corrected in zip(keys, done, strict=True):
            found = scores(corrected, start[scaling][1])
            rows.append({"program": program, "settings": label, "scaling": scaling, "seed": seed})
            rows[-1] |= {key: round(value, 4) for key, value in found.items()}
    pinned = "; ".join(f"{name}: {', '.join(pins)}" for name, pins in ENVIRONMENTS.items())
    here = ", ".join(f"{name} {version(name)}" for name in ["harmonypy", "scanpy", "numpy"])
    head = f"# Written by tools/record/harmony1_recorded.py on {datetime.now(UTC):%Y-%m-%d}"
    head += f" with Python {platform.python_version()}, {here}.\n"
    head += f"# Throw-away environment, same Python: {pinned}.\n"
    head += f"# 20 rounds: {ROUNDS}\n"
    partial = TARGET.with_suffix(".partial")
    partial.write_text(head + pd.DataFrame(rows).to_csv(index=False), encoding="utf-8")
    partial.replace(TARGET)
    print(f"{TARGET.name}: {len(rows)} runs")


if __name__ == "__main__":
    sys.exit(main())
