"""Cells for the tests of the audit: few, quick, and known, since they are made here."""

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse as sp


def planted(n=420, *, n_genes=300, n_batches=3, shift=0.2, seed=0):
    """Counts of three types in runs that differ in every gene, by `shift` standard deviations."""
    rng = np.random.default_rng(seed)
    types, runs = rng.integers(3, size=n), rng.integers(n_batches, size=n)
    rate = np.tile(np.log(rng.gamma(0.6, 1.0, n_genes) + 0.02), (n, 1))
    own = n_genes // 10  # genes of each type
    for kind in range(3):
        rate[np.ix_(types == kind, np.arange(own * kind, own * (kind + 1)))] += 1.8
    for run in range(1, n_batches):
        rate[runs == run] += shift * rng.normal(size=n_genes)
    share = np.exp(rate) / np.exp(rate).sum(axis=1, keepdims=True)
    counts = rng.poisson(share * rng.lognormal(np.log(1500), 0.3, (n, 1)))
    obs = pd.DataFrame(
        {
            "run": [f"run {run + 1}" for run in runs],
            "type": [f"type {kind}" for kind in types],
            "state": rng.choice(["resting", "active"], n),
        },
        index=[f"cell{i}" for i in range(n)],
    )
    names = pd.DataFrame(index=[f"Gene{i}" for i in range(n_genes)])
    return ad.AnnData(sp.csr_matrix(counts.astype(np.float32)), obs=obs, var=names)


def logs(adata, base=np.e, target=1e4):
    """Log-normalised, from the definition and not from scanpy; target None is the median sum."""
    X = adata.X.toarray().astype(np.float64)
    total = X.sum(axis=1, keepdims=True)
    return np.log1p(X / total * (np.median(total) if target is None else target)) / np.log(base)
