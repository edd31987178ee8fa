"""What other methods do, as recorded: the table, the embeddings and the page are of one piece.

What this environment can run (uncorrected, Harmony, ComBat, and BBKNN by the lines of lesson 13)
is run again and must give what was recorded; so cells, order and scores are those of the others.
"""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc

from helpers import metrics
from helpers.integrate import FINISHED, harmonize
from tools.notebooks import ROOT, functions
from tools.pages import parts, without_parts
from tools.record import methods
from tools.record.methods import EMBEDDINGS, PAGE, PUBLISHED, SETTINGS, TABLE, page, setting

LESSON = ROOT / "notebooks" / "13_choose_a_method.ipynb"
KEYS = {"batch_key": "run", "label_key": "cell_type", "keep_key": "condition"}
NUMBERS = ["mixing", "types apart", "biology kept"]


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return pd.read_csv(TABLE, comment="#").set_index(["setting", "method", "seed"])


@pytest.fixture(scope="module")
def recorded() -> ad.AnnData:
    return ad.read_h5ad(EMBEDDINGS)


def test_the_table_says_with_what_and_when():
    head = [line for line in TABLE.read_text(encoding="utf-8").splitlines() if line[0] == "#"]
    said = " ".join(head)
    for name in ["scvi-tools", "torch", "scanorama", "bbknn", "harmonypy", "Seurat", "R ", "numpy"]:
        assert name in said, name
    assert "on 20" in said
    assert "python -m tools.record.methods" in said


def test_every_setting_has_its_methods(table):
    assert set(table.index.get_level_values("setting")) == set(SETTINGS)
    for name, trainings in SETTINGS.items():
        done = set(table.loc[name].index.get_level_values("method"))
        assert {"uncorrected", "Harmony", "ComBat", "Scanorama", "BBKNN"} <= done
        assert "shuffled within types" in done
        if trainings:
            assert {"Seurat CCA", "Seurat RPCA, projected", "scVI, 10 epochs"} <= done
            assert f"scANVI, {trainings[0]} epochs" in done


def test_all_but_the_reference_have_seconds_and_memory(table):
    ran = table.drop(index="shuffled within types", level="method")
    assert (ran["seconds"] >= 0).all()
    assert ran["GB"].between(0.1, 8).all()
    assert (
        ran.loc[ran["mixing"].isna()]
        .index.get_level_values("method")
        .isin(["BBKNN", "BBKNN, exact"])
        .all()
    )


@pytest.mark.parametrize("name", ["planted run", "T cells withheld"])
def test_what_runs_here_gives_what_was_recorded(table, name):
    cells = setting(name).cells.copy()
    harmonize(cells, "run", adjusted_basis="Harmony", **FINISHED)
    combat = functions(LESSON, ad=ad, np=np, sc=sc)["combat"]
    cells.obsm["ComBat"] = combat(cells, "run")
    reps = {"uncorrected": "X_pca", "Harmony": "Harmony", "ComBat": "ComBat"}
    found = metrics.three_numbers(cells, use_reps=reps, **KEYS)
    then = table.loc[name].xs(0, level="seed").loc[list(reps), NUMBERS]
    assert np.abs(found.to_numpy() - then.to_numpy()).max() < 0.02


def test_the_embeddings_are_of_these_cells_and_give_the_table(table, recorded):
    cells = setting("planted run").cells
    assert list(recorded.obs_names) == list(cells.obs_names)
    assert EMBEDDINGS.stat().st_size < 1_500_000
    cells = ad.AnnData(obs=cells.obs, obsm=dict(recorded.obsm))
    found = metrics.three_numbers(cells, use_reps=list(recorded.obsm), **KEYS)
    then = table.loc["planted run"].xs(0, level="seed").loc[list(recorded.obsm), NUMBERS]
    assert np.abs(found.to_numpy() - then.to_numpy()).max() < 0.01


def test_the_graphs_give_the_table(table, recorded):
    cells = setting("planted run").cells
    for name, graph in recorded.obsp.items():
        found = methods.walk_numbers(graph, cells.obs, "run", "cell_type", "condition")
        then = table.loc[("planted run", name, 0)]
        assert all(abs(value - then[key]) < 0.005 for key, value in found.items())


def test_the_published_table_gives_the_published_means():
    """Their own mean counts what is missing as 0; the six means are those that they print."""
    theirs = pd.read_csv(PUBLISHED, comment="#").set_index(["method", "data"])
    assert theirs.shape == (9 * 6, 13)
    means = theirs.fillna(0).mean(axis=1).groupby("method").mean()
    printed = {"scANVI": 0.516, "ComBat": 0.516, "scVI": 0.501, "Harmony": 0.499}
    printed |= {"fastMNN": 0.490, "uncorrected": 0.436}
    assert means[list(printed)].to_numpy() == pytest.approx(list(printed.values()), abs=0.001)


# --- the page ---------------------------------------------------------------------------------


def test_page_is_fresh():
    assert PAGE.read_text(encoding="utf-8") == page(), (
        "book/choose.md: run `python -m tools.record.methods --part page`"
    )


def test_page_has_no_number_by_hand():
    text = PAGE.read_text(encoding="utf-8")
    assert sorted(parts(text)) == ["costs", "graphs", "head", "kept", "mixing", "types"]
    assert "0." not in without_parts(text)


def test_a_changed_number_makes_the_page_stale(monkeypatch, tmp_path):
    text = TABLE.read_text(encoding="utf-8")
    row = next(line for line in text.splitlines() if line.startswith("planted run,Harmony,0,"))
    fields = row.split(",")
    fields[3] = str(float(fields[3]) - 0.1)
    changed = tmp_path / "methods_recorded.csv"
    changed.write_text(text.replace(row, ",".join(fields)), encoding="utf-8")
    monkeypatch.setattr(methods, "TABLE", changed)
    assert PAGE.read_text(encoding="utf-8") != page()
