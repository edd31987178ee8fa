"""Seconds and gigabytes of ``harmony-audit`` by number of cells.

``python -m tools.bench.audit [CELLS ...]``; ``make bench`` runs 10,000. The cells are the embedded
ones again and again, each time thinned at random and with a capture bias of its batch, so genes,
zeros and types are as in real data, and every block is another draw. Budgets, on two quiet cores:
10,000 cells in 3 minutes and 3 GB, 100,000 in 10 and 6, 1,000,000 in 30 and 12.
"""

import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
from anndata.io import sparse_dataset, write_elem
from scipy import sparse as sp
from tqdm import tqdm

from helpers.data import load_pbmc

BUDGETS = {10_000: (180, 3), 100_000: (600, 6), 1_000_000: (1800, 12)}  # seconds, GB
N_BATCHES = 8


def write_cells(file: Path, n_cells: int, seed: int = 0) -> None:
    """An h5ad of counts, written block by block: never more than a block in memory."""
    raw = load_pbmc()
    raw = raw[:, np.asarray(raw.X.sum(axis=0)).ravel() > 20]
    counts, rng = sp.csr_matrix(raw.X), np.random.default_rng(seed)
    capture = np.minimum(0.6 * np.exp(0.5 * rng.standard_normal((N_BATCHES, raw.n_vars))), 1)
    obs = []
    with h5py.File(file, "w") as h5:
        for block in tqdm(range(-(-n_cells // raw.n_obs)), disable=None):
            rows = rng.permutation(raw.n_obs)[: n_cells - block * raw.n_obs]
            X, batch = counts[rows].copy(), rng.integers(N_BATCHES, size=len(rows))
            share = capture[np.repeat(batch, np.diff(X.indptr)), X.indices]
            X.data = rng.binomial(X.data.astype(int), share).astype(np.float32)
            X.eliminate_zeros()
            X.indices, X.indptr = X.indices.astype(np.int32), X.indptr.astype(np.int64)
            if block:
                sparse_dataset(h5["X"]).append(X)
            else:
                write_elem(h5, "X", X)
            types = raw.obs["cell_type"].astype(str).to_numpy()[rows]
            condition = raw.obs["condition"].astype(str).to_numpy()[rows]
            batch = "batch " + pd.Series(batch).astype(str).to_numpy(dtype=object)
            part = {"batch": batch, "condition": condition, "cell_type": types}
            obs.append(pd.DataFrame(part, index=[f"{block}-{row}" for row in rows]))
        table = pd.concat(obs).astype("category")
        for name, value in {"obs": table, "var": raw.var[[]]}.items():
            write_elem(h5, name, value)
        h5.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
    ad.read_h5ad(file, backed="r").file.close()


def measure(n_cells: int, *options: str) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds and peak GB of the command."""
    folder = Path(tempfile.mkdtemp(prefix="audit-bench-"))
    try:
        write_cells(folder / "cells.h5ad", n_cells)
        names = "--batch", "batch", "--keep", "condition", "--label", "cell_type"
        command = [sys.executable, "-m", "helpers.command", folder / "cells.h5ad", *names]
        start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([*command, "--out", folder / "out", *options], check=True)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
        # ru_maxrss counts kilobytes on Linux, bytes on macOS
        return (
            time.perf_counter() - start,
            cpu,
            used.ru_maxrss / 1024 ** (3 if sys.platform == "darwin" else 2),
        )
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    over = False
    for n in [int(word.replace(",", "")) for word in sys.argv[1:]] or [10_000]:
        seconds, cpu, peak = measure(n)
        print(f"harmony-audit, {n:,} cells: {seconds:.0f} s ({cpu:.0f} CPU s), {peak:.1f} GB")
        most = BUDGETS.get(n, (np.inf, np.inf))
        over |= seconds > most[0] or peak > most[1]
    if over:
        raise SystemExit("More than the budget: run again on a quiet machine, then look why.")
