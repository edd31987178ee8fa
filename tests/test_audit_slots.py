"""What is in a matrix is read right, whatever it is stored as; what it is, we made."""

from types import SimpleNamespace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from audit_cells import logs, planted
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import sparse as sp

from helpers.audit import describe_slots
from helpers.audit.slots import gene_names
from helpers.checks import layers
from helpers.data import prepare

ADATA = planted(n=150, n_genes=200)
COUNTS = ADATA.X.toarray().astype(np.float64)


def scaled(clip=None):
    z = (logs(ADATA) - logs(ADATA).mean(axis=0)) / np.maximum(logs(ADATA).std(axis=0), 1e-9)
    return z if clip is None else np.clip(z, -clip, clip)


def residuals():
    """Pearson residuals of Lause et al. 2021, theta 100, as scanpy has them."""
    mu = COUNTS.sum(axis=1, keepdims=True) * COUNTS.sum(axis=0) / COUNTS.sum()
    return np.nan_to_num((COUNTS - mu) / np.sqrt(mu + mu**2 / 100))


def less_ambient():
    """Counts less their ambient part, as SoupX and CellBender leave them: fractions."""
    rng = np.random.default_rng(0)
    deep = COUNTS * 6
    soup = deep.sum(axis=0) / deep.sum() * 0.1 * deep.sum(axis=1, keepdims=True)
    return np.maximum(deep - soup * rng.uniform(0.5, 1.5, deep.shape), 0)


CHOSEN = np.argsort(-logs(ADATA).var(axis=0))[:60]
ROOTS = np.log1p(less_ambient() * 0.71)[:, CHOSEN]
SLOTS = {
    "counts": (COUNTS, "counts", "whole numbers from 0 to"),
    "natural": (logs(ADATA), "logarithms", "natural logarithm of .* up to 10,000"),
    "base 2": (logs(ADATA, 2), "logarithms", "logarithm to base 2 of .* up to 10,000"),
    "base 10": (logs(ADATA, 10), "logarithms", "logarithm to base 10 of .* up to 10,000"),
    "median sums": (logs(ADATA, target=None), "logarithms", "natural logarithm of .* up to"),
    "a million": (logs(ADATA, target=1e6), "logarithms", "natural logarithm of .* 1,000,000"),
    "genes of a log": (logs(ADATA)[:, CHOSEN], "logarithms", "natural log.* genes were left out"),
    "of base 2": (logs(ADATA, 2)[:, CHOSEN], "logarithms", "to base 2 .* genes were left out"),
    "of fractions": (ROOTS, "logarithms", "fractions from 0 to .* genes were left out"),
    "no log": (np.expm1(logs(ADATA)), "normalised, no logarithm", "each cell adds up to 10,000"),
    "shares": (np.expm1(logs(ADATA, target=1)), "normalised, no logarithm", "adds up to 1"),
    "scaled": (scaled(), "scaled", "mean 0 and standard deviation about 1"),
    "clipped": (scaled(2), "scaled", "standard deviation about 1, none above 2"),
    "centred": (10 * scaled(), "negative numbers", "residuals, or centred"),
    "binary": ((COUNTS > 0) * 1.0, "fractions", "zeros and ones only"),
    "less ambient": (less_ambient(), "fractions", "ambient part"),
    "zero": (COUNTS * 0, "nothing", "all values are zero"),
    "one NaN": (np.where(np.arange(200) == 7, np.nan, COUNTS), "NaN or infinite", "150 values"),
    "infinite": (np.where(np.arange(200) == 7, np.inf, COUNTS), "NaN or infinite", "150 values"),
}

STORED = {
    "array": np.asarray,
    "float32": lambda x: x.astype(np.float32),
    "fortran": np.asfortranarray,
    "CSR": lambda x: sp.csr_matrix(x.astype(np.float32)),
    "CSC": lambda x: sp.csc_matrix(x),
    "csr_array": sp.csr_array,
}


def described(X):
    return describe_slots(ad.AnnData(X)).loc["X"]


@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize("name", SLOTS)
def test_kind_is_read_however_it_is_stored(name, stored):
    X, holds, because = SLOTS[name]
    found = described(STORED[stored](X))
    assert found["holds"] == holds, found["because"]
    assert pd.Series(found["because"]).str.contains(because).all(), found["because"]
    assert found["genes"] == X.shape[1]


def test_pearson_residuals_are_neither_counts_nor_logarithms():
    assert described(residuals())["holds"] in ("scaled", "negative numbers")


@pytest.mark.parametrize("kind", [np.int32, np.int64, np.uint16, np.float32, np.float64])
def test_counts_of_every_type_are_counts(kind):
    assert described(COUNTS.astype(kind))["holds"] == "counts"
    assert described(sp.csr_matrix(COUNTS.astype(kind)))["holds"] == "counts"


@pytest.mark.parametrize("chunks", ["dense", "CSR", "CSC"])
def test_a_file_left_on_disk_says_the_same(tmp_path, chunks):
    for name in ("counts", "natural", "scaled"):
        X = {"dense": np.asarray, "CSR": sp.csr_matrix, "CSC": sp.csc_matrix}[chunks](
            SLOTS[name][0]
        )
        ad.AnnData(X, layers={"twice": X}).write_h5ad(tmp_path / f"{name}.h5ad")
        backed = ad.read_h5ad(tmp_path / f"{name}.h5ad", backed="r")
        for rows in (2000, 100):  # all, and blocks spread over the file
            table = describe_slots(backed, n_rows=rows)
            assert list(table["holds"]) == [SLOTS[name][1]] * 2, (name, rows)


def test_text_and_objects_hold_no_numbers():
    adata = ad.AnnData(
        COUNTS, layers={"text": COUNTS.astype(str), "objects": COUNTS.astype(object)}
    )
    table = describe_slots(adata)
    assert list(table["holds"]) == ["counts", "no numbers", "no numbers"]
    assert not table["because"].str.contains("whole").iloc[1:].any()


def test_each_slot_is_said_and_nothing_is_changed():
    adata = ADATA.copy()
    adata.raw = adata.copy()
    adata.layers["log"] = logs(adata)
    adata.X = None
    adata = adata[:, :120].copy()
    before = adata.copy()
    table = describe_slots(adata)
    assert table["holds"].to_dict() == {
        "X": "nothing", "layers['log']": "logarithms", "raw.X": "counts"
    }  # fmt: skip
    assert table["genes"].to_dict() == {"X": 120, "layers['log']": 120, "raw.X": 200}
    assert adata.X is None
    assert np.array_equal(adata.layers["log"], before.layers["log"])


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0)])
def test_no_cells_or_no_genes_hold_nothing(shape):
    assert described(np.zeros(shape))["holds"] == "nothing"


def test_a_rare_negative_or_odd_value_among_many_rows_is_not_overlooked_when_all_are_read():
    X = COUNTS.copy()
    X[149, 3] = 0.5
    assert described(X)["holds"] == "fractions"
    X[149, 3] = -1
    assert described(X)["holds"] == "negative numbers"


def test_rows_are_looked_at_all_over_a_large_object():
    """A file joined from counts and logarithms is no file of counts."""
    X = np.vstack([np.tile(COUNTS, (4, 1)), np.tile(logs(ADATA), (4, 1))])
    assert describe_slots(ad.AnnData(X), n_rows=100).loc["X", "holds"] != "counts"


@settings(
    max_examples=60, derandomize=True, database=None, deadline=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
@given(
    seed=st.integers(0, 10**6),
    base=st.sampled_from([np.e, 2.0, 10.0]),
    target=st.sampled_from([None, 1e3, 1e4, 1e6]),
    depth=st.sampled_from([100, 1000, 10000]),
    sparse=st.booleans(),
)
def test_the_base_and_the_sum_are_read_from_any_logarithm(seed, base, target, depth, sparse):
    rng = np.random.default_rng(seed)
    rate = rng.gamma(0.5, 1, 80)
    counts = rng.poisson(rate / rate.sum() * depth * rng.lognormal(0, 0.4, (40, 1)))
    counts[:, 0] += 1  # no cell without a count
    X = logs(ad.AnnData(sp.csr_matrix(counts)), base, target)
    found = described(sp.csr_matrix(X) if sparse else X)
    word = {np.e: "natural logarithm", 2.0: "logarithm to base 2", 10.0: "logarithm to base 10"}
    assert found["holds"] == "logarithms", found["because"]
    total = np.median(counts.sum(axis=1)) if target is None else target
    assert found["because"] == f"{word[base]} of 1 + x, where a cell's x add up to {total:,.0f}"
    assert described(counts)["holds"] == "counts"


def test_gene_names():
    ids = pd.Index([f"ENSG{i:011d}" for i in range(5)])
    assert gene_names(ids) == ("Ensembl identifiers", 0)
    assert gene_names(pd.Index(["ENSMUSG00000000001.4", "ENSMUSG00000000003"]))[0].startswith("Ens")
    assert gene_names(pd.Index(["CD3E", "CD3E", "MS4A1"])) == ("symbols or other names", 1)
    assert gene_names(pd.Index([])) == ("symbols or other names", 0)
    assert gene_names(pd.Index([1, 2])) == ("symbols or other names", 0)


def test_x_is_none_of_the_layers() -> None:
    """anndata 0.13 counts it among them, by the name None; no list and no message does."""
    assert layers(SimpleNamespace(layers={None: 1, "counts": 2})) == {"counts": 2}
    adata = ad.AnnData(np.ones((30, 20), np.float32))
    adata.layers["counts"] = adata.X.copy()
    assert list(describe_slots(adata).index) == ["X", "layers['counts']"]
    with pytest.raises(KeyError, match="its layers: counts"):
        prepare(adata, layer="raw")
