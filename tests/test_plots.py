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


@pytest.mark.parametrize("n", [2, 9, 10, 30, 31, 80])
def test_no_two_categories_share_a_colour(n):
    colors = plots.palette(pd.Series([f"type {i:02d}" for i in range(n)]))
    assert len(set(colors.values())) == n
    assert plots.GREY not in colors.values()
    if n <= 9:
        assert list(colors.values()) == plots.COLORS[:n]


def test_thirty_colours_are_as_far_apart_as_the_first_nine():
    colour = pytest.importorskip("skimage.color")

    def least(colors):
        lab = colour.rgb2lab(np.array([mpl.colors.to_rgb(c) for c in colors])[None])[0]
        apart = np.linalg.norm(lab[:, None] - lab[None], axis=2)
        return apart[np.triu_indices(len(lab), 1)].min()

    assert len(plots.COLORS + plots.MORE) == 30
    assert least(plots.COLORS + plots.MORE + [plots.GREY, "#FFFFFF"]) > 15
    assert least(plots.COLORS + plots.MORE) > 0.95 * least(plots.COLORS)


KINDS = {  # a column, and whether it is names
    "whole numbers": (np.arange(200) % 3, True),
    "unsigned": ((np.arange(200) % 3).astype("u1"), True),
    "masked": (pd.array(np.arange(200) % 3, dtype="Int64"), True),
    "truth": (np.arange(200) % 2 > 0, True),
    "forty lanes": (np.arange(200) % 40, True),
    "a hundred lanes": (np.arange(200) % 100, True),
    "more than a legend holds": (np.arange(200) % 101, False),
    "half numbers": (np.arange(200) % 3 / 2, False),
    "infinite": (np.where(np.arange(200) % 3, 1, np.inf), False),
    "text": (["a", "b"] * 100, True),
    "counts of genes": (np.arange(200) * 7, False),
    "fractions": (np.linspace(0, 1, 200), False),
}


@pytest.mark.parametrize("kind", KINDS)
def test_whole_numbers_of_few_levels_are_names(adata, kind):
    values, names = KINDS[kind]
    adata.obs["lane"] = pd.Series(values).set_axis(adata.obs_names)
    ax, *bar = plots.embedding(adata, "lane").axes
    assert (ax.get_legend() is not None) == names
    assert len(bar) == (not names)
    if names:
        labels = [text.get_text() for text in ax.get_legend().get_texts()]
        assert labels == [str(level) for level in sorted(adata.obs["lane"].unique())]


@pytest.mark.parametrize("kind", [int, float])
def test_counts_of_few_cells_are_no_names(adata, kind):
    adata.obs["n_genes"] = (500 + 7 * np.arange(200)).astype(kind)
    ax, *bar = plots.embedding(adata[:60], "n_genes").axes
    assert bar
    assert ax.get_legend() is None


@pytest.mark.parametrize("kind", ["f2", "f4", "f8", "Float64", "Int64", "category", object])
@pytest.mark.parametrize("n", [3, 40])
def test_lanes_of_which_one_is_missing_are_still_whole(adata, n, kind):
    lanes = pd.Series(1.0 + np.arange(200) % n, index=adata.obs_names)
    adata.obs["lane"] = lanes.mask(np.arange(200) == 0).astype(kind)
    ax, *bar = plots.embedding(adata, "lane").axes
    assert not bar
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == [*(str(lane) for lane in range(1, n + 1)), "(no label)"]
    grey = (ax.collections[0].get_facecolors() == to_rgba(plots.GREY)).all(axis=1).sum()
    assert grey == 1


def test_cells_without_a_label_are_drawn_in_grey_and_not_named(adata):
    adata.obs["cell_type"] = adata.obs["cell_type"].where(np.arange(200) > 50)
    ax = plots.embedding(adata, "cell_type", on_data=True).axes[0]
    assert len(ax.collections[0].get_offsets()) == 200
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["T", "unassigned", "(no label)"]
    assert [text.get_text() for text in ax.texts] == ["T"]
    grey = (ax.collections[0].get_facecolors() == to_rgba(plots.GREY)).all(axis=1).sum()
    assert grey == (adata.obs["cell_type"] != "T").sum()


LONG = "a long name of a type with its state, "


@pytest.mark.parametrize(("name", "n"), [("T", 2), ("T", 60), (LONG, 2), (LONG, 30)])
@pytest.mark.parametrize("draw", ["embedding", "before_after"])
def test_no_legend_is_cut_and_no_panel_is_squeezed(adata, draw, name, n):
    adata.obs["many"] = pd.Categorical([f"{name}{i % n}" for i in range(200)])
    colors = "many" if draw == "embedding" else ["many", "batch"]
    fig = getattr(plots, draw)(adata, colors)
    fig.draw_without_rendering()  # a closed figure has no canvas that draws
    inside = fig.bbox.padded(1)
    for ax in fig.axes:
        for part in filter(None, [ax.get_legend(), ax.title]):
            box = part.get_window_extent()
            assert inside.x0 <= box.x0 <= box.x1 <= inside.x1
            assert inside.y0 <= box.y0 <= box.y1 <= inside.y1
        width, height = ax.get_window_extent().size / fig.dpi
        assert width > 2.3
        assert height > 1.8


def test_a_small_legend_leaves_the_figure_as_it_was(adata):
    assert tuple(plots.embedding(adata, "batch").get_size_inches()) == (5.5, 4)
    assert tuple(plots.before_after(adata, "batch").get_size_inches()) == (9.5, 3.8)


def test_a_name_stands_on_the_densest_group(adata):
    """Not between two groups, where there are no cells, as the median of both may be."""
    rng = np.random.default_rng(0)
    centre = np.where(
        np.arange(200)[:, None] < 90, -10, np.where(np.arange(200)[:, None] < 110, 0, 10)
    )
    adata.obsm["X_umap"] = rng.normal(size=(200, 2)) * 0.5 + centre
    adata.obsm["X_umap"][90:110] += rng.normal(size=(20, 2)) * 3
    adata.obs["one"] = "A"
    (text,) = plots.embedding(adata, "one", on_data=True).axes[0].texts
    assert np.abs(np.abs(text.get_position()) - 10).max() < 1


def test_a_cell_without_a_place_hides_no_name(adata):
    adata.obs["group"] = ["a"] * 90 + ["b"] * 90 + ["nowhere"] * 20
    adata.obsm["X_umap"][[3, 4, 100], [0, 1, 1]] = np.nan, np.inf, np.nan
    adata.obsm["X_umap"][180:] = np.nan
    fig = plots.embedding(adata, "group", on_data=True)
    fig.draw_without_rendering()
    texts = fig.axes[0].texts
    assert [text.get_text() for text in texts] == ["a", "b"]
    assert np.isfinite([text.get_position() for text in texts]).all()


def test_a_tiny_group_gets_no_name_on_the_data(adata):
    adata.obs["group"] = ["tiny"] * 9 + ["small"] * 10 + ["large"] * 181
    ax = plots.embedding(adata, "group", on_data=True).axes[0]
    assert {text.get_text() for text in ax.texts} == {"small", "large"}
    assert "tiny" in {text.get_text() for text in ax.get_legend().get_texts()}


WRONG = {
    "a list": ({"color": ["batch"]}, TypeError, "Name one column"),
    "None": ({"color": None}, TypeError, "Name one column"),
    "basis of a list": ({"basis": ["X_umap"]}, KeyError, "it has: X_umap"),
    "one dimension": ({"basis": "X_one"}, ValueError, "a picture needs two"),
    "barcodes": ({"color": "barcode"}, ValueError, "200 categories, more than a legend holds"),
    "twice": ({"color": "twice"}, ValueError, "several columns 'twice'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_drawn_gets_one_sentence(adata, case):
    asked, error, words = WRONG[case]
    adata.obsm["X_one"] = adata.obsm["X_umap"][:, :1]
    adata.obs["barcode"] = adata.obs_names
    adata.obs["more"] = adata.obs["twice"] = "a"
    adata.obs.columns = [name.replace("more", "twice") for name in adata.obs]
    with pytest.raises(error, match=words):
        plots.embedding(adata, **{"color": "batch", **asked})
