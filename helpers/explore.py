"""Charts with sliders, in JupyterLab and, without a network, in the book.

The charts are Altair's, so what a cell hands over is a Vega-Lite description with its data.
JupyterLab 4 draws it with the Vega that it ships; ``book/_ext/lesson_pages.py`` writes it into the
page, where ``book/_static/explorable.js`` draws it and says its numbers.

A slider changes one thing: ``row``, the number of a row (from 0) in a table of settings. Each
row holds the numbers of one setting, and each cell has one place for each row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from helpers.plots import COLORS, GREY, palette

MIME = "application/vnd.vegalite.v5+json"
SIDE = 300  # pixels: two panels fit a page, one fits a phone


class Explorable:
    """Panels, sliders, and a table of which the sliders choose a row; a notebook shows it.

    Parameters
    ----------
    panels
        Altair charts, drawn side by side, whose expressions may use the parameter ``row``.
    table
        One row for each position of the sliders. The levels of the index are the sliders, whose
        positions must be numbers in even steps. The first column names the setting and becomes
        the title; the others are numbers, shown with two decimals.
    start
        The row to begin with.
    choices
        Further parameters of the panels: for each name, the values to choose from.

    Raises
    ------
    ValueError
        The positions of a slider are uneven, or a combination of positions is missing.
    """

    def __init__(
        self,
        panels: Sequence[alt.TopLevelMixin],
        table: pd.DataFrame,
        *,
        start: int = 0,
        choices: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.table = table
        names = table.iloc[:, 0].tolist()
        numbers = table.iloc[:, 1:].astype(float).map("{:.2f}".format).to_numpy().tolist()
        charts = alt.hconcat(*panels, spacing=25).to_dict()
        del charts["$schema"]  # an address, and a newer minor version than JupyterLab's
        self.spec = charts | {
            "title": {"text": {"expr": "settings[row]"}, "anchor": "start"},
            "autosize": {"type": "pad", "resize": True},  # legends grow and shrink
            "resolve": {"scale": {"color": "independent", "shape": "independent"}},
            "config": {
                "background": "white",
                "font": "sans-serif",
                "view": {"stroke": None},
                "legend": {"layout": {"bottom": {"anchor": "start", "direction": "vertical"}}},
            },
            "params": [
                {"name": "settings", "value": names},
                *_sliders(table.index, start),
                *(
                    {
                        "name": key,
                        "value": of[0],
                        "bind": {"input": "select", "options": [*of]},
                    }
                    for key, of in (choices or {}).items()
                ),
            ],
            # for the book: Vega takes no notice of it
            "usermeta": {
                "columns": table.columns.tolist(),
                "rows": [[name, *row] for name, row in zip(names, numbers, strict=True)],
            },
        }

    def __repr__(self) -> str:
        return self.table.to_string(index=False, float_format="{:.2f}".format)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return {MIME: self.spec, "text/plain": repr(self)}


def cells(
    points: pd.DataFrame,
    places: Sequence[np.ndarray],
    color: Sequence[str],
    *,
    shape: str,
    axes: tuple[str, str],
    arrows: int = 0,
    centroids: Sequence[np.ndarray] | None = None,
    certainty: Sequence[np.ndarray] | None = None,
) -> alt.LayerChart:
    """Draw cells whose places follow the sliders, on two axes that do not.

    Parameters
    ----------
    points
        One row for each cell to draw. A column holds labels, or lists of labels with one for
        each row of the table.
    places
        For each row of the table, where the cells are: cells x 2.
    color
        Columns to colour by. If there are several, the reader chooses: give
        ``choices={"colour": color}`` to :class:`Explorable`.
    shape
        Column of at most three labels, drawn as circle, triangle and square.
    axes
        What the two axes are.
    arrows
        For so many cells, evenly chosen, a line from their first place to the present one.
    centroids
        For each row of the table, further places to mark with a cross: any number x 2.
    certainty
        For each row of the table, a number from 0 (pale) to 1 for each cell.
    """
    xy = np.round(np.stack(places, axis=1), 2)  # cells x rows x 2
    records = points[list(dict.fromkeys([*color, shape]))].to_dict("records")
    drawn = np.linspace(0, len(records) - 1, arrows).astype(int)
    for number, record in enumerate(records):
        record |= {"x": xy[number, :, 0].tolist(), "y": xy[number, :, 1].tolist()}
        record["arrow"] = bool(np.isin(number, drawn))
        if certainty is not None:
            record["certainty"] = [round(float(row[number]), 2) for row in certainty]

    palettes = [palette(points[column].explode()) for column in color]
    one = len(color) == 1
    label = f"datum['{color[0]}']" if one else "datum[colour]"
    names = dict(zip(color, map(list, palettes), strict=True))
    x, y = (_axis(f"p{'xy'[i]}:Q", axes[i], xy[..., i], [alt.X, alt.Y][i]) for i in range(2))
    base = alt.Chart(alt.InlineData(values=records), width=SIDE, height=SIDE).transform_calculate(
        px="datum.x[row]",
        py="datum.y[row]",
        x0="datum.x[0]",
        y0="datum.y[0]",
        label=f"isArray({label}) ? {label}[row] : {label}",
        sure="1" if certainty is None else "datum.certainty[row]",
    )
    legend = {"title": None, "orient": "bottom", "columns": 3}
    shapes = sorted(points[shape].unique())
    layers = [
        base.mark_point(filled=True, size=22).encode(
            x,
            y,
            alt.Color(
                "label:N",
                scale=alt.Scale(
                    domain=[name for found in palettes for name in found],
                    range=[value for found in palettes for value in found.values()],
                ),
                legend=alt.Legend(
                    values=names[color[0]] if one else alt.expr(f"({names})[colour]"), **legend
                ),
            ),
            alt.Shape(
                f"{shape}:N",
                scale=alt.Scale(domain=shapes, range=["circle", "triangle-up", "square"]),
                legend=alt.Legend(**legend),
            ),
            alt.Opacity("sure:Q", scale=alt.Scale(domain=[0, 1], range=[0, 0.75]), legend=None),
        )
    ]
    if arrows:
        lines = base.transform_filter("datum.arrow").mark_rule(color="#444444")
        layers.append(lines.encode(x, y, x2="x0:Q", y2="y0:Q"))
    if centroids is not None:
        marks = np.round(np.stack(centroids, axis=1), 2)
        values = [{"x": mark[:, 0].tolist(), "y": mark[:, 1].tolist()} for mark in marks]
        crosses = alt.Chart(alt.InlineData(values=values)).transform_calculate(
            px="datum.x[row]", py="datum.y[row]"
        )
        cross = {"shape": "cross", "size": 120, "color": "black", "stroke": "white"}
        layers.append(crosses.mark_point(filled=True, **cross).encode(x, y))
    return alt.layer(*layers)


def bars(table: pd.DataFrame, title: str) -> alt.LayerChart:
    """Draw the numbers of the present row of the table as bars; ``title`` is their axis."""
    columns = table.columns[1:].tolist()
    numbers = table[columns].to_numpy(dtype=float)
    records = [
        {"row": row, "name": name, "value": round(value, 4)}
        for row, values in enumerate(numbers.tolist())
        for name, value in zip(columns, values, strict=True)
    ]
    base = alt.Chart(alt.InlineData(values=records), width=SIDE / 2, height=30 * len(columns))
    base = base.transform_filter("datum.row == row").encode(
        alt.X(
            "value:Q",
            title=title,
            scale=alt.Scale(domain=[0, numbers.max() * 1.2], nice=False),
            axis=alt.Axis(grid=False, tickCount=3),
        ),
        alt.Y("name:N", title=None, sort=columns, axis=alt.Axis(ticks=False, labelLimit=SIDE / 2)),
    )
    texts = base.mark_text(align="left", dx=3).encode(text=alt.Text("value:Q", format=".2f"))
    return base.mark_bar(color=COLORS[0]) + texts


def _axis(field: str, title: str, values: np.ndarray, kind: type) -> alt.X | alt.Y:
    """An axis without numbers that holds all places at every position of the sliders."""
    scale = alt.Scale(domain=[values.min().item(), values.max().item()], nice=False, padding=6)
    look = {"ticks": False, "labels": False, "grid": False, "domainColor": GREY}
    return kind(field, title=title, scale=scale, axis=alt.Axis(**look))


def _sliders(index: pd.Index, start: int) -> list[dict[str, Any]]:
    """One slider for each level of the index, and ``row``, which follows from them."""
    levels = [index.unique(number).to_numpy(dtype=float) for number in range(index.nlevels)]
    grid = pd.MultiIndex.from_product(levels).to_flat_index().map(list).tolist()
    if [np.atleast_1d(position).tolist() for position in index] != grid:
        raise ValueError("The table needs a row for each combination of positions, in order.")
    parameters, row = [], "0"
    for number, (name, level) in enumerate(zip(index.names, levels, strict=True)):
        steps = np.diff(level)
        if not len(steps) or steps[0] <= 0 or not np.allclose(steps, steps[0]):
            raise ValueError(f"The positions of {name!r} must rise in even steps, not {level}.")
        low, high, step = level[0].item(), level[-1].item(), steps[0].item()
        bind = {"input": "range", "min": low, "max": high, "step": step, "name": f"{name} "}
        value = float(np.atleast_1d(index[start])[number])
        parameters.append({"name": f"slider_{number}", "value": value, "bind": bind})
        row = f"({row}) * {len(level)} + round((slider_{number} - {low}) / {step})"
    return [*parameters, {"name": "row", "expr": row}]
