"""What lesson 10 says, held against the cells: each docstring is a sentence of the lesson.

Ranges hold over seeds 0 to 4 unless a test says otherwise. Tests of the fetched files are skipped
where these are not to be had; REQUIRE_DATA=1 fails them.
"""

import os

import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp
from sklearn.neighbors import NearestNeighbors

from helpers import kept, metrics, real
from helpers.data import prepare
from helpers.integrate import FINISHED, harmonize
from tools import carry

SEEDS = range(5)
BOTH = {"lamb": 1} | FINISHED
STRONG = {"theta": 10, "lamb": 0.1}
KILLER = ["NKG7", "GNLY", "PRF1", "GZMA", "GZMB", "GZMH", "GZMK", "CST7", "CTSW", "CCL5"]
CYCLING = [148773, 131747, 134057, 170312, 175063, 117724, 89685, 88325]
HOMES = {"A549": "celseq2 p3", "H838": "celseq2 p3"}
HOMES |= dict.fromkeys(["H1975", "H2228", "HCC827"], "celseq2 a")

scaling = pytest.mark.parametrize("scale", [True, False], ids=["scaled", "unscaled"])


@pytest.fixture(scope="module")
def files():
    if not real.available():
        reason = real.why_not()
        pytest.fail(reason) if os.environ.get("REQUIRE_DATA") == "1" else pytest.skip(reason)


def to_pcs(raw, scale=True, within=None):
    """As in the lesson, with scanpy's own scaling: an independent way to the same PCs."""
    adata = raw.copy()
    adata.X = sp.csr_matrix(sp.diags(1e4 / adata.obs["n_counts"].to_numpy()) @ adata.X)
    sc.pp.log1p(adata)
    values = adata.X.toarray()
    if scale:
        groups = adata.obs[within].to_numpy() if within else np.zeros(adata.n_obs)
        for group in np.unique(groups):
            values[groups == group] = sc.pp.scale(values[groups == group].copy(), max_value=10)
    adata.obsm["X_pca"] = sc.pp.pca(np.nan_to_num(values), n_comps=20, random_state=0)
    return adata


def mixing(adata, batch, rep):
    return np.median(metrics.lisi(adata.obsm[rep], adata.obs[batch]))


def apart(adata, types, rep):
    named = (adata.obs[types] != "unassigned").to_numpy()
    return metrics.own_share(adata.obsm[rep][named], adata.obs.loc[named, types]).mean()


def corrected(adata, batch, **settings):
    """The keys of five corrected embeddings, one per seed."""
    names = [f"{settings} {seed}" for seed in SEEDS]
    for seed, name in zip(SEEDS, names, strict=True):
        if name not in adata.obsm:
            harmonize(adata, batch, seed=seed, adjusted_basis=name, **settings)
    return names


# --- two labs -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def raw():
    return real.load_two_labs()


@pytest.fixture(scope="module")
def all_labs(raw):
    return {scale: to_pcs(raw, scale) for scale in (True, False)}


@pytest.fixture(scope="module")
def within(raw):
    return to_pcs(raw, within="study")


def test_every_type_is_in_both_studies_but_not_in_equal_numbers(raw):
    """Every type is in both studies, but not in equal numbers: look at the dendritic cells"""
    table = pd.crosstab(raw.obs["cell_type"], raw.obs["study"])
    assert (table > 0).all().all()
    assert table.loc["DC", "Zheng 2017"] > 10 * table.loc["DC", "Kang 2018"]


@scaling
def test_the_default_stops_after_one_round_and_moves_nothing(all_labs, scale):
    """It stopped after one round and calls itself converged, because in that round the objective
    fell by less than 1 %.
    """
    labs = all_labs[scale]
    floor = kept.noise_floor(labs, "study")
    for name in corrected(labs, "study"):
        record = labs.uns[name]
        assert record["n_rounds"] == 1
        assert record["converged"]
        assert record["total_fall"] < 0.01 * record["objective"][0]
        assert mixing(labs, "study", name) < 1.01
        # "hardly further than when the studies are shuffled"
        assert kept.moved(labs.obsm["X_pca"], labs.obsm[name]) < 2 * floor


@scaling
def test_neither_alone_both_together(all_labs, scale):
    """Neither alone; both together."""
    labs = all_labs[scale]
    before = apart(labs, "cell_type", "X_pca")
    for name in corrected(labs, "study", **FINISHED):
        assert mixing(labs, "study", name) < 1.15
    for name in corrected(labs, "study", lamb=1):
        assert mixing(labs, "study", name) < 1.01
        assert labs.uns[name]["n_rounds"] == 1
    for name in corrected(labs, "study", **BOTH):
        assert mixing(labs, "study", name) > 1.5
        assert apart(labs, "cell_type", name) > before - 0.04


def test_types_apart_stay_with_scaled_genes(all_labs):
    """Neither alone; both together."""
    labs = all_labs[True]
    before = apart(labs, "cell_type", "X_pca")
    for name in corrected(labs, "study", **BOTH):
        assert apart(labs, "cell_type", name) > before - 0.005


@scaling
def test_a_finished_run_is_not_a_mixed_one(all_labs, scale):
    """Forty rounds with the default penalty do mix something, above all T cells and NK cells, and
    leave monocytes and dendritic cells as they were.
    """
    labs = all_labs[scale]
    for name in corrected(labs, "study", **FINISHED):
        keys = {"batch_key": "study", "label_key": "cell_type", "use_rep": name}
        by_type = metrics.lisi_by_type(labs, **keys)["iLISI"]
        assert by_type[["T", "NK"]].min() > 1.4
        assert by_type[["Mono", "DC"]].max() < 1.05


def test_a_finished_run_is_not_quite_at_its_end():
    """Nor is it quite at its end here: 40 more rounds still change 2 to 8 of 100 neighbours, and
    two seeds share 85 to 93 of 100
    """
    values = carry.read_record()["values"]
    changed = [round(100 * (1 - shared)) for shared in values["forty_rounds_land"]["two labs"]]
    assert (min(changed), max(changed)) == (2, 8)
    shared = [round(100 * share) for share in values["finished_seeds_agree"]["two labs"]]
    assert (min(shared), max(shared)) == (85, 93)


@scaling
def test_the_objective_misleads_the_rule(all_labs, scale):
    """In the first round there is hardly a fall; most of the way down comes later, here after
    rises.
    """
    labs = all_labs[scale]
    rises = 0
    for name in corrected(labs, "study", **BOTH):
        objective = labs.uns[name]["objective"]
        assert 0 <= objective[0] - objective[1] < 0.01 * objective[0]
        assert objective[-1] < 0.9 * objective[0]
        rises += (np.diff(objective[:12]) > 0).any()
    assert rises == len(SEEDS) or not scale


def carried_over(adata, rep):
    """By distances in full, not by the lesson's search."""
    obs = adata.obs[adata.obs["cell_type"] != "unassigned"]
    X = pd.DataFrame(adata.obsm[rep], adata.obs_names)
    zheng, kang = (obs.index[obs["study"] == name] for name in ("Zheng 2017", "Kang 2018"))
    search = NearestNeighbors(n_neighbors=15, algorithm="brute").fit(X.loc[zheng])
    near = obs.loc[zheng, "cell_type"].to_numpy(str)[search.kneighbors(X.loc[kang])[1]]
    given = pd.DataFrame(near).mode(axis=1)[0].to_numpy()
    truth = obs.loc[kang, "cell_type"].astype(str)
    return (given == truth).groupby(truth.to_numpy()).mean()


def test_scaling_within_mixes_and_the_monocytes_pay(all_labs, within):
    """Corrected the first way, nearly all of them get their name; scaled within the studies, less
    than half of them do with one seed and not quite four fifths with another, and the harm is there
    before Harmony begins.
    """
    labs = all_labs[True]
    assert carried_over(within, "X_pca")["Mono"] < 0.65  # before Harmony has begun
    assert carried_over(labs, "X_pca")["Mono"] < 0.85
    for name in corrected(labs, "study", **BOTH):
        assert carried_over(labs, name)["Mono"] > 0.9
    for name in corrected(within, "study"):
        assert mixing(within, "study", name) > 1.45
        assert apart(within, "cell_type", name) < apart(within, "cell_type", "X_pca") - 0.015
    shares = [carried_over(within, name)["Mono"] for name in corrected(within, "study")]
    assert 0.4 < min(shares) < 0.5
    assert 0.7 < max(shares) < 0.8


def test_many_cells_are_sampled(all_labs, monkeypatch):
    """Above 50,000 cells `three_numbers` and `score` ask 10,000 cells about all, say so, and give
    the 95 % intervals in `attrs["sampled"]`.
    """
    assert (metrics.EXACT, metrics.SAMPLE) == (50_000, 10_000)
    labs = all_labs[True]
    monkeypatch.setattr(metrics, "EXACT", labs.n_obs - 1)
    monkeypatch.setattr(metrics, "SAMPLE", labs.n_obs // 2)
    keys = {"batch_key": "study", "label_key": "cell_type"}
    labs.obs["killer"] = labs[:, KILLER].to_df().mean(axis=1)
    with pytest.warns(UserWarning, match="Estimated from .* of .* cells"):
        three = metrics.three_numbers(labs, keep_key="killer", use_reps=["X_pca"], **keys)
    with pytest.warns(UserWarning, match="Estimated from .* of .* cells"):
        scores = metrics.score(labs, use_rep="X_pca", **keys)
    for said in (three.attrs["sampled"]["X_pca"], scores.attrs["sampled"]):
        assert said["n_queries"] == labs.n_obs // 2
        assert any(isinstance(value, tuple) for value in said.values())


def test_on_unscaled_genes_the_monocytes_gain_nothing(all_labs):
    """on unscaled ones the first way mixes as well, but names the monocytes no better than
    before
    """
    labs = all_labs[False]
    names = corrected(labs, "study", **BOTH)
    assert min(mixing(labs, "study", name) for name in names) > 1.5
    shares = [carried_over(labs, name)["Mono"] for name in names]
    assert np.mean(shares) < carried_over(labs, "X_pca")["Mono"] + 0.02


def test_dendritic_cells_are_the_nearest_relatives_of_monocytes(all_labs):
    """dendritic cells, the nearest relatives of monocytes here

    The centre next to theirs, in each study.
    """
    labs = all_labs[True]
    for study in ("Zheng 2017", "Kang 2018"):
        inside = (labs.obs["study"] == study).to_numpy()
        types = labs.obs["cell_type"][inside].astype(str).to_numpy()
        centres = pd.DataFrame(labs.obsm["X_pca"][inside]).groupby(types).mean()
        away = ((centres - centres.loc["Mono"]) ** 2).sum(axis=1)
        assert away.drop(["Mono", "unassigned"]).idxmin() == "DC"


def test_the_killer_genes_differ_within_t_cells(all_labs):
    """T cells and NK cells differ in how much of the killing machinery they make"""
    labs = all_labs[True]
    killer = labs[:, KILLER].to_df().mean(axis=1)
    t_cells = (labs.obs["cell_type"] == "T").to_numpy()
    assert metrics.known(labs.obsm["X_pca"][t_cells], killer[t_cells].to_numpy()) > 0.8


@scaling
def test_a_higher_theta_gets_there_too(all_labs, scale):
    """A higher theta gets there too"""
    labs = all_labs[scale]
    for name in corrected(labs, "study", theta=6, **FINISHED):
        assert mixing(labs, "study", name) > 1.4


def test_the_reference_is_lower_within_types(all_labs):
    """batches that hold different types can only mix within types, and should not do more"""
    for labs in all_labs.values():
        X, study = labs.obsm["X_pca"], labs.obs["study"]
        for seed in SEEDS:
            over_all = metrics.mixing_reference(X, batch=study, seed=seed)
            assert over_all > metrics.mixing_reference(
                X, batch=study, labels=labs.obs["cell_type"], seed=seed
            )


# --- three chemistries --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def all_chemistries(files):
    raw = real.load_chemistries()
    return {scale: to_pcs(raw, scale) for scale in (True, False)}


@scaling
def test_what_a_good_correction_looks_like(all_chemistries, scale):
    """mixing close to the reference, and both biology columns a little higher than before"""
    cells = all_chemistries[scale]
    keys = {"batch_key": "chemistry", "label_key": "cell_type_broad", "keep_key": "cell_type"}
    names = corrected(cells, "chemistry") + corrected(cells, "chemistry", **FINISHED)
    table = metrics.three_numbers(cells, use_reps=["X_pca", *names], **keys)
    before, after = table.loc["X_pca"], table.drop("X_pca")
    low, high = (2.4, 2.55) if scale else (2.1, 2.2)
    assert before["mixing"] < 1.1
    assert after["mixing"].between(low, high).all()
    assert (after["types apart"] > before["types apart"]).all()
    assert (after["biology kept"] > before["biology kept"]).all()
    reference = metrics.mixing_reference(
        cells.obsm["X_pca"], batch=cells.obs["chemistry"], labels=cells.obs["cell_type_broad"]
    )
    assert after["mixing"].max() < reference


def test_the_genes_came_chosen(all_chemistries):
    """(The 1,767 genes came chosen, so nothing is left for `batch_key` to choose"""
    assert all_chemistries[True].n_vars == 1767
    assert real.load_chemistries().n_vars == 1767


def test_unscaled_genes_mix_less(all_chemistries):
    """Unscaled genes mix less here, with the same biology."""
    keys = {"batch_key": "chemistry", "label_key": "cell_type_broad", "keep_key": "cell_type"}
    scaled, unscaled = (
        metrics.three_numbers(cells, use_reps=corrected(cells, "chemistry", **FINISHED), **keys)
        for cells in (all_chemistries[True], all_chemistries[False])
    )
    assert unscaled["mixing"].max() < scaled["mixing"].min() - 0.2
    apart = (unscaled - scaled.to_numpy())[["types apart", "biology kept"]].mean()
    assert apart.abs().max() < 0.02


@scaling
def test_stopped_and_finished_are_the_same_here(all_chemistries, scale):
    """Here stopped and finished are the same."""
    cells = all_chemistries[scale]
    stopped, finished = corrected(cells, "chemistry"), corrected(cells, "chemistry", **FINISHED)
    for one, other in zip(stopped, finished, strict=True):
        assert 5 <= cells.uns[one]["n_rounds"] <= 10
        assert abs(mixing(cells, "chemistry", one) - mixing(cells, "chemistry", other)) < 0.03


def test_tiny_types_have_no_score(all_chemistries):
    """Types are uneven, and HSC is missing from one batch."""
    obs = all_chemistries[True].obs
    table = pd.crosstab(obs["cell_type"], obs["chemistry"])
    assert table.loc["HSC"].to_dict() == {"3' v1": 2, "3' v2": 0, "5'": 1}
    assert table.loc["MK"].sum() == 7


def test_two_pcs_show_little_of_what_twenty_hold(all_chemistries):
    """Before the correction the picture looks half mixed, and the number says 1.06."""
    cells = all_chemistries[True]
    two = np.median(metrics.lisi(cells.obsm["X_pca"][:, :2], cells.obs["chemistry"]))
    assert two > 1.5
    assert round(mixing(cells, "chemistry", "X_pca"), 2) == 1.06


# --- five cell lines ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lines(files):
    return real.load_cell_lines()


@pytest.fixture(scope="module")
def sure(lines):
    return lines[lines.obs["genotype"] == "one"].copy()


@scaling
def test_the_runs_mix_the_lines_stay_apart_and_the_cycle_is_kept(lines, scale):
    """The runs mix, the lines stay apart, and the cycle is kept."""
    cells = prepare(lines, batch_key="run", n_comps=20, scale=scale)
    cells.obs["cycle"] = cells[:, [f"ENSG{n:011d}" for n in CYCLING]].to_df().mean(axis=1)
    names = corrected(cells, "run") + corrected(cells, "run", **FINISHED)
    keys = {"batch_key": "run", "label_key": "cell_line", "keep_key": "cycle"}
    table = metrics.three_numbers(cells, use_reps=["X_pca", *names], **keys)
    before, after = table.loc["X_pca"], table.drop("X_pca")
    assert 2.1 < before["mixing"] < 2.4
    assert after["mixing"].between(2.9, 3.05).all()
    assert (after["types apart"] > before["types apart"] - 0.01).all()
    assert (after["biology kept"] > before["biology kept"] - 0.01).all()


def test_genes_chosen_without_batch_key_give_nearly_the_same(lines):
    """Genes chosen without batch_key give nearly the same here

    Where they are scaled; unscaled, the default run stops earlier on some seeds.
    """
    cells = prepare(lines, n_comps=20)
    for name in corrected(cells, "run", **FINISHED):
        assert mixing(cells, "run", name) > 2.9
        assert apart(cells, "cell_line", name) > 0.97


def test_unsure_labels_are_the_cells_of_two_genotypes(lines):
    """Nearly all are around cells in which two genotypes were found, before and after."""
    cells = prepare(lines, batch_key="run", n_comps=20)
    two = (cells.obs["genotype"] == "two").to_numpy()
    for name in ["X_pca", *corrected(cells, "run", **FINISHED)]:
        foreign = 1 - metrics.own_share(cells.obsm[name], cells.obs["cell_line"])
        assert 0.015 < foreign.mean() < 0.035
        assert foreign[two].sum() > 0.9 * foreign.sum()


def withheld(sure, line, home, scale=True):
    away = (sure.obs["cell_line"] == line) & (sure.obs["run"] != home)
    return prepare(sure[~away], batch_key="run", n_comps=20, scale=scale)


def lone_share(cells, line, rep):
    mine = (cells.obs["cell_line"] == line).to_numpy()
    return metrics.own_share(cells.obsm[rep], cells.obs["cell_line"])[mine].mean()


@scaling
@pytest.mark.parametrize("line", HOMES)
def test_a_lone_line_stays_or_is_dissolved_and_mixing_rewards_the_fault(sure, line, scale):
    """The finished run leaves every lone line alone, or nearly. ... The strong one dissolves them
    in other lines, and its mixing is higher
    """
    cells = withheld(sure, line, HOMES[line], scale)
    gentle, strong = corrected(cells, "run", **FINISHED), corrected(cells, "run", **STRONG)
    assert lone_share(cells, line, "X_pca") > 0.97
    assert min(lone_share(cells, line, name) for name in gentle) > 0.85
    assert max(lone_share(cells, line, name) for name in strong) < 0.65
    lowest = min(mixing(cells, "run", name) for name in strong)
    assert lowest > max(mixing(cells, "run", name) for name in gentle)


def test_the_signature_tells_the_two_fates_apart(sure):
    """near, the share of neighbours from other runs, tells the two fates apart: it stands alone, or
    it was absorbed
    """
    cells = withheld(sure, "H2228", "celseq2 a")
    clusters = kept.cluster_within(cells, "run", "X_pca")
    home = clusters[cells.obs["cell_line"] == "H2228"].mode()[0]
    for settings, alone in ((FINISHED, True), (STRONG, False)):
        for name in corrected(cells, "run", **settings):
            table = kept.signature_kept(cells, "run", name, clusters).set_index("cluster")
            assert table.index.get_loc(home) <= 1
            assert table.loc[home, "kept"] < 0.5
            near = table.loc[home, "near"]
            assert near < 0.1 if alone else near > 0.7


def test_a_small_lone_line_depends_on_the_seed(sure):
    """Run more than one seed before you trust the place of a small group."""
    cells = withheld(sure, "HCC827", "celseq2 p1")
    assert (cells.obs["cell_line"] == "HCC827").sum() == 21
    shares = [lone_share(cells, "HCC827", n) * 30 / 20 for n in corrected(cells, "run", **FINISHED)]
    assert 0.4 < min(shares) < 0.8
    assert max(shares) > 0.9


@scaling
def test_runs_with_nothing_in_common(sure, scale):
    """forty rounds begin to merge lines, and so does what rescued the two labs. ... How far depends
    on the seed
    """
    three = sure.obs["run"] == "celseq2 a"
    two = (sure.obs["run"] == "celseq2 p3") & sure.obs["cell_line"].isin(["A549", "H838"])
    cells = prepare(sure[three | two], batch_key="run", n_comps=20, scale=scale)
    run, line = cells.obs["run"], cells.obs["cell_line"]
    assert metrics.mixing_reference(cells.obsm["X_pca"], batch=run, labels=line) == pytest.approx(1)
    for name in corrected(cells, "run"):
        assert cells.uns[name]["n_rounds"] == 1
        assert mixing(cells, "run", name) < 1.01
        assert apart(cells, "cell_line", name) > 0.985
    for settings in (FINISHED, BOTH):
        shares = [apart(cells, "cell_line", name) for name in corrected(cells, "run", **settings)]
        assert 0.7 < min(shares) < 0.97
        assert max(shares) > 0.98  # the seed decides
    shares = [apart(cells, "cell_line", name) for name in corrected(cells, "run", **STRONG)]
    assert min(shares) < 0.65
