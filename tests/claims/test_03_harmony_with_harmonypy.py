"""What lesson 03 says, held against the cells: each docstring is a sentence of the lesson.

Where the lesson speaks of seed 0, the test does too; else the ranges hold over seeds.
"""

import inspect
import logging

import harmonypy
import numpy as np
import pandas as pd
import pytest
import scanpy as sc

from helpers import metrics
from helpers.data import load_pbmc, prepare
from helpers.integrate import expect_error, harmonize, oriented_harmonypy

OUTER = {"max_iter_harmony": 20, "epsilon_harmony": 1e-4}
INNER = {"max_iter_kmeans": 20, "epsilon_cluster": 1e-5}
PATIENT = {"max_iter_harmony": 30, "epsilon_harmony": 1e-3}
SEEDS = [1, 2]


@pytest.fixture(scope="module")
def adata():
    return prepare(load_pbmc())


@pytest.fixture(scope="module")
def pcs(adata):
    return adata.obsm["X_pca"]


@pytest.fixture(scope="module")
def cell_type(adata):
    return adata.obs["cell_type"].astype(str).to_numpy()


@pytest.fixture(scope="module")
def stimulated(adata):
    return (adata.obs["condition"] == "stimulated").to_numpy()


@pytest.fixture(scope="module")
def harmony(adata):
    def run(Z=None, seed=0, **settings):
        Z = adata.obsm["X_pca"] if Z is None else Z
        return harmonypy.run_harmony(
            Z, adata.obs, "condition", **{"verbose": False, "random_state": seed, **settings}
        )

    return run


@pytest.fixture(scope="module")
def result(harmony):
    return harmony()


@pytest.fixture(scope="module")
def patient(harmony):
    return harmony(**PATIENT)


def drops(run):
    objective = np.array(run.objective_harmony)
    return -np.diff(objective) / abs(objective[:-1])


def converged(run, epsilon_harmony=1e-2):
    return 0 <= drops(run)[-1] < epsilon_harmony


def one_sided(run, stimulated):
    return abs(run.R[stimulated].sum(axis=0) / run.R.sum(axis=0) - 0.5) > 0.25


def held(run, cell_type):
    return pd.get_dummies(pd.Series(cell_type)).astype(float).T @ run.R / run.R.sum(axis=0)


def overlap(one, other):
    near = [metrics.nearest_neighbors(Z, 30).indices for Z in (one, other)]
    return np.mean([np.intersect1d(a, b).size / 30 for a, b in zip(*near, strict=True)])


def smallest_r(one, other):
    return min(np.corrcoef(a, b)[0, 1] for a, b in zip(one.T, other.T, strict=True))


def gap(Z, cells, stimulated):
    sides = [Z[cells & side].mean(axis=0) for side in (stimulated, ~stimulated)]
    return np.linalg.norm(sides[0] - sides[1])


# --- Call harmonypy ---------------------------------------------------------------------------


def test_orientation(adata, pcs, result):
    """Cells x PCs, so the result goes into obsm as it is; the `.T` of most tutorials fails."""
    assert result.Z_corr.shape == pcs.shape
    with expect_error(ValueError, match="incorrect shape"):
        adata.obsm["wrong"] = result.Z_corr.T


def test_input_is_untouched(adata, harmony):
    """`X_pca` stays untouched."""
    before = adata.obsm["X_pca"].copy()
    harmony()
    np.testing.assert_array_equal(adata.obsm["X_pca"], before)


def test_frame(adata, pcs, result):
    """Every numeric column is taken for a PC, and a bare array comes back."""
    frame = pd.DataFrame(pcs, index=adata.obs_names).add_prefix("PC")
    same = harmonypy.run_harmony(frame, adata.obs, "condition", verbose=False).Z_corr
    assert type(same) is np.ndarray
    np.testing.assert_array_equal(same, result.Z_corr)
    frame["n_genes"] = adata.obs["n_genes"].to_numpy()
    more = harmonypy.run_harmony(frame, adata.obs, "condition", verbose=False)
    np.testing.assert_allclose(more.Z_orig[:, 30], adata.obs["n_genes"])
    assert np.abs(more.Z_corr[:, 30] - more.Z_orig[:, 30]).max() > 1


def test_position(adata, pcs, result):
    """Labels and PCs are matched by position, never by name."""
    mixed = adata.obs[["condition"]].sample(frac=1, random_state=0)
    by_position = harmonypy.run_harmony(pcs, mixed, "condition", verbose=False).Z_corr
    assert not np.allclose(by_position, result.Z_corr, atol=0.1)
    labels = {"condition": mixed["condition"].to_list()}
    plain = harmonypy.run_harmony(np.array(pcs), labels, "condition", verbose=False).Z_corr
    np.testing.assert_array_equal(plain, by_position)


def test_labels(adata, pcs):
    """A missing label is refused; a column with a single level is not: your input comes back."""
    labels = adata.obs["condition"].to_list()
    with expect_error(ValueError, match="missing labels"):
        harmonypy.run_harmony(pcs, {"a": [None, *labels[1:]]}, "a", verbose=False)
    single = harmonypy.run_harmony(pcs, {"a": ["x"] * len(pcs)}, "a", verbose=False)
    np.testing.assert_array_equal(single.Z_corr, pcs)


def test_square(adata, pcs):
    """With 30 cells x 30 PCs it took the PCs for cells; `harmonize` never does."""
    rows = np.r_[:15, -15:0]
    few = adata[rows].copy()
    turned = harmonypy.run_harmony(pcs[rows].T, few.obs, "condition", verbose=False)
    np.testing.assert_array_equal(turned.Z_orig, pcs[rows])
    as_usual = harmonypy.run_harmony(pcs[rows], few.obs, "condition", verbose=False)
    np.testing.assert_array_equal(as_usual.Z_orig, pcs[rows].T)
    harmonize(few, "condition")
    np.testing.assert_array_equal(few.obsm["X_pca_harmony"], turned.Z_corr)


# --- Read the soft clusters -------------------------------------------------------------------


def test_result_object(pcs, result):
    """Z_orig is what you passed, Z_cos has length one, Y alone has PCs as rows; all are copies."""
    np.testing.assert_array_equal(result.Z_orig, pcs)
    length = np.linalg.norm(result.Z_corr, axis=1, keepdims=True)
    np.testing.assert_allclose(result.Z_cos, result.Z_corr / length, atol=1e-5)
    assert result.R.shape == (len(pcs), result.K)
    assert result.Y.shape == (pcs.shape[1], result.K)
    result.Z_corr[:] = 0
    assert np.abs(result.Z_corr).max() > 1


def test_number_of_clusters(adata, pcs, result):
    """The number of clusters follows a rule: one per 30 cells, at most 100."""
    assert result.K == 100
    some = np.arange(0, len(pcs), 6)
    few = harmonypy.run_harmony(pcs[some], adata.obs.iloc[some], "condition", verbose=False)
    assert few.K == round(len(some) / 30) == 33


def test_softness(result):
    """The strongest membership of a typical cell is one seventh: it has a dozen."""
    R = result.R
    np.testing.assert_allclose(R.sum(axis=1), 1, atol=1e-5)
    assert 0.10 < np.median(R.max(axis=1)) < 0.18
    effective = np.exp(-(R * np.log(R.clip(1e-12))).sum(axis=1))
    assert 9 < np.median(effective) < 17


def test_clusters_and_types(result, cell_type):
    """Most clusters are mostly of one type, and even the rarest types lead one."""
    shares = held(result, cell_type)
    assert 0.75 < shares.max().median() < 0.9
    assert set(shares.idxmax()) >= {"pDC", "Megakaryocyte"}


def test_one_sided_clusters(harmony, result, cell_type, stimulated):
    """Nearly all clusters are one-sided before; those left after belong to CD14 monocytes."""
    assert one_sided(harmony(max_iter_harmony=0), stimulated).sum() > 85
    left = one_sided(result, stimulated)
    assert 10 < left.sum() < 30
    assert set(held(result, cell_type).loc[:, left].idxmax()) == {"CD14 Mono"}


# --- See what was subtracted ------------------------------------------------------------------


def test_which_pcs(pcs, result):
    """Two PCs bear most of it, more than half of their spread, and PC1 is not one of them."""
    relative = np.sqrt(((result.Z_orig - result.Z_corr) ** 2).mean(axis=0)) / pcs.std(axis=0)
    ranked = np.sort(relative)
    assert ranked[-2] > 0.5
    assert ranked[-3] < 0.3
    assert relative[0] < 0.3


def test_gaps(pcs, result, cell_type, stimulated):
    """The gap shrinks for every type, least for CD14 monocytes and megakaryocytes (about half)."""
    left = {}
    for name in set(cell_type) - {"unassigned"}:
        cells = cell_type == name
        left[name] = gap(result.Z_corr, cells, stimulated) / gap(pcs, cells, stimulated)
    least = {name: left.pop(name) for name in ("CD14 Mono", "Megakaryocyte")}
    assert all(0.4 < value < 0.6 for value in least.values())
    assert max(left.values()) < min(least.values())
    t_cells, monocytes = cell_type == "CD4 T", cell_type == "CD14 Mono"
    assert gap(pcs, monocytes, stimulated) > 2 * gap(pcs, t_cells, stimulated)


def test_mixture_of_shifts(result, stimulated):
    """That is all there is: 100 shifts for each condition, mixed cell by cell."""
    R, subtracted = result.R, result.Z_orig - result.Z_corr

    def misfit(cells):
        shifts, *_ = np.linalg.lstsq(R[cells], subtracted[cells])
        return abs(R[cells] @ shifts - subtracted[cells]).max()

    assert misfit(stimulated) < 1e-4
    assert misfit(~stimulated) < 1e-4
    assert misfit(np.full(len(R), True)) > 1


# --- Judge when it stops ----------------------------------------------------------------------


def test_defaults(harmony, result):
    """`theta=None` means 2, and `lamb=None` means that the penalty is estimated."""
    today = inspect.signature(harmonypy.run_harmony).parameters
    values = {"theta": None, "lamb": None, "alpha": 0.2, "max_iter_harmony": 10}
    values |= {"epsilon_harmony": 1e-2, "max_iter_kmeans": 4, "epsilon_cluster": 1e-3}
    assert {name: today[name].default for name in values} == values
    np.testing.assert_array_equal(harmony(theta=2, lamb=-1).Z_corr, result.Z_corr)
    assert not np.allclose(harmony(lamb=1).Z_corr, result.Z_corr, atol=0.1)


def test_no_verdict_but_a_log(harmony, result, caplog):
    """The result object holds no verdict; the last log message says whether it converged."""
    assert not any("converge" in name for name in dir(result))
    last = []
    for rounds in (10, 3):
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="harmonypy"):
            harmony(verbose=True, max_iter_harmony=rounds)
        last.append(caplog.messages[-1])
    assert last == ["Converged after 6 iterations", "Stopped before convergence"]


def test_the_rule(result):
    """It stops when a round lowers the objective by less than `epsilon_harmony`."""
    assert len(result.kmeans_rounds) == 6
    assert converged(result)
    assert not any(0 <= drop < 1e-2 for drop in drops(result)[:-1])
    # objective_kmeans: the start, then every clustering step
    assert len(result.objective_kmeans) == 1 + sum(result.kmeans_rounds)


def test_old_settings(harmony, result, stimulated):
    """The old settings use all 20 rounds and do not converge; the inner ones change nothing."""
    old = harmony(**OUTER, **INNER)
    assert len(old.kmeans_rounds) == 20
    assert not converged(old, OUTER["epsilon_harmony"])
    assert 0.90 < overlap(old.Z_corr, result.Z_corr) < 0.95
    assert not one_sided(old, stimulated).any()
    inner = harmony(**INNER)
    assert len(inner.kmeans_rounds) == len(result.kmeans_rounds)
    assert smallest_r(inner.Z_corr, result.Z_corr) > 0.9999
    other = harmony(seed=1, **OUTER, **INNER)
    assert len(other.kmeans_rounds) == 20
    assert not converged(other, OUTER["epsilon_harmony"])


def test_epsilon_cluster(harmony, result):
    """`epsilon_cluster` is first consulted in the fifth step: with four it is never used."""
    np.testing.assert_array_equal(harmony(epsilon_cluster=1).Z_corr, result.Z_corr)
    assert set(harmony(epsilon_cluster=1, max_iter_kmeans=20).kmeans_rounds) == {5}


def test_landing(result, patient, stimulated):
    """The default run stopped on a landing: the objective falls a second time."""
    fall = drops(patient)
    np.testing.assert_allclose(fall[:6], drops(result), atol=1e-4)
    assert fall[5] < 0.01 < 0.025 < fall[6:].max()
    assert patient.objective_harmony[-1] < 0.9 * result.objective_harmony[-1]
    assert converged(patient, PATIENT["epsilon_harmony"])
    assert not one_sided(patient, stimulated).any()
    assert 0.90 < overlap(patient.Z_corr, result.Z_corr) < 0.95


def test_second_flight(adata, pcs, result, patient, cell_type, stimulated):
    """It was about the CD14 monocytes and the dendritic cells; the lymphocytes stayed."""
    mixing = pd.DataFrame(
        {
            "default": metrics.lisi(result.Z_corr, adata.obs["condition"]),
            "patient": metrics.lisi(patient.Z_corr, adata.obs["condition"]),
        }
    )
    change = mixing.groupby(cell_type).median().diff(axis=1)["patient"]
    assert (change[["CD14 Mono", "DC"]] > 0.15).all()
    assert (change[["B", "CD4 T", "CD8 T", "NK"]].abs() < 0.05).all()
    monocytes = cell_type == "CD14 Mono"
    gaps = [gap(Z, monocytes, stimulated) for Z in (pcs, result.Z_corr, patient.Z_corr)]
    assert gaps[0] > gaps[1] > gaps[2]  # more rounds removed more of it


# --- Reproduce a run --------------------------------------------------------------------------


def test_same_bytes(harmony, result):
    """To the last byte, whatever the number of threads; `random_state=None` means 0."""
    for settings in ({"ncores": 1}, {"ncores": 2}, {"random_state": None}):
        assert harmony(**settings).Z_corr.tobytes() == result.Z_corr.tobytes()


def test_other_seeds_default(harmony, result):
    """With the default, the other seeds used all ten rounds and disagree with seed 0."""
    for seed in SEEDS:
        run = harmony(seed=seed)
        assert len(run.kmeans_rounds) == 10
        assert not converged(run)
        assert 0.90 < smallest_r(run.Z_corr, result.Z_corr) < 0.97
    assert 0.90 < overlap(run.Z_corr, result.Z_corr) < 0.95


def test_other_seeds_patient(harmony, patient):
    """With the patient settings every seed converges, and about 99 in 100 neighbours agree."""
    for seed in SEEDS:
        run = harmony(seed=seed, **PATIENT)
        assert converged(run, PATIENT["epsilon_harmony"])
        assert smallest_r(run.Z_corr, patient.Z_corr) > 0.999
    assert overlap(run.Z_corr, patient.Z_corr) > 0.98


def test_never_chain(adata, harmony, patient, cell_type, stimulated):
    """The second run replaced more than a tenth of the neighbours, much as alpha=0.04 would."""
    once = patient.Z_corr
    twice, weaker = harmony(once, **PATIENT).Z_corr, harmony(alpha=0.04, **PATIENT).Z_corr
    assert overlap(once, twice) < 0.9
    t_cells = cell_type == "CD4 T"
    gaps = [gap(Z, t_cells, stimulated) for Z in (once, twice, weaker)]
    assert gaps[0] > 2 * max(gaps[1:])
    assert abs(gaps[1] - gaps[2]) < 0.2
    mixing = [np.median(metrics.lisi(Z, adata.obs["condition"])) for Z in (once, twice, weaker)]
    assert min(mixing[1:]) > mixing[0] + 0.05
    assert abs(mixing[1] - mixing[2]) < 0.05


def test_three_routes(adata, result):
    """Equal, not merely close: the direct call, `harmonize` and `sc.external`."""
    adata = adata.copy()
    harmonize(adata, "condition", adjusted_basis="helper", seed=0)
    with oriented_harmonypy():
        sc.external.pp.harmony_integrate(
            adata, "condition", adjusted_basis="external", verbose=False, random_state=0
        )
    for route in ("helper", "external"):
        np.testing.assert_array_equal(adata.obsm[route], result.Z_corr)
    record = adata.uns["helper"]
    np.testing.assert_array_equal(record["objective"], result.objective_harmony)
    assert record["n_rounds"] == len(result.kmeans_rounds)
    assert record["converged"] == converged(result)


# --- Exercises --------------------------------------------------------------------------------


def test_theta_zero_still_moves(harmony, result):
    """Exercise 5: with the penalty off, about a quarter of the default correction remains."""
    moved = [
        np.median(np.linalg.norm(run.Z_orig - run.Z_corr, axis=1))
        for run in (harmony(theta=0), result)
    ]
    assert 0.15 < moved[0] / moved[1] < 0.35
