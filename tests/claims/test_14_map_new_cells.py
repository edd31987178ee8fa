"""What lesson 14 says, held against the cells: each docstring is a sentence of the lesson.

General sentences are tested on five draws of the three runs, on scaled and on unscaled genes;
those that say "here" on the lesson's own draw. Tests of the fetched files are skipped where these
are not to be had; REQUIRE_DATA=1 fails them.
"""

import os
from functools import cache
from types import SimpleNamespace

import anndata as ad
import harmonypy
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier

from helpers import kept, metrics, real
from helpers.data import PBMC_FILE
from helpers.data import prepare as prepare_scaled
from helpers.integrate import FINISHED
from tools.record.symphonypy_recorded import three_runs

ROUNDS = FINISHED | {"max_iter_harmony": 15}
SEEDS, HERE = range(5), 3

draws = pytest.mark.parametrize("seed", SEEDS)
scaling = pytest.mark.parametrize("scale", [True, False], ids=["scaled", "unscaled"])


# --- the lesson's functions; genes that are not scaled have a standard deviation of 1 -----------


def prepare(raw, scale=True, **more):
    adata = prepare_scaled(raw, scale=scale, **more)
    if not scale:
        adata.var["mean"], adata.var["std"] = np.ravel(adata.X.mean(axis=0)), 1.0
    return adata


def scaled(logged, genes):
    there = logged.var_names.isin(genes.index)
    values = logged[:, there].to_df().reindex(columns=genes.index)
    return np.clip(((values - genes["mean"]) / genes["std"]).fillna(0).to_numpy(), -10, 10)


def project(new, reference, by_itself=False):
    new = new[:, new.var_names.isin(reference.var_names)].copy()
    sc.pp.normalize_total(new, target_sum=1e4)
    sc.pp.log1p(new)
    chosen = reference.var["highly_variable"].to_numpy()
    genes = reference.var.loc[chosen, ["mean", "std"]]
    values, zero = scaled(new, genes), scaled(reference, genes).mean(axis=0)
    if by_itself:
        values = (values - values.mean(axis=0)) / (values.std(axis=0) + 1e-9)
    return (values - zero) @ reference.varm["PCs"][chosen]


def on_sphere(Z):
    return Z / np.linalg.norm(Z, axis=1, keepdims=True)


def compress(reference):
    run = harmonypy.run_harmony(
        reference.obsm["X_pca"], reference.obs, "run", verbose=False, **ROUNDS
    )
    return {"Z": run.Z_corr, "R": run.R, "N": run.R.sum(axis=0), "C": run.R.T @ run.Z_corr}


def memberships(new, ref, sigma=0.1):
    R = np.exp(2 * (on_sphere(new) @ on_sphere(ref["C"]).T - 1) / sigma)
    return R / R.sum(axis=1, keepdims=True)


def symphony(new, batch, ref, lamb=1.0):
    R = memberships(new, ref)
    X = np.column_stack([np.ones(len(new)), pd.get_dummies(batch)]).astype(float)
    penalty = np.diag([0.0] + [lamb] * (X.shape[1] - 1))
    placed = new.astype(float)
    for k, (n, c) in enumerate(zip(ref["N"], ref["C"], strict=True)):
        RX = R[:, [k]] * X
        left, right = RX.T @ X + penalty, RX.T @ new
        left[0, 0] += n
        right[0] += c
        placed -= RX[:, 1:] @ np.linalg.solve(left, right)[1:]
    return placed


def jointly(new, batch, reference):
    both = np.vstack([reference.obsm["X_pca"], new])
    obs = pd.DataFrame({"run": np.append(reference.obs["run"].astype(str), batch)})
    run = harmonypy.run_harmony(both, obs, "run", verbose=False, **ROUNDS)
    return np.split(run.Z_corr, [reference.n_obs])


def label(X, names, new, k=15):
    model = KNeighborsClassifier(k).fit(X, names)
    votes = model.predict_proba(new)
    far = model.kneighbors(new)[0].mean(axis=1)
    return model.classes_[votes.argmax(axis=1)], votes.max(axis=1), far


def judge(ways, reference, query):
    old, new = (x.obs.astype(str).reset_index() for x in (reference, query))
    runs, rows = np.append(old["run"], new["run"]), {}
    for name, (X, placed) in ways.items():
        hit = label(X, old["cell_type"], placed)[0] == new["cell_type"]
        state = label(X, old["condition"], placed)[0] == new["condition"]
        rows[name] = {
            "types": hit.mean(),
            "mean of types": hit.groupby(new["cell_type"]).mean().mean(),
            "condition": state.mean(),
            "mixing": np.median(metrics.lisi(np.vstack([X, placed]), runs)[len(X) :]),
        }
    return pd.DataFrame(rows).T


def mapping_score(new, ref):
    R, score = memberships(new, ref), np.zeros(len(new))
    for k, weight in enumerate(ref["R"].T):
        cov = np.cov(ref["Z"].T, aweights=weight)
        off = new - ref["C"][k] / ref["N"][k]
        score += R[:, k] * np.sqrt(np.einsum("ij,jk,ik->i", off, np.linalg.pinv(cov), off))
    return score


# --- one draw of the three runs -----------------------------------------------------------------


@cache
def runs(seed):
    return three_runs(seed)


@cache
def draw(seed, scale):
    """Reference and query of a draw, and the query's places."""
    raw, query = runs(seed)
    reference = prepare(raw, scale)
    d = SimpleNamespace(raw=raw, query=query, reference=reference, scale=scale)
    d.before, d.on_pcs = reference.obsm["X_pca"], project(query, reference)
    d.types, d.truth = (x.obs["cell_type"].astype(str).to_numpy() for x in (reference, query))
    d.batch, d.ref = query.obs["run"].to_numpy(), compress(reference)
    d.stimulated = (query.obs["condition"] == "stimulated").to_numpy()
    d.mapped = symphony(d.on_pcs, d.batch, d.ref)
    return d


def three(d, some):
    """Scores of a part of the query: uncorrected, mapped, jointly."""
    new, batch = d.on_pcs[some], d.batch[some]
    ways = {"uncorrected": (d.before, new), "jointly": jointly(new, batch, d.reference)}
    ways["Symphony"] = d.ref["Z"], symphony(new, batch, d.ref)
    return judge(ways, d.reference, d.query[some])


@cache
def whole(seed, scale):
    d = draw(seed, scale)
    return three(d, np.full(len(d.truth), True))


def right(X, types, new, truth):
    return (label(X, types, new)[0] == truth).mean()


def test_the_reference_lands_on_itself():
    """The reference's own raw cells must land on their own PCs."""
    for scale in (True, False):
        d = draw(HERE, scale)
        itself = project(d.raw[d.reference.obs_names], d.reference)
        assert np.allclose(itself, d.before, atol=0.01)


def test_zeros_cost_more_than_missing_genes():
    """Genes that lack cost labels, and zeros cost more here ... all cells move aside."""
    d = draw(HERE, True)
    chosen = d.reference.var_names[d.reference.var["highly_variable"]]
    lack = d.query.var_names.isin(np.random.default_rng(0).choice(chosen, 600, replace=False))
    zeros = d.query.copy()
    zeros.X = (zeros.X @ sp.diags((~lack).astype(np.float32))).tocsr()
    places = [d.on_pcs, project(d.query[:, ~lack], d.reference), project(zeros, d.reference)]
    shares = [right(d.before, d.types, new, d.truth) for new in places]
    assert shares[0] > shares[1] + 0.03 > shares[2] + 0.05
    aside = [np.linalg.norm((new - d.on_pcs).mean(axis=0)) for new in places]
    assert aside[2] > 2 * aside[1]


@draws
@scaling
def test_scaled_by_itself(seed, scale):
    """Scaled by itself, the whole query does as well as ever ... But B cells alone lose nearly all
    their labels
    """
    d = draw(seed, scale)
    b = d.truth == "B"
    own = project(d.query, d.reference, by_itself=True)
    alone = project(d.query[b], d.reference, by_itself=True)
    plain = right(d.before, d.types, d.on_pcs, d.truth)
    assert right(d.before, d.types, own, d.truth) > plain - 0.025
    assert right(d.before, d.types, d.on_pcs[b], "B") > 0.7
    assert right(d.before, d.types, alone, "B") < 0.3


# --- Symphony -----------------------------------------------------------------------------------


@draws
@scaling
def test_labels_and_mixing_agree(seed, scale):
    """Hardly: labels and mixing agree."""
    found = whole(seed, scale)
    mapped, joint = found.loc["Symphony"], found.loc["jointly"]
    assert abs(mapped["types"] - joint["types"]) < 0.025
    assert abs(mapped["mixing"] - joint["mixing"]) < 0.15
    assert mapped["mixing"] > found.loc["uncorrected", "mixing"] + 0.25


@draws
def test_both_gain_labels_on_scaled_genes(seed):
    """Against no correction both gain labels here, most of all in the rarer types. (On unscaled
    genes they agree as well, and gain less.)
    """
    for name in ["Symphony", "jointly"]:
        gain = whole(seed, True).loc[name] - whole(seed, True).loc["uncorrected"]
        assert gain["types"] > 0.02
        assert gain["mean of types"] > gain["types"] + 0.04
        other = whole(seed, False).loc[name] - whole(seed, False).loc["uncorrected"]
        assert other["types"] < gain["types"]


def test_mixing_stays_below_the_shuffled_here():
    """The mixing of both stays below that of runs shuffled within types here."""
    d, found = draw(HERE, True), whole(HERE, True)
    order = np.append(d.reference.obs["run"].astype(str), d.batch)
    reference = metrics.mixing_reference(
        np.vstack([d.ref["Z"], d.mapped]), batch=order, labels=np.append(d.types, d.truth)
    )
    assert found.loc[["Symphony", "jointly"], "mixing"].max() < reference - 0.3


@draws
@scaling
def test_as_projected_is_worth_nothing(seed, scale):
    """As projected, uncorrected cells among corrected ones, is worth nothing."""
    d = draw(seed, scale)
    plain = right(d.before, d.types, d.on_pcs, d.truth)
    assert abs(right(d.ref["Z"], d.types, d.on_pcs, d.truth) - plain) < 0.025


@draws
@scaling
def test_the_reference_does_not_move(seed, scale):
    """The reference has not moved by a bit. Jointly moves it: not far"""
    d = draw(seed, scale)
    held = d.ref["Z"].tobytes()
    symphony(d.on_pcs, d.batch, d.ref)
    assert d.ref["Z"].tobytes() == held
    moved = np.linalg.norm(jointly(d.on_pcs, d.batch, d.reference)[0] - d.ref["Z"])
    assert 0.03 < moved / np.linalg.norm(d.ref["Z"] - d.ref["Z"].mean(axis=0)) < 0.1


@draws
@scaling
def test_five_cells(seed, scale):
    """Labels hardly ask for any number. Places do: five cells move less than half as far as the
    whole run does.
    """
    d, rng = draw(seed, scale), np.random.default_rng(0)
    some = [rng.choice(len(d.truth), 5, replace=False) for _ in range(100)]
    places = np.vstack([symphony(d.on_pcs[i], d.batch[i], d.ref) for i in some])
    some = np.concatenate(some)
    moved = np.linalg.norm(places - d.on_pcs[some], axis=1).mean()
    assert moved < 0.5 * np.linalg.norm(d.mapped - d.on_pcs, axis=1).mean()
    shares = [
        right(X, d.types, new, d.truth[some])
        for X, new in [
            (d.before, d.on_pcs[some]),
            (d.ref["Z"], places),
            (d.ref["Z"], d.mapped[some]),
        ]
    ]
    assert shares[1] > max(shares[0] - 0.02, shares[2] - 0.05)


def test_a_smaller_penalty_is_no_way_out():
    """A smaller penalty is no way out: their own differences would pass for the run's shift"""
    for scale in (True, False):
        d, rng, off = draw(HERE, scale), np.random.default_rng(0), {1.0: [], 0.01: []}
        for _ in range(50):
            some = rng.choice(len(d.truth), 5, replace=False)
            for lamb in off:
                placed = symphony(d.on_pcs[some], d.batch[some], d.ref, lamb=lamb)
                off[lamb].append(np.linalg.norm(placed - d.mapped[some], axis=1).mean())
        assert np.mean(off[0.01]) > 1.5 * np.mean(off[1.0])


# --- what the query holds -----------------------------------------------------------------------


@cache
def parts(seed, scale):
    d = draw(seed, scale)
    queries = {name: d.truth == name for name in ["B", "NK", "CD4 T"]}
    queries |= {"stimulated": d.stimulated, "control": ~d.stimulated}
    return {name: three(d, some) for name, some in queries.items()}


@draws
@scaling
def test_jointly_costs_more_in_sorted_queries(seed, scale):
    """of B, NK and CD4 T cells alone, jointly labels fewer right, and of one condition alone, it
    finds fewer neighbours of that condition.
    """
    found = parts(seed, scale)
    for name in ["B", "NK", "CD4 T"]:
        assert found[name].loc["jointly", "types"] < found[name].loc["Symphony", "types"] - 0.01
    for name in ["stimulated", "control"]:
        state = found[name]["condition"]
        assert state["jointly"] < state["Symphony"] - 0.02
        assert state["Symphony"] < state["uncorrected"] + 0.01  # "find their condition best"


def test_what_mapping_costs():
    """It still costs something: of one condition alone, uncorrected cells find their condition
    best. (And NK cells alone, on unscaled genes, are labelled best uncorrected in most draws.)
    """
    for scale in (True, False):
        states = [
            parts(seed, scale)[n]["condition"] for seed in SEEDS for n in ("stimulated", "control")
        ]
        assert np.mean([s["uncorrected"] - s["Symphony"] for s in states]) > 0.01
    nk = [parts(seed, False)["NK"]["types"] for seed in SEEDS]
    assert sum(n["uncorrected"] > n["Symphony"] for n in nk) >= 3


@cache
def state(seed, scale):
    d = draw(seed, scale)
    rest = prepare(d.raw[(d.raw.obs["condition"] == "control").to_numpy()], scale)
    some, batch = d.query[d.stimulated], d.batch[d.stimulated]
    new, small = project(some, rest), compress(rest)
    ways = {"uncorrected": (rest.obsm["X_pca"], new), "jointly": jointly(new, batch, rest)}
    ways["Symphony"] = small["Z"], symphony(new, batch, small)
    return judge(ways, rest, some)


def test_a_state_that_the_reference_lacks():
    """And now jointly labels better here. ... (On unscaled genes mapping mixes stimulated with
    control cells as well as jointly does, and labels hardly better than no correction.)
    """
    table = state(HERE, True)
    assert table.loc["jointly", "types"] > table.loc["Symphony", "types"] + 0.04
    for seed in SEEDS:
        table = state(seed, False)
        mixing = table["mixing"]
        assert abs(mixing["Symphony"] - mixing["jointly"]) < 0.15
        assert mixing["Symphony"] > mixing["uncorrected"] + 0.5
        assert table.loc["Symphony", "types"] < table.loc["uncorrected", "types"] + 0.05


@draws
def test_what_the_query_shares_is_the_batch(seed):
    """What all cells of a query share is the batch, and both ways subtract what they can of it,
    interferon included.
    """
    for scale in (True, False):
        mixing = state(seed, scale)["mixing"]
        assert mixing["jointly"] > mixing["uncorrected"] + 0.4
        assert mixing["Symphony"] > mixing["uncorrected"]


# --- how sure -----------------------------------------------------------------------------------


@cache
def rehearsed(seed, scale):
    """Gaps between promise and truth, of votes and of the rehearsed curve."""
    d, sure, hit = draw(seed, scale), [], []
    for run in d.reference.obs["run"].unique():
        out = (d.reference.obs["run"] == run).to_numpy()
        rest = prepare(d.raw[d.reference.obs_names[~out]], scale)
        left_out = d.raw[d.reference.obs_names[out]]
        small = compress(rest)
        placed = symphony(project(left_out, rest), left_out.obs["run"], small)
        given, votes, _ = label(small["Z"], rest.obs["cell_type"].astype(str), placed)
        sure.append(votes)
        hit.append(given == left_out.obs["cell_type"].to_numpy())
    curve = IsotonicRegression(out_of_bounds="clip")
    curve.fit(np.concatenate(sure), np.concatenate(hit))
    given, votes, _ = label(d.ref["Z"], d.types, d.mapped)
    hit = given == d.truth
    promise = {"votes": votes, "rehearsed": curve.predict(votes)}
    return SimpleNamespace(
        gap={name: gap(p, hit) for name, p in promise.items()},
        promise=promise,
        given=given,
        hit=hit,
        all_votes=hit[votes == 1].mean(),
    )


def gap(promised, hit):
    table = pd.DataFrame({"promised": promised, "right": hit})
    by = table.groupby(pd.cut(promised, (0, 0.6, 0.8, 0.95, 1.01), right=False), observed=True)
    means = by.mean()
    return np.average((means["promised"] - means["right"]).abs(), weights=by.size())


@scaling
def test_the_rehearsed_promise_is_kept_better(scale):
    """Nearly all, but not all ... The rehearsed promise is kept better, and so it was in four of
    five draws; in the fifth, votes kept theirs by themselves.
    """
    found = [rehearsed(seed, scale) for seed in SEEDS]
    better = [f.gap["rehearsed"] < f.gap["votes"] for f in found]
    assert sum(better) == 4
    assert min(f.gap["votes"] for f in found) < 0.025
    assert found[better.index(False)].gap["votes"] < 0.025
    assert all(0.93 < f.all_votes < 1 for f in found)


def test_votes_promise_too_much_here():
    """just below that, votes promise too much here."""
    here = rehearsed(HERE, True)
    just = (here.promise["votes"] >= 0.8) & (here.promise["votes"] < 0.95)
    assert here.promise["votes"][just].mean() > here.hit[just].mean() + 0.03
    assert here.gap["rehearsed"] < 0.6 * here.gap["votes"]


def test_promises_by_type():
    """here the label CD4 T is promised too much, and NK too little."""
    here = rehearsed(HERE, True)
    over = {
        name: here.promise["rehearsed"][here.given == name].mean()
        - here.hit[here.given == name].mean()
        for name in ["CD4 T", "NK"]
    }
    assert over["CD4 T"] > 0.03
    assert over["NK"] < -0.1


# --- a type that the reference lacks ------------------------------------------------------------

NAMES = {"B": "CD4 T", "NK": "CD8 T", "FCGR3A Mono": "CD14 Mono"}


@cache
def without(seed, scale, missing):
    d = draw(seed, scale)
    rest = prepare(d.raw[(d.raw.obs["cell_type"] != missing).to_numpy()], scale)
    new, small = project(d.query, rest), compress(rest)
    placed = symphony(new, d.batch, small)
    called, votes, far = label(small["Z"], rest.obs["cell_type"].astype(str), placed)
    scores = {"confidence": -votes, "distance": far, "mapping score": mapping_score(new, small)}
    strange = d.truth == missing
    return SimpleNamespace(
        called=pd.Series(called[strange]).mode()[0],
        surer=votes[strange].mean() - np.median(votes[~strange]),
        auc={name: roc_auc_score(strange, s) for name, s in scores.items()},
        rest=rest,
        new=new,
        small=small,
        placed=placed,
    )


@draws
@scaling
def test_no_score_notices_all_three(seed, scale):
    """Each missing type takes the name of a relative, and no score notices all three. The mapping
    score finds B cells ... Votes for FCGR3A monocytes are surer than those of most known cells
    """
    found = {missing: without(seed, scale, missing) for missing in NAMES}
    assert {missing: f.called for missing, f in found.items()} == NAMES
    for name in ["confidence", "distance", "mapping score"]:
        assert min(f.auc[name] for f in found.values()) < 0.8
    assert found["B"].auc["mapping score"] > 0.87
    assert found["FCGR3A Mono"].auc["confidence"] < 0.5


@draws
def test_the_distance_finds_nk_cells_here(seed):
    """the distance finds NK cells here, and neither is much use for the other."""
    b, nk = (without(seed, True, missing).auc for missing in ["B", "NK"])
    assert nk["distance"] > 0.83
    assert nk["mapping score"] < 0.65
    assert b["distance"] < 0.8


@cache
def query_clusters(seed, scale):
    own = prepare(runs(seed)[1], scale, min_genes=0)
    sc.pp.neighbors(own, use_rep="X_pca", transformer="sklearn", method="gauss")
    how = {"flavor": "igraph", "n_iterations": 2, "directed": False, "random_state": 0}
    sc.tl.leiden(own, resolution=1, **how)
    return own, own.obs["leiden"].astype(str).to_numpy()


@cache
def lowest(seed, scale, missing):
    """Least kept of the query's clusters, and how much of that cluster is the missing type."""
    d, (own, clusters) = draw(seed, scale), query_clusters(seed, scale)
    if missing is None:
        w = SimpleNamespace(rest=d.reference, new=d.on_pcs, small=d.ref, placed=d.mapped)
    else:
        w = without(seed, scale, missing)
    cells = ad.concat([w.rest, own], join="inner")
    cells.obs["who"] = np.repeat(["old", "new"], [w.rest.n_obs, own.n_obs])
    cells.obsm["X_pca"] = np.vstack([w.rest.obsm["X_pca"], w.new])
    cells.obsm["mapped"] = np.vstack([w.small["Z"], w.placed])
    groups = np.append(np.repeat("old", w.rest.n_obs), clusters)
    row = kept.signature_kept(cells, "who", "mapped", groups).query("batch == 'new'").iloc[0]
    return row["kept"], (d.truth[clusters == row["cluster"]] == missing).mean(), row["genes"]


@draws
@scaling
def test_the_b_cells_cluster_keeps_least(seed, scale):
    """Without B cells, their cluster keeps least ... With nothing missing, the lowest cluster kept
    more than 0.8.
    """
    least, share, _ = lowest(seed, scale, "B")
    assert share > 0.8
    assert least < 0.7
    assert lowest(seed, scale, None)[0] > 0.8


def test_its_genes_say_what_it_is():
    """its genes say what it is: B cell genes under the name CD4 T."""
    assert {"HLA-DRA", "CD74", "CD79A"} <= set(lowest(HERE, True, "B")[2].split(", "))


def test_the_other_two_are_found_in_fewer_than_half_of_the_draws():
    """On scaled genes, neither was the lowest row in half of the draws."""
    for missing in ["NK", "FCGR3A Mono"]:
        shares = [lowest(seed, True, missing)[1] for seed in SEEDS]
        assert sum(share > 0.3 for share in shares) < len(shares) / 2


# --- another chemistry, another package ---------------------------------------------------------


@pytest.fixture(scope="module")
def files():
    if not real.available():
        reason = real.why_not()
        pytest.fail(reason) if os.environ.get("REQUIRE_DATA") == "1" else pytest.skip(reason)


@scaling
def test_another_chemistry(files, scale):
    """None here, though the mixing rises"""
    raw = real.load_chemistries()
    raw.obs = raw.obs.rename(columns={"chemistry": "run"}).assign(condition="none")
    raw.X = (sp.diags(1e4 / raw.obs["n_counts"].to_numpy()) @ raw.X).tocsr()
    sc.pp.log1p(raw)
    five = (raw.obs["run"] == "5'").to_numpy()
    old, new, values = raw[~five].copy(), raw[five].copy(), raw[~five].to_df()
    spread = values.std().replace(0, 1) if scale else 1.0
    genes = pd.DataFrame({"mean": values.mean(), "std": spread})
    values = scaled(old, genes)
    pca = sc.pp.pca(values, n_comps=20, random_state=0, return_info=True)
    old.obsm["X_pca"] = pca[0]
    on_pcs = (scaled(new, genes) - values.mean(axis=0)) @ pca[1].T
    ref, batch = compress(old), new.obs["run"].to_numpy()
    ways = {"uncorrected": (pca[0], on_pcs), "jointly": jointly(on_pcs, batch, old)}
    ways["Symphony"] = ref["Z"], symphony(on_pcs, batch, ref)
    found = judge(ways, old, new)
    gain = found.loc["Symphony"] - found.loc["uncorrected"]
    assert abs(gain["types"]) < 0.03
    assert gain["mixing"] > 0.7
    assert abs(found.loc["Symphony"] - found.loc["jointly"])[["types", "mixing"]].max() < 0.05


@cache
def recorded():
    return pd.read_csv(PBMC_FILE.with_name("symphonypy_recorded.csv"), comment="#")


def test_which_versions_of_symphonypy_work():
    """Release 0.2.4 works with all three, and gives what our lines give, if the reference holds
    several runs (0.2.3 fails with harmonypy 2: the gaps).
    """
    table = recorded()[recorded()["reference"] == "two runs"]
    ran = table[table["right"].notna()]
    assert set(table["harmonypy"]) == {"0.0.10", "2.0.2", "2.1.0"}
    assert sorted(ran["symphonypy"].unique()) == ["0.2.3", "0.2.4"]
    assert set(ran.loc[ran["symphonypy"] == "0.2.3", "harmonypy"]) == {"0.0.10"}
    assert set(ran.loc[ran["symphonypy"] == "0.2.4", "harmonypy"]) == set(table["harmonypy"])
    assert table["error"].dropna().str.contains("check_convergence").all()
    for scale, name in [(True, "scaled"), (False, "unscaled")]:
        ours = whole(HERE, scale).loc["Symphony", "types"]
        assert (ran.loc[ran["scaling"] == name, "right"] - ours).abs().max() < 0.02


@scaling
def test_means_for_sums(scale):
    """With a reference of one run more than half of the labels are wrong, whatever the version. ...
    With the sums in place (C = R @ X_pca, last column) all is well.
    """
    table = recorded()[recorded()["reference"] == "one run"]
    table = table[table["scaling"] == ("scaled" if scale else "unscaled")]
    released, sums = (table.loc[table["how"] == how, "right"] for how in ("as released", "sums"))
    assert len(released) == len(sums) == 6
    assert released.between(0.4, 0.5).all()
    assert (sums > 0.85).all()
    # our own lines on the same cells, with sums and with means
    raw, query = runs(HERE)
    reference = prepare(raw[raw.obs["run"] == "run 1"], scale)
    types, truth = (x.obs["cell_type"].astype(str).to_numpy() for x in (reference, query))
    ref, new = compress(reference), project(query, reference)
    means = ref | {"C": ref["C"] / ref["N"][:, None]}
    shares = [right(r["Z"], types, symphony(new, query.obs["run"], r), truth) for r in (ref, means)]
    assert abs(shares[0] - sums.mean()) < 0.03
    assert shares[1] < 0.6
