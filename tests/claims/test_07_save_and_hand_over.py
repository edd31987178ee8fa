"""What lesson 07 says in words about its cells; each docstring is the sentence of the lesson."""

import ast
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
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from helpers import metrics, plots
from helpers.data import load_pbmc, prepare
from helpers.integrate import FINISHED, harmonize

SEEDS = [0, 1, 2, 3, 4]
FEW = [0, 2, 4]  # where each seed means PCA anew; the ranges were seen to hold for all five
LESSON = Path(__file__).parents[2] / "notebooks" / "07_save_and_hand_over.ipynb"


@cache
def start():
    """The lesson's object, made anew."""
    raw = load_pbmc()
    adata = prepare(raw, scale=False)
    pcs = adata.obsm["X_pca"].copy()
    harmonize(adata, "condition", **FINISHED)
    how = {"use_rep": "X_pca_harmony", "transformer": "sklearn", "method": "gauss"}
    sc.pp.neighbors(adata, **how, random_state=0)
    leiden = {"flavor": "igraph", "n_iterations": 2, "directed": False, "random_state": 0}
    sc.tl.leiden(adata, resolution=0.5, **leiden)
    adata.uns["cell_type_colors"] = list(plots.palette(adata.obs["cell_type"]).values())
    return SimpleNamespace(raw=raw, adata=adata, pcs=pcs)


# --- slots and files --------------------------------------------------------------------------


@cache
def slots():
    """The table of slots, read from the lesson."""
    cells = nbformat.read(LESSON, as_version=4).cells
    source = next(cell.source for cell in cells if cell.source.startswith("slots = {"))
    return ast.literal_eval(source.removeprefix("slots = "))


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
    return np.array_equal(np.asarray(a), np.asarray(b))


def differences(a, b):
    return [place for place in slots() if not same(content(a, *place), content(b, *place))]


def test_slots_hold_what_the_table_says():
    """Here is what we expect, written as a table that a program can check."""
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
    assert adata.uns["X_pca_harmony"]["key"] == ["condition"]
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
    adata.write_h5ad(here / "cells.h5ad", compression="gzip")
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
    """Nothing differs in value. ... Lists come back as arrays."""
    adata = start().adata
    back = (ad.read_zarr if name.endswith("zarr") else ad.read_h5ad)(files / name)
    assert differences(adata, back) == []
    assert list(back.obs_names) == list(adata.obs_names)
    assert list(back.var_names) == list(adata.var_names)
    for column in ["condition", "cell_type", "leiden"]:
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
        start().pcs, careless.obs, "condition", verbose=False, random_state=0, max_iter_harmony=1
    )
    careless.uns = {"harmony": result, **careless.uns}
    with pytest.raises(Exception, match="No method registered for writing"):
        careless.write_h5ad(target)
    lost = differences(start().adata, ad.read_h5ad(target))
    assert ("uns", "X_pca_harmony") in lost
    assert ("obs", "cell_type") not in lost


# --- genes ------------------------------------------------------------------------------------


@cache
def cd4():
    """Counts of the control's CD4 T cells, genes seen in at least a quarter of them."""
    adata = start().adata
    some = adata[(adata.obs["condition"] == "control") & (adata.obs["cell_type"] == "CD4 T")]
    common = np.asarray((some.layers["counts"] > 0).mean(axis=0)).ravel() >= 0.25
    return ad.AnnData(
        some.layers["counts"][:, common], obs=some.obs[[]], var=some.var.loc[common, []]
    )


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
    """One against one leaves no variation to compare with, so there is no valid p-value for `condition`."""  # noqa: E501
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


# --- new cells --------------------------------------------------------------------------------


@cache
def names():
    obs = start().adata.obs
    return obs.index[obs["cell_type"] != "unassigned"]


@cache
def split(seed, lacking=()):
    """Reference with corrected PCs, query, and the query's PCs, batch and types."""
    adata, raw = start().adata, start().raw
    held = np.random.default_rng(seed).random(len(names())) < 0.2
    kept = names()[~held & ~adata.obs.loc[names(), "cell_type"].isin(lacking).to_numpy()]
    reference, query = prepare(raw[kept], scale=False), raw[names()[held]].copy()
    harmonize(reference, "condition", seed=seed, **FINISHED)
    return SimpleNamespace(
        reference=reference,
        before=reference.obsm["X_pca"],
        fixed=reference.obsm["X_pca_harmony"],
        types=reference.obs["cell_type"].astype(str).to_numpy(),
        conditions=reference.obs["condition"].astype(str).to_numpy(),
        on_pcs=project(query, reference),
        batch=query.obs["condition"].astype(str).to_numpy(),
        truth=query.obs["cell_type"].astype(str).to_numpy(),
    )


def project(new, reference):
    new = new[:, reference.var_names].copy()
    sc.pp.normalize_total(new, target_sum=1e4)
    sc.pp.log1p(new)
    used = reference.var["highly_variable"].to_numpy()
    centre = reference[:, used].X.mean(axis=0)
    return np.asarray((new[:, used].X - centre) @ reference.varm["PCs"][used])


def borrow(s, k=15):
    placed = s.on_pcs.copy()
    for level in np.unique(s.batch):
        known = s.conditions == level
        model = KNeighborsRegressor(k).fit(s.before[known], (s.before - s.fixed)[known])
        placed[s.batch == level] -= model.predict(s.on_pcs[s.batch == level])
    return placed


def jointly(before, on_pcs, conditions, seed=0):
    both = ad.AnnData(obsm={"X_pca": np.vstack([before, on_pcs])})
    both.obs["condition"] = conditions
    harmonize(both, "condition", seed=seed, **FINISHED)
    return np.split(both.obsm["X_pca_harmony"], [len(before)])


def label(X, types, new, k=15):
    model = KNeighborsClassifier(k).fit(X, types)
    votes, far = model.predict_proba(new), model.kneighbors(new)[0].mean(axis=1)
    return model.classes_[votes.argmax(axis=1)], votes.max(axis=1), far


def right(labels, truth):
    hit = pd.Series(labels == truth)
    return hit.mean(), hit.groupby(truth).mean().mean()


def test_the_reference_lands_on_itself():
    """The test is that the reference's own cells land on their own PCs."""
    reference = split(0).reference
    itself = project(start().raw[reference.obs_names], reference)
    assert np.allclose(itself, reference.obsm["X_pca"], atol=0.01)


@pytest.mark.parametrize("seed", FEW)
def test_right_labels_do_not_prove_right_places(seed):
    """All four label equally well, about nine in ten ... *as projected* leaves the cells beside the corrected ones, and only iLISI tells. ... The joint run has its own price: it moves the reference too."""  # noqa: E501
    s = split(seed)
    both = np.append(s.conditions, s.batch)
    refixed, joint = jointly(s.before, s.on_pcs, both, seed)
    ways = [(s.before, s.on_pcs), (s.fixed, s.on_pcs), (s.fixed, borrow(s)), (refixed, joint)]
    shares = [right(label(X, s.types, new)[0], s.truth)[0] for X, new in ways]
    assert min(shares) > 0.87
    assert max(shares) - min(shares) < 0.02
    placed = ways[1:]
    ilisi = [np.median(metrics.lisi(np.vstack(way), both)[len(way[0]) :]) for way in placed]
    assert ilisi[0] < 1.25
    assert ilisi[1] > 1.45
    assert abs(ilisi[2] - ilisi[1]) < 0.05
    spread = np.linalg.norm(s.fixed - s.fixed.mean(axis=0))
    assert 0.005 < np.linalg.norm(refixed - s.fixed) / spread < 0.05


@cache
def lane():
    adata, raw = start().adata, start().raw
    lanes = adata.obs.loc[names(), "condition"].astype(str).to_numpy()
    control, treated = (
        prepare(raw[names()[lanes == "control"]], scale=False),
        raw[names()[lanes != "control"]],
    )
    types = [x.obs["cell_type"].astype(str).to_numpy() for x in (control, treated)]
    return control.obsm["X_pca"], project(treated, control), types


@pytest.mark.parametrize("seed", SEEDS)
def test_correction_helps_the_rarer_types_of_a_new_lane(seed):
    """Most cells found their type before; the correction helps the rarer types most."""
    before, new, (old_types, new_types) = lane()
    conditions = np.repeat(["control", "stimulated"], [len(before), len(new)])
    labels = label(before, old_types, new)[0]
    X, placed = jointly(before, new, conditions, seed)
    corrected = label(X, old_types, placed)[0]
    plain, fixed = right(labels, new_types), right(corrected, new_types)
    assert 0.85 < plain[0] < fixed[0] + 0.005
    assert fixed[1] > plain[1] + 0.04
    by_type = [pd.Series(x == new_types).groupby(new_types).mean() for x in (labels, corrected)]
    gain = by_type[1] - by_type[0]
    assert gain[["DC", "pDC"]].min() > 0.15
    assert gain[["CD4 T", "CD14 Mono", "B"]].abs().max() < 0.05


@cache
def strangers(missing, seed):
    s = split(seed, (missing,))
    given, sure, far = label(s.fixed, s.types, borrow(s))
    strange = s.truth == missing
    far = far / np.quantile(far[~strange], 0.95)
    return SimpleNamespace(strange=strange, given=given, sure=sure >= 0.8, near=far <= 1, far=far)


@pytest.mark.parametrize("seed", FEW)
def test_b_cells_betray_themselves(seed):
    """B cells betray themselves: their votes are split, and few pass both limits."""
    s = strangers("B", seed)
    assert pd.Series(s.given[s.strange]).value_counts().index[0] == "CD4 T"
    assert s.sure[s.strange].mean() < 0.5
    assert (s.sure & s.near)[s.strange].mean() < 0.4
    assert (s.sure & s.near)[~s.strange].mean() > 0.75


@pytest.mark.parametrize("seed", FEW)
def test_nk_cells_get_a_wrong_label_with_confidence(seed):
    """NK cells are called CD8 T as confidently as cells of known types get their labels, and about half pass both limits. ... No limit parts the grey from the dashed line."""  # noqa: E501
    s = strangers("NK", seed)
    assert (s.given[s.strange] == "CD8 T").mean() > 0.88
    assert s.sure[s.strange].mean() > s.sure[~s.strange].mean() - 0.05
    assert 0.4 < (s.sure & s.near)[s.strange].mean() < 0.7
    assert np.median(s.far[s.strange]) > np.median(s.far[~s.strange])
    limits = np.linspace(0.5, 1.5, 101)
    wrong = [(s.far[s.strange] <= x).mean() + (s.far[~s.strange] > x).mean() for x in limits]
    assert min(wrong) > 0.2


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
    """Its first component points from zero to the middle of the cells, and is mostly an offset. ... The second agrees with depth as well, because monocytes hold more RNA, and it has no offset."""  # noqa: E501
    Z, depth = lsi()
    r = [abs(np.corrcoef(Z[:, i], depth)[0, 1]) for i in range(2)]
    offset = np.abs(Z.mean(axis=0)) / Z.std(axis=0)
    assert r[0] > 0.7
    assert r[1] > 0.4
    assert offset[0] > 4
    assert offset[1:].max() < 0.3
    mono = (start().adata.obs["cell_type"] == "CD14 Mono").to_numpy()
    assert abs(np.corrcoef(Z[:, 1], mono)[0, 1]) > 0.6
    assert np.median(depth[mono]) > np.median(depth[~mono]) + 0.4


def after(Z, seed=0):
    """Median iLISI and cLISI of named cells after the correction of an embedding."""
    obs = start().adata.obs[["condition", "cell_type"]].astype(str)
    cells = ad.AnnData(obs=obs, obsm={"X": Z})
    harmonize(cells, "condition", basis="X", adjusted_basis="Z", seed=seed, **FINISHED)
    named = (obs["cell_type"] != "unassigned").to_numpy()
    return np.median(metrics.lisi(cells.obsm["Z"][named], obs[named]), axis=0)


def cosine(Z):
    return np.linalg.norm((Z / np.linalg.norm(Z, axis=1)[:, None]).mean(axis=0)) ** 2


@pytest.mark.parametrize("seed", FEW)
def test_the_offset_is_to_blame(seed):
    """Centred, it keeps that component and mixes just as well. ... Only as it is, with the offset, it mixes less."""  # noqa: E501
    Z = lsi()[0]
    centred, as_is = after(Z - Z.mean(axis=0), seed), after(Z, seed)
    assert as_is[0] < centred[0] - 0.1
    if seed > 0:
        return
    pca, dropped = after(start().pcs), after(Z[:, 1:])
    assert dropped[0] > pca[0]
    assert abs(centred[0] - dropped[0]) < 0.05
    assert max(dropped[1], centred[1]) < pca[1] + 0.02
    assert cosine(Z) > 0.75
    assert max(cosine(Z[:, 1:]), cosine(Z - Z.mean(axis=0)), cosine(start().pcs)) < 0.1


@pytest.mark.parametrize("seed", FEW)
def test_ten_steps_aside(seed):
    """Add 10 to every PC ... Does Harmony's result change?

    It hardly corrects (Exercise 5).
    """
    assert after(start().pcs + 10, seed)[0] < 1.25
