"""The pictures of the audit, one per question."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from helpers.plots import COLORS, GREY, closed

LOOK = 0.7  # signature kept, below which a cluster is on the list
PLAIN_TEXT = {"text.parse_math": False}  # names may hold dollar signs


@dataclass(frozen=True)
class Picture:
    """A figure and the finding in words, for those who do not see it."""

    figure: Figure
    alt: str


def ratios(inside: np.ndarray) -> Figure:
    """Draw the distance ratios of the cells."""
    fig, ax = plt.subplots(figsize=(6, 2.8))
    shown = inside[np.isfinite(inside)]
    if shown.size:
        ax.hist(np.clip(shown, 0.5, 3), bins=60, color=COLORS[0])
    ax.axvline(1, color="black", lw=1)
    ax.set(xlabel="distance to other batches / to the own batch", ylabel="cells")
    return closed(fig)


def bars(sizes: pd.Series, label: str) -> Figure:
    """Draw sizes as bars, up to 30."""
    shown = sizes.head(30).iloc[::-1]
    fig, ax = plt.subplots(figsize=(6, 1 + 0.22 * len(shown)))
    ax.barh(shown.index.astype(str), shown.to_numpy(), color=COLORS[0])
    ax.set(xlabel=label)
    return closed(fig)


def heat(table: pd.DataFrame) -> Figure:
    """Draw a cross-table of cells, up to 30 x 12."""
    shown = table.iloc[:30, :12]
    size = (2 + 0.9 * shown.shape[1], 1.2 + 0.28 * shown.shape[0])
    fig, ax = plt.subplots(figsize=size)
    ax.imshow(np.log1p(shown.to_numpy()), aspect="auto", cmap="Blues", vmin=0)
    dark = np.log1p(shown.to_numpy()) > 0.6 * np.log1p(shown.to_numpy().max())
    for (i, j), n in np.ndenumerate(shown.to_numpy()):
        ax.text(j, i, f"{n:,}", ha="center", va="center", color="white" if dark[i, j] else "black")
    ax.set_xticks(range(shown.shape[1]), shown.columns.astype(str), rotation=30, ha="right")
    ax.set_yticks(range(shown.shape[0]), shown.index.astype(str))
    ax.set(xlabel=table.columns.name, ylabel=table.index.name)
    return closed(fig)


def dumbbells(table: pd.DataFrame, by: str) -> Figure:
    """Draw the mixing of each group before and after, beside what chance would give."""
    shown = table.sort_values("n_cells", ascending=False).head(25).iloc[::-1]
    place = np.arange(len(shown))
    fig, ax = plt.subplots(figsize=(6.5, 1.2 + 0.28 * len(shown)))
    ax.hlines(place, shown["before"], shown["after"], color=GREY, lw=1)
    ax.hlines(place, shown["low"], shown["high"], color=COLORS[2], lw=4, alpha=0.4)
    ax.scatter(shown["before"], place, color=COLORS[1], marker="o", label="before", zorder=3)
    ax.scatter(shown["after"], place, color=COLORS[2], marker="D", label="after", zorder=3)
    ax.scatter(
        shown["if mixed"], place, color="black", marker="|", s=120, label="if mixed", zorder=3
    )
    ax.set_yticks(place, [f"{name} ({n:,})" for name, n in shown["n_cells"].items()])
    ax.set(xlabel=f"median iLISI by {by.removesuffix('s')}")
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)
    return closed(fig)


def dots(table: pd.DataFrame, look: pd.DataFrame, judged: int) -> Figure:
    """Draw what each cluster kept, the least first; hollow those too small to judge."""
    column = "kept" if "kept" in table else "neighbors kept"
    shown = table.dropna(subset=column).sort_values(column).head(25).iloc[::-1]
    fig, ax = plt.subplots(figsize=(7.5, 1.2 + 0.27 * len(shown)))
    marked = shown["cluster"].isin(look["cluster"])
    sizes = shown["n_cells"] if "n_cells" in shown else pd.Series(judged, shown.index)
    colors = np.where(marked, COLORS[1], COLORS[0])
    faces = np.where(sizes >= judged, colors, "white")
    ax.scatter(shown[column], range(len(shown)), c=faces, edgecolors=colors)
    for place in np.flatnonzero(marked):
        where = (shown[column].iloc[place], place)
        ax.annotate("look", where, xytext=(6, -3), textcoords="offset points")
    names = shown["cluster"].astype(str)
    if "genes" in shown:
        ax.axvline(LOOK, color="black", lw=1, ls=":")
        genes = shown["genes"].str.split(", ").str[:3].str.join(", ")
        names = names + " (" + sizes.astype(str) + ")  " + genes
    ax.set_yticks(range(len(shown)), names)
    what = "signature kept in partners" if column == "kept" else "neighbours kept within the batch"
    ax.set(xlabel=what)
    return closed(fig)


def dots_alt(table: pd.DataFrame, look: pd.DataFrame) -> str:
    """Say what `dots` draws."""
    column = "kept" if "kept" in table else "neighbors kept"
    what = "Signature kept in partners" if column == "kept" else "Neighbours kept within the batch"
    values = table[column].dropna()
    if not len(values):
        return f"{what}: no cluster could be judged."
    ends = f"{values.min():.2f} to {values.max():.2f}"
    return f"{what} of {len(values)} clusters, {ends}; {len(look)} to look at."


def doses(mix: Mapping[int, float], table: pd.DataFrame | None) -> Figure:
    """Draw the mixing by seed; and by setting, with what is left of a lone cluster."""
    n_panels = 1 if table is None else 3
    fig, axes = plt.subplots(1, n_panels, figsize=(2 + 2.6 * n_panels, 3), squeeze=False)
    axes[0, 0].scatter(list(mix), list(mix.values()), color=COLORS[0])
    axes[0, 0].set(xlabel="seed", ylabel="median iLISI", ylim=(1, max(mix.values()) * 1.1))
    axes[0, 0].xaxis.get_major_locator().set_params(integer=True)
    if table is not None:
        place = np.arange(len(table))[::-1]
        labels = {"mixing": "median iLISI", "lone share left": "left of a lone cluster"}
        for ax, (column, label), color in zip(
            axes[0, 1:], labels.items(), COLORS[1:], strict=False
        ):
            ax.scatter(table[column], place, color=color)
            ax.set_yticks(place, table.index if column == "mixing" else [""] * len(place))
            ax.set(xlabel=label)
            ax.margins(0.15)
    return closed(fig)
