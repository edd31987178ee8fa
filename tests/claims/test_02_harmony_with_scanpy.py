"""What lesson 02 says, computed again; over several seeds where a seed could matter."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc

from helpers.data import load_pbmc, prepare
from helpers.integrate import harmonize
from helpers.metrics import ari

PATIENT = {"max_iter_harmony": 30, "epsilon_harmony": 1e-3}
LEIDEN = {"flavor": "igraph", "n_iterations": 2, "directed": False}
SEARCH = {"n_neighbors": 15, "transformer": "sklearn", "random_state": 0}


@pytest.fixture(scope="module")
def adata() -> ad.AnnData:
    cells = prepare(load_pbmc())
    for seed in range(5):
        harmonize(cells, "condition", seed=seed, adjusted_basis=f"default {seed}")
        harmonize(cells, "condition", seed=seed, adjusted_basis=f"patient {seed}", **PATIENT)
    sc.pp.neighbors(cells, use_rep="patient 0", key_added="after", **SEARCH)
    sc.pp.neighbors(cells, use_rep="X_pca", key_added="before", **SEARCH)
    return cells


def other_condition(adata: ad.AnnData, key: str) -> np.ndarray:
    """Share of each cell's neighbours that come from the other condition."""
    graph = adata.obsp[adata.uns[key]["distances_key"]].tocoo()
    condition = adata.obs["condition"].to_numpy()
    other = np.bincount(graph.row, weights=condition[graph.row] != condition[graph.col])
    return other / np.bincount(graph.row)


def clusters(adata: ad.AnnData, resolution: float, key: str = "after", seed: int = 0) -> np.ndarray:
    sc.tl.leiden(adata, resolution, neighbors_key=key, key_added="try", random_state=seed, **LEIDEN)
    return adata.obs["try"].astype(str).to_numpy()


def one_sided(adata: ad.AnnData, labels: np.ndarray) -> float:
    """Share of the clusters with more than 80 % of their cells from one condition."""
    table = pd.crosstab(labels, adata.obs["condition"].to_numpy(), normalize="index")
    return float((table.max(axis=1) > 0.8).mean())


def smallest_r(adata: ad.AnnData, one: str, two: str) -> float:
    pairs = zip(adata.obsm[one].T, adata.obsm[two].T, strict=True)
    return min(np.corrcoef(a, b)[0, 1] for a, b in pairs)


def test_default_theta(adata) -> None:
    """The default `theta`, the weight of mixing, is 2 here."""
    for theta, same in ((1, False), (2, True), (4, False)):
        harmonize(adata, "condition", theta=theta, adjusted_basis="try")
        assert np.array_equal(adata.obsm["try"], adata.obsm["default 0"]) is same


def test_limit_is_not_a_dose(adata) -> None:
    """Allowing 20 rounds changes nothing in a run that stops by itself after 6."""
    assert adata.uns["default 0"]["n_rounds"] < 10
    harmonize(adata, "condition", max_iter_harmony=20, adjusted_basis="try")
    assert np.array_equal(adata.obsm["try"], adata.obsm["default 0"])


def test_other_seeds_end_elsewhere(adata) -> None:
    """With the default tolerance, the other seeds use up all 10 rounds and end elsewhere."""
    for seed in (1, 2):
        record = adata.uns[f"default {seed}"]
        assert record["n_rounds"] == 10
        assert not record["converged"]
        assert smallest_r(adata, "default 0", f"default {seed}") < 0.98


def test_patient_seeds_agree(adata) -> None:
    """With a tolerance ten times smaller and enough rounds, all seeds agree."""
    for seed in range(5):
        assert adata.uns[f"patient {seed}"]["converged"]
        assert smallest_r(adata, "patient 0", f"patient {seed}") > 0.99


def test_forgotten_use_rep(adata) -> None:
    """No error and no warning, and the forgotten graph is as unmixed as if Harmony never ran."""
    sc.pp.neighbors(adata, key_added="forgotten", **SEARCH)
    assert "use_rep" not in adata.uns["forgotten"]["params"]
    forgotten, before, after = (
        other_condition(adata, key).mean() for key in ("forgotten", "before", "after")
    )
    assert forgotten == pytest.approx(before, abs=0.001)
    assert before < 0.07
    assert 0.28 < after < 0.42


def test_each_type_mixes_more_and_monocytes_least(adata) -> None:
    """Every type mixes more than before, and none completely; the CD14 monocytes mix least."""
    of_type = adata.obs["cell_type"].to_numpy()
    before = pd.Series(other_condition(adata, "before")).groupby(of_type).mean()
    for seed in range(5):
        sc.pp.neighbors(adata, use_rep=f"patient {seed}", key_added="try", **SEARCH)
        after = pd.Series(other_condition(adata, "try")).groupby(of_type).mean()
        assert (after > before).all()
        assert (after < 0.5).all()
        assert after.idxmin() == "CD14 Mono"


def test_one_sided_clusters(adata) -> None:
    """Before, most clusters were a condition rather than a cell type; after, none at 0.3, 0.5."""
    for seed in range(5):
        assert one_sided(adata, clusters(adata, 0.3, "before", seed)) > 0.5
        assert one_sided(adata, clusters(adata, 0.8, "before", seed)) > 0.8
        for resolution in (0.3, 0.5):
            assert one_sided(adata, clusters(adata, resolution, "after", seed)) == 0


def test_agreement_and_stability(adata) -> None:
    """0.3 and 0.5 agree with the types about equally well, and with themselves; 0.8 does not."""
    known = (adata.obs["cell_type"] != "unassigned").to_numpy()
    types = adata.obs["cell_type"].to_numpy()[known]
    agreement, stability = {}, {}
    for resolution in (0.3, 0.5, 0.8):
        tries = [clusters(adata, resolution, seed=seed) for seed in range(5)]
        agreement[resolution] = min(ari(types, labels[known]) for labels in tries)
        stability[resolution] = min(ari(a, b) for a in tries for b in tries)
    assert min(agreement[0.3], agreement[0.5]) > agreement[0.8] + 0.05
    assert min(stability[0.3], stability[0.5]) > stability[0.8]
    assert abs(agreement[0.3] - agreement[0.5]) < 0.1


def test_markers_of_the_condition(adata) -> None:
    """Before, clusters nearly all stimulated had interferon genes as first markers; after, not."""
    test = {"method": "t-test_overestim_var", "n_genes": 60}
    sc.tl.rank_genes_groups(adata, "condition", groups=["stimulated"], key_added="response", **test)
    found = sc.get.rank_genes_groups_df(adata, "stimulated", key="response", log2fc_min=1)
    response = set(found["names"])
    assert {"ISG15", "IFI6", "IFIT3"} <= response
    shares = {}
    for key, resolution in (("before", 0.3), ("after", 0.5)):
        labels = clusters(adata, resolution, key)
        adata.obs["try"] = pd.Categorical(labels)
        stimulated = (adata.obs["condition"] == "stimulated").groupby(labels).mean()
        sc.tl.rank_genes_groups(adata, "try", key_added="try", **test)
        first = sc.get.rank_genes_groups_df(adata, None, key="try", log2fc_min=1)
        first = first.groupby("group", observed=True)["names"]
        share = first.apply(lambda genes: genes[:20].isin(response).mean())
        shares[key] = (share, stimulated.loc[share.index])
    share, stimulated = shares["before"]
    assert (stimulated > 0.9).any()
    assert (share[stimulated > 0.9] > 0.2).all()
    share, stimulated = shares["after"]
    assert (share <= 0.15).all()
