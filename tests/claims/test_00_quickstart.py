"""What lesson 00 says in words about its cells; each docstring is the sentence of the lesson."""

from types import SimpleNamespace

import harmonypy
import numpy as np
import pandas as pd
import pytest

from helpers.data import load_pbmc, prepare
from helpers.integrate import harmonize
from helpers.metrics import lisi

SEEDS = [0, 1, 2, 3]


@pytest.fixture(scope="module")
def raw():
    return load_pbmc()


@pytest.fixture(scope="module")
def lesson(raw):
    """The lesson's cells, corrected with several seeds and with theta=0, and iLISI of each."""
    adata = prepare(raw)
    before = SimpleNamespace(
        counts=adata.layers["counts"].copy(),
        X=adata.X.copy(),
        pcs=adata.obsm["X_pca"].copy(),
        obsm=set(adata.obsm),
        uns=set(adata.uns),
    )
    harmonize(adata, "condition")
    after = SimpleNamespace(obsm=set(adata.obsm), uns=set(adata.uns))
    for seed in SEEDS:
        harmonize(adata, "condition", seed=seed, adjusted_basis=f"seed {seed}")
    harmonize(adata, "condition", theta=0, adjusted_basis="theta 0")
    names = ["X_pca", *(f"seed {seed}" for seed in SEEDS), "theta 0"]
    ilisi = pd.DataFrame({name: lisi(adata.obsm[name], adata.obs["condition"]) for name in names})
    shuffled = np.random.default_rng(0).permutation(adata.obs["condition"])
    at_random = np.median(lisi(adata.obsm["seed 0"], shuffled))
    types = adata.obs["cell_type"].to_numpy()
    return SimpleNamespace(
        adata=adata,
        before=before,
        after=after,
        median=ilisi.median(),
        by_type=ilisi.groupby(types).median().drop("unassigned"),
        at_random=at_random,
    )


def test_every_type_in_both_conditions(raw):
    """Every type occurs in both conditions."""
    assert pd.crosstab(raw.obs["cell_type"], raw.obs["condition"]).min(axis=None) > 0


def test_interferon_switches_on_isg15(raw):
    """ISG15 is a gene that interferon switches on: compare the two halves of its column."""
    mean = raw[:, "ISG15"].to_df()["ISG15"].groupby(raw.obs["condition"], observed=True).mean()
    assert mean["stimulated"] > 10 * mean["control"]


def test_types_sit_apart_before(lesson):
    """The answer is: nearly all. Types come as two groups, one per condition."""
    assert len(lesson.by_type) == 9
    assert (lesson.by_type["X_pca"] < 1.1).all()


def test_all_else_stays(lesson):
    """Harmony writes new PCs to obsm["X_pca_harmony"]; all else stays as it was."""
    assert (lesson.before.counts != lesson.adata.layers["counts"]).nnz == 0
    assert (lesson.before.X != lesson.adata.X).nnz == 0
    assert np.array_equal(lesson.before.pcs, lesson.adata.obsm["X_pca"])
    assert lesson.adata.obsm["X_pca_harmony"].shape == lesson.before.pcs.shape
    assert lesson.after.obsm - lesson.before.obsm == {"X_pca_harmony"}
    assert lesson.after.uns - lesson.before.uns == {"X_pca_harmony"}


def test_converged(lesson):
    """`converged` means that the last round changed the objective by less than 1 %."""
    record = lesson.adata.uns["seed 0"]
    change = -np.diff(record["objective"]) / record["objective"][:-1]
    assert record["converged"]
    assert change[-1] < 0.01
    assert (change[:-1] > 0.01).all()


def test_other_seeds(lesson):
    """With other seeds it runs on to its limit of rounds and mixes slightly more."""
    for seed in [1, 2, 3]:
        record = lesson.adata.uns[f"seed {seed}"]
        assert (record["n_rounds"], record["converged"]) == (10, False)
        assert 0 < lesson.median[f"seed {seed}"] - lesson.median["seed 0"] < 0.1


def test_mixing(lesson):
    """A typical cell met its own condition only; Harmony went more than half of the way."""
    assert lesson.median["X_pca"] < 1.05
    assert 1.85 < lesson.at_random < 1.95
    for seed in SEEDS:
        way = (lesson.median[f"seed {seed}"] - 1) / (lesson.at_random - 1)
        assert 0.55 < way < 0.75


def test_types_as_separate_as_before(lesson):
    """The types are as separate as before."""
    typed = lesson.adata[lesson.adata.obs["cell_type"] != "unassigned"]
    before, *after = (
        np.median(lisi(typed.obsm[name], typed.obs["cell_type"]))
        for name in ["X_pca", "seed 0", "seed 1"]
    )
    assert 1 < before < 1.15
    assert np.abs(np.array(after) - before).max() < 0.03


def test_memory(lesson):
    """The counts take some forty times as much."""
    counts = lesson.adata.layers["counts"]
    ratio = (counts.data.nbytes + counts.indices.nbytes) / lesson.adata.obsm["X_pca"].nbytes
    assert 35 < ratio < 45


def test_theta_0(lesson):
    """Right: nearly all of the separation stays."""
    assert lesson.median["theta 0"] < 1.1


def test_theta_0_leaves_one_sided_clusters(lesson):
    """Without the penalty, most of Harmony's clusters hold one condition only."""
    control = (lesson.adata.obs["condition"] == "control").to_numpy()
    one_sided = {}
    for theta in (0, 2):
        result = harmonypy.run_harmony(
            lesson.adata.obsm["X_pca"].astype(float).T,
            lesson.adata.obs[["condition"]],
            ["condition"],
            theta=theta,
            random_state=0,
            verbose=False,
        )
        membership = np.asarray(result.R)  # cells x clusters
        share = membership[control].sum(axis=0) / membership.sum(axis=0)
        one_sided[theta] = np.mean(np.maximum(share, 1 - share) > 0.9)
    assert one_sided[0] > 0.75
    assert one_sided[2] < 0.25


def test_theta_0_hardly_shifts(lesson):
    """In such a cluster there is nothing to compare with, so there is hardly a shift."""
    obsm = lesson.adata.obsm
    moved = {
        name: np.linalg.norm(obsm[name] - obsm["X_pca"], axis=1).mean()
        for name in ["theta 0", "seed 0"]
    }
    assert moved["theta 0"] < 0.35 * moved["seed 0"], moved


def test_monocytes_mix_least(lesson):
    """The CD14 monocytes, nearly a quarter of all cells, hardly mix; with other seeds a little."""
    assert 0.22 < (lesson.adata.obs["cell_type"] == "CD14 Mono").mean() < 0.25
    assert lesson.by_type.loc["CD14 Mono", "seed 0"] < 1.1
    for seed in SEEDS:
        assert lesson.by_type[f"seed {seed}"].idxmin() == "CD14 Mono"
        if seed:
            assert 1.1 < lesson.by_type.loc["CD14 Mono", f"seed {seed}"] < 1.3
