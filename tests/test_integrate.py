"""The adapter: right orientation, a faithful record, one clear sentence for each mistake."""

import inspect
import logging
import re
import subprocess
import sys
import warnings
from importlib.metadata import version
from types import SimpleNamespace
from unittest.mock import patch

import anndata as ad
import harmonypy
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from packaging.version import Version

from helpers import integrate
from helpers.integrate import FINISHED, expect_error, harmonize, oriented_harmonypy


def cells(n: int = 300, n_pcs: int = 10, seed: int = 0) -> ad.AnnData:
    """Two batches apart along PC 1; PC 2 carries structure that no correction should touch."""
    rng = np.random.default_rng(seed)
    obs = pd.DataFrame(index=[f"cell{i}" for i in range(n)])
    obs["batch"] = pd.Categorical(rng.choice(["a", "b"], n))
    obs["run"] = rng.integers(1, 3, n)
    pcs = rng.normal(size=(n, n_pcs)).astype(np.float32)
    pcs[:, 0] += 4 * (obs["batch"] == "a")
    pcs[:, 1] *= 5
    adata = ad.AnnData(np.zeros((n, 2), np.float32), obs=obs)
    adata.obsm["X_pca"] = pcs
    return adata


def gap(adata: ad.AnnData, basis: str) -> float:
    first = pd.Series(adata.obsm[basis][:, 0], adata.obs_names)
    means = first.groupby(adata.obs["batch"], observed=True).mean()
    return float(abs(means["a"] - means["b"]))


def contents(adata: ad.AnnData) -> dict:
    """All that an error must leave alone, by value."""
    return {
        "obsm": {name: np.array(value) for name, value in adata.obsm.items()},
        "uns": dict(adata.uns),
        "obs": adata.obs.copy(),
        "is_view": adata.is_view,
    }


def assert_unchanged(adata: ad.AnnData, before: dict) -> None:
    assert set(adata.obsm) == set(before["obsm"])
    for name, value in before["obsm"].items():
        np.testing.assert_array_equal(np.asarray(adata.obsm[name]), value)
    assert dict(adata.uns) == before["uns"]
    pd.testing.assert_frame_equal(adata.obs, before["obs"])
    assert adata.is_view == before["is_view"]


@pytest.mark.parametrize(("n", "n_pcs"), [(30, 30), (31, 30), (30, 31), (60, 5), (300, 10)])
def test_returns_cells_by_pcs_also_for_square_input(n, n_pcs):
    adata = cells(n, n_pcs)
    harmonize(adata, "batch")
    corrected = adata.obsm["X_pca_harmony"]
    assert corrected.shape == (n, n_pcs)
    assert corrected.dtype == np.float32
    original = adata.obsm["X_pca"]
    # A transposed or wrongly read matrix would not keep the structure of PC 2.
    assert np.corrcoef(original[:, 1], corrected[:, 1])[0, 1] > 0.8
    assert gap(adata, "X_pca_harmony") < 0.5 * gap(adata, "X_pca")


@pytest.mark.skipif(not integrate._gives_cells_by_pcs(), reason="harmonypy is that old already")
def test_turns_the_result_of_a_harmonypy_that_returns_pcs_by_cells():
    expected, old = cells(60, 60), cells(60, 60)
    harmonize(expected, "batch")
    run = harmonypy.run_harmony

    def run_0_0_10(*args, **kwargs):
        kwargs.pop("sigma", None)
        result = run(*args, **kwargs)
        return SimpleNamespace(
            Z_corr=result.Z_corr.T,
            objective_harmony=result.objective_harmony,
            kmeans_rounds=result.kmeans_rounds,
        )

    run_0_0_10.__signature__ = inspect.signature(run)
    with (
        patch.object(harmonypy, "run_harmony", run_0_0_10),
        patch.object(integrate, "_gives_cells_by_pcs", lambda: False),
    ):
        harmonize(old, "batch")
    np.testing.assert_array_equal(old.obsm["X_pca_harmony"], expected.obsm["X_pca_harmony"])


def test_equals_harmonypy_called_directly_and_leaves_the_input_alone():
    adata = cells()
    pcs = adata.obsm["X_pca"].copy()
    harmonize(adata, "batch", theta=3, seed=7, sigma=0.2)
    direct = harmonypy.run_harmony(
        pcs, adata.obs, ["batch"], theta=3, sigma=0.2, random_state=7, verbose=False
    )
    result = np.asarray(direct.Z_corr, np.float32)
    result = result if result.shape == pcs.shape else result.T
    np.testing.assert_allclose(adata.obsm["X_pca_harmony"], result, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(adata.obsm["X_pca"], pcs)


def test_records_what_was_done_and_the_record_survives_writing(tmp_path):
    adata = cells()
    harmonize(adata, ["batch", "run"], theta=[1, 2], seed=3, adjusted_basis="Z", max_iter_harmony=2)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    record = ad.read_h5ad(tmp_path / "cells.h5ad").uns["Z"]
    assert list(record["key"]) == ["batch", "run"]
    assert (record["basis"], record["backend"], record["seed"]) == ("X_pca", "harmonypy", 3)
    assert list(record["params"]["theta"]) == [1, 2]
    assert record["params"]["max_iter_harmony"] == 2
    assert {"harmonypy", "scanpy", "numpy"} <= set(record["versions"])
    assert record["n_rounds"] <= 2
    assert len(record["objective"]) == record["n_rounds"] + 1


@pytest.mark.parametrize("settings", [{}, {"max_iter_harmony": 1}, {"epsilon_harmony": 1e-12}])
def test_converged_is_harmonypys_own_verdict(settings, caplog):
    """harmonypy 2.1 logs its verdict when asked to be verbose, and nowhere else."""
    if Version(version("harmonypy")) < Version("2.1"):
        pytest.skip("older versions say converged whatever happened")
    adata = cells()
    with caplog.at_level("INFO", logger="harmonypy"):
        logging.getLogger("harmonypy").addHandler(caplog.handler)
        harmonize(adata, "batch", verbose=True, **settings)
        logging.getLogger("harmonypy").removeHandler(caplog.handler)
    said = caplog.text.lower()
    assert ("converged after" in said) != ("stopped before" in said), said
    assert adata.uns["X_pca_harmony"]["converged"] == ("converged after" in said)


@pytest.mark.parametrize(
    ("objective", "converged"),
    [
        ([10, 5, 4.99], True),
        ([10, 5, 5], True),
        ([10, 5, 5.01], False),  # a rise is no convergence
        ([10, 5], False),
        ([10, -5, -5.01], True),  # beyond zero the size counts
        ([10, 0.01, -0.01], False),
        ([10], False),  # no round was made
    ],
)
def test_converged_and_falls_follow_the_objective(monkeypatch, objective, converged):
    def run_harmony(pcs, *args, **kwargs):
        turned = pcs.T if integrate._gives_cells_by_pcs() else pcs
        rounds = [1] * (len(objective) - 1)
        return SimpleNamespace(Z_corr=turned, objective_harmony=objective, kmeans_rounds=rounds)

    run_harmony.__signature__ = inspect.signature(harmonypy.run_harmony)
    monkeypatch.setattr(harmonypy, "run_harmony", run_harmony)
    adata = cells()
    harmonize(adata, "batch", epsilon_harmony=1e-2)
    record = adata.uns["X_pca_harmony"]
    assert record["converged"] is converged
    assert record["total_fall"] == pytest.approx(objective[0] - objective[-1])
    last = objective[-2] - objective[-1] if len(objective) > 1 else 0
    assert record["last_fall"] == pytest.approx(last)


def test_finished_makes_all_its_rounds_and_claims_no_convergence():
    adata = cells()
    harmonize(adata, "batch", **FINISHED)
    record = adata.uns["X_pca_harmony"]
    if Version(version("harmonypy")) >= Version("2.1"):  # older ones also stop when it rises
        assert record["n_rounds"] == FINISHED["max_iter_harmony"]
    assert record["converged"] is False


def test_same_seed_same_bytes_and_the_global_generator_is_left_alone():
    one, two = cells(), cells()
    np.random.seed(5)
    expected = np.random.random()
    np.random.seed(5)
    harmonize(one, "batch", seed=1)
    assert np.random.random() == expected
    harmonize(two, "batch", seed=1)
    np.testing.assert_array_equal(one.obsm["X_pca_harmony"], two.obsm["X_pca_harmony"])


def test_is_quiet_unless_asked(capfd):
    harmonize(cells(), "batch")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("labels", [np.int64, np.float64, bool, str, "category", object])
def test_labels_of_any_kind_give_the_same_answer(labels):
    adata, expected = cells(), cells()
    expected.obs["run"] = np.where(expected.obs["run"] == 1, "p", "q")
    codes = (adata.obs["run"] - 1).to_numpy()
    adata.obs["run"] = pd.Series(codes, adata.obs_names).astype(labels)
    harmonize(adata, "run")
    harmonize(expected, "run")
    np.testing.assert_array_equal(adata.obsm["X_pca_harmony"], expected.obsm["X_pca_harmony"])


def test_a_category_that_no_cell_has_is_ignored():
    adata, expected = cells(), cells()
    adata.obs["batch"] = adata.obs["batch"].cat.add_categories("unused")
    harmonize(adata, "batch")
    harmonize(expected, "batch")
    np.testing.assert_array_equal(adata.obsm["X_pca_harmony"], expected.obsm["X_pca_harmony"])


@pytest.mark.filterwarnings("error::anndata.ImplicitModificationWarning")
def test_a_view_becomes_a_copy_and_its_parent_stays():
    parent = cells()
    view = parent[:200]
    harmonize(view, "batch")
    assert not view.is_view
    assert view.obsm["X_pca_harmony"].shape == (200, 10)
    assert "X_pca_harmony" not in parent.obsm


def test_a_backed_object_stays_backed(tmp_path):
    cells().write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    harmonize(backed, "batch")
    assert backed.isbacked
    assert backed.obsm["X_pca_harmony"].shape == (300, 10)


def test_a_view_of_a_backed_object_is_refused(tmp_path):
    cells().write_h5ad(tmp_path / "cells.h5ad")
    view = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")[:200]
    with pytest.raises(ValueError, match=r"to_memory\(\)"):
        harmonize(view, "batch")
    assert view.is_view
    assert list(view.obsm) == ["X_pca"]


def test_two_columns_of_one_name_are_refused():
    adata = cells()
    adata.obs.columns = ["batch", "batch"]
    with pytest.raises(ValueError, match="several columns 'batch'"):
        harmonize(adata, "batch")
    assert list(adata.obsm) == ["X_pca"]


@pytest.mark.skipif(
    not integrate._gives_cells_by_pcs(), reason="harmonypy 0.0.10 itself divides by zero here"
)
@pytest.mark.parametrize("kind", ["float16", "int8", object, "frame"])
def test_the_result_is_never_rounded_to_the_kind_of_the_input(kind):
    adata, expected = cells(), cells()
    pcs = np.rint(adata.obsm["X_pca"] * 4)
    expected.obsm["X_pca"] = pcs.astype(np.float64)
    frame = pd.DataFrame(pcs, adata.obs_names).add_prefix("PC")
    adata.obsm["X_pca"] = frame if kind == "frame" else pcs.astype(kind)
    harmonize(adata, "batch")
    harmonize(expected, "batch")
    assert adata.obsm["X_pca_harmony"].dtype == np.float64
    np.testing.assert_array_equal(adata.obsm["X_pca_harmony"], expected.obsm["X_pca_harmony"])


@pytest.mark.skipif(
    not integrate._gives_cells_by_pcs(), reason="harmonypy 0.0.10 itself divides by zero here"
)
def test_an_objective_that_is_zero_has_converged():
    adata = cells(40)
    adata.obsm["X_pca"] = (
        adata.obsm["X_pca"][:, :1] + 1000
    )  # with one PC, all cells have the same cosine
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        harmonize(adata, "batch")
    assert adata.uns["X_pca_harmony"]["converged"]


def with_labels(values) -> ad.AnnData:
    adata = cells()
    adata.obs["batch"] = values(adata)
    return adata


def with_pcs(value) -> ad.AnnData:
    adata = cells()
    adata.obsm["X_pca"][3, 2] = value
    return adata


def with_obsm(change, name="X_pca") -> ad.AnnData:
    adata = cells()
    adata.obsm[name] = change(adata.obsm["X_pca"].astype(np.float64))
    return adata


def with_uns(name) -> ad.AnnData:
    adata = cells()
    adata.uns[name] = {"flavor": "seurat"}
    return adata


MISTAKES = {
    "missing column": (cells, {"key": "batches"}, KeyError, "no column 'batches'"),
    "one of two columns missing": (cells, {"key": ["batch", "lane"]}, KeyError, "'lane'"),
    "no column named": (cells, {"key": []}, ValueError, "at least one column"),
    "missing labels": (
        lambda: with_labels(lambda a: a.obs["batch"].where(np.arange(300) > 4)),
        {},
        ValueError,
        "no label for 5 of 300 cells",
    ),
    "one level": (lambda: with_labels(lambda a: "a"), {}, ValueError, "fewer than two levels"),
    "barcodes": (lambda: with_labels(lambda a: a.obs_names), {}, ValueError, "barcode"),
    "nearly barcodes": (
        lambda: with_labels(lambda a: [f"b{i // 1.5}" for i in range(300)]),
        {},
        ValueError,
        "barcode",
    ),
    "no PCA": (cells, {"basis": "X_lsi"}, KeyError, "sc.pp.pca"),
    "NaN": (lambda: with_pcs(np.nan), {}, ValueError, "NaN or infinite values in 1 cells"),
    "infinite": (lambda: with_pcs(np.inf), {}, ValueError, "NaN or infinite values in 1 cells"),
    # harmonypy 2.1 never returns from these
    "beyond squaring": (lambda: with_obsm(lambda x: x * 1e200), {}, ValueError, "beyond 1e100"),
    "complex": (lambda: with_obsm(lambda x: x + 1j), {}, ValueError, "dense 2-D array"),
    "no PCs": (lambda: with_obsm(lambda x: x[:, :0]), {}, ValueError, "dense 2-D array"),
    "too few cells": (lambda: cells(29), {}, ValueError, "at least 30 cells"),
    "theta too long": (cells, {"theta": [1, 2]}, ValueError, "one per variable"),
    "theta too short": (
        cells,
        {"key": ["batch", "run"], "theta": [1]},
        ValueError,
        "2 for batch, run",
    ),
    "theta negative": (cells, {"theta": -1}, ValueError, "not negative"),
    "unknown backend": (cells, {"backend": "harmony"}, ValueError, "harmonypy, scanpy"),
    "theta per batch": (
        cells,
        {"key": ["batch", "run"], "theta": [1, 1, 2, 2]},
        ValueError,
        "2 for batch, run, not 4; there is no theta per batch",
    ),
    "theta in words": (cells, {"theta": "2"}, ValueError, "one per variable, and is not '2'"),
    "theta of a dictionary": (
        cells,
        {"theta": {"a": 1, "b": 2}},
        ValueError,
        "and is not {'a': 1, 'b': 2}; there is no theta per batch, but lamb takes one number per "
        "batch, and tau lowers theta in small ones",
    ),
    "theta NaN": (cells, {"theta": np.nan}, ValueError, "finite and not negative"),
    "no theta at all": (cells, {"theta": []}, ValueError, "one per variable, and is not []"),
    "key None": (cells, {"key": None}, TypeError, "a list of them, and is not None"),
    "key a number": (cells, {"key": 1}, TypeError, "and is not 1"),
    "key of lists": (cells, {"key": [["batch"]]}, TypeError, "and is not [['batch']]"),
    "the labels themselves": (
        cells,
        {"key": pd.Series([1, 2, 1])},
        TypeError,
        "names one column of adata.obs",
    ),
    "basis None": (cells, {"basis": None}, KeyError, "adata.obsm has no None"),
    "backend of a list": (cells, {"backend": ["scanpy"]}, ValueError, "not ['scanpy']"),
    "design is a table": (
        cells,
        {"design": pd.DataFrame()},
        TypeError,
        "what helpers.design.check returned",
    ),
    "unknown parameter": (cells, {"thetta": 1}, TypeError, "'thetta' (did you mean 'theta'?)"),
    "R's name": (cells, {"max.iter.harmony": 5}, TypeError, "did you mean 'max_iter_harmony'?"),
    "scanpy's name": (cells, {"n_clusters": 5}, TypeError, "did you mean 'nclust'?"),
    "meta_data": (cells, {"meta_data": 1}, TypeError, "by itself, from adata: leave it out."),
    "reference_values": (
        cells,
        {"reference_values": ["a"]},
        TypeError,
        "map new cells onto the old ones (lesson 14) or correct all of them together",
    ),
    "cluster_prior": (cells, {"cluster_prior": 1}, TypeError, "nclust says how many"),
    "plot_convergence": (
        cells,
        {"plot_convergence": True},
        TypeError,
        "helpers.plots.convergence, which draws the objective",
    ),
    "no rounds": (
        cells,
        {"max_iter_harmony": 0},
        ValueError,
        "whole number from 1 to 1000, not 0",
    ),
    "negative rounds": (cells, {"max_iter_harmony": -1}, ValueError, "from 1 to 1000, not -1"),
    "half a round": (cells, {"max_iter_harmony": 2.5}, ValueError, "from 1 to 1000, not 2.5"),
    "rounds True": (cells, {"max_iter_harmony": True}, ValueError, "from 1 to 1000, not True"),
    "no rounds of k-means": (cells, {"max_iter_kmeans": 0}, ValueError, "from 1 to 1000, not 0"),
    "nclust of 0": (cells, {"nclust": 0}, ValueError, "a whole number from 1 to 300, not 0"),
    "nclust in words": (cells, {"nclust": "10"}, ValueError, "from 1 to 300, not '10'"),
    "nclust infinite": (cells, {"nclust": np.inf}, ValueError, "from 1 to 300, not inf"),
    "seed too large": (cells, {"seed": 2**40}, ValueError, "at most 2147483647, not 1099511627776"),
    "seed enormous": (cells, {"seed": 2**70}, ValueError, "seed must be a whole number"),
    "seed negative": (cells, {"seed": -1}, ValueError, "seed must be a whole number"),
    "seed None": (cells, {"seed": None}, ValueError, "at least 0, not None"),
    "seed in words": (cells, {"seed": "1"}, ValueError, "at least 0, not '1'"),
    "verbose in words": (cells, {"verbose": "yes"}, ValueError, "True or False, not 'yes'"),
    "verbose None": (cells, {"verbose": None}, ValueError, "True or False, not None"),
    "sigma of 0": (cells, {"sigma": 0}, ValueError, "a number above 0, not 0"),
    "sigma None": (cells, {"sigma": None}, ValueError, "a number above 0, not None"),
    "sigma of another length": (cells, {"sigma": [0.1, 0.2]}, ValueError, "one per cluster (10)"),
    "block size of 0": (cells, {"block_size": 0}, ValueError, "from 0.00333 to 1, not 0"),
    "block size of 2": (cells, {"block_size": 2}, ValueError, "from 0.00333 to 1, not 2"),
    "tau negative": (cells, {"tau": -1}, ValueError, "a number, at least 0, not -1"),
    "lamb of 0": (cells, {"lamb": 0}, ValueError, "a number above 0, not 0"),
    "lamb of -2": (cells, {"lamb": -2}, ValueError, "a number above 0, not -2"),
    "lamb too long": (cells, {"lamb": [1, 1, 1]}, ValueError, "per variable (1) or one per batch"),
    "epsilon NaN": (cells, {"epsilon_harmony": np.nan}, ValueError, "a number, not nan"),
    "basis overwritten": (cells, {"adjusted_basis": "X_pca"}, ValueError, "would overwrite"),
    "name with a slash": (cells, {"adjusted_basis": "a/b"}, ValueError, "a name without '/'"),
    "no name": (cells, {"adjusted_basis": None}, ValueError, "a name without '/', not None"),
    "name of the graph": (cells, {"adjusted_basis": "neighbors"}, ValueError, "would overwrite"),
    "name in uns": (lambda: with_uns("hvg"), {"adjusted_basis": "hvg"}, ValueError, "overwrite"),
    "name in obsm": (
        lambda: with_obsm(lambda x: x, "X_umap"),
        {"adjusted_basis": "X_umap"},
        ValueError,
        "choose another name",
    ),
}
if "alpha" in inspect.signature(harmonypy.run_harmony).parameters:
    MISTAKES["alpha of 0"] = cells, {"alpha": 0}, ValueError, "a number above 0, not 0"


@pytest.mark.parametrize("view", [False, True])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gets_one_sentence_and_changes_nothing(mistake, view):
    make, arguments, error, words = MISTAKES[mistake]
    adata = make()
    adata = adata[:] if view else adata
    before = contents(adata)
    with pytest.raises(error) as caught:
        harmonize(adata, **{"key": "batch", **arguments})
    message = str(caught.value.args[0])
    assert words in message
    assert "\n" not in message
    assert_unchanged(adata, before)


OFFERED = {  # what people write: what they mean
    **dict.fromkeys(("max_iter", "maxiter", "n_iter", "max.iter.harmony"), "max_iter_harmony"),
    **dict.fromkeys(("lambda_", "lam", "lambda", "ridge_lambda"), "lamb"),
    **dict.fromkeys(("tol", "epsilon", "tol_harmony", "epsilon.harmony"), "epsilon_harmony"),
    **dict.fromkeys(("K", "n_clusters", "n_clust"), "nclust"),
    **dict.fromkeys(("n_jobs", "n_cores"), "ncores"),
    **dict.fromkeys(("batch_key", "group_by_vars", "vars_use", "keys"), "key"),
    **dict.fromkeys(("reduction", "use_rep"), "basis"),
    **dict.fromkeys(("random_state", "rng", "seeds"), "seed"),
    **dict.fromkeys(("thetas", "theata"), "theta"),
    "max_iter_clustering": "max_iter_kmeans",
    "key_added": "adjusted_basis",
    "backned": "backend",
}


@pytest.mark.parametrize("slip", OFFERED)
def test_a_slip_is_offered_the_name_that_is_meant(slip):
    meant = OFFERED[slip]
    if meant == "ncores" and meant not in inspect.signature(harmonypy.run_harmony).parameters:
        pytest.skip("this harmonypy counts no cores")
    adata, key = cells(), {} if meant == "key" else {"key": "batch"}
    before = contents(adata)
    with pytest.raises(TypeError, match=re.escape(f"{slip!r} (did you mean {meant!r}?)")):
        harmonize(adata, **key, **{slip: 5})
    assert_unchanged(adata, before)


# from harmonypy 2.1, or not for days, and no key stops it
NEVER_RETURNED = {
    "nclust": 301,
    "block_size": -1,
    "max_iter_harmony": 10**9,
    "max_iter_kmeans": 10**9,
}


@pytest.mark.parametrize("name", NEVER_RETURNED)
def test_what_never_returned_is_refused_at_once(name):
    call = f"harmonize(cells(), 'batch', **{ {'epsilon_harmony': -1, name: NEVER_RETURNED[name]} })"
    code = f"from tests.test_integrate import cells, harmonize; {call}"
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert f"ValueError: {name}" in ran.stderr


SAME = {  # what is asked for in another form, and what it means
    "theta": [(2, 2.0), ((2,), [2.0]), (np.array([2.0]), [2.0]), (pd.Series([2]), [2.0])],
    "lamb": [(np.float32(2), 2.0), ((2, 3), [2, 3]), (pd.Series([2, 3]), [2, 3])],
    "nclust": [(9.0, 9), (np.int8(9), 9), (None, 10)],
    "sigma": [(np.float64(0.2), 0.2), ((0.2,) * 10, [0.2] * 10), (np.full(10, 0.2), [0.2] * 10)],
    "max_iter_harmony": [(3.0, 3), (np.array(3), 3)],
    "seed": [(3.0, 3), (np.uint8(3), 3)],
    "verbose": [(0, False), (np.False_, False)],
    "key": [(("batch",), "batch"), (pd.Index(["batch"]), "batch"), (np.array(["batch"]), "batch")],
}
SAME = [(name, *pair) for name, pairs in SAME.items() for pair in pairs]


@pytest.mark.parametrize(("name", "form", "plain"), SAME)
def test_another_form_gives_the_same_and_the_record_can_be_written(tmp_path, name, form, plain):
    adata, expected = cells(), cells()
    harmonize(adata, **{"key": "batch", name: form})
    harmonize(expected, **{"key": "batch", name: plain})
    np.testing.assert_array_equal(adata.obsm["X_pca_harmony"], expected.obsm["X_pca_harmony"])
    adata.write_h5ad(tmp_path / "cells.h5ad")
    back = ad.read_h5ad(tmp_path / "cells.h5ad").uns["X_pca_harmony"]
    assert list(back["key"]) == ["batch"]
    if name not in ("key", "verbose") and form is not None:
        found = back["seed"] if name == "seed" else back["params"][name]
        np.testing.assert_array_equal(found, plain)


def test_what_the_backend_refuses_is_one_sentence(monkeypatch):
    def run_harmony(*args, **kwargs):
        raise RuntimeError("normalizers must be\n  finite (sigma=[0.1, ...])")

    run_harmony.__signature__ = inspect.signature(harmonypy.run_harmony)
    monkeypatch.setattr(harmonypy, "run_harmony", run_harmony)
    adata = cells()
    before = contents(adata)
    match = r"found no solution with these settings: normalizers must be finite \(sigma=.*\)\.$"
    with pytest.raises(ValueError, match=match):
        harmonize(adata, "batch")
    assert_unchanged(adata, before)


def test_an_error_of_the_backend_without_words_is_named(monkeypatch):
    def run_harmony(*args, **kwargs):
        raise AssertionError

    run_harmony.__signature__ = inspect.signature(harmonypy.run_harmony)
    monkeypatch.setattr(harmonypy, "run_harmony", run_harmony)
    with pytest.raises(ValueError, match=r"with these settings: AssertionError\.$"):
        harmonize(cells(), "batch")


def test_sigma_per_cluster_may_be_named_before_and_after_nclust():
    one, two = cells(), cells()
    harmonize(one, "batch", sigma=[0.1, 0.2, 0.3], nclust=3)
    harmonize(two, "batch", nclust=3, sigma=[0.1, 0.2, 0.3])
    np.testing.assert_array_equal(one.obsm["X_pca_harmony"], two.obsm["X_pca_harmony"])
    with pytest.raises(ValueError, match=r"one per cluster \(4\)"):
        harmonize(cells(), "batch", sigma=[0.1, 0.2, 0.3], nclust=4)


def test_a_result_that_is_not_finite_is_refused(monkeypatch):
    def run_harmony(pcs, *args, **kwargs):
        turned = np.full_like(pcs.T if integrate._gives_cells_by_pcs() else pcs, np.nan)
        return SimpleNamespace(Z_corr=turned, objective_harmony=[1, 0], kmeans_rounds=[1])

    run_harmony.__signature__ = inspect.signature(harmonypy.run_harmony)
    monkeypatch.setattr(harmonypy, "run_harmony", run_harmony)
    adata = cells()
    before = contents(adata)
    with pytest.raises(ValueError, match="NaN or infinite"):
        harmonize(adata, "batch")
    assert_unchanged(adata, before)


def test_parameters_are_those_of_the_installed_backend(monkeypatch):
    def run_harmony(data_mat, meta_data, vars_use, theta=None, sparkle=1, verbose=True): ...

    monkeypatch.setattr(harmonypy, "run_harmony", run_harmony)
    with pytest.raises(TypeError, match=r"no parameter 'nclust'; it has: theta, sparkle\.$"):
        harmonize(cells(), "batch", nclust=3)


@pytest.mark.parametrize(
    ("value", "written"), [(np.float32, "float32"), ((1, 2), [1, 2]), ("cpu", "cpu"), (True, True)]
)
def test_a_parameter_without_a_range_is_handed_on_and_written(
    monkeypatch, tmp_path, value, written
):
    handed = []

    def run_harmony(pcs, labels, names, sparkle=None, epsilon_harmony=1, sigma=0.1, **others):
        handed.append(sparkle)
        turned = pcs.T if integrate._gives_cells_by_pcs() else pcs
        return SimpleNamespace(Z_corr=turned, objective_harmony=[1, 0], kmeans_rounds=[1])

    monkeypatch.setattr(harmonypy, "run_harmony", run_harmony)
    adata = cells()
    harmonize(adata, "batch", sparkle=value)
    assert handed == [value]
    adata.write_h5ad(tmp_path / "cells.h5ad")
    back = ad.read_h5ad(tmp_path / "cells.h5ad").uns["X_pca_harmony"]["params"]["sparkle"]
    np.testing.assert_array_equal(back, written)


def test_tiny_batches_are_named_and_larger_ones_are_not():
    adata = cells()
    adata.obs["lane"] = ["a"] * 1 + ["b"] * 20 + ["c"] * 21 + ["d"] * 258
    with pytest.warns(UserWarning, match=r"obs\['lane'\].*: a \(1 cell\), b \(20 cells\); merge"):
        harmonize(adata, ["batch", "lane"])
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*too few cells")
        harmonize(adata[1 + 20 :].copy(), "lane")


def test_many_tiny_batches_are_counted():
    adata = cells()
    adata.obs["lane"] = [f"lane {i // 10:02d}" for i in range(300)]
    with pytest.warns(UserWarning, match=r"lane 04 \(10 cells\) and 25 more; merge"):
        harmonize(adata, "lane")


def test_an_earlier_result_is_replaced_and_so_is_scanpys():
    adata = cells()
    adata.obsm["X_pca_harmony"] = np.zeros((300, 10))  # as scanpy leaves it: no record
    harmonize(adata, "batch")
    assert adata.obsm["X_pca_harmony"].any()
    for _ in range(2):
        harmonize(adata, "batch", adjusted_basis="again")
    np.testing.assert_array_equal(adata.obsm["again"], adata.obsm["X_pca_harmony"])


def test_scanpys_own_harmony_where_it_is_installed():
    adata = cells()
    if hasattr(sc.pp, "harmony_integrate"):
        harmonize(adata, "batch", backend="scanpy")
        assert adata.obsm["X_pca_harmony"].shape == (300, 10)
        assert gap(adata, "X_pca_harmony") < 0.5 * gap(adata, "X_pca")
        assert adata.uns["X_pca_harmony"]["backend"] == "scanpy"
    else:
        before = contents(adata)
        with pytest.raises(ImportError, match="no Harmony of its own"):
            harmonize(adata, "batch", backend="scanpy")
        assert_unchanged(adata, before)


@pytest.mark.skipif(hasattr(sc.pp, "harmony_integrate"), reason="scanpy >= 1.13 is right by itself")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_usual_scanpy_call_fails_and_runs_inside_the_context():
    adata = cells()
    if integrate._gives_cells_by_pcs():
        with pytest.raises(ValueError, match="incorrect shape"):
            sc.external.pp.harmony_integrate(adata, "batch", verbose=False)
    run_harmony = harmonypy.run_harmony
    with oriented_harmonypy():
        sc.external.pp.harmony_integrate(adata, "batch", adjusted_basis="Z", verbose=False)
    assert harmonypy.run_harmony is run_harmony
    harmonize(adata, "batch")
    np.testing.assert_allclose(adata.obsm["Z"], adata.obsm["X_pca_harmony"], rtol=0, atol=1e-5)


def test_the_context_does_nothing_for_a_scanpy_that_is_right():
    run_harmony = harmonypy.run_harmony
    with patch.object(integrate, "version", lambda name: "1.13.0"), oriented_harmonypy():
        assert harmonypy.run_harmony is run_harmony


def test_expect_error_prints_the_message_and_insists_on_it(capsys):
    with expect_error(KeyError, "no column"):
        harmonize(cells(), "nothing")
    assert capsys.readouterr().out.startswith("KeyError: obs has no column 'nothing'")
    with pytest.raises(AssertionError, match="nothing was raised"), expect_error(ValueError):
        pass
    with pytest.raises(AssertionError, match="expected 'b'"), expect_error(ValueError, "b"):
        raise ValueError("a")
