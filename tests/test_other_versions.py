"""Failures of lesson 11 that need another version of a package than the course installs.

``make matrix`` runs this file too, in the environments that have those versions; with the locked
packages part of it is skipped.
"""

import shutil
import subprocess
from importlib.metadata import version

import harmonypy
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData
from packaging.version import Version

OLD_HARMONYPY = Version(version("harmonypy")) < Version("2")
NEW_SCANPY = Version(version("scanpy")) >= Version("1.13a0")


@pytest.fixture
def cells() -> AnnData:
    """300 cells in two batches that lie apart along the first of ten PCs."""
    rng = np.random.default_rng(0)
    batch = rng.integers(0, 2, 300)
    pcs = rng.normal(size=(300, 10))
    pcs[:, 0] += 4 * batch
    obs = pd.DataFrame({"number": batch}, index=[f"cell{i}" for i in range(300)])
    obs["text"] = obs["number"].map({0: "a", 1: "b"}).astype("category")
    return AnnData(obs=obs, obsm={"X_pca": pcs})


def test_only_an_old_harmonypy_trips_over_labels_that_are_numbers(cells: AnnData) -> None:
    """`KeyError: 'unique'` with harmonypy before 2.0."""
    call = (cells.obsm["X_pca"], cells.obs, "number")
    if OLD_HARMONYPY:
        with pytest.raises(KeyError, match="unique"):
            harmonypy.run_harmony(*call, verbose=False)
    else:
        harmonypy.run_harmony(*call, verbose=False)


@pytest.mark.skipif(not NEW_SCANPY, reason="needs scanpy 1.13")
def test_scanpy_1_13_differs_from_run_to_run_without_a_seed(cells: AnnData) -> None:
    """With its default `rng=None`, each run differs; `rng=0` repeats."""

    def run(**kwargs: object) -> np.ndarray:
        sc.pp.harmony_integrate(cells, "text", **kwargs)
        return np.array(cells.obsm["X_pca_harmony"])

    assert not np.array_equal(run(), run())
    np.testing.assert_array_equal(run(rng=0), run(rng=0))


@pytest.mark.skipif(NEW_SCANPY, reason="scanpy 1.13 has it")
def test_before_1_13_harmony_is_not_in_scanpy_pp(cells: AnnData) -> None:
    """Before 1.13 the function is in `sc.external.pp` only."""
    with pytest.raises(AttributeError, match="harmony_integrate"):
        sc.pp.harmony_integrate(cells, "text")
    assert hasattr(sc.external.pp, "harmony_integrate")


@pytest.mark.skipif(shutil.which("Rscript") is None, reason="needs R")
def test_the_25_iterations_are_those_of_k_means() -> None:
    """It is the k-means that finds the starting clusters which speaks, not Harmony's rounds."""
    code = "set.seed(1); k <- kmeans(rnorm(9000), 30, iter.max = 25, algorithm = 'Lloyd')"
    ran = subprocess.run(["Rscript", "-e", code], capture_output=True, text=True, check=True)
    assert "did not converge in 25 iterations" in ran.stderr
