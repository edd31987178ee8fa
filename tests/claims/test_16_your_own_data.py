"""What lesson 16 says in words about its cells; each docstring is the sentence of the lesson."""

import json
import subprocess
import sys
from functools import cache

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse

from helpers import kept, metrics
from helpers.audit import audit, describe_slots, questions, read_inputs
from helpers.data import load_pbmc, plant_run
from helpers.integrate import FINISHED, harmonize

SEEDS = [0, 1, 2]  # of the planted run; each with other cells
HOW = {"keep": ["treatment"], "quick": True}
MYELOID = ["CD14 Mono", "FCGR3A Mono", "DC", "pDC"]


@cache
def raw(seed=0):
    return plant_run(load_pbmc()[seed::3], seed=seed)


def lane(run, seed=0):
    cells = raw(seed)[raw(seed).obs["run"] == run]
    seen = np.asarray((cells.X > 0).sum(axis=0)).ravel() >= 3
    part = cells[:, seen].copy()
    part.obs = pd.DataFrame(
        {"treatment": (part.obs["condition"] == "stimulated").astype(int)}, index=part.obs_names
    )
    part.var, part.uns = pd.DataFrame(index=part.var_names), {}
    part.layers["counts"] = part.X.copy()
    return part


def logged(part):
    part = part.copy()
    sc.pp.normalize_total(part, target_sum=1e4)
    sc.pp.log1p(part)
    return part


@cache
def both(seed=0):
    """The cells of both lanes, counts in X, and their types, which the audit is not told."""
    parts = {"lane_A": lane("run 1", seed), "lane_B": lane("run 2", seed)}
    cells = ad.concat(parts, label="lane", index_unique=" ")
    types = raw(seed).obs["cell_type"][cells.obs_names.str.split(" ").str[0]].to_numpy()
    return cells, types, cells.obs["lane"].astype(str).to_numpy()


@cache
def complete(seed=0):
    return audit(both(seed)[0], "lane", **HOW)


def without(name, where="lane_B", seed=0):
    cells, types, lanes = both(seed)
    return cells[~((types == name) & (lanes == where))].copy()


@cache
def lacking(seed=0):
    return audit(without("B", seed=seed), "lane", **HOW)


def of(found, cluster, seed=0):
    """How the cells of one cluster of one lane are typed, in shares."""
    asked = found.cells.asked
    alone = kept.cluster_within(asked, found.cells.batch, "X_pca")
    names = asked.obs_names[(alone == cluster).to_numpy()].str.split(" ").str[0]
    return raw(seed).obs["cell_type"][names].value_counts(normalize=True)


# --- before anything ----------------------------------------------------------------------------


def test_the_numbers_tell_what_a_slot_holds(tmp_path):
    """`describe_slots` undoes each logarithm in turn, and finds that the other `X` is the natural one ... So the audit refuses, and says what to do: make them alike, or name a layer that all have."""  # noqa: E501
    parts = {"lane_A": lane("run 1"), "lane_B": logged(lane("run 2"))}
    a, b = (describe_slots(part).loc["X"] for part in parts.values())
    assert a["holds"] == "counts"
    assert b["holds"] == "logarithms"
    assert "natural logarithm" in b["because"]
    assert "10,000" in b["because"]
    assert parts["lane_A"].X.max() > 1000 > parts["lane_B"].layers["counts"].max() > 100
    files = [tmp_path / f"{name}.h5ad" for name in parts]
    for file, part in zip(files, parts.values(), strict=True):
        part.write_h5ad(file)
    with pytest.raises(ValueError, match="make them alike, or name a layer that all have"):
        read_inputs(files, "lane")
    cells, _ = read_inputs(files, "lane", layer="counts")
    assert set(cells.obs["lane"]) == {"lane_A", "lane_B"}  # the names of the files become it


@pytest.mark.parametrize("seed", SEEDS)
def test_unlike_x_is_the_largest_batch_effect(seed):
    """Counts of one lane and logarithms of the other would be the largest batch effect of your study."""  # noqa: E501
    apart = {}
    for name, change in {"alike": lambda part: part, "unlike": logged}.items():
        parts = [lane("run 1", seed), change(lane("run 2", seed))]
        X = ad.concat(parts).X.toarray()
        X = sc.pp.pca(X, n_comps=10, random_state=0)
        second = np.arange(len(X)) >= parts[0].n_obs
        shift = X[second].mean(axis=0) - X[~second].mean(axis=0)
        apart[name] = np.linalg.norm(shift) / X[second].std(axis=0).max()
    assert apart["unlike"] > 3 * apart["alike"]


@pytest.mark.parametrize("seed", SEEDS)
def test_half_of_the_molecules(seed):
    """Every cell of lane B lost about half of its molecules ... Lane B catches less, and some genes much less"""  # noqa: E501
    full = load_pbmc()[seed::3]
    second = (raw(seed).obs["run"] == "run 2").to_numpy()
    left = raw(seed).X[second].sum(axis=1) / full.X[second].sum(axis=1)
    assert 0.4 < np.median(np.asarray(left)) < 0.75
    assert np.mean(raw(seed).var["planted_capture"] < 0.2) > 0.1


# --- the command, and its answers -----------------------------------------------------------------


def test_what_the_command_leaves(tmp_path):
    """`COMPLETE` comes last ... Your own files were only read. ... `corrected.h5ad` is your own object with two embeddings more ... your counts are in it as they were."""  # noqa: E501
    cells = both()[0][::4].copy()
    cells.write_h5ad(tmp_path / "cells.h5ad")
    before = (tmp_path / "cells.h5ad").read_bytes()
    command = [sys.executable, "-m", "helpers.command", "cells.h5ad", "--batch", "lane"]
    command += ["--keep", "treatment", "--quick", "--out", "report"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "cells.h5ad").read_bytes() == before
    left = sorted((tmp_path / "report").iterdir(), key=lambda file: file.stat().st_mtime_ns)
    assert [file.name for file in left][-1] == "COMPLETE"
    numbers = json.loads((tmp_path / "report" / "audit.json").read_text())
    assert [answer["id"] for answer in numbers["answers"]][2:] == [
        "effect", "mixing", "lost", "stability",
    ]  # fmt: skip
    after = ad.read_h5ad(tmp_path / "report" / "corrected.h5ad")
    assert set(after.obsm) - set(cells.obsm) == {"X_pca", "X_pca_harmony"}
    assert "X_pca_harmony" in after.uns
    for slot in ["X", "counts"]:
        one, other = (x.X if slot == "X" else x.layers[slot] for x in (cells, after))
        assert (sparse.csr_matrix(one) != sparse.csr_matrix(other)).nnz == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_the_complete_cells(seed):
    """Only 1.1 ... Almost all cells are in clusters that both lanes have ... Harmony went most of the way from one lane to what chance would give."""  # noqa: E501
    found = complete(seed)
    assert found["effect"].verdict == "yes"
    assert not found.findings
    assert 1.05 <= found["effect"].numbers["distance_ratio"] < 1.2
    assert found["effect"].numbers["shared"] > 0.9
    assert found["mixing"].verdict == "mixed"
    assert found["mixing"].numbers["way"] > 0.7
    assert found["mixing"].numbers["n_rounds"] == FINISHED["max_iter_harmony"]
    assert found["stability"].verdict == "stable"


def test_red_blood_cells_are_too_few():
    """The lowest cluster keeps less than half, and yet it is not on the list of findings: it has 15 cells. ... The audit judges clusters from 30 cells on"""  # noqa: E501
    lowest = complete()["lost"].tables["look here"].iloc[0]
    assert lowest["kept"] < 0.5
    assert lowest["n_cells"] == 15
    assert "HBB" in lowest["genes"]
    assert complete()["lost"].numbers["look"] == []
    assert questions.JUDGED == 30


# --- each verdict ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_shuffled(seed):
    """The mixing is perfect, as it was before Harmony, and the advice is to leave it."""
    cells, _, lanes = both(seed)
    cells = cells.copy()
    cells.obs["day"] = np.random.default_rng(seed).permutation(lanes)
    found = audit(cells, "day", **HOW)
    assert found["effect"].verdict == "no"
    assert found.advice[0].startswith("Do not integrate")
    assert len(found.advice) == 1
    mixing = found["mixing"].numbers
    for when in ["before", "after"]:
        assert mixing["iLISI"][when] > 0.96 * mixing["reference"]


@pytest.mark.parametrize("seed", SEEDS)
def test_b_cells_stand_lowest(seed):
    """The lowest cluster that is large enough carries genes of antigen presentation, as B cells do"""  # noqa: E501
    found = lacking(seed)
    assert found["lost"].verdict == "look here"
    lowest = found["lost"].numbers["look"][0]
    table = found["lost"].tables["look here"].set_index("cluster")
    assert "HLA-DRA" in table.loc[lowest, "genes"]
    assert table.loc[lowest, "kept"] < 0.5
    share = of(found, lowest, seed)
    assert share.index[0] == "B"
    assert share.iloc[0] > 0.7


def test_two_clusters_of_t_cells_are_named_too():
    """Keeps little more than a quarter of its signature. The list also names two clusters with genes of T cells, just below the line at 0.7."""  # noqa: E501
    look = lacking()["lost"].numbers["look"]
    table = lacking()["lost"].tables["look here"].set_index("cluster")
    assert len(look) == 3
    assert 0.25 < table.loc[look[0], "kept"] < 0.3
    assert (table.loc[look[1:], "kept"] > 0.65).all()
    assert all(of(lacking(), name).index[0] == "CD4 T" for name in look[1:])
    assert questions.LOOK == 0.7


@pytest.mark.parametrize("seed", SEEDS)
def test_several_genes_tell(seed):
    """The genes that only B cells have (*CD79A*, *CD79B*, *MS4A1*) are all but missing in lane B. ... never trust a single one."""  # noqa: E501
    cells = without("B", seed=seed)
    lanes = cells.obs["lane"].to_numpy()

    def ratio(genes):
        shares = [(cells[lanes == name, genes].X > 0).mean() for name in ["lane_B", "lane_A"]]
        return shares[0] / shares[1]

    only = [gene for gene in ["CD79A", "CD79B", "MS4A1"] if gene in cells.var_names]
    assert ratio(only) < 0.35
    assert ratio(["CD3D", "LTB"]) > 1.5 * ratio(only)
    if seed == 0:
        assert ratio(["CD3D", "LTB"]) > 0.9
        assert ratio(["HLA-DRA"]) > 0.8
    if seed == 2:  # a single gene misleads: this one is hardly caught, and no T cell is missing
        assert ratio(["CD3D"]) < 0.4


@pytest.mark.parametrize("seed", SEEDS)
def test_no_setting_supplies_a_type(seed):
    """A gentler setting lets fewer strangers come *near*, which is a gain; but those who come are no more B cells than before."""  # noqa: E501
    asked = lacking(seed).cells.asked
    alone = kept.cluster_within(asked, "lane", "X_pca")
    lowest = lacking(seed)["lost"].numbers["look"][0]
    rows = {}
    for name, setting in {"default": {}, "alpha": {"alpha": 1.0}, "lamb": {"lamb": 10.0}}.items():
        harmonize(asked, "lane", adjusted_basis="trial", **FINISHED, **setting)
        table = kept.signature_kept(asked, "lane", "trial", alone, baseline="X_pca", n_genes=20)
        rows[name] = table.set_index("cluster").loc[lowest]
    for name in ["alpha", "lamb"]:
        assert rows[name]["near"] < rows["default"]["near"]
        assert rows[name]["kept"] < min(0.6, rows["default"]["kept"] + 0.1)


def test_the_rest_is_well():
    """The T cells are off the list as well: they were there because of the gap that the B cells left"""  # noqa: E501
    alone = kept.cluster_within(lacking().cells.asked, "lane", "X_pca")
    cells = without("B")[(alone != lacking()["lost"].numbers["look"][0]).to_numpy()].copy()
    found = audit(cells, "lane", **HOW)
    assert found["lost"].numbers["look"] == []
    assert not found.findings


@pytest.mark.parametrize("seed", SEEDS)
def test_composition_only(seed):
    """There is one, since we planted it, and no one can know that from these cells ... Harmony did not mix them, which is right. The list of the fifth question is of no use now: whatever has no partner is on it."""  # noqa: E501
    cells, types, lanes = both(seed)
    split = (np.isin(types, MYELOID) == (lanes == "lane_B")) & (types != "unassigned")
    found = audit(cells[split].copy(), "lane", **HOW)
    assert found["effect"].verdict == "batch or composition: cannot tell"
    assert found["mixing"].verdict == "not mixed"
    numbers = found["lost"].numbers
    assert len(numbers["look"]) > 0.7 * numbers["n_judged"]
    if seed == 0:  # no cluster is in both lanes
        assert found["effect"].numbers["shared"] == 0


def test_confounded(tmp_path):
    """Exit code 4: nothing was corrected ... No flag overrules it; but without `--keep treatment` nothing would have been refused"""  # noqa: E501
    cells, _, lanes = both()
    some = cells[(cells.obs["treatment"] == 1).to_numpy() == (lanes == "lane_B")].copy()
    some.write_h5ad(tmp_path / "cells.h5ad")
    command = [sys.executable, "-m", "helpers.command", "cells.h5ad", "--batch", "lane", "--quick"]
    command += ["--out", "out", "--keep", "treatment"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 4, done.stderr
    assert not (tmp_path / "out" / "corrected.h5ad").exists()
    assert not audit(some, "lane", quick=True).refused


# --- what it does not see -------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 2])
def test_nk_cells_are_not_missed(seed):
    """The NK cells share a cluster with CD8 T cells ... half of their like neighbours are gone all the same. With labels the loss is plain"""  # noqa: E501
    cells, types, lanes = both(seed)
    rows = ~((types == "NK") & (lanes == "lane_B"))
    some = cells[rows].copy()
    some.obs["cell_type"] = types[rows]
    found = audit(some, "lane", label="cell_type", **HOW)
    assert found["lost"].numbers["look"] == []
    assert "NK" in found["lost"].sentence
    own = found["lost"].tables["own-type share"]
    assert 0.4 < own.loc["NK", "after"] / own.loc["NK", "before"] < 0.65
    assert (own["after"] - own["before"]).drop("NK").min() > -0.05
    table = found["lost"].tables["look here"].set_index("cluster")
    alone = kept.cluster_within(found.cells.asked, "lane", "X_pca").to_numpy()
    home = pd.Series(alone[types[rows] == "NK"]).value_counts().index[0]
    assert table.loc[home, "mostly"] == "CD8 T"


@pytest.mark.parametrize("seed", [0, 1])
def test_a_biology_that_was_not_named(seed):
    """In each type, neighbours of the same treatment fell towards the half that chance gives, and the audit calls the treatments *mixed* and the result *stable*. ... that T and B cells have lost their response, it does not notice."""  # noqa: E501
    cells, types, _ = both(seed)
    found = audit(cells, "treatment", quick=True)
    assert found["mixing"].verdict == "mixed"
    assert found["stability"].verdict == "stable"
    assert "No biology was named" in found.advice[-1]
    for name in ["CD4 T", "B", "CD14 Mono"]:
        own = [
            metrics.own_share(found.cells.asked.obsm[rep], cells.obs["treatment"])[types == name]
            for rep in ["X_pca", "X_pca_harmony"]
        ]
        assert own[0].mean() > 0.65 > own[1].mean()
    if seed == 0:
        mostly = [of(found, name).index[0] for name in found["lost"].numbers["look"]]
        assert mostly == ["CD14 Mono", "CD14 Mono"]


# --- what is left ---------------------------------------------------------------------------------


def test_methods():
    """Source, genes, components, column, version, rounds, seed, settings, and the mixing with its reference"""  # noqa: E501
    said = complete().methods()
    numbers = complete()["mixing"].numbers
    record = complete().cells.all.uns["X_pca_harmony"]
    for part in [
        "counts in", "2,000 variable genes", "30 components", "lane", "40 rounds", "seed 0",
        f"harmonypy {record['versions']['harmonypy']}", "epsilon_harmony = 0",
        f"{numbers['iLISI']['after']:.2f}", f"{numbers['reference']:.2f}",
    ]:  # fmt: skip
        assert part in said, part
    assert said.endswith("expression was compared on uncorrected counts.")  # a promise


def test_the_lesson_and_the_command_agree_without_identifiers():
    """The gene identifiers are **invented**: they look like Ensembl's and belong to no species."""
    some = both()[0][::4].copy()
    other = some.copy()
    rng = np.random.default_rng(0)
    other.var_names = [f"ENSXG{i:011d}" for i in rng.permutation(some.n_vars)]
    one, two = (audit(x, "lane", **HOW) for x in (some, other))
    assert two["matrix"].numbers["gene_names"] == "Ensembl identifiers"
    assert one["effect"].numbers == two["effect"].numbers  # names change nothing
