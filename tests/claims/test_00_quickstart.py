"""What lesson 00 says, computed again; each docstring begins with its words.

Scaled genes are what the lesson shows, with Harmony's seeds 0 to 4 and the run planted with five
seeds; sentences that are meant in general are tried on unscaled genes too.
"""

from functools import cache

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc

from helpers.data import load_pbmc, plant_run, prepare
from helpers.integrate import FINISHED, harmonize
from helpers.metrics import lisi, mixing_reference, three_numbers

PLANTS = [0, 1, 2, 3, 4]
SEEDS = [0, 1, 2, 3, 4]
KEYS = {"batch_key": "run", "label_key": "cell_type", "keep_key": "condition"}
LEIDEN = {"flavor": "igraph", "n_iterations": 2, "directed": False}

each_plant = pytest.mark.parametrize("plant", PLANTS)
each_case = pytest.mark.parametrize(
    ("plant", "scale"), [*((plant, True) for plant in PLANTS), (0, False), (1, False)]
)


@cache
def raw() -> ad.AnnData:
    return load_pbmc()


@cache
def planted(plant: int = 0, scale: bool = True) -> ad.AnnData:
    """The lesson's cells: corrected for the run, forty rounds of it, and for the condition."""
    adata = prepare(plant_run(raw(), seed=plant), scale=scale)
    for seed in SEEDS if plant == 0 else SEEDS[:1]:
        harmonize(adata, "run", seed=seed, adjusted_basis=f"after {seed}")
    harmonize(adata, "run", adjusted_basis="forty rounds", **FINISHED)
    harmonize(adata, "condition", adjusted_basis="wrong", **FINISHED)
    return adata


@cache
def numbers(plant: int = 0, scale: bool = True) -> pd.DataFrame:
    """Three numbers of every embedding."""
    return three_numbers(planted(plant, scale), use_reps=list(planted(plant, scale).obsm), **KEYS)


def after(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a default run, one for each seed."""
    return table[table.index.str.startswith("after")]


def one_sided(adata: ad.AnnData, use_rep: str, resolution: float, seed: int) -> float:
    """Share of the clusters with more than 80 % of their cells from one run."""
    key = f"graph of {use_rep}"
    if key not in adata.uns:
        search = {"transformer": "sklearn", "random_state": 0}
        sc.pp.neighbors(adata, use_rep=use_rep, key_added=key, **search)
    names = {"neighbors_key": key, "key_added": "try", "random_state": seed}
    sc.tl.leiden(adata, resolution, **names, **LEIDEN)
    share = pd.crosstab(adata.obs["try"], adata.obs["run"], normalize="index")
    return (share.max(axis=1) > 0.8).mean()


def test_interferon_switches_on_isg15() -> None:
    """*ISG15* is a gene that interferon switches on: compare the two halves of its column."""
    column = raw()[:, "ISG15"].to_df()["ISG15"]
    mean = column.groupby(raw().obs["condition"], observed=True).mean()
    assert mean["stimulated"] > 10 * mean["control"]


@each_plant
def test_what_is_planted(plant) -> None:
    """Half of the cells of each condition, drawn at random, lose two molecules in five,
    some genes more and some fewer.
    """
    before, adata = raw(), plant_run(raw(), seed=plant)
    second = (adata.obs["run"] == "run 2").to_numpy()
    for condition in ("control", "stimulated"):
        assert second[adata.obs["condition"] == condition].mean() == 0.5
    assert (adata.X[~second] != before.X[~second]).nnz == 0
    kept = np.asarray(adata.X[second].sum(axis=1) / before.X[second].sum(axis=1))
    assert 0.5 < np.median(kept) < 0.7
    many = np.asarray(before.X[second].sum(axis=0)).ravel() > 500
    of_gene = np.asarray(adata.X[second].sum(axis=0)).ravel()[many]
    of_gene = of_gene / np.asarray(before.X[second].sum(axis=0)).ravel()[many]
    assert np.quantile(of_gene, 0.1) < 0.3
    assert np.quantile(of_gene, 0.9) > 0.9


@each_plant
def test_both_runs_hold_the_same_types(plant) -> None:
    """(And because chance dealt out the cells, both runs hold the same types: the easiest case.)"""
    obs = plant_run(raw(), seed=plant).obs
    share = pd.crosstab(obs["cell_type"], obs["run"], normalize="columns")
    assert (share["run 1"] - share["run 2"]).abs().max() < 0.03


def test_every_type_in_both() -> None:
    """Every type occurs in both conditions and in both runs."""
    obs = plant_run(raw()).obs
    assert pd.crosstab(obs["cell_type"], [obs["condition"], obs["run"]]).min(axis=None) > 0


def test_why_genes_are_scaled() -> None:
    """Give each chosen gene mean 0 and variance 1 (cut off at 10), or a tenth of them would
    have most of the say.
    """
    adata = planted()
    variance = adata.var.loc[adata.var["highly_variable"], "std"] ** 2
    assert len(variance) == 2000
    assert variance.nlargest(200).sum() > 0.5 * variance.sum()


def test_x_stays_log_normalised() -> None:
    """This happens on a copy of the chosen genes, so `adata.X` stays log-normalised."""
    adata = planted()
    total = np.asarray(np.expm1(adata.X).sum(axis=1)).ravel()
    assert np.allclose(total, 1e4, rtol=1e-3)


def test_runs_sit_apart_before() -> None:
    """The answer is: nearly all. Within a type, the two runs lie side by side and hardly mingle."""
    adata = planted()
    values = pd.Series(lisi(adata.obsm["X_pca"], adata.obs["run"]))
    values = values.groupby(adata.obs["cell_type"].to_numpy())
    medians = values.median().drop("unassigned")
    many = values.size()[medians.index] > 90  # in a smaller type the neighbours are others
    assert many.sum() == 7
    assert (medians[many] < 1.3).all(), medians


def test_monocytes_are_split_by_condition() -> None:
    """The monocytes are split a second time, by condition, and that split should stay."""
    adata = planted()
    monocytes = adata.obs["cell_type"] == "CD14 Mono"
    for name in adata.obsm:
        if name != "wrong":
            values = lisi(adata.obsm[name], adata.obs["condition"])
            assert np.median(values[monocytes]) < 1.1, name


@pytest.mark.parametrize("seed", SEEDS)
def test_clusters_of_one_run(seed) -> None:
    """People take Leiden's clusters for cell types. How many of them belong to one run?"""
    assert one_sided(planted(), "X_pca", 1, seed) > 0.3
    for name in after(numbers()).index:
        assert one_sided(planted(), name, 1, seed) == 0


def test_how_many_depends() -> None:
    """(How many there are depends on the run and on how finely you cluster: drawn with another
    seed, the planted run can leave none.)
    """
    assert one_sided(planted(), "X_pca", 0.5, 0) < one_sided(planted(), "X_pca", 1, 0)
    assert one_sided(planted(4), "X_pca", 1, 0) == 0
    assert numbers(4).loc["X_pca", "mixing"] > numbers().loc["X_pca", "mixing"] + 0.2


def test_all_else_stays() -> None:
    """Harmony reads PCs and the column of `obs` that should go, and writes new PCs to
    `obsm["X_pca_harmony"]`; all else stays as it was.
    """
    adata = planted().copy()
    harmonize(adata, "run")
    untouched = planted()
    assert (adata.layers["counts"] != untouched.layers["counts"]).nnz == 0
    assert (adata.X != untouched.X).nnz == 0
    assert np.array_equal(adata.obsm["X_pca"], untouched.obsm["X_pca"])
    assert adata.obsm["X_pca_harmony"].shape == adata.obsm["X_pca"].shape
    assert set(adata.obsm) - set(untouched.obsm) == {"X_pca_harmony"}
    assert set(adata.uns) - set(untouched.uns) == {"X_pca_harmony"}
    assert adata.obs.equals(untouched.obs)


@each_case
def test_converged(plant, scale) -> None:
    """`converged` means that in the last round Harmony's own yardstick, its **objective**, fell
    by less than 1 %: its rule to stop.
    """
    for name in after(numbers(plant, scale)).index:
        record = planted(plant, scale).uns[name]
        fall = -np.diff(record["objective"]) / np.abs(record["objective"][:-1])
        assert record["converged"]
        assert record["n_rounds"] == (4 if scale else 5)
        assert 0 <= fall[-1] < 0.01
        assert (fall[:-1] >= 0.01).all()


@each_case
def test_forty_rounds_are_the_same(plant, scale) -> None:
    """And forty rounds give the same numbers as four: here it had stopped where it should."""
    table = numbers(plant, scale)
    assert planted(plant, scale).uns["forty rounds"]["n_rounds"] == 40
    assert (after(table) - table.loc["forty rounds"]).abs().max(axis=None) < 0.02


def test_few_cells_of_the_other_run() -> None:
    """A typical cell met few cells of the other run."""
    for scale in (True, False):
        assert 1 < numbers(0, scale).loc["X_pca", "mixing"] < 1.2


@each_case
def test_mixed_nearly_as_at_random(plant, scale) -> None:
    """After Harmony the run is mixed nearly as well as random labels."""
    adata = planted(plant, scale)
    chance = mixing_reference(adata.obsm["after 0"], batch=adata.obs["run"])
    assert 1.88 < chance < 1.94
    way = (after(numbers(plant, scale))["mixing"] - 1) / (chance - 1)
    assert way.min() > (0.94 if scale else 0.87)
    assert way.max() < 1.02


def test_reference_is_no_limit() -> None:
    """(That value is a reference, not a limit: a correction can even out chance as well, and go
    above it.)
    """
    adata = planted().copy()
    adata.obs["nothing"] = np.random.default_rng(0).integers(0, 12, adata.n_obs).astype(str)
    harmonize(adata, "nothing", adjusted_basis="evened")
    mixing = np.median(lisi(adata.obsm["evened"], adata.obs["nothing"]))
    assert mixing > mixing_reference(adata.obsm["evened"], batch=adata.obs["nothing"]) + 0.2


@each_case
def test_three_numbers(plant, scale) -> None:
    """Read them together: the run is mixed, the types are as far apart as before, and the
    conditions too.
    """
    table = numbers(plant, scale)
    change = after(table) - table.loc["X_pca"]
    assert change["mixing"].min() > 0.3
    assert change["types apart"].between(-0.01, 0.02).all()
    assert change["biology kept"].between(-0.01, 0.02).all()


def test_memory() -> None:
    """Quick, needs PCs only (they take far less memory than the counts), takes several batch
    variables
    """
    counts = planted().layers["counts"]
    ratio = (counts.data.nbytes + counts.indices.nbytes) / planted().obsm["X_pca"].nbytes
    assert ratio > 20


@each_case
def test_the_wrong_column(plant, scale) -> None:
    """`biology kept`, which has fallen almost to chance. `mixing` says that the run is still there;
    but who takes `condition` for the batch scores that, and sees it rise. The types are as far
    apart as before.
    """
    table = numbers(plant, scale)
    change = table.loc["wrong"] - table.loc["X_pca"]
    assert 0.5 < table.loc["wrong", "biology kept"] < (0.57 if scale else 0.7)
    assert change["biology kept"] < -0.2
    assert abs(change["types apart"]) < 0.02
    assert abs(change["mixing"]) < 0.06
    as_batch = KEYS | {"batch_key": "condition"}
    seen = three_numbers(planted(plant, scale), use_reps=["X_pca", "wrong"], **as_batch)["mixing"]
    assert seen["wrong"] > seen["X_pca"] + 0.4


def test_mixing_is_cheap() -> None:
    """Pure noise mixes the run as well as Harmony does, and everything else with it."""
    adata = ad.AnnData(obs=planted().obs)
    for seed in SEEDS:
        adata.obsm[str(seed)] = np.random.default_rng(seed).normal(size=(adata.n_obs, 30))
    table = three_numbers(adata, use_reps=list(adata.obsm), **KEYS)
    assert (table["mixing"] > numbers().loc["after 0", "mixing"] - 0.03).all()
    assert (table["types apart"] < 0.3).all()
    assert table["biology kept"].between(0.48, 0.52).all()
