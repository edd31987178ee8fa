"""What lesson 08 says, held against the cells: each docstring is a sentence of the lesson.

The functions under test are the lesson's own: they are taken out of its cells.
"""

from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import harmonypy
import numpy as np
import pandas as pd
import pytest

from helpers import metrics
from helpers.data import load_pbmc, plant_run, prepare
from tools.notebooks import functions

LESSON = Path(__file__).parents[2] / "notebooks" / "08_how_harmony_works.ipynb"
STARTS = range(5)
ours = SimpleNamespace(**functions(LESSON, np=np))
ROUNDS = ours.ROUNDS


@pytest.fixture(scope="module")
def toy():
    Z, batch, types = ours.make_toy()
    start = ours.kmeans(Z, 8, seed=5)
    D = ours.distances(Z, start)
    R = ours.assign(D)
    mixed = ours.reassign(R, D, batch, np.random.default_rng(0))
    return SimpleNamespace(Z=Z, batch=batch, types=types, start=start, D=D, R=R, mixed=mixed)


@pytest.fixture(scope="module")
def cells():
    adata = prepare(plant_run(load_pbmc()))
    run = adata.obs["run"].astype(str).to_numpy()
    return SimpleNamespace(
        names=adata.obs_names,
        Z=adata.obsm["X_pca"].astype(float),
        run=run,
        batch=(run[:, None] == np.unique(run)).astype(float),
        types=adata.obs["cell_type"].astype(str).to_numpy(),
    )


def theirs(cells, seed=0, rounds=ROUNDS, **settings):
    settings = {"max_iter_harmony": rounds, "epsilon_harmony": 0, "verbose": False, **settings}
    labels = {"run": cells.run}
    return harmonypy.run_harmony(cells.Z.T, labels, "run", random_state=seed, **settings)


@pytest.fixture(scope="module")
def start(cells):
    return theirs(cells, rounds=0)


@pytest.fixture(scope="module")
def reference(cells):
    return theirs(cells)


@pytest.fixture(scope="module")
def near_reference(reference):
    return near(reference.Z_corr)


@pytest.fixture(scope="module")
def run(cells, start):
    return ours.harmony(cells.Z, cells.batch, start.Y.T, rounds=ROUNDS)


def near(Z):
    return metrics.nearest_neighbors(Z, 30).indices


def overlap(one, other):
    return np.mean([np.intersect1d(a, b).size / 30 for a, b in zip(one, other, strict=True)])


def smallest_r(one, other):
    return min(np.corrcoef(a, b)[0, 1] for a, b in zip(one.T, other.T, strict=True))


def counts(R, batch):
    return ours.count(R, batch, batch.mean(axis=0))


def gaps(toy, Z):
    first, second = toy.batch.T == 1
    sides = [(Z[(toy.types == t) & first], Z[(toy.types == t) & second]) for t in "ABC"]
    return np.array([np.linalg.norm(a.mean(axis=0) - b.mean(axis=0)) for a, b in sides])


# --- the toy ----------------------------------------------------------------------------------


def test_distance():
    """Twice as strong in every PC is the same direction, so the distance is zero.
    A right angle is 2, and the opposite direction would be 4.
    """
    X = np.array([[1.0, 1], [2, 2], [-1, 1], [-3, -3]])
    np.testing.assert_allclose(ours.distances(X, X[:1]).ravel(), [0, 0, 2, 4], atol=1e-12)
    np.testing.assert_allclose(
        ours.distances(X, X),
        ((ours.unit(X)[:, None] - ours.unit(X)[None]) ** 2).sum(axis=2),
        atol=1e-12,
    )


def test_soft_assignments(toy):
    """`sigma` is 0.1, so a cluster that is farther by 0.1 gets a weight $e$ times smaller."""
    np.testing.assert_allclose(toy.R.sum(axis=1), 1)
    two = ours.assign(np.array([[0.3, 0.4]]))[0]
    assert two[0] / two[1] == pytest.approx(np.e)


def test_first_clusters(toy):
    """Most clusters are largely of one batch, and one holds no cell of batch 2 at all."""
    observed, expected = counts(toy.R, toy.batch)
    share = observed.max(axis=1) / observed.sum(axis=1)
    assert (share > 0.7).sum() > 4
    assert observed[0].round().tolist() == [150, 0]
    np.testing.assert_allclose(observed.sum(axis=1), expected.sum(axis=1))


def reach(pull):
    """The angle that a difference in bonus outweighs, in degrees, with sigma = 0.1."""
    return np.degrees(np.arccos(1 - 0.1 * pull / 2))


def test_reach_of_harmony1():
    """Harmony1 multiplies by a million, which outweighs an angle of 72 degrees, and the larger
    the data, the farther it reaches.
    """
    assert np.exp(ours.bonus_harmony1(0, 1000)) > 1e6
    assert reach(ours.bonus_harmony1(0, 1000)) == pytest.approx(72, abs=0.5)
    assert reach(ours.bonus_harmony1(0, 10_000)) > 85


def test_factor_is_bounded():
    r"""Harmony2's factor never exceeds $2^\theta$, however many cells there are."""
    assert np.exp(ours.bonus_harmony2(0, 1e9)) == pytest.approx(4)
    assert np.exp(ours.bonus_harmony2(0, 1e9, theta=5)) == pytest.approx(32)
    observed, expected = np.meshgrid(np.r_[0:50, 1e3, 1e6], np.r_[0.1, 1:50, 1e3, 1e6])
    assert (np.exp(ours.bonus_harmony2(observed, expected)) < 4).all()
    for bonus in (ours.bonus_harmony1, ours.bonus_harmony2):
        assert bonus(70, 70) == 0  # 1 where a cluster is as expected


def pull(share, cells, bonus=None):
    """Between a cluster without the batch and one of nothing else, both of so many cells."""
    lacks, only = (bonus or ours.bonus_harmony2)(np.array([0, cells]), share * cells)
    return lacks - only


def test_pull_is_a_ratio():
    """So the pull is bounded in the number of cells, but not in the imbalance of the batches."""
    for share in [0.5, 0.05, 0.01]:
        limit = (1 + 1 / share) ** 2
        assert np.exp(pull(share, 1e8)) == pytest.approx(limit, rel=1e-3)
        assert np.exp(pull(share, 1e4)) < limit
    assert reach(pull(0.5, 1e4)) == pytest.approx(27, abs=0.5)
    assert reach(pull(0.01, 1e4)) == pytest.approx(57, abs=0.5)
    assert reach(pull(0.01, 1e4, ours.bonus_harmony1)) < 1.7 * reach(pull(0.01, 1e4))
    assert reach(pull(0.5, 1e4, ours.bonus_harmony1)) > 3 * reach(pull(0.5, 1e4))


def test_penalty_of_r_before_2():
    r"""R's harmony 1.0 to 1.2, behind many published analyses, was in between: its factor
    $(E_{kb} / (O_{kb} + E_{kb}))^\theta$ is Harmony2's but for the constants, and its ridge
    penalty was Harmony1's, a lambda of 1.
    """
    rng = np.random.default_rng(0)
    observed, expected = rng.uniform(20, 200, (2, 8))
    theirs_ = 2 * np.log(expected / (observed + expected))
    D = rng.uniform(0, 1, (50, 8))
    np.testing.assert_allclose(
        ours.assign(D, theirs_), ours.assign(D, ours.bonus_harmony2(observed, expected)), atol=0.02
    )
    assert abs(ours.assign(D, theirs_) - ours.assign(D)).max() > 0.2


def test_penalty_mixes(toy):
    """The clusters have taken in cells of the batch that they
    lacked, where there were any nearby.
    Only type D's cluster found none.
    """
    (before, due), (after, due_after) = counts(toy.R, toy.batch), counts(toy.mixed, toy.batch)
    shortfall = abs(before / due - 1), abs(after / due_after - 1)
    assert (shortfall[1][1:] <= shortfall[0][1:] + 0.02).all()
    assert shortfall[1][1:].mean() < 0.8 * shortfall[0][1:].mean()
    assert after[0, 1] < 0.1


def test_one_block_switches_the_penalty_off(toy, cells):
    """With all cells taken out, the counts are zero, and so is every bonus: one block switches
    the penalty off.
    In harmonypy too, `block_size=1` gives what `theta=0` gives.
    """
    at_once = ours.reassign(
        toy.mixed, toy.D, toy.batch, np.random.default_rng(0), block_size=1, theta=50
    )
    np.testing.assert_allclose(at_once, toy.R, atol=1e-6)
    one_block = theirs(cells, rounds=1, block_size=1).Z_corr
    np.testing.assert_allclose(one_block, theirs(cells, rounds=1, theta=0).Z_corr, atol=1e-3)


@pytest.mark.parametrize("ridge", [{}, {"lamb": 1.0}, {"alpha": 0.02}])
def test_shift_formula(toy, ridge):
    """The shift is the way from the centre to the batch, cut by a factor."""
    centre, shift = ours.fit(toy.Z, toy.mixed, toy.batch, toy.start, cutoff=0, **ridge)
    observed, expected = counts(toy.mixed, toy.batch)
    lamb = ridge.get("lamb", ridge.get("alpha", 0.2) * expected)
    for b in range(2):
        mean = (toy.mixed * toy.batch[:, [b]]).T @ toy.Z / observed[:, [b]]
        factor = (observed / (observed + lamb))[:, [b]]
        np.testing.assert_allclose(shift[:, b], factor * (mean - centre), atol=1e-6)


def test_gaps_left(toy):
    """About a sixth of each gap is left, as the factor promised."""
    rounds, again = (ours.harmony(toy.Z, toy.batch, toy.start, rounds=6) for _ in range(2))
    np.testing.assert_array_equal(rounds[-1]["Z"], again[-1]["Z"])  # the chart shows the same
    left = gaps(toy, rounds[-1]["Z"]) / gaps(toy, toy.Z)
    assert ((left > 0.12) & (left < 0.22)).all()
    moved = np.linalg.norm(rounds[-1]["Z"] - toy.Z, axis=1)[toy.types == "D"]
    assert moved.max() < 0.01
    assert (np.diff([state["value"] for state in rounds]) < 0).all()


def test_pruned_cluster(toy):
    """And in round 6 D's centre is back at length one: batch 2 had so little weight in that
    cluster that it was pruned, and a cluster with one batch keeps its old centroid and corrects
    nothing.
    """
    last = ours.harmony(toy.Z, toy.batch, toy.start, rounds=6)[-1]
    observed, _ = counts(last["R"], toy.batch)
    assert observed[0, 1] / toy.batch[:, 1].sum() < 1e-5
    np.testing.assert_array_equal(last["centre"][0], last["Y"][0])
    assert not last["shift"][0].any()


@pytest.fixture(scope="module")
def d_moved(toy):
    """How far type D moves, for five starts and each way to leave Harmony2."""
    old = {"bonus": ours.bonus_harmony1}
    trials = {"Harmony2": {}, "penalty": old, "lamb": {"lamb": 1.0}, "no pruning": {"cutoff": 0.0}}
    trials["Harmony1"] = old | {"lamb": 1.0, "cutoff": 0.0}
    found = {}
    for name, how in trials.items():
        ends = [
            ours.harmony(toy.Z, toy.batch, ours.kmeans(toy.Z, 8, seed), rounds=10, **how)[-1]["Z"]
            for seed in STARTS
        ]
        moved = [np.linalg.norm(end - toy.Z, axis=1)[toy.types == "D"].mean() for end in ends]
        found[name] = np.array(moved)
    return found


def test_start_with_five_clusters_on_d(toy, d_moved):
    """Even Harmony2 moves D a little from start 4, where k-means had spent five of eight
    clusters on D: no penalty is proof against a bad start.
    """
    R = ours.assign(ours.distances(toy.Z, ours.kmeans(toy.Z, 8, 4)))
    held = np.array([R[toy.types == t].sum(axis=0) for t in "ABCD"])
    assert (held.argmax(axis=0) == 3).sum() == 5
    assert (d_moved["Harmony2"][:4] < 0.05).all()
    assert 0.05 < d_moved["Harmony2"][4] < 0.5


def test_which_difference_matters(d_moved):
    """The penalty alone does about half of the damage from every start; `lamb=1` alone does all of
    it from some starts, and none from others.
    """
    assert (d_moved["Harmony1"] > 1.5).all()
    half = d_moved["penalty"] / d_moved["Harmony1"]
    assert ((half > 0.4) & (half < 0.7)).all()
    assert d_moved["lamb"].max() > 1.5
    assert d_moved["lamb"].min() < 0.05
    np.testing.assert_allclose(d_moved["no pruning"], d_moved["Harmony2"], atol=0.01)


def test_harmony1_splits_type_c(toy):
    """Under Harmony1, D and a part of C met halfway: a false type made of two, with no batch effect
    left to see.
    """
    start = ours.kmeans(toy.Z, 8, 5)
    how = {"bonus": ours.bonus_harmony1, "lamb": 1.0, "cutoff": 0.0}
    for settings, low, high in [(how, 0.33, 0.5), ({}, 0, 0.02)]:
        end = ours.harmony(toy.Z, toy.batch, start, rounds=10, **settings)[-1]["Z"]
        nearest = metrics.nearest_neighbors(end, 10).indices
        of_c = (toy.types == "C") & (toy.batch[:, 1] == 1)
        with_d = (toy.types[nearest[of_c]] == "D").mean(axis=1) > 0.5
        assert low <= with_d.mean() <= high


def test_toy_agrees_with_harmonypy(toy):
    """Our few functions and the C++ of harmonypy are the same algorithm."""
    labels = {"b": toy.batch.argmax(axis=1)}
    common = {"nclust": 8, "epsilon_harmony": 0, "verbose": False}
    first = harmonypy.run_harmony(toy.Z.T, labels, "b", max_iter_harmony=0, **common)
    result = harmonypy.run_harmony(toy.Z.T, labels, "b", max_iter_harmony=6, **common)
    mine = ours.harmony(toy.Z, toy.batch, first.Y.T, rounds=6)[-1]["Z"]
    assert smallest_r(mine, result.Z_corr) > 0.9999
    np.testing.assert_allclose(mine, result.Z_corr, atol=0.01)


# --- the cells --------------------------------------------------------------------------------


def test_start_of_harmonypy(cells, start):
    """With `max_iter_harmony=0` harmonypy stops after its k-means, and `Y` holds the first
    centroids.
    """
    np.testing.assert_allclose(np.linalg.norm(start.Y, axis=0), 1, atol=1e-5)
    np.testing.assert_allclose(ours.assign(ours.distances(cells.Z, start.Y.T)), start.R, atol=1e-4)


def test_same_start_same_result(reference, near_reference, run):
    """The same start gives harmonypy's result; another start differs from it no more than its seeds
    differ.
    """
    mine = run[-1]["Z"]  # that default runs stop at different rounds is tested in lesson 03
    assert len(reference.kmeans_rounds) == ROUNDS
    assert smallest_r(mine, reference.Z_corr) > 0.9999
    assert overlap(near(mine), near_reference) > 0.99
    np.testing.assert_allclose(
        [state["value"] for state in run], reference.objective_harmony[1:], atol=0.1
    )


@pytest.mark.parametrize("settings", [{"theta": 0.0}, {"lamb": 1.0}, {"sigma": 0.2}])
def test_same_result_with_other_settings(cells, start, settings):
    """Two things still differ: our random blocks come from another generator, and harmonypy
    calculates with fewer digits.
    """
    mine = ours.harmony(cells.Z, cells.batch, start.Y.T, rounds=2, **settings)[-1]["Z"]
    other = theirs(cells, rounds=2, **settings).Z_corr
    assert smallest_r(mine, other) > 0.9999
    if settings.get("theta") == 0:
        np.testing.assert_allclose(mine, other, atol=2e-3)


def test_own_start_within_the_spread_of_seeds(cells, reference, near_reference):
    """It does not: on average our run is no farther from a seed of harmonypy than the two farthest
    seeds are from each other.
    """
    seeds = [reference.Z_corr, *(theirs(cells, seed).Z_corr for seed in (1, 2, 3))]
    own = ours.harmony(cells.Z, cells.batch, ours.kmeans(cells.Z, 100), rounds=ROUNDS)[-1]["Z"]
    found, found_own = [near_reference, *(near(Z) for Z in seeds[1:])], near(own)
    pairs = list(combinations(range(len(seeds)), 2))
    within = np.array(
        [(smallest_r(seeds[a], seeds[b]), overlap(found[a], found[b])) for a, b in pairs]
    )
    across = np.array(
        [(smallest_r(Z, own), overlap(n, found_own)) for Z, n in zip(seeds, found, strict=True)]
    )
    assert (across[:, 0] > 0.995).all()
    assert (across[:, 1] > 0.95).all()
    # on average ours is no farther from the seeds than the two farthest seeds are apart
    assert (across.mean(axis=0) >= within.min(axis=0)).all()
    # and no single one is much farther than that
    assert (across.min(axis=0) >= within.min(axis=0) - [2e-3, 5e-3]).all()


def test_centroids_become_copies(run):
    """Nothing keeps centroids apart, and in the course of the rounds many became near copies."""
    close = 2 * (1 - np.cos(np.radians(5)))
    twins = [(ours.distances(Y, Y) < close).sum(axis=1) > 1 for Y in (run[0]["Y"], run[-1]["Y"])]
    assert twins[0].mean() < 0.05
    assert twins[1].mean() > 0.3


def test_one_cell(cells, run, reference):
    """So: **from a cell, Harmony subtracts the shifts of its batch in the clusters around it, mixed
    by how much the cell belongs to each.**
    """
    cell, second = cells.names.get_loc("stimulated_AGGATAGATCCCGT-1"), 1
    assert cells.types[cell] == "DC"
    last = run[-1]
    np.testing.assert_allclose(
        last["R"][cell] @ last["shift"][:, second], cells.Z[cell] - last["Z"][cell], atol=1e-10
    )
    _, shift = ours.fit(cells.Z, reference.R, cells.batch, reference.Y.T)
    subtracted = (reference.Z_orig - reference.Z_corr)[cell]
    np.testing.assert_allclose(reference.R[cell] @ shift[:, second], subtracted, atol=1e-4)
    names = np.unique(cells.types)
    leading = names[np.argmax([last["R"][cells.types == t].sum(axis=0) for t in names], axis=0)]
    held = pd.Series(last["R"][cell]).groupby(leading).sum()
    assert held[["CD14 Mono", "DC"]].between(0.4, 0.6).all()


def test_harmonypy_is_the_fit_of_its_own_assignments(cells, reference):
    """From harmonypy's assignments `R` alone, our `fit` must give its centroids, and our
    `subtract` its corrected cells.
    """
    centre, shift = ours.fit(cells.Z, reference.R, cells.batch, reference.Y.T)
    np.testing.assert_allclose(ours.unit(centre), reference.Y.T, atol=1e-4)
    mine = ours.subtract(cells.Z, reference.R, cells.batch, shift)
    np.testing.assert_allclose(mine, reference.Z_corr, atol=1e-4)


def test_order_of_the_cells(cells, reference, near_reference):
    """The order of the cells matters no more than the seed."""
    seeds = [overlap(near(theirs(cells, seed).Z_corr), near_reference) for seed in (1, 2)]
    for seed in STARTS:
        order = np.random.default_rng(seed).permutation(len(cells.Z))
        mixed = theirs(SimpleNamespace(Z=cells.Z[order], run=cells.run[order])).Z_corr
        back = np.empty_like(mixed)
        back[order] = mixed
        assert overlap(near(back), near_reference) > min(seeds) - 0.02


# --- exercises --------------------------------------------------------------------------------


def test_reach_of_the_penalty():
    """How large may its $d$ to the second be, so that with the penalty (Harmony2, `theta=2`,
    `sigma=0.1`) both clusters get the same weight?
    """
    far = 0.1 * (ours.bonus_harmony2(0, 500) - ours.bonus_harmony2(1000, 500))
    assert far == pytest.approx(0.1 * 2 * np.log(3), abs=0.001)
    assert np.degrees(np.arccos(1 - far / 2)) == pytest.approx(27, abs=0.5)
    same = ours.assign(
        np.array([[0, far]]), ours.bonus_harmony2(np.array([1000, 0]), np.array([500, 500]))
    )
    np.testing.assert_allclose(same, 0.5)
