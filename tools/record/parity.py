"""Make ``data/parity.json`` and ``data/r_harmony.h5ad``: do the implementations of Harmony agree?

Every implementation corrects the same PCs of the embedded cells, five times with other seeds:
harmonypy as the course has it, the functions that lesson 08 prints, R's harmony, and, in
throw-away environments, scanpy's own Harmony (a pre-release) and harmonypy 0.0.10. parity.json
holds how far any two of them are apart, and each from itself; r_harmony.h5ad holds what R made of
a quarter of the cells, so that a test can compare today's harmonypy with R where there is no R.

Run ``python -m tools.record.parity`` with the course's Python, 3.12 or later, on Linux or macOS; it
needs a package index, R with harmony and Seurat, a quiet machine, and some ten minutes.
``--fixture`` makes only r_harmony.h5ad.
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
import itertools
import json
import os
import platform
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch

import anndata as ad
import h5py
import harmonypy
import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits  # comes with scikit-learn

from helpers import metrics
from helpers.data import load_pbmc, prepare
from helpers.integrate import harmonize
from tools.environment import throw_away
from tools.pages import ROOT

HERE = Path(__file__).resolve().parent
TARGET, FIXTURE = ROOT / "data" / "parity.json", ROOT / "data" / "r_harmony.h5ad"
LESSON_08 = ROOT / "tests" / "claims" / "test_08_how_harmony_works.py"
SEEDS = [0, 1, 2, 3, 4]
N_NEIGHBORS, N_THINNED = 30, 1500
STEP = np.float32(2**-11)  # what R's numbers in the fixture are rounded to

HARMONYPY, LESSON, R = "harmonypy", "lesson 08", "R harmony"
FIXED = "harmonypy, lamb=1"  # the ridge penalty of the first Harmony
SCANPY2, SCANPY1 = "scanpy, harmony2", "scanpy, harmony1"
COUNTED = "scanpy, harmony2, 15 rounds"  # by a tolerance, down to 1e-4, a seed stops early
FIRST, NOTHING = "harmonypy 0.0.10", "no correction"

# Patience is 30 rounds at most, and a tolerance of 0.001. The two of the first Harmony are
# stricter than that by default; theta, which was 1 in harmonypy 0.0.10, is 2 in all the others.
DEFAULTS, PATIENT = "defaults", "patient"
SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    DEFAULTS: {
        HARMONYPY: {},
        FIXED: {"lamb": 1.0},
        LESSON: {},
        R: {},
        SCANPY2: {},
        SCANPY1: {"flavor": "harmony1"},
        FIRST: {},
    },
    PATIENT: {
        HARMONYPY: {"max_iter_harmony": 30, "epsilon_harmony": 1e-3},
        FIXED: {"lamb": 1.0, "max_iter_harmony": 30, "epsilon_harmony": 1e-3},
        LESSON: {"max_rounds": 30, "epsilon": 1e-3},
        R: {"max_iter": 30, "epsilon": 1e-3},
        SCANPY2: {"max_iter_harmony": 30, "tol_harmony": 1e-3},
        # a tolerance below zero is never met
        COUNTED: {"max_iter_harmony": 15, "tol_harmony": -1},
        SCANPY1: {"flavor": "harmony1", "max_iter_harmony": 30},
        FIRST: {"max_iter_harmony": 30, "theta": 2},
    },
}

# One core each, so that seconds can be compared; read when NumPy or R starts.
LIBRARIES = ("OMP", "OPENBLAS", "NUMBA")
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in LIBRARIES} | {"VECLIB_MAXIMUM_THREADS": "1"}


class Run:
    """One corrected embedding, with the neighbours that several measures need."""

    def __init__(self, Z: np.ndarray, rounds: int, seconds: float) -> None:
        self.Z, self.rounds, self.seconds = np.asarray(Z, np.float64), int(rounds), float(seconds)
        self.near = metrics.nearest_neighbors(self.Z)

    def ilisi(self, condition: pd.Series) -> float:
        """Median iLISI of the condition."""
        return float(np.median(metrics.lisi(self.Z, condition, neighbors=self.near)))


def correlations(one: Run, other: Run) -> np.ndarray:
    """Pearson correlation of the two embeddings, PC by PC."""
    pairs = zip(one.Z.T, other.Z.T, strict=True)
    return np.array([np.corrcoef(first, second)[0, 1] for first, second in pairs])


def overlap(one: Run, other: Run) -> float:
    """Mean share of a cell's 30 nearest neighbours that the two embeddings have in common."""
    pairs = zip(one.near.indices, other.near.indices, strict=True)
    shared = [np.intersect1d(a[:N_NEIGHBORS], b[:N_NEIGHBORS]).size for a, b in pairs]
    return float(np.mean(shared) / N_NEIGHBORS)


def compare(some: list[Run], others: list[Run] | None = None) -> dict[str, Any]:
    """Agreement of each run with each of the others, or of some runs with one another."""
    pairs = itertools.combinations(some, 2) if others is None else itertools.product(some, others)
    found = [(correlations(a, b), overlap(a, b)) for a, b in pairs]
    return {
        "mean r": round(float(np.mean([r for r, _ in found])), 5),
        "smallest r": [round(float(r.min()), 5) for r, _ in found],
        "overlap": [round(shared, 4) for _, shared in found],
    }


# --- the cells --------------------------------------------------------------------------------


def thinned(adata: ad.AnnData) -> ad.AnnData:
    """Some of the cells, as many of each condition, drawn at random, in their old order."""
    rng, rows = np.random.default_rng(0), []
    for condition in ("control", "stimulated"):
        found = np.flatnonzero(adata.obs["condition"] == condition)
        rows.append(rng.permutation(found)[: N_THINNED // 2])
    obs = adata.obs[["condition", "cell_type"]].iloc[np.sort(np.concatenate(rows))]
    obs = obs.astype(str).astype("category")
    return ad.AnnData(obs=obs, obsm={"X_pca": adata[obs.index].obsm["X_pca"]})


def counts_digest() -> str:
    """Of the counts of the embedded cells and nothing else: labels may be called anew."""
    counts = load_pbmc().X
    parts = np.concatenate([counts.indptr, counts.indices, counts.data])
    return hashlib.sha256(parts.astype("<i8").tobytes()).hexdigest()


def digest(pcs: np.ndarray) -> str:
    """SHA-256 of the PCs: float32, little-endian, cell by cell."""
    return hashlib.sha256(np.ascontiguousarray(pcs, dtype="<f4").tobytes()).hexdigest()


# --- the implementations ----------------------------------------------------------------------


def run_harmonypy(adata: ad.AnnData, seed: int, **settings: Any) -> Run:
    """The course's own harmonypy."""
    began = time.process_time()
    harmonize(adata, "condition", seed=seed, adjusted_basis="run", ncores=1, **settings)
    seconds = time.process_time() - began
    return Run(adata.obsm["run"], adata.uns["run"]["n_rounds"], seconds)


def run_lesson(adata: ad.AnnData, seed: int, max_rounds: int = 10, epsilon: float = 0.01) -> Run:
    """The functions of lesson 08, with a start of their own, stopped by harmonypy's rule.

    That is the first step which lowers the objective, but by less than a share of epsilon.
    """
    ours = runpy.run_path(str(LESSON_08))["ours"]
    Z = adata.obsm["X_pca"].astype(np.float64)
    batch = pd.get_dummies(adata.obs["condition"]).to_numpy(float)
    began = time.process_time()
    Y = ours.kmeans(Z, min(round(len(Z) / 30), 100), seed=seed)
    D = ours.distances(Z, Y)
    before = ours.objective(ours.assign(D), D, batch)
    started = time.process_time() - began
    began = time.process_time()
    history = ours.harmony(Z, batch, Y, rounds=max_rounds, seed=seed)
    a_round = (time.process_time() - began) / max_rounds  # each costs the same
    values = [before, *(state["value"] for state in history)]
    falls = [0 <= (old - new) / abs(old) < epsilon for old, new in itertools.pairwise(values)]
    rounds = falls.index(True) + 1 if any(falls) else max_rounds
    return Run(history[rounds - 1]["Z"], rounds, started + rounds * a_round)


STOPS = ["max_iter_harmony", "max_iter_kmeans", "epsilon_harmony", "epsilon_cluster"]


def own_defaults(adata: ad.AnnData) -> dict[str, Any]:
    """theta and stop rules of the course's harmonypy; its theta is settled only in a run."""
    given = inspect.signature(harmonypy.run_harmony).parameters
    with patch("harmonypy.harmony.HarmonyCpp") as cpp:
        harmonypy.run_harmony(adata.obsm["X_pca"], adata.obs, "condition", verbose=False)
    return {"theta": cpp.call_args.args[4].item(0)} | {name: given[name].default for name in STOPS}


# What runs in a throw-away environment: IMPORTS, READ, THERE, WRITE. It reads pcs.npy, cells.csv
# and runs.json, and writes 0.npy, 1.npy, ... (corrected, cells x PCs) and done.json (rounds and
# seconds of each run, and the default settings of each implementation).
IMPORTS = {
    FIRST: "import harmonypy, inspect, logging",
    "scanpy": "import anndata, inspect, scanpy\nfrom scanpy.preprocessing._harmony import Stopping",
}
READ = """
import io, json, re, time, warnings
import numpy as np, pandas as pd
warnings.simplefilter("ignore")
pcs, obs, done = np.load("pcs.npy"), pd.read_csv("cells.csv"), []
for number, (seed, settings) in enumerate(json.load(open("runs.json"))):
"""
THERE = {
    FIRST: f"""
    logging.getLogger("harmonypy").setLevel(logging.ERROR)
    began = time.process_time()
    result = harmonypy.run_harmony(pcs, obs, "condition", random_state=seed, **settings)
    seconds = time.process_time() - began
    corrected, rounds = result.Z_corr.T, len(result.kmeans_rounds)
    if not settings:
        given = inspect.signature(harmonypy.run_harmony).parameters
        stops = {{name: given[name].default for name in {STOPS}}}
        defaults = {{"{FIRST}": {{"theta": float(result.theta[0])}} | stops}}
""",
    "scanpy": """
    cells = anndata.AnnData(
        obs=obs.set_axis(obs.index.astype(str)).astype("category"), obsm={"X_pca": pcs}
    )
    scanpy.settings.verbosity, scanpy.settings.logfile = "info", io.StringIO()
    began = time.process_time()
    scanpy.pp.harmony_integrate(cells, "condition", rng=seed, **settings)
    seconds = time.process_time() - began
    (rounds,) = re.findall(r"(\\d+) iterations", scanpy.settings.logfile.getvalue())
    corrected, rounds = cells.obsm["X_pca_harmony"], int(rounds)
    given = inspect.signature(scanpy.pp.harmony_integrate).parameters
    common = {name: given[name].default for name in ("theta", "max_iter_harmony")}
    defaults = {f"scanpy, {flavor.name.lower()}": common | flavor._asdict() for flavor in Stopping}
""",
}
WRITE = """
    done.append([rounds, seconds])
    np.save(f"{number}.npy", corrected)
json.dump([done, defaults], open("done.json", "w"))
"""
COMMON = ["numpy==2.4.6", "pandas==2.3.3", "scikit-learn==1.9.1", "scipy==1.17.1"]
ENVIRONMENTS = {
    FIRST: ["harmonypy==0.0.10", *COMMON],
    "scanpy": ["scanpy==1.13.0a2", "anndata==0.13.4", *COMMON],
}


def run_there(
    name: str, adata: ad.AnnData, runs: list[tuple[int, dict]]
) -> tuple[list[Run], dict[str, Any]]:
    """Correct in an environment of its own, which is removed afterwards; and its defaults."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        python = throw_away(folder / "env", ENVIRONMENTS[name])
        np.save(folder / "pcs.npy", adata.obsm["X_pca"].astype(np.float64))
        adata.obs.to_csv(folder / "cells.csv", index=False)
        (folder / "runs.json").write_text(json.dumps(runs), encoding="utf-8")
        code = IMPORTS[name] + READ + THERE[name] + WRITE
        subprocess.run([python, "-c", code], check=True, cwd=folder, env=os.environ | ONE_THREAD)
        done, defaults = json.loads((folder / "done.json").read_text(encoding="utf-8"))
        found = [Run(np.load(folder / f"{i}.npy"), *facts) for i, facts in enumerate(done)]
        return found, defaults


def run_r(adata: ad.AnnData, runs: list[tuple[int, dict]]) -> tuple[list[Run], dict[str, Any]]:
    """Correct with R's harmony (parity.R), and bring back what R says of itself."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        # 17 digits bring a number back to the last bit
        pcs = adata.obsm["X_pca"].astype(np.float64)
        np.savetxt(folder / "pcs.csv", pcs, fmt="%.17g", delimiter=",")
        adata.obs.to_csv(folder / "cells.csv", index=False)
        rows = [{"seed": seed, "max_iter": 10, "epsilon": 0.01} | how for seed, how in runs]
        pd.DataFrame(rows).to_csv(folder / "runs.csv", index=False)
        command = ["Rscript", str(HERE / "parity.R")]
        quiet = {"cwd": folder, "env": os.environ | ONE_THREAD, "stdout": subprocess.DEVNULL}
        subprocess.run(command, check=True, **quiet)
        done = pd.read_csv(folder / "done.csv")
        theta = float(done.pop("theta")[0])
        found = [
            Run(np.loadtxt(folder / f"{number}.csv", delimiter=","), *facts)
            for number, facts in enumerate(done.itertuples(index=False), 1)
        ]
        tables = [pd.read_csv(folder / f"{name}.csv", dtype=str) for name in ("formals", "errors")]
        formals, errors = (table.fillna("") for table in tables)
        lines = (folder / "versions.txt").read_text(encoding="utf-8").splitlines()
        facts = {
            "versions": dict(line.split(maxsplit=1) for line in lines),
            "theta": theta,
            "formals": {
                method: dict(zip(rows["argument"], rows["default"], strict=True))
                for method, rows in formals.groupby("method", sort=False)
            },
            "errors": dict(zip(errors["call"], errors["message"], strict=True)),
        }
        return found, facts


def check_needs() -> None:
    """Stop in one sentence where Python is too old, or there is no R with harmony and Seurat."""
    if sys.version_info < (3, 12):
        sys.exit(
            "record.parity: this needs Python 3.12 or later, as the pre-release of scanpy does."
        )
    question = 'for (name in c("harmony", "Seurat")) packageVersion(name)'
    command = [shutil.which("Rscript"), "-e", question]
    if command[0] is None or subprocess.run(command, stderr=subprocess.DEVNULL).returncode:
        sys.exit("record.parity: this needs Rscript, and R's packages harmony and Seurat.")


# --- the two files ----------------------------------------------------------------------------


def make_fixture(adata: ad.AnnData) -> dict[str, Any]:
    """Write r_harmony.h5ad, and return how R and harmonypy agree on its cells."""
    small = thinned(adata)
    names = (DEFAULTS, PATIENT)
    by_r, facts = run_r(small, [(seed, SETTINGS[name][R]) for name in names for seed in SEEDS])
    agreement = {}
    for name in names:
        settings, rs, by_r = SETTINGS[name], by_r[: len(SEEDS)], by_r[len(SEEDS) :]
        here = [run_harmonypy(small, seed, **settings[HARMONYPY]) for seed in SEEDS]
        agreement[name] = {
            f"{R}, itself": {"rounds": [run.rounds for run in rs]} | compare(rs),
            f"{HARMONYPY}, itself": {"rounds": [run.rounds for run in here]} | compare(here),
            f"{HARMONYPY}, {R}": compare(here, rs),
        }
    # the patient runs, which came last: by default R's own seeds disagree on these cells
    del small.obsm["run"], small.uns["run"]
    for seed, run in zip(SEEDS, rs, strict=True):
        # zeros at the end of the binary numbers, which gzip can leave out
        small.obsm[f"X_harmony_r_{seed}"] = (run.Z / STEP).round().astype(np.float32) * STEP
    facts = {
        "versions": facts["versions"],
        "seeds": SEEDS,
        "settings": settings[R],
        "rounds": [run.rounds for run in rs],
        "rounded_to": float(STEP),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "X_pca_sha256": digest(small.obsm["X_pca"]),
        "counts_sha256": counts_digest(),
    }
    partial = FIXTURE.with_suffix(".partial")
    with h5py.File(partial, "w") as file:
        options = {"compression": "gzip", "compression_opts": 9, "shuffle": True}
        ad.io.write_elem(file, "/", small, dataset_kwargs=options)
        ad.io.write_elem(file["uns"], "r_harmony", facts)  # single values cannot be compressed
    partial.replace(FIXTURE)
    print(f"{FIXTURE.name}: {small.n_obs} cells, {FIXTURE.stat().st_size / 1e3:.0f} kB")
    return agreement


def every_run(
    adata: ad.AnnData,
) -> tuple[dict[str, dict[str, list[Run]]], dict[str, Any], dict[str, Any]]:
    """Setting -> implementation -> its five runs; what R says of itself; default settings."""

    def runs(name: str) -> list[tuple[int, dict]]:
        found = [settings[name] for settings in SETTINGS.values() if name in settings]
        return [(seed, how) for how in found for seed in SEEDS]

    here: dict[str, Callable[..., Run]] = {
        HARMONYPY: run_harmonypy,
        FIXED: run_harmonypy,
        LESSON: run_lesson,
    }
    done = {
        name: [run(adata, seed, **how) for seed, how in runs(name)] for name, run in here.items()
    }
    done[R], facts = run_r(adata, runs(R))
    flavors = (SCANPY2, SCANPY1, COUNTED)
    found, by_scanpy = run_there("scanpy", adata, [run for name in flavors for run in runs(name)])
    there = iter(found)
    done |= {name: list(itertools.islice(there, len(runs(name)))) for name in flavors}
    done[FIRST], by_first = run_there(FIRST, adata, runs(FIRST))
    left = {name: iter(found) for name, found in done.items()}
    options = facts["formals"]["harmony_options"]
    stops = ("max.iter.cluster", "epsilon.harmony", "epsilon.cluster")
    by_r = {
        "theta": facts["theta"],
        "max_iter": int(facts["formals"]["RunHarmony.default"]["max_iter"]),
        **{name: json.loads(options[name]) for name in stops},
    }
    defaults = {HARMONYPY: own_defaults(adata), R: by_r, **by_scanpy, **by_first}
    return (
        {
            setting: {name: list(itertools.islice(left[name], len(SEEDS))) for name in settings}
            for setting, settings in SETTINGS.items()
        },
        facts,
        defaults,
    )


def describe(runs: list[Run], condition: pd.Series) -> dict[str, Any]:
    """What each seed of an implementation did, and how far the seeds are apart."""
    return {
        "rounds": [run.rounds for run in runs],
        "CPU seconds": round(float(np.median([run.seconds for run in runs])), 2),
        "median iLISI": [round(run.ilisi(condition), 3) for run in runs],
        "itself": compare(runs),
    }


def as_text(record: dict[str, Any]) -> str:
    """JSON with a list of numbers on one line."""
    text = json.dumps(record, indent=1) + "\n"
    return re.sub(r'\[[^][{}"]*\]', lambda found: re.sub(r"\s+", " ", found[0]), text)


def main() -> None:
    """Run everything and write the two files, each whole or not at all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fixture", action="store_true", help="make only r_harmony.h5ad")
    only_fixture = parser.parse_args().fixture
    check_needs()
    adata = prepare(load_pbmc(), scale=False)  # as when R was last asked
    small = make_fixture(adata)
    if only_fixture:
        return
    done, r_facts, defaults = every_run(adata)
    condition = adata.obs["condition"].astype(str)
    results: dict[str, Any] = {}
    before = Run(adata.obsm["X_pca"], 0, 0)
    for setting, runs in done.items():
        results[setting] = {name: describe(found, condition) for name, found in runs.items()}
        results[setting][NOTHING] = {
            "median iLISI": [round(before.ilisi(condition), 3)],
            HARMONYPY: compare([before], runs[HARMONYPY]),
        }
        for name, found in runs.items():
            if name != HARMONYPY:
                results[setting][name][HARMONYPY] = compare(found, runs[HARMONYPY])
        for name in (SCANPY1, FIXED):
            results[setting][name][FIRST] = compare(runs[name], runs[FIRST])
    record = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "input": {
            "cells": adata.n_obs,
            "PCs": adata.obsm["X_pca"].shape[1],
            "counts_sha256": counts_digest(),
            "X_pca_sha256": digest(adata.obsm["X_pca"]),
        },
        "seeds": SEEDS,
        "settings": SETTINGS,
        "default settings": defaults,
        "versions": {
            "Python": platform.python_version(),
            **{name: version(name) for name in ("harmonypy", "scanpy", "numpy")},
            "environments": ENVIRONMENTS,
            **r_facts["versions"],
        },
        "results": results,
        "r_harmony.h5ad": small,
        "R formals": r_facts["formals"],
        "R errors": r_facts["errors"],
    }
    partial = TARGET.with_suffix(".partial")
    partial.write_text(as_text(record), encoding="utf-8")
    partial.replace(TARGET)
    print(f"{TARGET.name}: {TARGET.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
