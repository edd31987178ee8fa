"""Seconds and gigabytes of each step by number of cells: makes ``data/scale_recorded.json``.

``make scale``, or ``python -m tools.scale --cells 100000`` for some sizes only, which prints and
writes nothing.  The cells are those of ``tools/cells.py``: one store, of which each size takes the
first cells.  Every step runs in a process of its own, with BLAS on one thread, and reads what it
needs from disk, so that its memory is its own.  CPU seconds are recorded beside wall seconds, since
the machine may have other work; growth is the slope of log CPU seconds on log cells.

Lesson 15 shows the functions of the steps out of core; ``tests/test_scale.py`` proves that both
agree.
"""

import argparse
import json
import os
import platform
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import anndata as ad
import dask
import harmonypy
import numpy as np
import pandas as pd
import scanpy as sc
import zarr
from scipy import sparse as sp

from helpers import metrics
from helpers.data import PBMC_SHA256, prepare
from tools.cells import write_cells
from tools.pages import ROOT

TARGET = ROOT / "data" / "scale_recorded.json"
SIZES = [100_000, 500_000, 1_000_000]
BAR = 1.1  # the steepest slope allowed to Harmony, PCA and sampled LISI
GROWTH = ["PCA", "Harmony", "LISI, 10,000 queries"]
ROUNDS = {"max_iter_harmony": 10, "epsilon_harmony": 0}  # as many rounds at every size
BLOCK, N_QUERIES = 10_000, 10_000


# --- out of core, as lesson 15 shows it ---------------------------------------------------------


def lazy(store: Path, n_cells: int | None = None) -> ad.AnnData:
    """The first cells of a store; its counts stay on disk until a block is asked for."""
    group = zarr.open_group(store, mode="r")
    X = ad.experimental.read_elem_lazy(group["X"], chunks=(BLOCK, -1))
    obs, var = (ad.io.read_elem(group[name]) for name in ("obs", "var"))
    adata = ad.AnnData(X, obs=obs, var=var)
    return adata if n_cells is None else adata[:n_cells].copy()


def by_block(function: Callable, X, *arguments: np.ndarray) -> np.ndarray:
    """What a function returns for each block, one below the other."""
    return np.concatenate(dask.compute(*blocks(function, X, *arguments)))


def sum_blocks(function: Callable, X) -> np.ndarray:
    """The sum over the blocks of what a function returns for each."""
    return dask.compute(dask.delayed(sum)(blocks(function, X)))[0]


def blocks(function: Callable, X, *arguments: np.ndarray) -> list:
    return [dask.delayed(function)(block, *arguments) for block in X.to_delayed().ravel()]


def per_cell(X: sp.csr_matrix) -> np.ndarray:
    """Molecules and genes of each cell."""
    return np.column_stack([np.ravel(X.sum(axis=1)), np.diff(X.indptr)])


def per_gene(X: sp.csr_matrix) -> np.ndarray:
    """Cells of each gene."""
    return np.bincount(X.indices, minlength=X.shape[1])


def moments(X: sp.csr_matrix) -> np.ndarray:
    """Sum and sum of squares of each gene."""
    X = X.astype(float)
    return np.stack([np.ravel(X.sum(axis=0)), np.ravel(X.multiply(X).sum(axis=0))])


def divide(X: sp.csr_matrix, std: np.ndarray, most: np.ndarray) -> sp.csr_matrix:
    """Each gene in units of its standard deviation, at most so many; zeros stay zeros."""
    X = X.copy()
    X.data = np.minimum(X.data / std[X.indices], most[X.indices]).astype(np.float32)
    return X


def passing(adata: ad.AnnData, cells: np.ndarray, genes: np.ndarray) -> ad.AnnData:
    """Cells of 200 genes, genes of 3 cells; log-normalised, all lazy."""
    adata = adata[cells[:, 1] >= 200, genes >= 3].copy()
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    return adata


def scaled_pcs(chosen: ad.AnnData, n_comps: int = 30) -> np.ndarray:
    """PCs of scaled genes: a pass for the deviations, one for the covariance, one to project."""
    total, squares = sum_blocks(moments, chosen.X)
    mean = total / chosen.n_obs
    std = np.sqrt((squares - total * mean) / (chosen.n_obs - 1))
    # the PCA subtracts the mean, so that 10 above it is where `prepare` cuts as well
    chosen.X = chosen.X.map_blocks(divide, std, 10 + mean / std, dtype=np.float32)
    sc.pp.pca(chosen, n_comps=n_comps)
    return np.asarray(chosen.obsm["X_pca"])


# --- the steps, each in a process of its own ----------------------------------------------------


def step_qc(folder: Path, n: int) -> None:
    adata = lazy(folder / "cells.zarr", n)
    np.savez(
        folder / "qc.npz", cells=by_block(per_cell, adata.X), genes=sum_blocks(per_gene, adata.X)
    )


def step_qc_scanpy(folder: Path, n: int) -> None:
    sc.pp.calculate_qc_metrics(
        lazy(folder / "cells.zarr", n), percent_top=None, log1p=False, inplace=True
    )


def step_hvg(folder: Path, n: int) -> None:
    adata = passing(lazy(folder / "cells.zarr", n), **np.load(folder / "qc.npz"))
    sc.pp.highly_variable_genes(adata, n_top_genes=2000)
    np.save(folder / "hvg.npy", adata.var["highly_variable"].to_numpy())
    adata.obs.to_pickle(folder / "obs.pkl")


def step_pca(folder: Path, n: int) -> None:
    adata = passing(lazy(folder / "cells.zarr", n), **np.load(folder / "qc.npz"))
    np.save(folder / "pcs.npy", scaled_pcs(adata[:, np.load(folder / "hvg.npy")].copy()))


def step_in_memory(folder: Path, n: int) -> None:
    prepare(lazy(folder / "cells.zarr", n).to_memory())


def step_harmony(folder: Path, n: int, threads: int, batches: int) -> None:
    pcs, batch = np.load(folder / "pcs.npy"), batch_of(folder, batches)
    how = {"verbose": False, "random_state": 0, "ncores": threads, **ROUNDS}
    run = harmonypy.run_harmony(pcs, pd.DataFrame({"batch": batch}), "batch", **how)
    np.save(folder / "corrected.npy", np.asarray(run.Z_corr, dtype=np.float32))


def batch_of(folder: Path, n_batches: int) -> np.ndarray:
    """The eight batches, taken four at a time for 2, or dealt out in eight parts each for 64."""
    batch = pd.read_pickle(folder / "obs.pkl")["batch"].cat.codes.to_numpy()
    part = np.random.default_rng(0).integers(8, size=len(batch))
    return {2: batch // 4, 8: batch, 64: 8 * batch + part}[n_batches].astype(str)


def step_lisi(folder: Path, n: int, everyone: bool) -> dict:
    corrected, batch = np.load(folder / "corrected.npy"), batch_of(folder, 8)
    queries = None if everyone else metrics.sample_cells(len(batch), N_QUERIES, seed=0)
    values = metrics.lisi(corrected, batch, queries=queries)
    low, high = (None, None) if everyone else metrics.lisi_interval(values)
    return {"median": float(np.median(values)), "low": low, "high": high}


STEPS = {
    "QC by blocks": step_qc,
    "QC by scanpy": step_qc_scanpy,
    "normalise and HVG": step_hvg,
    "PCA": step_pca,
    "all of it in memory": step_in_memory,
    "Harmony": step_harmony,
    "LISI, 10,000 queries": lambda folder, n: step_lisi(folder, n, everyone=False),
    "LISI, all cells": lambda folder, n: step_lisi(folder, n, everyone=True),
}


def plan(sizes: list[int]) -> list[tuple[str, int, dict]]:
    """Step, cells, and what else it is called with."""
    steps = []
    for n in sizes:
        steps += [(name, n, {}) for name in ("QC by blocks", "normalise and HVG", "PCA")]
        if n == max(sizes):
            steps += [("Harmony", n, {"threads": 2, "batches": 8})]
        for batches in (2, 64, 8) if n == min(sizes) else (8,):
            steps += [("Harmony", n, {"threads": 1, "batches": batches})]
        steps += [("LISI, 10,000 queries", n, {})]
        if n == min(sizes):
            steps += [("LISI, all cells", n, {}), ("all of it in memory", n, {})]
    # not bounded: only where it fits
    return steps + [("QC by scanpy", n, {}) for n in sizes if n <= 500_000]


def peak_gb() -> float:
    """The most memory that this process has had."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss would count what the parent had when it started this
        return int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1]) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**30


def one_step(name: str, folder: Path, n: int, more: dict) -> dict:
    """Run in the process of its own."""
    with dask.config.set(scheduler="threads", num_workers=2):
        start, cpu = time.perf_counter(), time.process_time()
        said = STEPS[name](folder, n, **more) or {}
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    costs = {"seconds": round(seconds, 1), "cpu_seconds": round(cpu, 1)}
    return costs | {"peak_gb": round(peak_gb(), 2)} | said


def measure(sizes: list[int]) -> list[dict]:
    rows = []
    with tempfile.TemporaryDirectory(prefix="scale-") as name:
        folder = Path(name)
        write_cells(folder / "cells.zarr", max(sizes))
        for step, n, more in plan(sizes):
            env = os.environ | {"OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
            env |= {"OMP_NUM_THREADS": str(more.get("threads", 1)), "PYTHONWARNINGS": "ignore"}
            job = json.dumps([step, str(folder), n, more])
            command = [sys.executable, "-m", "tools.scale", "--step", job]
            done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True)
            row = {"step": step, "cells": n, **more}
            if done.returncode:
                sys.exit(f"{row}: {done.stderr}")
            rows.append(row | json.loads(done.stdout.splitlines()[-1]))
            print(rows[-1], flush=True)
    return rows


def slopes(rows: list[dict]) -> dict[str, float]:
    """Growth of CPU seconds with cells, on logarithmic scales: 1 is twice the time for twice."""
    found = {}
    for step in dict.fromkeys(row["step"] for row in rows):
        some = [r for r in rows if r["step"] == step and r.get("threads", 1) == 1]
        some = [r for r in some if r.get("batches", 8) == 8]
        if len(some) > 1:
            cells, cpu = (np.log([r[column] for r in some]) for column in ("cells", "cpu_seconds"))
            found[step] = round(float(np.polyfit(cells, cpu, 1)[0]), 2)
    return found


def record(rows: list[dict], sizes: list[int]) -> dict:
    packages = ["harmonypy", "scanpy", "anndata", "dask", "zarr", "numpy", "scipy", "scikit-learn"]
    return {
        "made by": "make scale (python -m tools.scale)",
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, "
        "shared with other work while this ran: compare CPU seconds",
        "versions": {"python": platform.python_version()} | {p: version(p) for p in packages},
        "cells": f"tools/cells.py, seed 0, from the embedded cells (SHA-256 {PBMC_SHA256})",
        "settings": f"{BLOCK:,} cells a block, 2 Dask threads, 2,000 genes, scaled, 30 PCs; "
        f"Harmony {ROUNDS['max_iter_harmony']} rounds, stop rule off; 8 batches and one thread "
        "where nothing else is said",
        "sizes": sizes,
        "slopes": slopes(rows),
        "rows": rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cells", type=int, nargs="+", default=SIZES)
    parser.add_argument("--step")  # of its own process: JSON of what to run
    options = parser.parse_args()
    if options.step:
        step, folder, n, more = json.loads(options.step)
        print(json.dumps(one_step(step, Path(folder), n, more)))
        return
    found = record(measure(options.cells), options.cells)
    steep = {s: found["slopes"][s] for s in GROWTH if found["slopes"].get(s, 0) > BAR}
    if options.cells == SIZES:
        TARGET.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(found["slopes"])
    if steep:
        sys.exit(f"Steeper than {BAR}: {steep}")


if __name__ == "__main__":
    main()
