"""The checks of what a correction kept, on cells whose types, genes and fate are known."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse
from scipy.spatial.distance import cdist

from helpers import kept

TYPES = ("A", "B", "C", "D")
CORNERS = np.array([[0, 0], [1, 0], [0, 1], [1, 1]])


def cells(sizes, *, absorbed=(), seed=0, n_genes=240, spread=1.0, centre=6):
    """Cells of four types in batches; sizes: {batch: cells per type}. Batches differ in genes.

    Type t has 20 genes of its own. "X_pca" holds types and batches apart; "fixed" holds what a
    correction made: batches on top of each other, with the types of `absorbed` placed on B.
    """
    rng = np.random.default_rng(seed)
    rate = rng.gamma(2, 2, n_genes)
    parts = []
    for number, (batch, counts) in enumerate(sizes.items()):
        types = np.repeat(TYPES, counts)
        place = np.searchsorted(TYPES, types)
        bias = np.exp(0.5 * rng.standard_normal(n_genes))  # of each gene in this batch
        mean = np.tile(rate * bias, (len(types), 1))
        for t in range(4):
            mean[np.ix_(place == t, range(20 * t, 20 * t + 20))] *= 4
        names = [f"c{i}" for i in range(len(types))]
        obs = pd.DataFrame({"batch": batch, "cell_type": types}, index=names)
        part = ad.AnnData(sparse.csr_matrix(rng.poisson(mean).astype(np.float32)), obs=obs)
        noise = spread * rng.standard_normal((len(types), 2))
        goal = np.where(np.isin(types, absorbed), 1, place)
        part.obsm["X_pca"] = centre * CORNERS[place] + noise + 20 * number
        part.obsm["fixed"] = centre * CORNERS[goal] + noise
        parts.append(part)
    adata = ad.concat(parts, index_unique="-")
    adata.var_names = [f"gene {i}" for i in range(adata.n_vars)]
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    adata.uns.clear()
    return adata


def table(adata, use_rep="fixed", **kwargs):
    found = kept.signature_kept(adata, "batch", use_rep, adata.obs["cell_type"], **kwargs)
    return found.set_index(["batch", "cluster"])


TWO = {"x": [80, 80, 80, 80], "y": [80, 80, 80, 80]}
NO_A = {"x": [80, 80, 80, 80], "y": [0, 80, 80, 80]}


# --- signature_kept ---------------------------------------------------------------------------


def test_partners_of_the_own_kind_carry_the_signature():
    found = table(cells(TWO))
    assert found["kept"].between(0.85, 1.15).all()
    assert found["near"].between(0.4, 0.6).all()
    for (_, name), genes in found["genes"].items():
        own = {f"gene {20 * TYPES.index(name) + i}" for i in range(20)}
        assert set(genes.split(", ")) <= own


def test_a_type_that_the_other_batch_lacks_is_lowest_where_it_was_absorbed():
    found = table(cells(NO_A, absorbed=["A"]))
    assert found.index[0] == ("x", "A")
    assert abs(found.loc[("x", "A"), "kept"]) < 0.15
    assert 0.3 < found.loc[("x", "A"), "near"] < 0.7
    assert 0.3 < found.loc[("y", "B"), "kept"] < 0.7  # half of its partners are A now
    assert (found["kept"].drop(["A", "B"], level="cluster") > 0.8).all()


def test_a_type_that_the_other_batch_lacks_is_lowest_where_it_stands_alone():
    found = table(cells(NO_A, centre=9))
    assert found.index[0] == ("x", "A")
    assert abs(found.loc[("x", "A"), "kept"]) < 0.3
    assert found.loc[("x", "A"), "near"] < 0.02
    assert (found["kept"].drop("A", level="cluster") > 0.8).all()


def test_types_merged_in_both_batches_are_low():
    merged = cells(TWO, absorbed=["A"])
    assert (table(merged)["kept"][[("x", "A"), ("y", "A")]] < 0.6).all()


def test_three_unequal_batches_and_a_type_of_two():
    sizes = {"x": [30, 80, 60, 90], "y": [60, 200, 40, 60], "z": [0, 40, 60, 35]}
    found = table(cells(sizes))
    assert len(found) == 11
    assert found["kept"].between(0.8, 1.2).all()
    sizes["y"] = [0, 200, 60, 60]
    found = table(cells(sizes, absorbed=["A"]))
    assert found["kept"].idxmin() == ("x", "A")


def test_a_cluster_smaller_than_the_neighbourhood_exceeds_one():
    adata = cells({"x": [15] * 4, "y": [150] * 4})
    assert (table(adata)["kept"]["x"] > 1.3).all()
    assert table(adata, n_neighbors=10)["kept"]["x"].between(0.85, 1.15).all()


def test_signature_is_blind_to_a_type_within_a_cluster():
    adata = cells({"x": [25, 80, 80, 80], "y": [0, 80, 80, 80]}, absorbed=["A"])
    adata.obs["cell_type"] = adata.obs["cell_type"].replace("A", "B")
    assert table(adata)["kept"].min() > 0.7


def test_signature_is_blind_to_a_type_whose_relative_carries_its_genes():
    adata = cells({"x": [0, 80, 80, 80], "y": [0, 80, 80, 80]})
    adata.X = adata.X.toarray()
    other = (adata.obs["batch"] == "x") & (adata.obs["cell_type"] == "B")
    adata.X[np.ix_(other, range(20))] += 0.4  # another type, with genes that y has nowhere
    assert table(adata)["kept"].min() > 0.8


def test_a_rare_type_may_seem_to_be_missing():
    found = table(cells({"x": [80, 80, 80, 80], "y": [4, 80, 80, 80]}, spread=1.5))
    assert found["kept"].idxmin() == ("x", "A")
    assert found.loc[("x", "A"), "kept"] < 0.6


@pytest.mark.parametrize("seed", range(5))
def test_random_halves_keep_everything(seed):
    adata = cells({"x": [160] * 4}, seed=seed)
    adata.obs["batch"] = np.random.default_rng(seed).permutation(np.repeat(["x", "y"], 320))
    assert table(adata)["kept"].between(0.9, 1.1).all()


def test_signature_by_its_definition():
    adata = cells({"x": [12, 15, 0, 0], "y": [14, 10, 0, 0]}, spread=3)
    X = adata.X.toarray().astype(float)
    batch, types = adata.obs["batch"].to_numpy(), adata.obs["cell_type"].to_numpy()

    def around(t, own):
        Z, means = adata.obsm["X_pca" if own else "fixed"], []
        for i in np.flatnonzero((batch == "x") & (types == t)):
            others = [j for j in range(len(Z)) if j != i and (batch[j] == "x") == own]
            means.append(X[sorted(others, key=lambda j: np.linalg.norm(Z[j] - Z[i]))[:7]].mean(0))
        return np.mean(means, axis=0)

    before, after = (around("A", own) - around("B", own) for own in (True, False))
    variance = [X[(batch == "x") & (types == t)].var(axis=0) + 0.1 for t in "AB"]
    genes = np.argsort(-before / np.sqrt(np.mean(variance, axis=0)))[:8]
    found = table(adata, n_genes=8, n_neighbors=7).loc[("x", "A")]
    assert found["kept"] == pytest.approx(after[genes].sum() / before[genes].sum())
    assert found["genes"] == ", ".join(adata.var_names[genes[:5]])


def test_signature_does_not_depend_on_order_names_axes_or_storage():
    adata = cells(NO_A, absorbed=["A"])
    expected = table(adata)
    order = np.random.default_rng(1).permutation(adata.n_obs)
    pd.testing.assert_frame_equal(table(adata[order].copy()), expected, rtol=1e-6)
    renamed = adata.copy()
    renamed.var_names = [f"other {i}" for i in range(adata.n_vars)]
    renamed.X = adata.X.toarray()
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(20, 20)))[0][:2]
    for key in ("X_pca", "fixed"):
        renamed.obsm[key] = 3 * adata.obsm[key] @ turn + 1e7
    columns = ["n_cells", "kept", "near"]
    pd.testing.assert_frame_equal(table(renamed)[columns], expected[columns], rtol=1e-6)


def test_a_gene_that_is_higher_throughout_a_batch_cancels():
    adata = cells(TWO)
    shifted = adata.copy()
    shifted.X = adata.X.toarray()
    shifted.X[(adata.obs["batch"] == "y").to_numpy()] += np.linspace(0, 5, adata.n_vars)
    np.testing.assert_allclose(table(shifted)["kept"], table(adata)["kept"], rtol=1e-4)


@pytest.mark.parametrize(("near", "genes"), [("B", range(20)), ("C", range(100, 120))])
def test_the_nearest_rival_is_found_before_correction(near, genes):
    adata = cells(TWO)
    adata.X = adata.X.toarray()
    adata.X[np.ix_(adata.obs["cell_type"].isin(["A", "B"]), range(100, 120))] += 5  # not of C, D
    adata.obsm["X_pca"][:, 1 if near == "B" else 0] *= 3
    adata.obsm["fixed"][:, 0 if near == "B" else 1] *= 3
    found = table(adata).loc[("x", "A"), "genes"].split(", ")
    assert set(found) <= {f"gene {i}" for i in genes}


def test_clusters_without_anything_to_compare_are_nan():
    found = table(cells({"x": [80, 80, 0, 9], "y": [80, 0, 0, 0], "z": [2, 80, 80, 0]}))
    missing = {("x", "D"), ("y", "A"), ("z", "A")}
    assert set(found.index[found["kept"].isna()]) == missing
    assert (found.loc[list(missing), "genes"] == "").all()


# --- clusters ---------------------------------------------------------------------------------


def test_clusters_are_found_in_each_batch_alone():
    adata = cells({"x": [60, 90, 120, 80], "y": [0, 80, 80, 80]})
    clusters = kept.cluster_within(adata, "batch", "X_pca", resolution=0.3)
    assert list(clusters.index) == list(adata.obs_names)
    by_type = pd.crosstab(clusters, adata.obs["batch"] + adata.obs["cell_type"])
    assert by_type.shape == (7, 7)
    assert (by_type.max(axis=1) / by_type.sum(axis=1) > 0.95).all()
    again = kept.cluster_within(adata, "batch", "X_pca", resolution=0.3)
    assert again.equals(clusters)
    sizes = clusters[adata.obs["batch"] == "x"].value_counts()
    assert list(sizes.index[:4]) == ["x: 0", "x: 1", "x: 2", "x: 3"]  # the largest first


# --- neighbors_kept, moved, noise_floor -------------------------------------------------------


def test_neighbors_kept_by_its_definition():
    rng = np.random.default_rng(0)
    before, after = rng.normal(size=(2, 60, 4))
    batch = np.repeat(["x", "y"], [25, 35])
    expected = []
    for i in range(60):
        mine = [j for j in range(60) if j != i and batch[j] == batch[i]]
        near = [set(sorted(mine, key=cdist(X, X)[i].__getitem__)[:8]) for X in (before, after)]
        expected.append(len(near[0] & near[1]) / 8)
    np.testing.assert_allclose(kept.neighbors_kept(before, after, batch, 8), expected)


def test_neighbors_kept_sees_a_merge_and_not_a_shift():
    adata = cells(TWO)
    batch, before = adata.obs["batch"], adata.obsm["X_pca"]
    shift = 7.0 * (batch == "y").to_numpy()[:, None]
    np.testing.assert_array_equal(kept.neighbors_kept(before, before + shift, batch), 1)
    share = kept.neighbors_kept(before, cells(TWO, absorbed=["A"]).obsm["fixed"], batch)
    by_type = pd.Series(share).groupby(adata.obs["cell_type"].to_numpy()).mean()
    assert (by_type[["A", "B"]] < 0.7).all()
    assert (by_type[["C", "D"]] > 0.9).all()


def test_neighbors_kept_is_blind_to_strangers():
    adata = cells(NO_A, absorbed=["A"])
    lone = (adata.obs["cell_type"] == "A").to_numpy()
    without_b = adata[(adata.obs["cell_type"] != "B") | (adata.obs["batch"] == "y")].copy()
    share = kept.neighbors_kept(
        without_b.obsm["X_pca"], without_b.obsm["fixed"], without_b.obs["batch"]
    )
    lone = (without_b.obs["cell_type"] == "A").to_numpy()
    assert share[lone].mean() > 0.9  # all are among B of the other batch now
    assert table(without_b)["kept"]["x", "A"] < 0.15


def test_a_tiny_batch_is_no_error():
    X = np.random.default_rng(0).normal(size=(40, 3))
    share = kept.neighbors_kept(X, -X, ["x"] * 33 + ["y"] * 2 + ["z"] * 5)
    assert np.isnan(share[33:35]).all()
    assert (share[:33] == 1).all()
    assert (share[35:] == 1).all()


def test_moved_is_a_share_of_the_spread():
    X = np.array([[-1.0, 0], [1, 0], [0, 1], [0, -1]])  # every cell is 1 from the mean
    assert kept.moved(X, X) == 0
    assert kept.moved(X, X + np.array([3, 4])) == pytest.approx(5)
    assert kept.moved(10 * X, 10 * X + np.array([3, 4])) == pytest.approx(0.5)


def test_noise_floor_is_what_chance_moves():
    adata = cells({"x": [150] * 4, "y": [150] * 4}, spread=2)
    kept.harmonize(adata, "batch", adjusted_basis="corrected")
    real = kept.moved(adata.obsm["X_pca"], adata.obsm["corrected"])
    floor = kept.noise_floor(adata, "batch")
    assert 0 < floor < 0.15 < 0.5 < real
    assert kept.noise_floor(adata, "batch") == floor
    assert kept.noise_floor(adata, "batch", alpha=20.0) < floor / 2  # settings are passed on


def test_noise_floor_shuffles_and_keeps_the_sizes(monkeypatch):
    seen = []

    def harmonize(null, key, *, basis, adjusted_basis, seed):
        seen.append(null.obs[key].to_numpy())
        null.obsm[adjusted_basis] = null.obsm[basis]

    monkeypatch.setattr(kept, "harmonize", harmonize)
    adata = cells({"x": [20, 20, 5, 0], "y": [7, 0, 0, 3]})
    for seed in (0, 1):
        assert kept.noise_floor(adata, "batch", seed=seed) == 0
    for labels in seen:
        assert list(np.unique(labels, return_counts=True)[1]) == [45, 10]
        assert (labels != adata.obs["batch"].to_numpy()).any()
    assert (seen[0] != seen[1]).any()


# --- bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        (lambda a: setattr(a, "X", np.rint(a.X.toarray())), ValueError, "whole numbers"),
        (lambda a: setattr(a, "X", a.X.toarray() - 1), ValueError, "negative"),
        (lambda a: setattr(a, "X", a.X.toarray().astype(object)), None, ""),
        (lambda a: setattr(a, "X", np.full(a.shape, "PC")), ValueError, "no numbers"),
        (lambda a: a.obs.pop("batch"), KeyError, "'batch'"),
        (lambda a: a.obsm.pop("fixed"), KeyError, "'fixed'"),
        (lambda a: a.obsm.pop("X_pca"), KeyError, "'X_pca'"),
        (lambda a: None, None, ""),
        (
            lambda a: a.obs.insert(0, "batch", a.obs.pop("batch").str[:0] + "x"),
            ValueError,
            "fewer than two levels",
        ),
        (lambda a: a.obsm.__setitem__("fixed", a.obsm["fixed"] * np.nan), ValueError, "NaN"),
    ],
)
def test_errors_are_one_sentence_and_nothing_changes(change, error, match):
    adata = cells({"x": [20] * 4, "y": [20] * 4})
    labels = adata.obs["cell_type"]
    change(adata)
    before = adata.copy()
    if error is None:
        kept.signature_kept(adata, "batch", "fixed", labels)
        kept.cluster_within(adata, "batch", "X_pca")
        kept.noise_floor(adata, "batch")
    else:
        with pytest.raises(error, match=match) as caught:
            kept.signature_kept(adata, "batch", "fixed", labels)
        assert str(caught.value.args[0]).count(". ") == 0
    pd.testing.assert_frame_equal(adata.obs, before.obs)
    assert set(adata.obsm) == set(before.obsm)
    assert not adata.uns
    assert (adata.X != before.X).sum() == 0


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda X: kept.moved(X, X[:-1]), "30 cells, X_after has 29"),
        (lambda X: kept.moved(X, X[:, :1]), "dimensions"),
        (lambda X: kept.moved(X * 0, X), "no spread"),
        (lambda X: kept.neighbors_kept(X, X, ["x"] * 29), "29 values for 30 cells"),
        (lambda X: kept.neighbors_kept(X, X, ["x"] * 30, 0), "at least one"),
    ],
)
def test_unequal_embeddings_are_refused(call, match):
    X = np.random.default_rng(0).normal(size=(30, 2))
    with pytest.raises(ValueError, match=match):
        call(X)


@pytest.mark.parametrize("name", ["n_genes", "n_neighbors"])
@pytest.mark.parametrize("value", [0, "10", None, 2.5])
def test_numbers_of_genes_and_neighbours_are_whole(name, value):
    adata = cells({"x": [20] * 4, "y": [20] * 4})
    with pytest.raises(ValueError, match=f"{name} must be a whole number, at least 1, not"):
        kept.signature_kept(adata, "batch", "fixed", adata.obs["cell_type"], **{name: value})


def test_a_missing_x_is_said_and_a_backed_one_is_read(tmp_path):
    adata = cells({"x": [20] * 4, "y": [20] * 4})
    expected = kept.signature_kept(adata, "batch", "fixed", adata.obs["cell_type"])
    adata.write_h5ad(tmp_path / "cells.h5ad")
    backed = sc.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    found = kept.signature_kept(backed, "batch", "fixed", adata.obs["cell_type"])
    pd.testing.assert_frame_equal(found, expected)
    adata.X = None
    with pytest.raises(ValueError, match="is missing or holds no numbers"):
        kept.signature_kept(adata, "batch", "fixed", adata.obs["cell_type"])


# --- what the audit takes from here ---


def test_noise_floor_is_how_far_corrected_noise_moved():
    adata = cells({"x": [30] * 4, "y": [30] * 4})
    settings = {"seed": 3, "max_iter_harmony": 4, "epsilon_harmony": 0}
    null = kept.corrected_noise(adata, "batch", **settings)
    assert kept.noise_floor(adata, "batch", **settings) == kept.moved(
        null.obsm["before"], null.obsm["after"]
    )
    # the reader's own batches, dealt out again, and her own embedding
    sizes = adata.obs["batch"].value_counts().to_dict()
    assert null.obs["batch"].value_counts().to_dict() == sizes
    assert (null.obs["batch"].to_numpy() != adata.obs["batch"].to_numpy()).mean() > 0.3
    assert np.array_equal(null.obsm["before"], adata.obsm["X_pca"])
    assert list(adata.obsm) == ["X_pca", "fixed"]
    other = kept.corrected_noise(adata, "batch", **settings | {"seed": 4})
    assert (other.obs["batch"].to_numpy() != null.obs["batch"].to_numpy()).any()


def test_cluster_all_finds_types_across_batches_where_cluster_within_finds_each_alone():
    adata = cells({"x": [60, 50, 40, 30], "y": [60, 50, 40, 30]}, spread=0.5)
    adata.obs_names_make_unique()
    found = kept.cluster_all(adata, "fixed", resolution=0.2)
    table = pd.crosstab(found.to_numpy(), adata.obs["cell_type"].to_numpy())
    assert table.shape == (4, 4)
    assert ((table > 0).sum() == 1).all()  # each type one cluster, of both batches
    assert list(table.sum(axis=1)[["0", "1", "2", "3"]]) == [120, 100, 80, 60]  # largest first
    assert list(found.index) == list(adata.obs_names)
    pd.testing.assert_series_equal(found, kept.cluster_all(adata, "fixed", resolution=0.2))
    # with the batches apart it does not join them
    apart = kept.cluster_all(adata, "X_pca", resolution=0.2)
    assert (pd.crosstab(apart.to_numpy(), adata.obs["batch"].to_numpy()) > 0).sum(axis=1).max() == 1
    # one batch alone: the same clusters by either function
    one = adata[adata.obs["batch"] == "x"].copy()
    within = kept.cluster_within(adata, "batch", "fixed")[one.obs_names].astype(str)
    assert list(within.str.removeprefix("x: ")) == list(kept.cluster_all(one, "fixed").astype(str))
    with pytest.raises(KeyError, match="X_scvi"):
        kept.cluster_all(adata, "X_scvi")
