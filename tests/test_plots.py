"""The pictures show what they say: same limits, same colours, every cell, no batch hidden."""

import anndata as ad
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba

from helpers import plots

mpl.use("agg")


@pytest.fixture
def adata():
    rng = np.random.default_rng(0)
    obs = pd.DataFrame({"batch": ["a"] * 100 + ["b"] * 100}, index=[str(i) for i in range(200)])
    obs["cell_type"] = pd.Categorical(np.where(np.arange(200) % 2, "T", "unassigned"))
    obs["depth"] = rng.random(200)
    cells = ad.AnnData(rng.random((200, 2)).astype("f4"), obs=obs)
    cells.var_names = ["CD3D", "LYZ"]
    cells.obsm["X_umap"] = rng.normal(size=(200, 2))
    cells.obsm["X_umap_before"] = 5 + rng.normal(size=(200, 2))
    return cells


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_embedding_draws_every_cell_in_an_order_that_mixes_the_batches(adata):
    points = plots.embedding(adata, "batch").axes[0].collections[0]
    assert len(points.get_offsets()) == 200
    last_half = points.get_facecolors()[100:]
    of_a = (last_half == to_rgba(plots.COLORS[0])).all(axis=1).mean()
    assert 0.3 < of_a < 0.7


def test_each_cell_has_the_colour_of_its_category(adata):
    points = plots.embedding(adata, "cell_type").axes[0].collections[0]
    place = {tuple(xy): i for i, xy in enumerate(adata.obsm["X_umap"])}
    colors = plots.palette(adata.obs["cell_type"])
    assert colors["unassigned"] == plots.GREY != colors["T"]
    for xy, color in zip(points.get_offsets(), points.get_facecolors(), strict=True):
        assert to_rgba(colors[adata.obs["cell_type"].iloc[place[tuple(xy)]]]) == tuple(color)


def test_before_and_after_share_limits_and_colours(adata):
    fig = plots.before_after(adata, ["batch", "CD3D"], on_data=True)
    panels = [ax for ax in fig.axes if ax.get_title()]
    assert [ax.get_title() for ax in panels] == [
        "before: batch",
        "after Harmony: batch",
        "before: CD3D",
        "after Harmony: CD3D",
    ]
    assert len({ax.get_xlim() + ax.get_ylim() for ax in panels}) == 1
    seen = [{tuple(c) for c in ax.collections[0].get_facecolors()} for ax in panels[:2]]
    assert seen[0] == seen[1]
    assert {text.get_text() for text in panels[1].texts} == {"a", "b"}


def test_continuous_values_get_a_colour_bar(adata):
    fig = plots.embedding(adata, "depth")
    assert len(fig.axes) == 2


def test_convergence_says_how_the_run_ended():
    record = {"backend": "harmonypy", "objective": [10.0, 8, 7.9], "converged": True}
    (ax,) = plots.convergence({"a": record, "b": {**record, "converged": False}}).axes
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["a: stopped by the rule", "b: ran all its rounds"]
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [1, 0.8, 0.79])
    with pytest.raises(ValueError, match="holds no objective"):
        plots.convergence({"backend": "scanpy"})


def test_scores_draw_each_value_in_its_own_panel():
    table = pd.DataFrame({"iLISI": [1.0, 1.5], "cLISI": [1.1, 1.2]}, index=["before", "after"])
    fig = plots.scores(table, {"iLISI": "higher"})
    assert [ax.get_title() for ax in fig.axes] == ["iLISI\nhigher is better", "cLISI"]
    np.testing.assert_allclose(fig.axes[0].collections[1].get_offsets()[:, 0], [1.0, 1.5])


@pytest.mark.parametrize("name", ["X_umap_other", "X_pca"])
def test_a_missing_embedding_gets_one_sentence(adata, name):
    with pytest.raises(KeyError, match=f"no '{name}'; it has: X_umap"):
        plots.embedding(adata, "batch", basis=name)


def test_an_unknown_colour_gets_one_sentence(adata):
    with pytest.raises(KeyError, match="neither a column"):
        plots.embedding(adata, "lane")
