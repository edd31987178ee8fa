"""Cells in any number, on disk: what lesson 15, its tests and the benches measure with.

They are the embedded cells again and again, each time thinned at random and with a capture bias of
its batch, so genes, zeros and types are as in real data, and every block is another draw.  They are
no new cells: a million of them hold no rarer types than 6,000 do.
"""

from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import zarr
from anndata.io import sparse_dataset, write_elem
from scipy import sparse as sp
from tqdm import tqdm

from helpers.data import load_pbmc

N_BATCHES = 8


def write_cells(file: Path, n_cells: int, seed: int = 0) -> None:
    """Counts as h5ad, or as zarr where the name ends so; never more than a block in memory."""
    file = Path(file)
    if file.suffix == ".zarr":
        with ad.settings.override(auto_shard_zarr_v3=True):
            _write(zarr.open_group(file, mode="w"), n_cells, seed)
    else:
        with h5py.File(file, "w") as h5:
            _write(h5, n_cells, seed)


def _write(store: h5py.File | zarr.Group, n_cells: int, seed: int) -> None:
    raw = load_pbmc()
    raw = raw[:, np.asarray(raw.X.sum(axis=0)).ravel() > 20]
    counts, rng = sp.csr_matrix(raw.X), np.random.default_rng(seed)
    capture = np.minimum(0.6 * np.exp(0.5 * rng.standard_normal((N_BATCHES, raw.n_vars))), 1)
    obs = []
    for block in tqdm(range(-(-n_cells // raw.n_obs)), disable=None):
        rows = rng.permutation(raw.n_obs)[: n_cells - block * raw.n_obs]
        X, batch = counts[rows].copy(), rng.integers(N_BATCHES, size=len(rows))
        share = capture[np.repeat(batch, np.diff(X.indptr)), X.indices]
        X.data = rng.binomial(X.data.astype(int), share).astype(np.float32)
        X.eliminate_zeros()
        X.indices, X.indptr = X.indices.astype(np.int32), X.indptr.astype(np.int64)
        if block:
            sparse_dataset(store["X"]).append(X)
        else:
            write_elem(store, "X", X)
        types = raw.obs["cell_type"].astype(str).to_numpy()[rows]
        condition = raw.obs["condition"].astype(str).to_numpy()[rows]
        batch = "batch " + pd.Series(batch).astype(str).to_numpy(dtype=object)
        part = {"batch": batch, "condition": condition, "cell_type": types}
        obs.append(pd.DataFrame(part, index=[f"{block}-{row}" for row in rows]))
    table = pd.concat(obs).astype("category")
    for name, value in {"obs": table, "var": raw.var[[]]}.items():
        write_elem(store, name, value)
    store.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
