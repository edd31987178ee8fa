"""The course's pictures: one style, colour-blind safe, each function returns the figure.

In a notebook, leave the call on the last line of its cell, without a semicolon.

Cells are drawn in random order, so that the batch drawn last does not hide the first.
Colours: the *muted* scheme of Paul Tol (SRON/EPS/TN/09-002, 2021) and a grey; beyond nine
categories 21 more, each as far as could be from all others in CIELAB, also to a reader who is
blind to green; beyond 30 a colour map, for by then no eye tells them apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from scipy.ndimage import gaussian_filter

from helpers.checks import missing_words, shown

COLORS = [
    "#332288",  # indigo
    "#CC6677",  # rose
    "#117733",  # green
    "#DDCC77",  # sand
    "#88CCEE",  # cyan
    "#AA4499",  # purple
    "#44AA99",  # teal
    "#882255",  # wine
    "#999933",  # olive
]
# fmt: off
MORE = [
    "#0000FF", "#22FF00", "#FF11FF", "#003355", "#442200", "#0088FF", "#AA1100",
    "#00EE99", "#0055FF", "#DD8800", "#003322", "#9933CC", "#FF3366", "#9988CC",
    "#88DD44", "#FFCCFF", "#0077AA", "#FF11BB", "#EE88FF", "#0000AA", "#776655",
]
# fmt: on
GREY = "#BBBBBB"
UNNAMED = {"unassigned", "unknown"}  # drawn in grey, as missing labels are
FEW_NUMBERS = 30  # whole numbers with no more levels are names, such as lanes or clusters
LEGEND = 100  # entries that a legend may have, and levels of whole numbers that are names
TINY = 10, 0.002  # cells, and share of them, below which a group gets no name on the data
SIDES = "width", "height"
NO_LABEL = "(no label)"
LEAST = 3.0, 2.6  # inches, width and height of a panel beside its legend
STYLE = {
    "figure.dpi": 100,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "figure.constrained_layout.use": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": plt.cycler(color=COLORS),
    "font.size": 10,
    "axes.titlesize": 11,
    "legend.frameon": False,
    "image.cmap": "viridis",
}


def use_style() -> None:
    """Set matplotlib's defaults for the course: sizes, white ground, no frame on top."""
    plt.rcParams.update(STYLE)


def palette(labels: pd.Series) -> dict[str, str]:
    """One colour for each category, no two the same; grey for cells without a name."""
    categories = labels.astype("category").cat.categories
    named = [name for name in categories if not _unnamed(name)]
    colors = COLORS + MORE
    if len(named) > len(colors):
        colors = [to_hex(c) for c in plt.get_cmap("turbo")(np.linspace(0, 1, len(named)))]
    colors = dict(zip(named, colors, strict=False))
    return {name: colors.get(name, GREY) for name in categories}


def embedding(
    adata: ad.AnnData,
    color: str,
    *,
    basis: str = "X_umap",
    title: str | None = None,
    on_data: bool = False,
) -> Figure:
    """Draw the first two dimensions of an embedding, coloured by one variable.

    Parameters
    ----------
    adata
        Cells with ``obsm[basis]``, cells x at least 2.
    color
        A column of ``obs`` or a gene of ``var_names``.
    basis
        Which embedding to draw.
    title
        Above the panel; ``color`` by default.
    on_data
        Write the names of the categories on the cells, where theirs are densest, as well as
        in the legend, so that the picture can be read without colour. Categories of fewer than
        10 cells, or of 0.2 % of all, get none.

    Whole numbers with at most 100 levels are categories, unless they have more than 30 and fewer
    than two cells each, as counts have; other numbers get a colour bar. The figure grows with its
    legend.

    Raises
    ------
    KeyError
        There is no such embedding, column or gene.
    TypeError
        A list in place of one column.
    ValueError
        The embedding has a single dimension, two columns share the name, or there are more than
        100 categories.
    """
    fig, ax = plt.subplots(figsize=(5.5, 4), layout="constrained")
    _draw(ax, _coordinates(adata, basis), _values(adata, color), title or color, on_data)
    return closed(_grown(fig, 1, 1))


def before_after(
    adata: ad.AnnData,
    color: str | Sequence[str],
    *,
    before: str = "X_umap_before",
    after: str = "X_umap",
    titles: tuple[str, str] = ("before", "after Harmony"),
    on_data: bool = False,
) -> Figure:
    """Draw two embeddings of the same cells side by side: same limits, same palette.

    Parameters and errors as in :func:`embedding`; ``color`` may be a list, one row each.
    """
    colors = [color] if isinstance(color, str) else list(color)
    left, right = _coordinates(adata, before), _coordinates(adata, after)
    shared = {"sharex": True, "sharey": True, "squeeze": False, "layout": "constrained"}
    fig, axes = plt.subplots(len(colors), 2, figsize=(9.5, 3.8 * len(colors)), **shared)
    for row, name in zip(axes, colors, strict=True):
        values = _values(adata, name)
        _draw(row[0], left, values, f"{titles[0]}: {name}", on_data, legend=False)
        _draw(row[1], right, values, f"{titles[1]}: {name}", on_data)
    return closed(_grown(fig, len(colors), 2))


def convergence(records: Mapping) -> Figure:
    """Draw Harmony's objective by round, relative to its start, and say how the run ended.

    Parameters
    ----------
    records
        ``adata.uns["X_pca_harmony"]`` as :func:`helpers.integrate.harmonize` writes it, or a
        dictionary of several such records by name.

    Raises
    ------
    ValueError
        A record holds no objective (scanpy's own Harmony returns none).
    """
    named = {"": records} if "backend" in records else dict(records)
    fig, ax = plt.subplots(figsize=(5.5, 3.5))
    for i, (name, record) in enumerate(named.items()):
        if "objective" not in record:
            raise ValueError(f"The record {name!r} holds no objective: use backend='harmonypy'.")
        objective = np.asarray(record["objective"])
        state = "stopped by the rule" if record["converged"] else "ran all its rounds"
        label = f"{name}: {state}" if name else state
        ax.plot(objective / objective[0], marker="osD^v"[i % 5], ms=5, label=label)
    ax.set(xlabel="round", ylabel="objective, relative to the start")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.legend()
    return closed(fig)


def scores(table: pd.DataFrame, better: Mapping[str, str] | None = None) -> Figure:
    """Draw a table of scores: one panel per score, one row per embedding.

    Parameters
    ----------
    table
        Embeddings x scores, as :func:`helpers.metrics.score_table` returns it.
    better
        For a score, ``"higher"`` or ``"lower"``; written above its panel.
    """
    n_columns = min(4, table.shape[1])
    n_rows = -(-table.shape[1] // n_columns)
    height = 0.8 + 0.32 * len(table)
    fig, axes = plt.subplots(
        n_rows, n_columns, figsize=(2.6 * n_columns, height * n_rows), sharey=True, squeeze=False
    )
    position = np.arange(len(table))[::-1]
    for ax, name in zip(axes.flat, table, strict=False):
        ax.hlines(position, table[name].min(), table[name], color=GREY, lw=1)
        ax.scatter(table[name], position, c=[COLORS[i % 9] for i in range(len(table))], zorder=2)
        direction = f"\n{better[name]} is better" if better and name in better else ""
        ax.set_title(f"{name}{direction}", fontsize=9)
        ax.set_yticks(position, table.index)
        ax.margins(x=0.15, y=0.15)
    for ax in axes.flat[table.shape[1] :]:
        ax.axis("off")
    return closed(fig)


def closed(fig: Figure) -> Figure:
    """Take the figure from pyplot, or a notebook would show it twice: as open, and as returned."""
    plt.close(fig)
    return fig


def _grown(fig: Figure, n_rows: int, n_columns: int) -> Figure:
    """Make the figure as large as its legends and panels need."""
    legends = [ax.get_legend().get_window_extent() for ax in fig.axes if ax.get_legend()]
    if legends:
        wide, high = (max(getattr(box, side) for box in legends) / fig.dpi for side in SIDES)
        width, height = fig.get_size_inches()
        width = max(width, n_columns * LEAST[0] + wide + 0.3)
        fig.set_size_inches(width, max(height, n_rows * max(LEAST[1], high + 0.3)))
    return fig


def _coordinates(adata: ad.AnnData, basis: str) -> np.ndarray:
    if not isinstance(basis, str) or basis not in adata.obsm:
        raise KeyError(f"adata.obsm has no {shown(basis)}; it has: {', '.join(adata.obsm)}.")
    xy = np.asarray(adata.obsm[basis])[:, :2]
    if xy.shape[1] < 2:
        raise ValueError(f"adata.obsm[{basis!r}] has one dimension; a picture needs two.")
    return xy


def _values(adata: ad.AnnData, color: str) -> pd.Series:
    """Categories, or numbers for a colour bar."""
    if not isinstance(color, str):
        raise TypeError(f"Name one column of adata.obs or one gene, not {shown(color)}.")
    if color not in adata.obs and color not in adata.var_names:
        raise KeyError(f"{color!r} is neither a column of adata.obs nor a gene of adata.")
    if color not in adata.obs:
        return pd.Series(adata[:, [color]].to_df()[color])
    values = adata.obs[color]
    if values.ndim > 1:
        raise ValueError(f"adata.obs has several columns {color!r}: rename all but one of them.")
    if pd.api.types.is_float_dtype(values):
        values = values.astype(float)  # pandas makes no categories of half precision
    if pd.api.types.is_numeric_dtype(values) and not _are_names(values):
        return pd.Series(values.astype(float))
    named = pd.Series(values.astype("category").array).cat.remove_unused_categories()
    # Whole numbers of which one is missing are floats to pandas: lane 1.0 is lane 1.
    if pd.api.types.is_float_dtype(named.cat.categories) and _whole(named.cat.categories):
        named = named.cat.rename_categories([int(level) for level in named.cat.categories])
    if len(named.cat.categories) > LEGEND:
        raise ValueError(
            f"{color!r} has {len(named.cat.categories):,} categories, more than a legend holds."
        )
    return named.cat.add_categories(NO_LABEL).fillna(NO_LABEL) if named.isna().any() else named


def _are_names(values: pd.Series) -> bool:
    """Whether numbers are names, such as lanes, and no measurement."""
    if pd.api.types.is_bool_dtype(values):
        return True
    given = values.dropna()
    n_levels = given.nunique()
    # Few cells may have few counts, but hardly two alike.
    shared = n_levels <= FEW_NUMBERS or len(given) >= 2 * n_levels
    return shared and n_levels <= LEGEND and _whole(given)


def _whole(numbers: pd.Series | pd.Index) -> bool:
    return bool(np.isfinite(numbers).all() and (numbers % 1 == 0).all())


def _unnamed(name: object) -> bool:
    return str(name) in UNNAMED or name == NO_LABEL or bool(missing_words([name]))


def _densest(xy: np.ndarray) -> np.ndarray:
    """A point in the densest part of a group: the median of its cells there."""
    counts, *edges = np.histogram2d(*xy.T, bins=20)
    peak = np.unravel_index(gaussian_filter(counts, 1.5).argmax(), counts.shape)
    near = np.ones(len(xy), dtype=bool)
    for axis, (edge, at) in enumerate(zip(edges, peak, strict=True)):
        near &= (xy[:, axis] >= edge[max(at - 1, 0)]) & (xy[:, axis] <= edge[min(at + 2, 20)])
    return np.median(xy[near], axis=0)


def _draw(
    ax: Axes,
    xy: np.ndarray,
    values: pd.Series,
    title: str,
    on_data: bool,
    legend: bool = True,
) -> None:
    """Scatter one panel, cells in a fixed random order."""
    order = np.random.default_rng(0).permutation(len(xy))
    size = np.clip(30_000 / max(len(xy), 1), 1, 20)
    style = {"s": size, "linewidths": 0, "rasterized": True}
    if isinstance(values.dtype, pd.CategoricalDtype):
        colors = palette(values)
        points = values.iloc[order].map(colors).astype(object).to_numpy()
        ax.scatter(*xy[order].T, c=points, **style)
        if legend:
            for name, color in colors.items():
                ax.scatter([], [], c=color, s=25, label=str(name))
            # One column would outgrow the panel when there are many clusters.
            ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), ncols=1 + len(colors) // 14)
        if on_data:
            outline = {"boxstyle": "round,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.7}
            least = max(TINY[0], TINY[1] * len(xy))
            for name, rows in values.groupby(values, observed=True).indices.items():
                rows = rows[np.isfinite(xy[rows]).all(axis=1)]
                if not _unnamed(name) and len(rows) >= least:
                    ax.text(
                        *_densest(xy[rows]),
                        str(name),
                        ha="center",
                        va="center",
                        fontsize=8,
                        bbox=outline,
                    )
    else:
        points = ax.scatter(*xy[order].T, c=values.to_numpy()[order], **style)
        if legend:
            ax.figure.colorbar(points, ax=ax, shrink=0.7)
    ax.set(title=title, xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
