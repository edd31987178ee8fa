"""Each score against its definition written out with loops, and against published programs."""

import inspect
import itertools
import random
import re
import warnings

import anndata as ad
import harmonypy
import igraph
import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import chi2

from helpers import data, integrate, kept, metrics


def cells(n=240, dims=6, seed=0, shift=0.8):
    """Three overlapping types in two batches of unequal size."""
    rng = np.random.default_rng(seed)
    types = rng.choice(["B", "NK", "T"], n, p=[0.2, 0.3, 0.5])
    batch = rng.choice(["x", "y"], n, p=[0.4, 0.6])
    centre = {"B": 0.0, "NK": 2.5, "T": -2.0}
    X = rng.normal(size=(n, dims)) * np.linspace(2, 0.5, dims)
    X[:, 0] += [centre[t] for t in types]
    X[:, 1] += shift * (batch == "y")
    return X, types, batch


def as_adata(X, types, batch):
    obs = pd.DataFrame({"cell_type": types, "batch": batch}, index=[f"c{i}" for i in range(len(X))])
    return ad.AnnData(obs=obs, obsm={"X_pca": X})


KEYS = {"batch_key": "batch", "label_key": "cell_type"}


# --- definitions, written out -------------------------------------------------------------


def slow_lisi(X, labels, perplexity=30, k=90):
    values = []
    for i, row in enumerate(cdist(X, X)):
        others = [j for j in np.argsort(row, kind="stable") if j != i][:k]
        d = row[others]
        beta, low, high = 1.0, -np.inf, np.inf
        for _ in range(50):
            p = np.exp(-beta * d)
            entropy = np.log(p.sum()) + beta * (d * p).sum() / p.sum() if p.sum() else 0.0
            if p.sum():
                p = p / p.sum()
            if abs(entropy - np.log(perplexity)) < 1e-5:
                break
            if entropy > np.log(perplexity):
                low, beta = beta, beta * 2 if np.isinf(high) else (beta + high) / 2
            else:
                high, beta = beta, beta / 2 if np.isinf(low) else (beta + low) / 2
        groups = np.asarray(labels)[others]
        values.append(1 / sum(p[groups == g].sum() ** 2 for g in set(labels)))
    return np.array(values)


def slow_silhouettes(X, labels):
    D, values = cdist(X, X), []
    for i, own in enumerate(labels):
        same = (labels == own) & (np.arange(len(X)) != i)
        if not same.any():
            values.append(0.0)
            continue
        a = D[i, same].mean()
        b = min(D[i, labels == other].mean() for other in set(labels) - {own})
        values.append((b - a) / max(a, b))
    return np.array(values)


def slow_connectivity(X, labels, n_neighbors):
    D, shares = cdist(X, X), []
    near = [set(np.argsort(row)[:n_neighbors]) for row in D]
    for label in set(labels):
        left, largest = set(np.flatnonzero(labels == label)), 0
        size = len(left)
        while left:
            piece, front = set(), {next(iter(left))}
            while front:
                piece |= front
                front = {
                    j for j in left - piece if any(j in near[i] or i in near[j] for i in front)
                }
            left -= piece
            largest = max(largest, len(piece))
        shares.append(largest / size)
    return np.mean(shares)


def slow_pc_regression(X, batch):
    U, s, _ = np.linalg.svd(X - X.mean(axis=0), full_matrices=False)
    design = np.column_stack([batch == level for level in set(batch)]).astype(float)
    r2 = []
    for component in (U * s).T:
        fitted = design @ np.linalg.lstsq(design, component, rcond=None)[0]
        r2.append(1 - ((component - fitted) ** 2).sum() / (component**2).sum())
    return np.average(r2, weights=s**2)


def slow_kbet(X, batch, k, alpha=0.05):
    passed = []
    for row in cdist(X, X):
        near = batch[np.argsort(row)[:k]]
        expected = {level: k * (batch == level).mean() for level in set(batch)}
        statistic = sum(((near == level).sum() - e) ** 2 / e for level, e in expected.items())
        passed.append(1 - chi2.cdf(statistic, len(expected) - 1) >= alpha)
    return np.mean(passed)


def slow_ari(a, b):
    pairs = list(itertools.combinations(range(len(a)), 2))
    in_a = np.array([a[i] == a[j] for i, j in pairs])
    in_b = np.array([b[i] == b[j] for i, j in pairs])
    chance = in_a.sum() * in_b.sum() / len(pairs)
    return ((in_a & in_b).sum() - chance) / ((in_a.sum() + in_b.sum()) / 2 - chance)


def slow_nmi(a, b):
    joint = pd.crosstab(np.asarray(a), np.asarray(b)).to_numpy() / len(a)
    pa, pb = joint.sum(axis=1), joint.sum(axis=0)
    information = sum(
        p * np.log(p / (pa[i] * pb[j])) for (i, j), p in np.ndenumerate(joint) if p > 0
    )
    return information / ((-(pa * np.log(pa)).sum() - (pb * np.log(pb)).sum()) / 2)


# --- LISI ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "dims"), [(40, 3), (91, 6), (240, 6), (300, 30)])
def test_lisi_is_the_definition_and_harmonypys(n, dims):
    X, types, batch = cells(n, dims)
    table = pd.DataFrame({"batch": batch, "types": types})
    ours = metrics.lisi(X, table)
    theirs = harmonypy.compute_lisi(X, table, ["batch", "types"])
    assert ours.shape == (n, 2)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)
    np.testing.assert_allclose(ours[:, 1], slow_lisi(X, types), rtol=0, atol=1e-12)
    np.testing.assert_array_equal(metrics.lisi(X, batch), ours[:, 0])


def test_lisi_takes_another_perplexity():
    X, types, _ = cells()
    expected = slow_lisi(X, types, perplexity=10, k=30)
    np.testing.assert_allclose(metrics.lisi(X, types, perplexity=10), expected, atol=1e-12)


def test_lisi_of_mixed_batches_is_two_and_of_separated_ones_is_one():
    rng = np.random.default_rng(1)
    X, batch = rng.normal(size=(2000, 10)), np.repeat(["x", "y"], 1000)
    mixed = metrics.lisi(X, batch)
    assert 1.85 < np.median(mixed) <= mixed.max() <= 2  # chance alone keeps it from 2
    np.testing.assert_allclose(metrics.lisi(X + 1000 * (batch == "y")[:, None], batch), 1)


@pytest.mark.parametrize("copies", [2, 5])
def test_lisi_with_duplicated_cells(copies):
    X, types, _ = cells(120, 30)
    X, types = np.tile(X, (copies, 1)) + 100, np.tile(types, copies)
    neighbors = metrics.nearest_neighbors(X, 90)
    assert not (neighbors.indices == np.arange(len(X))[:, None]).any()
    assert (neighbors.distances[:, : copies - 1] == 0).all()
    theirs = harmonypy.compute_lisi(X, pd.DataFrame({"t": types}), ["t"])[:, 0]
    np.testing.assert_allclose(metrics.lisi(X, types), theirs, rtol=0, atol=1e-12)


def test_lisi_when_duplicates_fill_the_neighbourhood():
    X, batch = np.zeros((200, 20)), np.repeat(["x", "y"], 100)
    X[-1] = 1
    neighbors = metrics.nearest_neighbors(X, 90)
    assert not (neighbors.indices == np.arange(200)[:, None]).any()
    assert all(len(set(row)) == 90 for row in neighbors.indices)
    values = metrics.lisi(X, batch)
    assert ((values >= 1) & (values <= 2 + 1e-12)).all()


def test_lisi_of_a_far_outlier_is_that_of_its_neighbours():
    X, types, _ = cells(200)
    X[0] = 1e5
    value = metrics.lisi(X, types)[0]
    assert 1 < value <= 3
    near = np.argsort(cdist(X[:1], X)[0])[1:91]
    share = pd.Series(types[near]).value_counts(normalize=True)
    assert value == pytest.approx(1 / (share**2).sum(), abs=0.8)


def test_neighbours_are_exact_whatever_the_block_and_the_origin(monkeypatch):
    X, types, _ = cells(300, 20)
    whole, values = metrics.nearest_neighbors(X, 90), metrics.lisi(X, types)
    D = cdist(X, X)
    np.fill_diagonal(D, np.inf)
    np.testing.assert_array_equal(whole.indices, np.argsort(D, axis=1)[:, :90])
    np.testing.assert_allclose(whole.distances, np.sort(D, axis=1)[:, :90], atol=1e-12)
    monkeypatch.setattr(metrics, "_BLOCK", 64)
    np.testing.assert_array_equal(metrics.nearest_neighbors(X, 90).indices, whole.indices)
    np.testing.assert_allclose(metrics.lisi(X, types), values, atol=1e-12)
    np.testing.assert_allclose(metrics.lisi(X, types, neighbors=whole), values, atol=1e-12)
    np.testing.assert_allclose(metrics.lisi(X + 1e4, types), values, atol=1e-6)


# --- the others against their definitions -------------------------------------------------


def test_silhouettes():
    X, types, batch = cells()
    expected = (slow_silhouettes(X, types).mean() + 1) / 2
    assert metrics.silhouette_label(X, types) == pytest.approx(expected, abs=1e-12)
    by_type = [
        1 - np.abs(slow_silhouettes(X[types == t], batch[types == t])).mean() for t in set(types)
    ]
    assert metrics.silhouette_batch(X, batch=batch, labels=types) == pytest.approx(
        np.mean(by_type), abs=1e-12
    )
    # A type with cells of one batch has nothing to overlap: left out.
    batch[types == "B"] = "x"
    left = [
        1 - np.abs(slow_silhouettes(X[types == t], batch[types == t])).mean() for t in ("NK", "T")
    ]
    assert metrics.silhouette_batch(X, batch=batch, labels=types) == pytest.approx(
        np.mean(left), abs=1e-12
    )


@pytest.mark.parametrize("n_neighbors", [3, 4, 15])
def test_graph_connectivity(n_neighbors):
    X, types, _ = cells()
    value = metrics.graph_connectivity(X, types, n_neighbors)
    assert value == pytest.approx(slow_connectivity(X, types, n_neighbors), abs=1e-12)
    shared = metrics.nearest_neighbors(X, 20)
    assert metrics.graph_connectivity(X, types, n_neighbors, neighbors=shared) == value
    assert metrics.graph_connectivity(X, types, n_neighbors, connection="strong") <= value


def test_graph_connectivity_of_a_type_in_two_pieces():
    X = np.concatenate([np.zeros((60, 2)), np.full((20, 2), 50.0)])
    X += np.random.default_rng(0).normal(size=X.shape)
    assert metrics.graph_connectivity(X, np.full(80, "T")) == 60 / 80


def test_pc_regression():
    X, types, batch = cells()
    for covariate in (batch, types):
        expected = slow_pc_regression(X, covariate)
        assert metrics.pc_regression(X, covariate) == pytest.approx(expected, abs=1e-12)
    corrected = X.copy()
    corrected[:, 1] -= 0.8 * (batch == "y")
    before, after = slow_pc_regression(X, batch), slow_pc_regression(corrected, batch)
    compared = metrics.pc_regression_comparison(X, corrected, batch)
    assert compared == pytest.approx((before - after) / before, abs=1e-12)
    assert metrics.pc_regression_comparison(corrected, X, batch) == 0


def test_kbet():
    X, types, batch = cells()
    value = metrics.kbet(X, batch=batch, n_neighbors=25)
    assert value == pytest.approx(slow_kbet(X, batch, 25), abs=1e-12)
    by_type = []
    for t in set(types):
        inside = types == t
        k = int(np.clip(np.unique(batch[inside], return_counts=True)[1].mean() // 4, 10, 70))
        by_type.append(slow_kbet(X[inside], batch[inside], k))
    assert metrics.kbet(X, batch=batch, labels=types) == pytest.approx(np.mean(by_type), abs=1e-12)
    X, _, batch = cells(700, shift=2)
    assert metrics.kbet(X, batch=batch) == metrics.kbet(X, batch=batch, n_neighbors=70)
    assert metrics.kbet(X, batch=batch) != metrics.kbet(X, batch=batch, n_neighbors=60)
    assert metrics.kbet(X[:40], batch=batch[:40]) == metrics.kbet(
        X[:40], batch=batch[:40], n_neighbors=10
    )


def test_kbet_passes_random_batches_and_fails_separated_ones():
    rng = np.random.default_rng(2)
    X, batch = rng.normal(size=(1500, 8)), rng.permutation(np.repeat(["x", "y", "z"], 500))
    assert 0.9 < metrics.kbet(X, batch=batch) <= 1
    assert metrics.kbet(X + 100 * (batch == "y")[:, None], batch=batch) == 0


def test_ari_and_nmi():
    _, types, batch = cells(80)
    for other in (batch, np.where(batch == "x", types, "all")):
        assert metrics.ari(types, other) == pytest.approx(slow_ari(types, other), abs=1e-12)
        assert metrics.nmi(types, other) == pytest.approx(slow_nmi(types, other), abs=1e-12)
    assert metrics.ari(types, types) == metrics.nmi(types, types) == 1
    assert metrics.ari(types, np.zeros(80)) == 0


def test_best_clusters_finds_clear_types_and_repeats_itself():
    X, types, _ = cells(400)
    X[:, 0] += 20 * pd.factorize(types)[0]
    state = random.getstate()
    found = metrics.best_clusters(X, types)
    assert random.getstate() == state
    igraph.Graph.GRG(10, 0.5)
    assert random.getstate() != state  # igraph draws from random again, as before
    assert metrics.ari(types, found) == 1
    np.testing.assert_array_equal(found, metrics.best_clusters(X, types))


# --- invariances --------------------------------------------------------------------------

SCORES = {
    "lisi": lambda X, types, batch: metrics.lisi(X, batch).mean(),
    "silhouette_label": lambda X, types, batch: metrics.silhouette_label(X, types),
    "silhouette_batch": lambda X, types, batch: metrics.silhouette_batch(
        X, batch=batch, labels=types
    ),
    "graph_connectivity": lambda X, types, batch: metrics.graph_connectivity(X, types, 4),
    "pc_regression": lambda X, types, batch: metrics.pc_regression(X, batch),
    "kbet": lambda X, types, batch: metrics.kbet(X, batch=batch, labels=types),
}


@pytest.mark.parametrize("name", SCORES)
def test_rotation_order_names_and_kinds_of_labels_do_not_matter(name):
    X, types, batch = cells(200, 20)
    value = SCORES[name](X, types, batch)
    rng = np.random.default_rng(3)
    rotation, order = np.linalg.qr(rng.normal(size=(20, 20)))[0], rng.permutation(200)
    renamed = pd.Series(types).map({"B": 7, "NK": 1, "T": 3})
    category = pd.Categorical(batch, categories=["unused", "y", "x"])
    for args in (
        (X @ rotation + 5, types, batch),
        (X[order], types[order], batch[order]),
        (X, renamed.set_axis(order), category),
        (pd.DataFrame(X), list(types), batch == "x"),
    ):
        assert SCORES[name](*args) == pytest.approx(value, abs=1e-9)


# --- tables -------------------------------------------------------------------------------


def test_score_holds_what_the_single_functions_return():
    X, types, batch = cells(300)
    adata = as_adata(X, types, batch)
    adata.obsm["X_other"] = X - 0.8 * np.outer(batch == "y", np.eye(6)[1])
    before = adata.copy()
    scores = metrics.score(adata, use_rep="X_other", baseline="X_pca", **KEYS)
    assert list(scores.index) == list(metrics.metric_info().index)
    Y = adata.obsm["X_other"]
    clusters = metrics.best_clusters(Y, types)
    ilisi, clisi = np.median(metrics.lisi(Y, batch)), np.median(metrics.lisi(Y, types))
    expected = {
        "iLISI": ilisi,
        "iLISI scaled": ilisi - 1,
        "kBET": metrics.kbet(Y, batch=batch, labels=types),
        "Silhouette batch": metrics.silhouette_batch(Y, batch=batch, labels=types),
        "PC regression": metrics.pc_regression(Y, batch),
        "PCR comparison": metrics.pc_regression_comparison(X, Y, batch),
        "Graph connectivity": metrics.graph_connectivity(Y, types),
        "cLISI": clisi,
        "cLISI scaled": (3 - clisi) / 2,
        "Silhouette label": metrics.silhouette_label(Y, types),
        "NMI": metrics.nmi(types, clusters),
        "ARI": metrics.ari(types, clusters),
    }
    pd.testing.assert_series_equal(scores, pd.Series(expected, name="X_other"), atol=1e-12)
    assert "PCR comparison" not in metrics.score(adata, use_rep="X_pca", **KEYS)
    pd.testing.assert_frame_equal(adata.obs, before.obs)
    assert list(adata.obsm) == list(before.obsm)
    assert not adata.uns


def test_score_without_labels_holds_what_needs_none():
    X, types, batch = cells(300)
    adata = as_adata(X, types, batch)
    full = metrics.score(adata, use_rep="X_pca", **KEYS)
    found = metrics.score(adata, use_rep="X_pca", batch_key="batch")
    pd.testing.assert_series_equal(found, full[["iLISI", "iLISI scaled", "PC regression"]])
    both = metrics.score_table(adata, batch_key="batch", use_reps=["X_pca"], baseline="X_pca")
    assert list(both) == [*found.index, "PCR comparison"]


def test_graph_connectivity_sees_only_what_is_far_apart():
    """Batches that hardly mix leave it near 1, and only those that no longer touch lower it."""
    X, types, batch = cells(600, shift=0)
    values = {}
    for gap in (0, 4, 30):
        apart = X + gap * np.outer(batch == "y", np.eye(6)[2])
        values[gap] = metrics.graph_connectivity(apart, types)
        mixed = np.median(metrics.lisi(apart, batch))
        assert mixed > 1.8 if gap == 0 else mixed < 1.2, gap
    assert values[4] > values[0] - 0.01
    assert values[30] < 0.6


def test_ignored_labels_are_left_out_of_label_scores_only():
    X, types, batch = cells(300)
    types = np.array(["unassigned"] * 60 + list(types[60:]))
    adata = as_adata(X, pd.Categorical(types), batch)
    scores = metrics.score(adata, use_rep="X_pca", **KEYS)
    named = metrics.score(adata[60:].copy(), use_rep="X_pca", **KEYS)
    whole = ["iLISI", "iLISI scaled", "PC regression"]
    pd.testing.assert_series_equal(scores.drop(whole), named.drop(whole))
    assert scores["iLISI"] == np.median(metrics.lisi(X, batch)) != named["iLISI"]
    assert scores["PC regression"] == metrics.pc_regression(X, batch)
    counted = metrics.score(adata, use_rep="X_pca", ignore=(), **KEYS)
    assert counted["cLISI"] == np.median(metrics.lisi(X, types)) != scores["cLISI"]


def test_score_table_has_one_row_for_each_embedding():
    X, types, batch = cells(200)
    adata = as_adata(X, types, batch)
    adata.obsm["X_far"] = X + 50 * (batch == "y")[:, None]
    table = metrics.score_table(adata, use_reps={"before": "X_pca", "apart": "X_far"}, **KEYS)
    assert list(table.index) == ["before", "apart"]
    assert all(dtype.kind == "f" for dtype in table.dtypes)
    assert table.loc["apart", "iLISI"] == pytest.approx(1)
    assert table.loc["apart", "kBET"] == 0
    listed = metrics.score_table(adata, use_reps=["X_pca", "X_far"], baseline="X_pca", **KEYS)
    pd.testing.assert_frame_equal(
        listed.drop(columns="PCR comparison").set_axis(table.index), table
    )


def test_lisi_by_type():
    X, types, batch = cells(300)
    batch[types == "B"] = "x"
    table = metrics.lisi_by_type(as_adata(X, types, batch), use_rep="X_pca", **KEYS)
    values = metrics.lisi(X, batch)
    for t in ("B", "NK", "T"):
        assert table.loc[t, "n_cells"] == (types == t).sum()
        assert table.loc[t, "iLISI"] == np.median(values[types == t])
        share = pd.Series(batch[types == t]).value_counts(normalize=True)
        assert table.loc[t, "if mixed"] == pytest.approx(1 / (share**2).sum())
    assert table.loc["B", "if mixed"] == 1
    left = metrics.lisi_by_type(
        as_adata(X, types, batch), use_rep="X_pca", ignore=("B", "unassigned"), **KEYS
    )
    pd.testing.assert_frame_equal(left, table.drop(index="B"))


def test_metric_info_is_complete_and_true():
    info = metrics.metric_info()
    assert info.index.is_unique
    assert info.notna().all(axis=None)
    assert set(info["measures"]) == {"mixing", "biology"}
    assert set(info["better"]) == {"higher", "lower"}
    assert info["doi"].str.match(r"^10\.\d{4,9}/\S+$").all()
    # Better means better: batches apart against batches together, types apart against merged.
    X, types, batch = cells(300, shift=0)
    adata = as_adata(X, types, batch)
    adata.obsm["apart"] = X + 9 * np.outer(batch == "y", np.eye(6)[2])
    adata.obsm["typed"] = X + 9 * np.outer(pd.factorize(types)[0], np.eye(6)[0])
    scores = {r: metrics.score(adata, use_rep=r, baseline="apart", **KEYS) for r in adata.obsm}
    for name, row in info.iterrows():
        worse, better = ("apart", "X_pca") if row["measures"] == "mixing" else ("X_pca", "typed")
        gain = scores[better][name] - scores[worse][name]
        assert gain > 0 if row["better"] == "higher" else gain < 0, name


# --- errors -------------------------------------------------------------------------------

GOOD = cells(100)
BAD_X = {
    "NaN": (np.where(GOOD[0] > 2, np.nan, GOOD[0]), "NaN or infinite"),
    "infinite": (np.where(GOOD[0] > 2, np.inf, GOOD[0]), "NaN or infinite"),
    "one dimension": (GOOD[0][:, 0], "2-D array"),
    "text": (np.array([["a", "b"]] * 100), "2-D array"),
    "transposed": (GOOD[0].T[:, :90], "needs at least|values for 6 cells"),
    "too few": (GOOD[0][:2], "needs at least"),
    "complex": (GOOD[0] + 1j, "2-D array"),
    "masked": (np.ma.masked_array(GOOD[0], GOOD[0] > 2), "NaN or infinite"),
    "beyond squaring": (GOOD[0] * 1e200, "beyond 1e100"),
}
BAD_LABELS = {
    "missing": ([None, *GOOD[2][1:]], "is missing for 1 of 100 cells"),
    "NaN": ([np.nan, *GOOD[2][1:]], "is missing for 1 of 100 cells"),
    "short": (GOOD[2][:-1], "has 99 values for 100 cells"),
    "one level": (["x"] * 100, "fewer than two levels"),
    "barcodes": ([f"c{i}" for i in range(100)], "were barcodes passed"),
    "two columns": (np.column_stack([GOOD[2], GOOD[2]]), "one-dimensional"),
}


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("case", BAD_X)
def test_unusable_embeddings_are_refused(name, case):
    X, match = BAD_X[case]
    with pytest.raises(ValueError, match=match) as error:
        SCORES[name](X, GOOD[1], GOOD[2])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["lisi", "silhouette_batch", "pc_regression", "kbet"])
@pytest.mark.parametrize("case", BAD_LABELS)
def test_unusable_batches_are_refused(name, case):
    batch, match = BAD_LABELS[case]
    with pytest.raises(ValueError, match=match):
        SCORES[name](GOOD[0], GOOD[1], batch)


@pytest.mark.parametrize("name", ["silhouette_label", "graph_connectivity", "kbet"])
@pytest.mark.parametrize("case", ["missing", "NaN", "short", "two columns"])
def test_unusable_types_are_refused(name, case):
    types, match = BAD_LABELS[case]
    with pytest.raises(ValueError, match=match):
        SCORES[name](GOOD[0], types, GOOD[2])


def test_other_errors():
    X, types, batch = GOOD
    with pytest.raises(ValueError, match="at least 32 cells; X has 31"):
        metrics.lisi(X[:31], batch[:31])
    assert np.isfinite(metrics.lisi(X[:32], batch[:32])).all()
    with pytest.raises(ValueError, match="perplexity must be"):
        metrics.lisi(X, batch, perplexity=0)
    with pytest.raises(ValueError, match=r"neighbors has shape \(100, 20\)"):
        metrics.lisi(X, batch, neighbors=metrics.nearest_neighbors(X, 20))
    with pytest.raises(ValueError, match="at least one other cell"):
        metrics.nearest_neighbors(X, 0)
    with pytest.raises(ValueError, match="at least one other cell"):
        metrics.graph_connectivity(X, types, 1)
    with pytest.raises(ValueError, match="no variance"):
        metrics.pc_regression(np.ones((100, 3)), batch)
    with pytest.raises(ValueError, match="no variance"):
        metrics.pc_regression(np.full((7, 3), 0.1), list("xxxyyyx"))  # a mean that rounds
    with pytest.raises(ValueError, match="no cells"):
        metrics.ari([], [])
    with pytest.raises(ValueError, match="nothing before"):
        metrics.pc_regression_comparison(np.array([[0.0], [1]] * 2), X[:4], ["x", "x", "y", "y"])
    with pytest.raises(ValueError, match="two batches"):
        metrics.kbet(X, batch=batch, labels=batch)
    with pytest.raises(ValueError, match="two batches"):
        metrics.silhouette_batch(X, batch=batch, labels=batch)
    with pytest.raises(ValueError, match="labels_pred has 99 values for 100 cells"):
        metrics.ari(types, types[:-1])
    with pytest.raises(ValueError, match="labels_true is missing"):
        metrics.nmi([None, *types[1:]], types)


ONE_EACH = "one cell of each, and a silhouette needs two of a batch: ask more cells, merge small"


def test_one_cell_per_batch_is_named_as_the_cause():
    """Each type has cells of every batch, so it would be false to say that none has two."""
    X, types = GOOD[0][:90], np.repeat(["B", "NK", "T"], 30)
    batch = np.tile(np.arange(30), 3).astype(str)
    for rows in [slice(None), [0, 1, 2, 30, 31, 32, 60, 61, 62]]:
        with pytest.raises(ValueError, match=ONE_EACH) as error:
            metrics.silhouette_batch(X[rows], batch=batch[rows], labels=types[rows])
        assert "No label" not in str(error.value)
    with pytest.raises(ValueError, match=ONE_EACH):
        metrics.score(as_adata(X, types, batch), use_rep="X_pca", **KEYS)
    # What the sentence proposes helps.
    assert len(metrics.score(as_adata(X, types, batch), batch_key="batch", use_rep="X_pca")) == 3
    merged = np.where(batch < "2", "first", "second")
    assert len(metrics.score(as_adata(X, types, merged), use_rep="X_pca", **KEYS)) > 3


def test_score_names_what_is_not_there_and_what_is():
    adata = as_adata(*GOOD)
    with pytest.raises(KeyError, match=r"no 'X_umap'; it has \['X_pca'\]"):
        metrics.score(adata, use_rep="X_umap", **KEYS)
    with pytest.raises(KeyError, match=r"no column 'run'; it has \['cell_type', 'batch'\]"):
        metrics.score(adata, batch_key="run", label_key="cell_type", use_rep="X_pca")
    twice = as_adata(*GOOD)
    twice.obs.columns = ["batch", "batch"]
    with pytest.raises(ValueError, match="several columns 'batch'"):
        metrics.score(twice, batch_key="batch", label_key="batch", use_rep="X_pca")
    adata.obs.loc["c0", "batch"] = np.nan
    with pytest.raises(ValueError, match=r"^batch is missing for 1 of 100 cells"):
        metrics.score(adata, use_rep="X_pca", **KEYS)


# --- cross-check with scib-metrics, where it is installed ---------------------------------


def test_scib_metrics_gives_the_same_numbers():
    scib = pytest.importorskip("scib_metrics", reason="scib-metrics is optional (JAX, 1.2 GB)")
    from scib_metrics.nearest_neighbors import NeighborsResults

    X, types, batch = cells(600, 10)

    def including_itself(k):  # scib-metrics counts the cell among its neighbours
        near = metrics.nearest_neighbors(X, k - 1)
        return NeighborsResults(
            indices=np.column_stack([np.arange(len(X)), near.indices]),
            distances=np.column_stack([np.zeros(len(X)), near.distances]),
        )

    pairs = {
        "kBET": (
            metrics.kbet(X, batch=batch, n_neighbors=50),
            scib.kbet(including_itself(50), batch)[0],
        ),
        "silhouette label": (metrics.silhouette_label(X, types), scib.silhouette_label(X, types)),
        "silhouette batch": (
            metrics.silhouette_batch(X, batch=batch, labels=types),
            scib.silhouette_batch(X, types, batch),
        ),
        "graph connectivity": (
            metrics.graph_connectivity(X, types, 4, connection="strong"),
            scib.graph_connectivity(including_itself(4), types),
        ),
        "PC regression": (
            metrics.pc_regression(X, batch),
            scib.utils.principal_component_regression(X, batch, categorical=True),
        ),
        "PCR comparison": (
            metrics.pc_regression_comparison(X, X / np.arange(1, 11), batch),
            scib.pcr_comparison(X, X / np.arange(1, 11), batch, categorical=True),
        ),
        "LISI": (
            np.median(metrics.lisi(X, batch)) - 1,
            scib.ilisi_knn(NeighborsResults(*metrics.nearest_neighbors(X, 90)), batch, 30),
        ),
    }
    for name, (ours, theirs) in pairs.items():
        print(f"{name}: {ours:.7f} here, {float(theirs):.7f} in scib-metrics")
        assert ours == pytest.approx(float(theirs), abs=2e-5), name  # JAX computes in float32


# --- the three numbers ------------------------------------------------------------------------


def test_own_share_and_known_by_their_definitions():
    """Counted cell by cell with plain loops."""
    rng = np.random.default_rng(0)
    X, labels, values = rng.normal(size=(120, 4)), rng.choice(list("ab"), 120), rng.normal(size=120)
    share, guess = np.empty(120), np.empty(120)
    for i in range(120):
        distance = np.linalg.norm(X - X[i], axis=1)
        distance[i] = np.inf
        near = np.argsort(distance)[:30]
        share[i], guess[i] = (labels[near] == labels[i]).mean(), values[near].mean()
    np.testing.assert_allclose(metrics.own_share(X, labels), share)
    by_type = [
        np.corrcoef(guess[labels == t], values[labels == t])[0, 1] ** 2 for t in np.unique(labels)
    ]
    assert metrics.known(X, values, labels=labels) == pytest.approx(np.mean(by_type))
    assert metrics.known(X, X[:, 0]) > 0.3 > 0.1 > metrics.known(X, values)


def test_known_does_not_count_what_sets_the_types_apart():
    """Types far apart in X and in the value: the whole is known, within the types nothing is."""
    rng = np.random.default_rng(0)
    labels = np.repeat(["a", "b"], 100)
    X = rng.normal(size=(200, 3)) + 50 * (labels == "b")[:, None]
    values = rng.normal(size=200) + 50 * (labels == "b")
    assert metrics.known(X, values) > 0.9
    assert metrics.known(X, values, labels=labels) < 0.1


@pytest.mark.parametrize("values", [np.ones(60), np.full(60, np.nan), np.arange(59.0)])
def test_known_refuses_what_carries_no_number(values):
    with pytest.raises(ValueError, match=r"finite numbers|values differ"):
        metrics.known(np.random.default_rng(0).normal(size=(60, 3)), values)


def test_mixing_reference_within_types_where_composition_differs():
    """Batches that hold one type each cannot mix: within types the reference says so."""
    rng = np.random.default_rng(0)
    labels = np.repeat(["a", "b"], 300)
    X = rng.normal(size=(600, 5)) + 30 * (labels == "b")[:, None]
    batch = np.where(rng.random(600) < np.where(labels == "a", 0.95, 0.05), "1", "2")
    within = metrics.mixing_reference(X, batch=batch, labels=labels)
    assert within == pytest.approx(np.median(metrics.lisi(X, batch)), abs=0.1)
    assert within < 1.3 < 1.7 < metrics.mixing_reference(X, batch=batch)


def three(cells, **keys):
    names = {"batch_key": "batch", "label_key": "type", "keep_key": "kept"} | keys
    return metrics.three_numbers(cells, use_reps=["good", "bad"], **names)


def test_three_numbers_tell_a_good_correction_from_two_bad_ones():
    """Types and condition are axes of X: `bad` flattens the axis of one of them, or the batch's."""
    rng = np.random.default_rng(0)
    n = 600
    kind, kept, batch = rng.integers(0, 2, (3, n))
    X = rng.normal(size=(n, 3)) + 8 * np.column_stack([kind, kept, 0 * batch])
    obs = pd.DataFrame({"batch": batch, "type": kind, "kept": kept}).astype(str)
    cells = ad.AnnData(obs=obs.set_axis(obs.index.astype(str)), obsm={"good": X})
    for axis, column in enumerate(["types apart", "biology kept"]):
        flat = X.copy()
        flat[:, axis] = rng.normal(size=n)
        cells.obsm["bad"] = flat
        table = three(cells)
        assert (table.loc["good"] > [1.8, 0.95, 0.95]).all()
        assert table.loc["bad", column] == pytest.approx(0.5, abs=0.1)
        assert (table.loc["bad"].drop(column) > 0.95).all()
    cells.obsm["bad"] = X + 20 * batch[:, None] * np.array([0, 0, 1])
    table = three(cells)
    assert table.loc["bad", "mixing"] == pytest.approx(1)
    # as a number, and cells of no type left out
    cells.obs["score"] = X[:, 1] + 8 * rng.normal(size=n)
    cells.obs["type"] = np.where(np.arange(n) < 50, "unassigned", cells.obs["type"])
    kept = three(cells, keep_key="score").loc["good", "biology kept"]
    named = (cells.obs["type"] != "unassigned").to_numpy()
    score, kind = (cells.obs[c].to_numpy()[named] for c in ("score", "type"))
    assert kept == pytest.approx(metrics.known(X[named], score, labels=kind))
    with pytest.raises(KeyError, match="no column 'lane'"):
        three(cells, keep_key="lane")


@pytest.mark.parametrize("named", [0.05, 0.2, 0.6, 0.95])
def test_three_numbers_of_few_named_cells_are_those_of_a_search_among_these(named):
    """Read off the neighbours among all, or searched where these hold too few of them."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(2000, 4))
    obs = pd.DataFrame(rng.integers(0, 2, (2000, 3)), columns=["batch", "type", "kept"]).astype(str)
    some = (rng.random(2000) < named) | (X[:, 0] > 2)  # crowded in one place, rare elsewhere
    obs.loc[~some, "type"] = "unassigned"
    obs["score"] = X[:, 1] + rng.normal(size=2000)
    obs.index = obs.index.astype(str)
    cells = ad.AnnData(obs=obs, obsm={"good": X, "bad": X})
    found = three(cells, keep_key="score").loc["good"]
    kind, score = obs["type"][some], obs["score"][some]
    assert found["types apart"] == metrics.own_share(X[some], kind).mean()
    assert found["biology kept"] == metrics.known(X[some], score, labels=kind)


# --- many cells: some are asked about all -----------------------------------------------------


@pytest.fixture(scope="module")
def many():
    """60,000 cells of three types in two batches, the second shifted; one type is rare."""
    rng = np.random.default_rng(0)
    n = 60_000
    obs = pd.DataFrame(index=[str(i) for i in range(n)])
    obs["lane"] = rng.choice(["a", "b"], n)
    obs["type"] = rng.choice(["T", "B", "pDC", "unassigned"], n, p=[0.6, 0.35, 0.01, 0.04])
    obs["score"] = rng.normal(size=n)
    X = rng.normal(size=(n, 3))
    X[:, 0] += 2 * (obs["lane"] == "a") + 3 * (obs["type"] == "B") + 6 * (obs["type"] == "pDC")
    X[:, 1] += obs["score"]
    return ad.AnnData(obs=obs, obsm={"X": X})


MANY = {"batch_key": "lane", "label_key": "type"}


def test_score_of_many_cells_is_near_the_exact_one_and_says_its_error(many):
    with pytest.warns(UserWarning, match=r"Estimated from 10,000 of 60,000 cells.*iLISI 1\.\d+ \["):
        found = metrics.score(many, use_rep="X", **MANY)
    sampled = found.attrs["sampled"]
    assert (sampled["n_cells"], sampled["n_queries"]) == (60_000, 10_000)
    X, lane, types = many.obsm["X"], many.obs["lane"], many.obs["type"]
    typed = (types != "unassigned").to_numpy()
    with pytest.warns(
        UserWarning, match="60,000 cells are compared in 3.6 billion .* queries=sample_cells"
    ):
        exact = float(np.median(metrics.lisi(X, lane)))
    low, high = sampled["iLISI"]
    assert low <= exact <= high
    assert high - low < 0.03
    assert low <= found["iLISI"] <= high
    assert sampled["cLISI"][0] <= found["cLISI"] <= sampled["cLISI"][1]
    assert found["PC regression"] == metrics.pc_regression(X, lane)
    assert found["kBET"] == pytest.approx(
        metrics.kbet(X[typed], batch=lane[typed], labels=types[typed]), abs=0.02
    )
    # What is said of the drawn cells alone is exactly that.
    rows = np.flatnonzero(typed)[metrics.sample_cells(int(typed.sum()))]
    own = types.iloc[rows]
    assert found["Silhouette label"] == metrics.silhouette_label(X[rows], own)
    assert found["Graph connectivity"] == metrics.graph_connectivity(X[rows], own)


def test_tables_of_many_cells_are_near_the_exact_ones(many):
    three = {**MANY, "use_reps": ["X"]}
    exact = metrics.three_numbers(many, keep_key="score", n_queries=60_000, **three)
    assert exact.attrs == {}
    with pytest.warns(UserWarning, match="Estimated from 10,000 of 60,000 cells"):
        found = metrics.three_numbers(many, keep_key="score", **three)
    np.testing.assert_allclose(found, exact, atol=0.02)
    low, high = found.attrs["sampled"]["X"]["mixing"]
    assert low <= exact.loc["X", "mixing"] <= high
    by_type = metrics.lisi_by_type(many, use_rep="X", **MANY)
    exact = metrics.lisi_by_type(many, use_rep="X", n_queries=60_000, **MANY)
    assert by_type["n_asked"].max() == 1000
    assert by_type.loc["pDC", "n_asked"] == by_type.loc["pDC", "n_cells"]
    assert "n_asked" not in exact
    assert (by_type["n_cells"] == exact["n_cells"]).all()
    np.testing.assert_allclose(by_type["iLISI"], exact["iLISI"], atol=0.06)


def test_queries_get_the_values_they_have_among_all():
    X, batch, types = cells_of_three_types()
    few = metrics.sample_cells(len(X), 50, seed=3)
    assert len(set(few)) == 50
    assert (np.diff(few) > 0).all()
    found = metrics.nearest_neighbors(X, 20, queries=few)
    np.testing.assert_array_equal(found.indices, metrics.nearest_neighbors(X, 20).indices[few])
    for function, labels in [(metrics.lisi, batch), (metrics.own_share, types)]:
        np.testing.assert_array_equal(
            function(X, labels, queries=few), function(X, labels)[few], strict=True
        )
    every = np.arange(len(X))
    assert metrics.kbet(X, batch=batch, labels=types, queries=every) == metrics.kbet(
        X, batch=batch, labels=types
    )
    assert metrics.known(X, X[:, 0], labels=types, queries=every) == metrics.known(
        X, X[:, 0], labels=types
    )
    reference = metrics.mixing_reference(X, batch=batch, queries=every)
    assert reference == metrics.mixing_reference(X, batch=batch)


def cells_of_three_types():
    rng = np.random.default_rng(1)
    types = rng.integers(0, 3, 400)
    return rng.normal(size=(400, 5)) + 2 * types[:, None], rng.integers(0, 2, 400), types


def test_the_interval_holds_the_median_as_often_as_it_says():
    rng = np.random.default_rng(0)
    values = 1 + rng.beta(0.4, 2, size=100_000)  # as skewed as LISI is
    median = np.median(values)
    for n, level in [(6, 0.95), (50, 0.95), (1000, 0.8)]:
        found = [metrics.lisi_interval(rng.choice(values, n), level) for _ in range(1000)]
        low, high = np.transpose(found)
        assert np.mean((low <= median) & (median <= high)) > level - 0.02


@pytest.mark.parametrize(
    ("n", "level", "words"),
    [
        (5, 0.95, r"^5 values are too few for an interval of 95 %\.$"),
        (6, 0.99, r"^6 values are too few for an interval of 99 %\.$"),
        (9, 0.999, r"^9 values are too few for an interval of 99\.9 %\.$"),
        (0, 0.5, r"^0 values are too few"),
        (9, 0, "level must lie between 0 and 1"),
        (9, 1, "level must lie between 0 and 1"),
    ],
)
def test_an_interval_of_too_few_values_is_refused(n, level, words):
    with pytest.raises(ValueError, match=words):
        metrics.lisi_interval(np.arange(n), level)


@pytest.mark.parametrize(("n", "level"), [(6, 0.95), (8, 0.99), (2, 0.5)])
def test_the_fewest_values_for_an_interval_give_their_ends(n, level):
    assert metrics.lisi_interval(np.arange(n), level) == (0, n - 1)


@pytest.mark.parametrize("n", [3, 5, 0, 7.5, "10", True])
def test_too_few_queries_of_a_table_are_named(n):
    adata = as_adata(*cells())
    words = "n_queries must be a whole number, at least 6"
    with pytest.raises(ValueError, match=words):
        metrics.score(adata, use_rep="X_pca", n_queries=n, **KEYS)
    with pytest.raises(ValueError, match=words):
        metrics.three_numbers(adata, use_reps=["X_pca"], keep_key="batch", n_queries=n, **KEYS)


def test_known_refuses_queries_that_miss_a_type():
    """A type of 50 cells or more counts among all, so it may not drop out among the queries."""
    rng = np.random.default_rng(0)
    X, values = rng.normal(size=(220, 3)), rng.normal(size=220)
    types = np.repeat(["often", "rare", "tiny"], [120, 60, 40])
    for order in (slice(None), slice(None, None, -1)):  # the rare type comes after, or before
        labels = types[order]
        often, rare = (np.flatnonzero(labels == name) for name in ("often", "rare"))
        metrics.known(X, values, labels=labels, queries=np.r_[often[:50], rare[:50]])
        for n in (49, 1, 0):
            with pytest.raises(ValueError, match=f"A type of 60 cells has {n} among the queries"):
                metrics.known(X, values, labels=labels, queries=np.r_[often, rare[:n]])


def test_the_interval_holds_on_the_embedded_cells():
    """2,000 of the cells asked, 40 times, before and after a correction."""
    adata = data.prepare(data.plant_run(data.load_pbmc()), n_top_genes=500, n_comps=10)
    integrate.harmonize(adata, "run")
    for rep in ("X_pca", "X_pca_harmony"):
        exact = metrics.lisi(adata.obsm[rep], adata.obs["run"])
        held = []
        for seed in range(40):
            few = metrics.sample_cells(adata.n_obs, 2000, seed=seed)
            low, high = metrics.lisi_interval(exact[few])
            held.append(low <= np.median(exact) <= high)
        assert np.mean(held) >= 0.9
        with pytest.warns(UserWarning, match="Estimated from 2,000"):
            found = metrics.score(adata, batch_key="run", use_rep=rep, n_queries=2000)
        few = metrics.sample_cells(adata.n_obs, 2000)
        assert found["iLISI"] == pytest.approx(np.median(exact[few]), abs=1e-9)


SAMPLES = {
    "none": ({"queries": []}, "one or more whole numbers"),
    "words": ({"queries": ["a"]}, "one or more whole numbers"),
    "a mask": ({"queries": np.ones(400, bool)}, "one or more whole numbers"),
    "beyond": ({"queries": [400]}, "from 0 to 399"),
    "negative": ({"queries": [-1]}, "from 0 to 399"),
    "neighbours of others": (
        {"queries": [1, 2], "neighbors": metrics.Neighbors(np.zeros((400, 90), int), np.ones(400))},
        "this score needs (2, 90) or more",
    ),
    "perplexity in words": ({"perplexity": "30"}, "perplexity must be a number above 1, not 30."),
}


@pytest.mark.parametrize("case", SAMPLES)
def test_impossible_queries_get_one_sentence(case):
    settings, words = SAMPLES[case]
    X, batch, _ = cells_of_three_types()
    with pytest.raises(ValueError, match=re.escape(words)):
        metrics.lisi(X, batch, **settings)


@pytest.mark.parametrize("n", [0, -1, 2.5, "10", None, True])
def test_impossible_numbers_of_cells_get_one_sentence(n):
    with pytest.raises(ValueError, match="whole number of cells, at least 1"):
        metrics.sample_cells(100, n)


def test_words_for_missing_labels_are_missing_everywhere():
    X, batch, types = cells_of_three_types()
    words = np.array(["T", "B", "nan"])[types]
    for call in [
        lambda: metrics.lisi(X, words),
        lambda: metrics.own_share(X, words),
        lambda: metrics.kbet(X, batch=batch, labels=words),
        lambda: metrics.silhouette_label(X, words),
        lambda: metrics.silhouette_batch(X, batch=batch, labels=words),
        lambda: metrics.graph_connectivity(X, words),
        lambda: metrics.pc_regression(X, words),
        lambda: metrics.ari(words, batch),
        lambda: metrics.mixing_reference(X, batch=words),
    ]:
        with pytest.raises(ValueError, match=r"is missing for .* of 400 cells"):
            call()
    with pytest.raises(ValueError, match="a measurement with 200 values"):
        metrics.lisi(X, np.arange(400) // 2)
    adata = ad.AnnData(obs=pd.DataFrame({"lane": batch, "type": words}), obsm={"X": X})
    adata.obs_names = adata.obs_names.astype(str)
    ignored = {"use_rep": "X", "ignore": "nan", **MANY}
    assert np.isfinite(metrics.score(adata, **ignored)).all()
    assert list(metrics.lisi_by_type(adata, **ignored).index) == ["B", "T"]


def test_a_list_in_place_of_a_column_gets_one_sentence():
    X, batch, _ = cells_of_three_types()
    adata = ad.AnnData(obs=pd.DataFrame({"lane": batch}), obsm={"X": X})
    with pytest.raises(TypeError, match=r"Name one column of adata.obs, not \['lane'\]."):
        metrics.score(adata, batch_key=["lane"], use_rep="X")


# --- distance_ratio and block_interval: what the audit asks ---


def shifted(shift, n=600, seed=0, share=0.5):
    """Two types far apart; batch y is `shift` away; `share` of the first type is of batch x."""
    rng = np.random.default_rng(seed)
    types = np.repeat(["A", "B"], n // 2)
    in_x = rng.random(n) < np.where(types == "A", share, 1 - share)
    batch = np.where(in_x, "x", "y")
    X = rng.normal(size=(n, 6)) + 12 * (types == "B")[:, None]
    X[batch == "y", 0] += shift
    return X, batch, types


def ratio(X, batch, groups=None, **options):
    return np.nanmedian(metrics.distance_ratio(X, batch=batch, groups=groups, **options))


def test_distance_ratio_is_one_without_an_effect_and_grows_with_it():
    values = {shift: ratio(*shifted(shift)) for shift in (0.0, 1.0, 2.0, 4.0)}
    assert values[0.0] == pytest.approx(1, abs=0.02)
    assert values[2.0] > 1.05
    assert list(values.values()) == sorted(values.values())


@pytest.mark.parametrize("share", [0.5, 0.8, 0.95])
def test_distance_ratio_within_types_is_blind_to_composition(share):
    X, batch, types = shifted(0, n=1600, share=share)
    assert ratio(X, batch, types) == pytest.approx(1, abs=0.03)
    X, batch, types = shifted(2, n=1600, share=share)
    assert ratio(X, batch, types) > 1.05


def test_distance_ratio_without_types_takes_composition_for_an_effect():
    """Why the types are asked for: here there is none."""
    X, batch, types = shifted(0, share=0.98)
    assert np.nanquantile(metrics.distance_ratio(X, batch=batch), 0.9) > 1.05
    assert ratio(X, batch, types, min_cells=5) == pytest.approx(1, abs=0.15)


def test_distance_ratio_by_its_definition():
    """With as many cells in both batches, nothing is drawn: each cell against all of each side."""
    X = np.random.default_rng(1).normal(size=(60, 3))
    batch = np.repeat(["x", "y"], 30)
    found = metrics.distance_ratio(X, batch=batch, n_neighbors=7)
    D = cdist(X, X)
    for i in range(60):
        own = np.sort(D[i, (batch == batch[i]) & (np.arange(60) != i)])[:7]
        other = np.sort(D[i, batch != batch[i]])[:7]
        assert found[i] == pytest.approx(other.mean() / own.mean())


def test_distance_ratio_is_the_same_in_other_units_axes_order_and_names():
    X, batch, types = shifted(1)
    expected = metrics.distance_ratio(X, batch=batch, groups=types)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))[0]
    assert np.allclose(
        metrics.distance_ratio(1000 * X @ turn + 5, batch=batch, groups=types), expected
    )
    renamed = np.where(batch == "x", "first", "second")
    assert np.allclose(metrics.distance_ratio(X, batch=renamed, groups=types), expected)
    order = np.random.default_rng(0).permutation(len(X))
    moved = metrics.distance_ratio(X[order], batch=batch[order], groups=types[order])
    assert np.nanmedian(moved) == pytest.approx(np.nanmedian(expected), abs=0.02)  # other draws
    even = np.tile(["x", "y"], 300)  # as many of each: nothing is drawn, so to rounding
    expected = metrics.distance_ratio(X, batch=even)
    assert np.allclose(metrics.distance_ratio(X[order], batch=even[order]), expected[order])


def test_distance_ratio_leaves_out_batches_too_small_to_compare():
    X, batch, types = shifted(1)
    batch[:5] = "z"
    found = metrics.distance_ratio(X, batch=batch, groups=types)
    assert np.isnan(found[:5]).all()
    assert np.isfinite(found[5:]).all()
    alone = np.where(types == "A", "x", batch)  # one batch only has A
    found = metrics.distance_ratio(X, batch=alone, groups=types)
    assert np.isnan(found[types == "A"]).all()
    assert np.isfinite(found[types == "B"]).mean() > 0.9
    for bad in ([], ["x"] * 3):
        with pytest.raises(ValueError, match="batch"):
            metrics.distance_ratio(X, batch=bad)


def test_block_interval_covers_the_median_where_that_of_independent_cells_does_not():
    """Patches of cells that share their score, as neighbours do; their true median is 0."""
    rng = np.random.default_rng(0)
    covered = {"blocks": 0, "independent": 0}
    for repetition in range(60):
        centres = rng.uniform(0, 1, size=(20, 2)).repeat(90, axis=0)
        X = centres + 0.01 * rng.normal(size=centres.shape)
        values = rng.normal(size=20).repeat(90) + 0.1 * rng.normal(size=1800)
        for name, (low, high) in {
            "blocks": metrics.block_interval(values, X, seed=repetition),
            "independent": metrics.lisi_interval(values),
        }.items():
            covered[name] += low <= 0 <= high
    assert covered["blocks"] >= 54
    assert covered["independent"] < 40


def test_block_interval_of_independent_cells_is_that_of_independent_cells():
    rng = np.random.default_rng(0)
    X, values = rng.normal(size=(1800, 2)), rng.normal(size=1800)
    widths = [
        np.diff(interval).item()
        for interval in (metrics.block_interval(values, X), metrics.lisi_interval(values))
    ]
    assert 0.5 < widths[0] / widths[1] < 2


def test_block_interval_holds_the_median_widens_with_the_level_and_repeats():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(900, 3))
    values = X[:, 0] + 0.1 * rng.normal(size=900)
    ends = {level: metrics.block_interval(values, X, level=level) for level in (0.5, 0.8, 0.95)}
    assert all(low <= np.median(values) <= high for low, high in ends.values())
    assert ends[0.95][0] <= ends[0.8][0] <= ends[0.5][0]
    assert ends[0.5][1] <= ends[0.8][1] <= ends[0.95][1]
    assert ends[0.95] == metrics.block_interval(values, X)
    for arguments, options, match in [
        ((values, X), {"level": 1}, "between 0 and 1"),
        ((values[:10], X), {}, "one for each of 900 cells"),
        ((values[:90], X[:90]), {}, "too few for an interval"),
    ]:
        with pytest.raises(ValueError, match=match):
            metrics.block_interval(*arguments, **options)


# --- what cannot be swapped, and what is said where it takes long ---

MODULES = {"metrics": metrics, "kept": kept}


def public(module):
    """The functions that the module itself defines, by name."""
    return {
        name: inspect.signature(value)
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and name[0] != "_"
    }


@pytest.mark.parametrize("name", MODULES)
def test_labels_that_could_be_swapped_are_given_by_keyword(name):
    """batch and labels changed places unnoticed: a silhouette of .932 in place of .945."""
    per_cell, found = {"batch", "labels", "groups", "clusters", "covariate"}, set()
    for function, signature in public(MODULES[name]).items():
        parameters = [p for p in signature.parameters.values() if p.name in per_cell]
        if len(parameters) > 1:
            found.add(function)
            assert {p.kind for p in parameters} == {inspect.Parameter.KEYWORD_ONLY}, function
    if name == "metrics":
        assert found == {"silhouette_batch", "kbet", "mixing_reference", "distance_ratio"}
        labels = inspect.signature(metrics.known).parameters["labels"]
        assert labels.kind == inspect.Parameter.KEYWORD_ONLY


def annotated(X, types, batch):
    genes = np.log1p(np.random.default_rng(0).poisson(1, (len(X), 20)))
    obs = pd.DataFrame({"batch": batch, "type": types}, [f"c{i}" for i in range(len(X))])
    return ad.AnnData(genes, obs=obs, obsm={"X_pca": X})


SLOW = {  # what compares cells with cells
    "nearest_neighbors": lambda X, t, b: metrics.nearest_neighbors(X, 5),
    "lisi": lambda X, t, b: metrics.lisi(X, b),
    "block_interval": lambda X, t, b: metrics.block_interval(X[:, 0], X, size=2),
    "mixing_reference": lambda X, t, b: metrics.mixing_reference(X, batch=b, labels=t),
    "own_share": lambda X, t, b: metrics.own_share(X, t),
    "distance_ratio": lambda X, t, b: metrics.distance_ratio(X, batch=b),
    "known": lambda X, t, b: metrics.known(X, X[:, 0]),
    "silhouette_label": lambda X, t, b: metrics.silhouette_label(X, t),
    "silhouette_batch": lambda X, t, b: metrics.silhouette_batch(X, batch=b, labels=t),
    "graph_connectivity": lambda X, t, b: metrics.graph_connectivity(X, t),
    "kbet": lambda X, t, b: metrics.kbet(X, batch=b, labels=t),
    "best_clusters": lambda X, t, b: metrics.best_clusters(X, t),
    "neighbors_kept": lambda X, t, b: kept.neighbors_kept(X, X, b),
    "cluster_within": lambda X, t, b: kept.cluster_within(annotated(X, t, b), "batch", "X_pca"),
    "cluster_all": lambda X, t, b: kept.cluster_all(annotated(X, t, b), "X_pca"),
    "signature_kept": lambda X, t, b: kept.signature_kept(annotated(X, t, b), "batch", "X_pca", t),
}
QUICK = {"pc_regression", "pc_regression_comparison", "moved", "noise_floor", "corrected_noise"}
SAMPLED = {"score", "score_table", "three_numbers", "lisi_by_type"}  # asked at 60,000 cells above


def slow(call, n=120):
    """The warnings of slowness that a call gives, on cells of three types and two batches."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call(*cells(n, 6))
    return [str(w.message) for w in caught if "billion pairs" in str(w.message)]


def test_each_function_of_cells_is_slow_or_known_to_be_quick():
    takes = {
        function
        for module in MODULES.values()
        for function, signature in public(module).items()
        if {"X", "X_before", "adata"} & signature.parameters.keys()
    }
    assert (
        takes - {"find_neighbors"} == SLOW.keys() | QUICK | SAMPLED
    )  # that one leaves it to these


@pytest.mark.parametrize("name", SLOW)
def test_what_is_quadratic_says_so_once(name, monkeypatch):
    assert slow(SLOW[name]) == []
    monkeypatch.setattr(metrics, "EXACT", 30)
    assert len(slow(SLOW[name])) == 1


def test_many_small_groups_are_no_long_work(monkeypatch):
    """The pairs count that are compared, and not the cells."""
    monkeypatch.setattr(metrics, "EXACT", 100)
    types = np.repeat(np.arange(6), 20)
    apart = {
        "kbet": lambda X, t, b: metrics.kbet(X, batch=b, labels=types),
        "silhouette_batch": lambda X, t, b: metrics.silhouette_batch(X, batch=b, labels=types),
        "distance_ratio": lambda X, t, b: metrics.distance_ratio(
            X, batch=b, groups=types, min_cells=3
        ),
        "neighbors_kept": lambda X, t, b: kept.neighbors_kept(X, X, types),
    }
    assert {name: slow(call) for name, call in apart.items()} == {key: [] for key in apart}
    assert len(slow(lambda X, t, b: metrics.kbet(X, batch=b))) == 1


def test_neighbours_that_are_given_or_few_cells_asked_are_no_long_work(monkeypatch):
    monkeypatch.setattr(metrics, "EXACT", 30)
    near = metrics.Neighbors(*metrics.find_neighbors(cells(120, 6)[0], 90))
    assert slow(lambda X, t, b: metrics.lisi(X, b, neighbors=near)) == []
    assert slow(lambda X, t, b: metrics.own_share(X, t, queries=np.arange(30))) == []
    assert slow(lambda X, t, b: metrics.kbet(X, batch=b, queries=np.arange(30))) == []
