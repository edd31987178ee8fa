"""Make ``data/harmony1_recorded.csv``: what the first Harmony does to the cells of lesson 09.

The first Harmony (Korsunsky et al. 2019) is harmonypy 0.0.10, and ``flavor="harmony1"`` in the
pre-release of scanpy 1.13. Neither can be installed beside the course's packages, so this script
makes a throw-away environment for each, hands it the PCs, takes the corrected PCs back, and
scores them here. harmonypy as the course has it runs on the same cells with the same seeds, and
a test runs that again: if it still gives the recorded scores, the cells and scores are the same.

Run ``python data/record_harmony1.py`` with the course's Python, 3.12 or later, once; it needs a
package index and takes some minutes. The head of the file says with what and when it was made.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tempfile
import venv
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

from helpers import metrics
from helpers.data import load_pbmc, prepare

TARGET = Path(__file__).with_name("harmony1_recorded.csv")
SEEDS = [0, 1, 2, 3, 4]
PATIENT = {"max_iter_harmony": 30, "epsilon_harmony": 1e-3}

OLD = "harmonypy 0.0.10"
NEW = "scanpy 1.13.0a2"
COMMON = ["numpy==2.4.6", "pandas==2.3.3", "scikit-learn==1.9.1", "scipy==1.17.1"]
ENVIRONMENTS = {
    OLD: ["harmonypy==0.0.10", *COMMON],
    NEW: ["scanpy==1.13.0a2", *COMMON],
}
RUNS = {
    OLD: {
        "defaults": {},
        "theta=2": {"theta": 2.0},
        "theta=10": {"theta": 10.0},
        "theta=2, lamb=10": {"theta": 2.0, "lamb": 10.0},
    },
    NEW: {
        "harmony1": {"flavor": "harmony1"},
        "harmony2, patient": {"max_iter_harmony": 30, "tol_harmony": 1e-3},
    },
    "harmonypy": {
        "patient": PATIENT,
        "patient, lamb=1": {"lamb": 1.0, **PATIENT},
        "patient, lamb=10": {"lamb": 10.0, **PATIENT},
    },
}

# What runs in an environment: reads pcs.npy, condition.json and runs.json, writes one file a run.
READ = """
import json, warnings
import numpy as np, pandas as pd
warnings.simplefilter("ignore")
pcs = np.load("pcs.npy")
obs = pd.DataFrame({"condition": json.load(open("condition.json"))})
runs = json.load(open("runs.json"))
"""
THERE = {
    OLD: """
import logging
import harmonypy
logging.getLogger("harmonypy").setLevel(logging.ERROR)
for number, (seed, settings) in enumerate(runs):
    run = harmonypy.run_harmony(pcs, obs, "condition", random_state=seed, **settings)
    np.save(f"{number}.npy", run.Z_corr.T)
""",
    NEW: """
import anndata, scanpy
obs.index = obs.index.astype(str)
for number, (seed, settings) in enumerate(runs):
    cells = anndata.AnnData(obs=obs.astype("category"), obsm={"X_pca": pcs})
    scanpy.pp.harmony_integrate(cells, "condition", rng=seed, **settings)
    np.save(f"{number}.npy", cells.obsm["X_pca_harmony"])
""",
}


def cells() -> tuple[np.ndarray, pd.DataFrame]:
    """The 2,000 cells of lesson 09: 30 PCs, and their condition and type."""
    adata = prepare(load_pbmc(), n_comps=50, scale=False)
    withheld = (adata.obs["cell_type"] == "NK") & (adata.obs["condition"] == "stimulated")
    rows = np.flatnonzero(~withheld)
    rows = np.sort(np.random.default_rng(0).permutation(rows)[:2000])
    obs = adata.obs.iloc[rows][["condition", "cell_type"]].astype(str)
    return adata.obsm["X_pca"][rows, :30].astype(np.float64), obs


def scores(embedding: np.ndarray, obs: pd.DataFrame) -> dict[str, float]:
    """Mixing of the conditions, and share of NK cells around the withheld NK cells."""
    types = obs["cell_type"].to_numpy()
    near = metrics.nearest_neighbors(embedding)
    mixing = metrics.lisi(embedding, obs["condition"], neighbors=near)
    return {
        "mixing": np.median(mixing[types != "NK"]),
        "NK kept": (types[near.indices[types == "NK", :30]] == "NK").mean(),
    }


def run_here(pcs: np.ndarray, obs: pd.DataFrame, runs: list) -> list[np.ndarray]:
    """Correct with the course's own harmonypy."""
    import harmonypy

    return [
        harmonypy.run_harmony(
            pcs.T, obs, "condition", verbose=False, random_state=seed, **settings
        ).Z_corr
        for seed, settings in runs
    ]


def run_there(name: str, pcs: np.ndarray, obs: pd.DataFrame, runs: list) -> list[np.ndarray]:
    """Correct in an environment of its own, which is removed afterwards."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        venv.create(folder / "env", with_pip=True)
        python = folder / "env" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *ENVIRONMENTS[name]], check=True)
        np.save(folder / "pcs.npy", pcs)
        (folder / "condition.json").write_text(json.dumps(obs["condition"].tolist()))
        (folder / "runs.json").write_text(json.dumps(runs))
        subprocess.run([python, "-c", READ + THERE[name]], check=True, cwd=folder)
        return [np.load(folder / f"{number}.npy") for number in range(len(runs))]


def main() -> None:
    """Run everything and write the file whole, or not at all."""
    pcs, obs = cells()
    rows = []
    for name, labelled in RUNS.items():
        there = name in ENVIRONMENTS
        program = name if there else f"{name} {version(name)}"
        labels = [(label, seed) for label in labelled for seed in SEEDS]
        runs = [(seed, labelled[label]) for label, seed in labels]
        done = run_there(name, pcs, obs, runs) if there else run_here(pcs, obs, runs)
        for (label, seed), corrected in zip(labels, done, strict=True):
            rows.append({"program": program, "settings": label, "seed": seed})
            rows[-1] |= {key: round(value, 4) for key, value in scores(corrected, obs).items()}
    pinned = "; ".join(f"{name}: {', '.join(pins)}" for name, pins in ENVIRONMENTS.items())
    here = ", ".join(f"{name} {version(name)}" for name in ["harmonypy", "scanpy", "numpy"])
    head = f"# Written by data/record_harmony1.py on {datetime.now(UTC):%Y-%m-%d}"
    head += f" with Python {platform.python_version()}, {here}.\n"
    head += f"# Throw-away environments, same Python: {pinned}.\n"
    head += f"# patient: {PATIENT}\n"
    partial = TARGET.with_suffix(".partial")
    partial.write_text(head + pd.DataFrame(rows).to_csv(index=False), encoding="utf-8")
    partial.replace(TARGET)
    print(f"{TARGET.name}: {len(rows)} runs")


if __name__ == "__main__":
    sys.exit(main())
