"""Contracts with other packages: what once broke between releases works in this set.

Each bound in pyproject.toml that names a failure has its proof here.
"""

import anndata as ad
import harmonypy
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse


@pytest.fixture(scope="module")
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_default_neighbours_of_14000_cells(rng: np.random.Generator) -> None:
    """Above some 5,000 cells scanpy asks pynndescent; 0.7 failed there with `getnnz`."""
    adata = ad.AnnData(obsm={"X_pca": rng.normal(size=(14_000, 10)).astype(np.float32)})
    sc.pp.neighbors(adata, use_rep="X_pca")
    graph = adata.obsp["distances"]
    assert graph.shape == (14_000, 14_000)
    per_cell = np.diff(graph.indptr)
    assert per_cell.min() == per_cell.max() >= 14


def test_default_scrublet_finds_doublets(rng: np.random.Generator) -> None:
    """With its simulated doublets scrublet has 9,000 points here, so 0.7 failed as above.

    Its automatic threshold needs scikit-image.
    """
    programs = rng.gamma(0.3, size=(4, 300))
    counts = rng.poisson(2 * programs[np.repeat(np.arange(4), 700)])
    first, second = rng.permutation(1400)[:200], rng.permutation(np.arange(1400, 2800))[:200]
    doublets = counts[first] + counts[second]
    adata = ad.AnnData(sparse.csr_matrix(np.vstack([counts, doublets]).astype(np.float32)))
    sc.pp.scrublet(adata, n_prin_comps=10, verbose=False)
    score = adata.obs["doublet_score"].to_numpy()
    assert adata.obs["predicted_doublet"].dtype == bool
    assert np.median(score[2800:]) > np.quantile(score[:2800], 0.9)


@pytest.mark.parametrize("n_cells", [31, 500])
def test_harmonypy_gives_cells_by_components(rng: np.random.Generator, n_cells: int) -> None:
    """Up to 0.0.10 the result came transposed, which scanpy still expects."""
    pcs, batch = shifted(rng, n_cells)
    corrected = np.asarray(harmonypy.run_harmony(pcs, batch, "batch", verbose=False).Z_corr)
    assert corrected.shape == pcs.shape
    assert np.corrcoef(corrected.ravel(), pcs.ravel())[0, 1] > 0.9


def test_harmonypy_reads_a_square_input_as_components_by_cells(rng: np.random.Generator) -> None:
    """With as many cells as components no shape tells: the input goes in transposed."""
    pcs, batch = shifted(rng, 30)
    corrected = np.asarray(harmonypy.run_harmony(pcs.T, batch, "batch", verbose=False).Z_corr)
    assert np.corrcoef(corrected.ravel(), pcs.ravel())[0, 1] > 0.9


def shifted(rng: np.random.Generator, n_cells: int) -> tuple[np.ndarray, pd.DataFrame]:
    """Return two groups of cells in two batches a little apart, n_cells x 30, and the batches."""
    batch = np.repeat(["a", "b"], [n_cells // 2, n_cells - n_cells // 2])
    pcs = rng.normal(size=(n_cells, 30)) * np.linspace(10, 1, 30)
    pcs[::2, 0] += 20
    pcs[batch == "b", 1] += 3
    return pcs, pd.DataFrame({"batch": batch})
