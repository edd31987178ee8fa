"""What lesson 07 says in words about its cells; each docstring is the sentence of the lesson."""

import ast
import re
import warnings
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import anndata as ad
import harmonypy
import nbformat
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp
from scipy import stats
from sklearn.decomposition import TruncatedSVD

from helpers import metrics, plots
from helpers.data import load_pbmc, plant_run, prepare
from helpers.integrate import FINISHED, harmonize

SEEDS = [0, 1, 2, 3, 4]
FEW = [0, 2]  # where each seed means PCA anew
ROUNDS = FINISHED | {"max_iter_harmony": 15}
LESSON = Path(__file__).parents[2] / "notebooks" / "07_save_and_hand_over.ipynb"


@cache
def start():
    """The lesson's object, made anew."""
    published = load_pbmc()
    raw = plant_run(published)
    adata = prepare(raw)
    pcs = adata.obsm["X_pca"].copy()
    harmonize(adata, "run", **ROUNDS)
    how = {"use_rep": "X_pca_harmony", "transformer": "sklearn", "method": "gauss"}
    sc.pp.neighbors(adata, **how, random_state=0)
    leiden = {"flavor": "igraph", "n_iterations": 2, "directed": False, "random_state": 0}
    sc.tl.leiden(adata, resolution=0.5, **leiden)
    adata.uns["cell_type_colors"] = list(plots.palette(adata.obs["cell_type"]).values())
    return SimpleNamespace(published=published, raw=raw, adata=adata, pcs=pcs)


# --- slots and files --------------------------------------------------------------------------


@cache
def slots():
    """The list of slots and keys, read from the lesson."""
    cells = nbformat.read(LESSON, as_version=4).cells
    source = next(cell.source for cell in cells if cell.source.startswith("slots = {"))
    listed = ast.literal_eval(source.removeprefix("slots = "))
    return [(slot, key) for slot, keys in listed.items() for key in keys]


def test_table_and_list_of_slots_agree():
    """Here is what we expect: slot and key, who wrote it, what it holds. ... And the same as a list that a program can check."""  # noqa: E501
    cells = nbformat.read(LESSON, as_version=4).cells
    (table,) = [cell.source for cell in cells if "| slot | key |" in cell.source]
    rows = re.findall(r"^\| `(\w+)` \| (.*?) ?\|", table, flags=re.MULTILINE)
    pairs = [(slot, key) for slot, keys in rows for key in re.findall(r"`(\w+)`", keys) or [""]]
    assert pairs == slots()


def content(cells, slot, key):
    values = getattr(cells, slot)
    return values if key == "" else values.get(key)


def same(a, b):
    if a is None or b is None:
        return a is b
    if sp.issparse(a):
        return a.shape == b.shape and (a != b).nnz == 0
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[name], b[name]) for name in a)
    a, b = np.asarray(a), np.asarray(b)
    return np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def differences(a, b):
    return [place for place in slots() if not same(content(a, *place), content(b, *place))]


def test_slots_hold_what_the_table_says():
    """Here is what we expect"""
    adata, raw = start().adata, start().raw
    n, m = adata.shape
    cells, genes = {"X", "layers"}, {"var", "varm"}
    for slot, key in slots():
        found = content(adata, slot, key)
        if key == "X_umap":
            assert found is None  # "not made here"
        elif slot in cells or slot == "obsp":
            assert found.shape == ((n, n) if slot == "obsp" else (n, m))
        elif slot != "uns":
            assert len(found) == (m if slot in genes else n)
    assert (adata.layers["counts"] != raw[adata.obs_names, adata.var_names].X).nnz == 0
    expected = raw[adata.obs_names, adata.var_names].copy()
    sc.pp.normalize_total(expected, target_sum=1e4)
    sc.pp.log1p(expected)
    assert np.allclose(expected.X.data, adata.X.data, rtol=1e-5)
    assert adata.var["highly_variable"].sum() == 2000
    assert not adata.varm["PCs"][~adata.var["highly_variable"]].any()
    assert adata.uns["X_pca_harmony"]["key"] == ["run"]
    assert len(adata.uns["cell_type_colors"]) == len(adata.obs["cell_type"].cat.categories)


def test_nothing_is_corrected_in_place():
    """`X_pca` is not corrected "in place" ... The graph's matrices are in `obsp`; `uns["neighbors"]` only points to them."""  # noqa: E501
    adata = start().adata
    assert np.array_equal(adata.obsm["X_pca"], start().pcs)
    assert not np.allclose(adata.obsm["X_pca_harmony"], start().pcs)
    graph = adata.uns["neighbors"]
    assert set(graph) == {"connectivities_key", "distances_key", "params"}
    assert not any(sp.issparse(value) for value in graph["params"].values())
    assert graph["distances_key"] in adata.obsp
    assert graph["connectivities_key"] in adata.obsp
    assert graph["params"]["use_rep"] == "X_pca_harmony"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The lesson's object on disk: plain, compressed and zarr."""
    adata, here = start().adata, tmp_path_factory.mktemp("files")
    adata.write_h5ad(here / "plain.h5ad")
    adata.write_h5ad(here / "cells.h5ad", compression="gzip", compression_opts=1)
    with warnings.catch_warnings():  # anndata 0.12 announces its next default zarr format
        warnings.simplefilter("ignore", UserWarning)
        adata.write_zarr(here / "cells.zarr")
    return here


def test_compressed_files_are_less_than_half(files):
    """Less than half ... Compression of `.h5ad` is off unless you ask; zarr compresses by itself."""  # noqa: E501
    plain = (files / "plain.h5ad").stat().st_size
    chunks = sum(f.stat().st_size for f in (files / "cells.zarr").rglob("*") if f.is_file())
    assert (files / "cells.h5ad").stat().st_size < 0.45 * plain
    assert chunks < 0.45 * plain


@pytest.mark.parametrize("name", ["cells.h5ad", "cells.zarr"])
def test_everything_comes_back(files, name):
    """Nothing differs in value, but lists come back as arrays"""
    adata = start().adata
    back = (ad.read_zarr if name.endswith("zarr") else ad.read_h5ad)(files / name)
    assert differences(adata, back) == []
    assert list(back.obs_names) == list(adata.obs_names)
    assert list(back.var_names) == list(adata.var_names)
    for column in ["run", "condition", "cell_type", "leiden"]:
        assert list(back.obs[column].cat.categories) == list(adata.obs[column].cat.categories)
    sent, got = adata.uns["X_pca_harmony"], back.uns["X_pca_harmony"]
    assert [k for k in sent if type(sent[k]) is not type(got[k])] == ["key"]
    assert isinstance(sent["key"], list)
    assert isinstance(got["key"], np.ndarray)


def test_the_record_repeats_the_run(files):
    """Exactly, given the same versions, which are in the record."""
    back = ad.read_h5ad(files / "cells.h5ad")
    record = back.uns["X_pca_harmony"]
    how = {"basis": record["basis"], "backend": record["backend"], "seed": record["seed"]}
    harmonize(back, list(record["key"]), adjusted_basis="again", **how, **record["params"])
    assert np.array_equal(back.obsm["again"], back.obsm["X_pca_harmony"])
    assert {"harmonypy", "scanpy", "anndata", "numpy"} <= set(record["versions"])


def test_a_failed_save_leaves_a_file_that_opens(files):
    """The writing stopped in the middle, the good file is gone, and what stands under its name opens without an error."""  # noqa: E501
    careless, target = start().adata.copy(), files / "overwritten.h5ad"
    target.write_bytes((files / "cells.h5ad").read_bytes())
    result = harmonypy.run_harmony(
        start().pcs, careless.obs, "run", verbose=False, random_state=0, max_iter_harmony=1
    )
    careless.uns = {"harmony": result, **careless.uns}
    with pytest.raises(Exception, match="No method registered for writing"):
        careless.write_h5ad(target)
    lost = differences(start().adata, ad.read_h5ad(target))
    assert ("uns", "X_pca_harmony") in lost
    assert ("obs", "cell_type") not in lost


# --- one type ---------------------------------------------------------------------------------


def test_fifteen_rounds_are_enough():
    """scaled genes, 30 PCs, and 15 rounds with the stop rule off, three times what this run needs."""  # noqa: E501
    cells = ad.AnnData(obs=start().adata.obs[["run"]], obsm={"X_pca": start().pcs})
    near = {}
    for n in [5, 15, 40]:
        harmonize(cells, "run", **FINISHED | {"max_iter_harmony": n})
        near[n] = metrics.nearest_neighbors(cells.obsm["X_pca_harmony"], 30).indices
    for n in [5, 15]:
        assert (near[n][:, :, None] == near[40][:, None, :]).any(axis=2).mean() > 0.95


@cache
def part(seed=0, scale=True):
    """The lesson's four embeddings of the T and NK cells, scored."""
    adata, raw = start().adata, start().raw
    if not scale:
        adata = prepare(raw, scale=False)
        harmonize(adata, "run", seed=seed, **ROUNDS)
    some = adata[adata.obs["cell_type"].isin(["CD4 T", "CD8 T", "NK"])].copy()
    if scale:
        harmonize(some, "run", seed=seed, adjusted_basis="X_again", **ROUNDS)
    else:
        some.obsm["X_again"] = some.obsm["X_pca_harmony"]
    begun = prepare(raw[some.obs_names], scale=scale)
    harmonize(begun, "run", seed=seed, **ROUNDS)
    some.obsm["X_begun"] = begun[some.obs_names].obsm["X_pca_harmony"]
    how = {"batch_key": "run", "label_key": "cell_type", "keep_key": "condition"}
    four = ["X_pca", "X_pca_harmony", "X_again", "X_begun"]
    table = metrics.three_numbers(some, **how, use_reps=four)
    nk = (some.obs["cell_type"] == "NK").to_numpy()
    for rep in four:
        table.loc[rep, "NK"] = metrics.own_share(some.obsm[rep], some.obs["cell_type"])[nk].mean()
    genes = begun.var_names[begun.var["highly_variable"]]
    return some, table, genes


@pytest.mark.parametrize("seed", FEW)
def test_reusing_and_correcting_again_agree(seed):
    """Reusing and correcting again agree ... Beginning again mixes as well, and other cells lie side by side. ... neighbours sort by condition, and the types, NK cells first, move closer."""  # noqa: E501
    table = part(seed)[1]
    reuse, again, begun = (table.loc[x] for x in ["X_pca_harmony", "X_again", "X_begun"])
    assert (reuse - again).abs().max() < 0.03
    assert table.loc["X_pca", "mixing"] < 1.3
    assert min(reuse["mixing"], begun["mixing"]) > 1.8
    assert begun["biology kept"] > reuse["biology kept"] + 0.05
    assert begun["types apart"] < reuse["types apart"] - 0.02
    assert begun["NK"] < reuse["NK"] - 0.08


def test_the_response_weighs_more_within_the_part():
    """In the genes that vary most within the part, the response to interferon weighs more"""
    some, _, genes = part()
    begun = prepare(start().raw[some.obs_names])
    first = {}
    for name, cells in {"all": start().adata, "part": begun}.items():
        mine = cells[some.obs_names]
        treated = (mine.obs["condition"] == "stimulated").to_numpy()
        r = [np.corrcoef(mine.obsm["X_pca"][:, i], treated)[0, 1] ** 2 for i in range(30)]
        first[name] = np.average(r, weights=mine.obsm["X_pca"].var(axis=0))
    assert first["part"] > 1.5 * first["all"]
    assert {"ISG15", "IFI6", "MX1", "LY6E"} <= set(genes)


def test_unscaled_the_types_stay():
    """On unscaled genes the condition rises too, types stay, and beginning again mixes less."""
    table = part(0, scale=False)[1]
    reuse, begun = table.loc["X_pca_harmony"], table.loc["X_begun"]
    assert begun["biology kept"] > reuse["biology kept"] + 0.03
    assert abs(begun["types apart"] - reuse["types apart"]) < 0.02
    assert begun["mixing"] < reuse["mixing"] - 0.1


def test_three_cells_are_shifted_too_far():
    """About three times too far ... Neither less theta nor tau helps; a fixed lamb does"""
    some = part()[0]
    runs = some.obs["run"].to_numpy()
    ways = {"default": {}, "theta=0": {"theta": 0}, "tau=5": {"tau": 5}, "lamb=1": {"lamb": 1.0}}
    moved = {name: [] for name in ["reuse", *ways]}
    for draw in range(5):
        few = np.random.default_rng(draw).choice(np.flatnonzero(runs == "run 2"), 3, False)
        cells = some[np.append(np.flatnonzero(runs == "run 1"), few)].copy()
        ends = {"reuse": cells.obsm["X_pca_harmony"]}
        for name, way in ways.items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                harmonize(cells, "run", adjusted_basis="X_few", **way)
            ends[name] = cells.obsm["X_few"]
        for name, end in ends.items():
            moved[name] += list(np.linalg.norm((end - cells.obsm["X_pca"])[-3:], axis=1))
    far = {name: np.mean(x) for name, x in moved.items()}
    assert 1.4 < far["reuse"] < 2.4
    for name in ["default", "theta=0", "tau=5"]:
        assert 2.5 < far[name] / far["reuse"] < 4.5
    assert far["lamb=1"] < 1.4 * far["reuse"]


# --- genes ------------------------------------------------------------------------------------


@cache
def cd4():
    """Counts of the control's CD4 T cells, genes seen in at least a quarter of them."""
    some = start().published
    some = some[(some.obs["condition"] == "control") & (some.obs["cell_type"] == "CD4 T")]
    return some[:, np.asarray((some.X > 0).mean(axis=0)).ravel() >= 0.25].copy()


def plant_samples(cells, seed, n_samples=8, spread=0.3, up=25):
    rng = np.random.default_rng(seed)
    sample = rng.permutation(np.arange(cells.n_obs) % n_samples)
    in_b = np.arange(n_samples) % 2 == 1
    differs = rng.choice(cells.n_vars, 50, replace=False)
    kept = 0.6 * np.exp(spread * rng.standard_normal((n_samples, cells.n_vars)))
    kept[np.ix_(~in_b, differs[:up])] /= 3
    kept[np.ix_(in_b, differs[up:])] /= 3
    old = cells.X.tocoo()
    kept = np.clip(kept, 0, 1)[sample[old.row], old.col]
    new = rng.binomial(old.data.astype(int), kept).astype(np.float32)
    planted = cells.copy()
    planted.X = sp.csr_matrix((new, (old.row, old.col)), shape=old.shape)
    planted.obs["sample"] = pd.Categorical([f"sample {i + 1}" for i in sample])
    planted.obs["group"] = pd.Categorical(np.where(in_b[sample], "B", "A"))
    planted.var["differs"] = np.isin(np.arange(cells.n_vars), differs)
    return planted


def by_cells(cells):
    logged = cells.copy()
    sc.pp.normalize_total(logged, target_sum=1e4)
    sc.pp.log1p(logged)
    sc.tl.rank_genes_groups(logged, "group", groups=["B"], reference="A", method="wilcoxon")
    table = sc.get.rank_genes_groups_df(logged, "B").set_index("names")
    return table.loc[cells.var_names, "pvals"].to_numpy()


def by_samples(cells):
    bulk = sc.get.aggregate(cells, ["group", "sample"], "sum")
    total = sp.csr_matrix(bulk.layers["sum"]).toarray()
    logged = np.log2(1e6 * (total + 0.5) / total.sum(axis=1, keepdims=True))
    in_b = (bulk.obs["group"] == "B").to_numpy()
    return stats.ttest_ind(logged[in_b], logged[~in_b]).pvalue


@cache
def trial(seed):
    planted = plant_samples(cd4(), seed)
    return planted, planted.var["differs"].to_numpy(), by_cells(planted), by_samples(planted)


@pytest.mark.parametrize("seed", SEEDS)
def test_cells_are_not_replicates(seed):
    """The test on cells finds nearly every true difference, and even more that are none: it calls more than a quarter of the genes that do not differ."""  # noqa: E501
    _, differs, p, _ = trial(seed)
    hit = stats.false_discovery_control(p) < 0.05
    assert 0.25 < (p[~differs] < 0.05).mean() < 0.40
    assert (hit & differs).sum() >= 43
    assert (hit & ~differs).sum() > (hit & differs).sum()


def test_samples_keep_the_promise():
    """The test on samples keeps close to its 5 %, and pays with power."""
    quiet = [(p[~differs] < 0.05).mean() for _, differs, _, p in map(trial, SEEDS)]
    assert max(quiet) < 0.10
    assert 0.03 < np.mean(quiet) < 0.08
    for _, differs, cells, p in map(trial, SEEDS):
        hit = stats.false_discovery_control(p) < 0.05
        assert (hit & ~differs).sum() <= 3
        of_cells = stats.false_discovery_control(cells) < 0.05
        assert (hit & differs).sum() < 0.75 * (of_cells & differs).sum()
        assert (p[differs] < 0.05).mean() > 0.7


@pytest.mark.parametrize("seed", SEEDS)
def test_composition_shifts_the_others(seed):
    """With fifty up, every other share falls in B, and pseudobulk calls that a difference. ... With 25 each way most of that cancels"""  # noqa: E501
    called = {}
    for up in [25, 50]:
        alike = plant_samples(cd4(), seed, spread=0, up=up)
        called[up] = (by_samples(alike)[~alike.var["differs"].to_numpy()] < 0.05).mean()
    assert called[25] < 0.15
    assert called[50] > max(0.12, called[25] + 0.05)
    # the genes that stay really do lose share in B
    shares = alike.X.toarray() / np.asarray(alike.X.sum(axis=1))
    stays, in_b = ~alike.var["differs"].to_numpy(), (alike.obs["group"] == "B").to_numpy()
    rest = shares[:, stays].sum(axis=1)
    assert rest[in_b].mean() < rest[~in_b].mean() - 0.03


@pytest.mark.parametrize("seed", SEEDS)
def test_more_cells_make_it_worse(seed):
    """And more cells make it worse.

    And so do fewer samples (Exercise 3).
    """
    planted, differs, p, _ = trial(seed)
    half = by_cells(planted[::2].copy())
    assert (half[~differs] < 0.05).mean() < (p[~differs] < 0.05).mean() - 0.04
    two = plant_samples(cd4(), seed, n_samples=2)
    assert (by_cells(two)[~two.var["differs"].to_numpy()] < 0.05).mean() > 0.45


@pytest.mark.filterwarnings("ignore:One or more sample arguments is too small")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_one_against_one_has_no_p_value():
    """One against one leaves no variation to compare with, so there is no valid p-value for `condition`"""  # noqa: E501
    assert np.isnan(by_samples(plant_samples(cd4(), 0, n_samples=2))).all()


def test_interferon_genes_rise_in_every_type():
    """The interferon genes rise in every type, *ACTB* and *RPL13* change far less."""
    bulk = sc.get.aggregate(start().adata, ["cell_type", "condition"], "sum", layer="counts")
    total = sp.csr_matrix(bulk.layers["sum"]).toarray()
    table = pd.DataFrame(np.log2(1e6 * total / total.sum(axis=1)[:, None] + 1), bulk.obs_names)
    table.columns = bulk.var_names
    for name in ["CD4 T", "CD8 T", "NK", "B", "CD14 Mono"]:
        change = table.loc[f"{name}_stimulated"] - table.loc[f"{name}_control"]
        assert change[["ISG15", "IFI6", "MX1", "LY6E"]].min() > 2
        assert change[["ACTB", "RPL13"]].abs().max() < 1.5


# --- LSI --------------------------------------------------------------------------------------


@cache
def lsi():
    counts = start().adata.layers["counts"]
    detected = np.asarray((counts > 0).sum(axis=0)).ravel()
    total = np.asarray(counts.sum(axis=1)).ravel()
    tfidf = (sp.diags(1 / total) @ counts @ sp.diags(counts.shape[0] / detected)).tocsr()
    tfidf.data = np.log1p(1e4 * tfidf.data)
    return TruncatedSVD(31, algorithm="arpack", random_state=0).fit_transform(tfidf), np.log(total)


def test_first_component_is_an_offset():
    """its first component points from zero to the middle of the cells, and is mostly an offset. ... the second and the third agree with depth as well, because monocytes hold more RNA and run 2 is shallower, and they have no offset."""  # noqa: E501
    Z, depth = lsi()
    obs = start().adata.obs
    r = [abs(np.corrcoef(Z[:, i], depth)[0, 1]) for i in range(3)]
    offset = np.abs(Z.mean(axis=0)) / Z.std(axis=0)
    assert r[0] > 0.7
    assert min(r[1:]) > 0.4
    assert offset[0] > 4
    assert offset[1:].max() < 0.3
    mono, second = (obs["cell_type"] == "CD14 Mono").to_numpy(), (obs["run"] == "run 2").to_numpy()
    assert abs(np.corrcoef(Z[:, 1], mono)[0, 1]) > 0.6
    assert abs(np.corrcoef(Z[:, 2], second)[0, 1]) > 0.6
    assert np.median(depth[mono]) > np.median(depth[~mono]) + 0.4
    assert np.median(depth[second]) < np.median(depth[~second]) - 0.4


def after(Z, seed=0, **settings):
    """Median iLISI and cLISI of named cells after the correction of an embedding."""
    obs = start().adata.obs[["run", "cell_type"]].astype(str)
    cells = ad.AnnData(obs=obs, obsm={"X": Z})
    how = {"basis": "X", "adjusted_basis": "Z", "seed": seed}
    harmonize(cells, "run", **how, **ROUNDS, **settings)
    named = (obs["cell_type"] != "unassigned").to_numpy()
    return np.median(metrics.lisi(cells.obsm["Z"][named], obs[named]), axis=0)


def cosine(Z):
    return np.linalg.norm((Z / np.linalg.norm(Z, axis=1)[:, None]).mean(axis=0)) ** 2


@pytest.mark.parametrize("seed", FEW)
def test_the_offset_is_to_blame(seed):
    """LSI mixes less than scaled PCs here ... its types stay as pure. Without the first component or centred, it does about equally well; as it is, with the offset, it mixes least."""  # noqa: E501
    Z = lsi()[0]
    centred, as_is = after(Z - Z.mean(axis=0), seed), after(Z, seed)
    assert as_is[0] < centred[0] - 0.15
    if seed > 0:
        return
    pca, dropped = after(start().pcs), after(Z[:, 1:])
    assert max(dropped[0], centred[0]) < pca[0] - 0.1
    assert abs(centred[0] - dropped[0]) < 0.1
    assert max(dropped[1], centred[1]) < pca[1] + 0.02
    assert 0.65 < cosine(Z) < 0.75
    assert max(cosine(Z[:, 1:]), cosine(Z - Z.mean(axis=0)), cosine(start().pcs)) < 0.1


@pytest.mark.parametrize("seed", FEW)
def test_ten_steps_aside(seed):
    """All cells lie in one direction, so all soft clusters are alike and every cell gets the same shift: what nclust=1 would do."""  # noqa: E501
    obs = start().adata.obs[["run"]]
    cells = ad.AnnData(obs=obs, obsm={"X_pca": start().pcs, "X_aside": start().pcs + 10})
    harmonize(cells, "run", seed=seed, basis="X_aside", adjusted_basis="X_far", **ROUNDS)
    harmonize(cells, "run", seed=seed, adjusted_basis="X_one", nclust=1, **ROUNDS)
    assert np.allclose(cells.obsm["X_far"] - 10, cells.obsm["X_one"], atol=0.01)
    assert 1.7 < np.median(metrics.lisi(cells.obsm["X_far"], obs["run"])) < 1.85
