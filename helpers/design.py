"""Say, before anything is corrected, whether batch and biology can be told apart at all.

``check`` cross-tabulates the variables and gives one verdict. No algorithm can separate two
variables that always occur together; the table shows it before Harmony hides it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from textwrap import fill

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.sparse import bmat
from scipy.sparse.csgraph import connected_components
from scipy.stats import chi2_contingency, norm

from helpers.checks import number, shown, string_labels

# From harmless to hopeless; the verdict of a design is that of its worst pair.
VERDICTS = ("crossed", "too few cells", "partly confounded", "nested", "fully confounded")
STRONG = 0.5  # Cramer's V from which two crossed variables count as partly confounded
# A combination with less than this share of the cells to be expected counts as absent: on the
# embedded cells a run with 2 % of them loses the condition nearly as much as one with none.
SHARE = 0.02
CHANCE = 0.01  # how often, of designs that miss nothing, one may seem to miss a combination
INVERTED = "nested, biology within batch"
ADVICE = {
    "crossed": "What could be expected was measured in every batch, so the batch can be "
    "corrected. Compare cell types and scores before and after all the same.",
    "too few cells": "The combinations hold too few cells to judge. Merge small levels, or lower "
    "min_cells and read the table yourself.",
    "partly confounded": "Some combinations are missing or rare, or the two go together "
    "strongly. Correct with care: the more uneven they are, the more biology goes with the "
    "batch. Check each cell type that rests on few combinations.",
    "nested": "The usual design (donors within disease): integrate by the inner variable to "
    "find and name cell types, which all levels share. Differences of the outer variable shrink "
    "in that embedding too. Test them on counts per donor and type (pseudobulk).",
    INVERTED: "Each level of the biology was seen in one batch only. Integrate for labels only, "
    "if at all. Compare levels of one batch; between batches the difference is also the batch's.",
    "fully confounded": "The batch and the biology always occur together, and no method tells "
    "them apart. Annotate each batch alone, or integrate for labels only; either way, never "
    "interpret the difference. Only another design mends this.",
}
NOTHING_NAMED = "No biology was named, so nothing was judged: name what you want to keep."


@dataclass(frozen=True)
class Design:
    """The outcome of :func:`check`; ``print`` it.

    Attributes
    ----------
    pairs
        One row per pair of variables: ``cells`` and ``empty`` (combinations in all, and missing
        or rare where cells were to be expected), ``rank`` and ``columns`` of the additive design
        matrix, ``cramers_v`` (0 to 1) and ``verdict``.
    counts
        For each pair ``(first, second)`` the cross-table of cells.
    levels
        One row per level: ``variable``, ``level``, ``cells`` and, if asked for, ``samples``.
    samples
        For each pair of batch and biology the cross-table of samples, if asked for.
    small, single
        Levels with fewer than ``min_cells`` cells, and levels of biology with a single sample,
        as ``variable=level``. Where there is one sample in all, ``single`` names the sample.
    verdict, advice
        The worst verdict among the pairs of batch and biology (None without biology), and what
        to do.
    batch
        The batch variables.
    """

    pairs: pd.DataFrame
    counts: dict[tuple[str, str], pd.DataFrame]
    levels: pd.DataFrame
    samples: dict[tuple[str, str], pd.DataFrame]
    small: tuple[str, ...]
    single: tuple[str, ...]
    verdict: str | None
    advice: str
    batch: tuple[str, ...]

    def confounded_with(self, key: Sequence[str]) -> list[tuple[str, str]]:
        """The pairs of a batch variable in ``key`` and a biological one, fully confounded."""
        verdicts = zip(self.counts, self.pairs["verdict"], strict=True)
        return [
            (first, second)
            for (first, second), verdict in verdicts
            if verdict == "fully confounded" and first in key and second not in self.batch
        ]

    def __str__(self) -> str:
        parts = [table.to_string(line_width=88) for table in self.counts.values()]
        if "samples" in self.levels or not parts:
            parts.append(self.levels.to_string(index=False))
        for table in self.samples.values():
            parts.append("Samples, not cells:\n" + table.to_string(line_width=88))
        if len(self.pairs):
            parts.append(self.pairs.round(2).to_string(line_width=88))
        if self.small:
            parts.append(fill(f"Levels with too few cells: {', '.join(self.small)}.", 88))
        if self.single:
            names = ", ".join(self.single)
            parts.append(fill(f"One sample only, and its cells are no replicates: {names}.", 88))
        verdict = f"Verdict: {self.verdict}. " if self.verdict else ""
        parts.append(fill(verdict + self.advice, 88))
        return "\n\n".join(parts)


def check(
    obs: pd.DataFrame,
    *,
    batch: str | Sequence[str],
    biology: str | Sequence[str] | None = None,
    sample: str | None = None,
    min_cells: int = 10,
) -> Design:
    """Say whether batch variables can be told from biological ones.

    Two variables are *fully confounded* when each level of one goes with one level of the other
    and the reverse; *nested* when that holds in one direction only (donors within conditions);
    *partly confounded* when some combination is missing or rare or the association is strong
    (bias-corrected Cramer's V of at least 0.5); *crossed* otherwise; and where the cells do not
    suffice to say, there are *too few cells*.

    A few mislabelled cells do not move the verdict. A combination counts as measured only with
    ``min_cells`` cells and with 2 % of the cells expected of independent variables (row total x
    column total / all): when a share ``e`` of the labels is wrong at random, about ``e`` of the
    expected cells end up in each combination. It counts as missing or rare only where
    ``min_cells`` were expected and chance does not explain the shortage (adjusted residuals, at
    1 % for all combinations together). Levels without any measured combination are left out.

    Parameters
    ----------
    obs
        Cells x variables, such as ``adata.obs``.
    batch, biology
        Column or columns to correct, and column or columns to keep. Without ``biology`` the
        levels and the pairs of batch variables are described, and there is no verdict.
    sample
        Column of the independent samples, such as donors. They are counted, each where it has
        cells enough for a measured combination; the verdict is that of the cells all the same.
    min_cells
        A combination or level with fewer cells counts as too small.

    Raises
    ------
    KeyError
        A column is missing.
    TypeError
        ``obs`` is no table, or a column is named by what is no name.
    ValueError
        No batch is named, ``min_cells`` is no number from 1 on, or a column is refused by
        :func:`helpers.checks.string_labels` (such as missing labels, or one level only;
        ``sample`` may have one).

    References
    ----------
    Bergsma 2013, doi:10.1016/j.jkss.2012.10.002 (bias correction of Cramer's V).
    Haberman 1973, doi:10.2307/2529686 (adjusted residuals).
    """
    if not isinstance(obs, pd.DataFrame):
        raise TypeError(f"check reads a table, such as adata.obs, and no {type(obs).__name__}.")
    batches, biologies = _names(batch), _names(biology)
    if not batches:
        raise ValueError("Name at least one batch column.")
    if (least := number(min_cells)) is None or not 1 <= least < np.inf:
        raise ValueError(f"min_cells must be at least 1, not {shown(min_cells)}.")
    labels = {name: string_labels(obs, name) for name in batches}
    for name in biologies:
        if name not in labels:
            labels[name] = string_labels(obs, name, one_level=True)
        if len(found := labels[name].cat.categories) == 1:
            raise ValueError(
                f"obs[{name!r}] has one level only ({found[0]!r}), so no difference in it can be "
                "lost or confounded: leave it out of biology."
            )
    mixed = list(product(batches, biologies))
    counts, rows, inverted = {}, {}, False
    for first, second in mixed + list(combinations(batches, 2)):
        table = pd.crosstab(labels[first], labels[second])
        table.index.name, table.columns.name = first, second
        counts[first, second] = table
        rows[f"{first} x {second}"], inner_biology = _describe(table, min_cells)
        inverted |= inner_biology and (first, second) in mixed
    columns = ["cells", "empty", "rank", "columns", "cramers_v", "verdict"]
    pairs = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    rows = [(k, v, n) for k in labels for v, n in labels[k].value_counts(sort=False).items()]
    levels = pd.DataFrame(rows, columns=["variable", "level", "cells"])
    small = levels[levels["cells"] < min_cells]

    samples, single = {}, levels[:0]
    if sample is not None:
        units = string_labels(obs, sample, one_level=True)
        levels["samples"] = np.concatenate(
            [_count_samples([values], units, min_cells) for values in labels.values()]
        )
        single = levels[levels["variable"].isin(biologies) & (levels["samples"] == 1)]
        if units.nunique() == 1:
            single = pd.DataFrame({"variable": [sample], "level": [units[0]]})
        for first, second in mixed:
            found = _count_samples([labels[first], labels[second]], units, min_cells)
            samples[first, second] = found.unstack().rename_axis(index=first, columns=second)

    verdict, advice = None, NOTHING_NAMED
    if mixed:
        verdict = max(pairs["verdict"].iloc[: len(mixed)], key=VERDICTS.index)
        advice = ADVICE[INVERTED if verdict == "nested" and inverted else verdict]
    return Design(
        pairs,
        counts,
        levels,
        samples,
        _named(small),
        _named(single),
        verdict,
        advice,
        tuple(batches),
    )


def cramers_v(table: pd.DataFrame) -> float:
    """Bias-corrected Cramer's V of a cross-table: 0 no association, 1 complete.

    Bergsma 2013, doi:10.1016/j.jkss.2012.10.002.
    """
    n, (r, c) = table.to_numpy().sum(), table.shape
    if n in (r, c):
        return 1.0  # one level per cell determines all else, and the correction would be 0 / 0
    phi2 = chi2_contingency(table, correction=False).statistic / n
    phi2 = max(0.0, phi2 - (r - 1) * (c - 1) / (n - 1))
    r, c = r - (r - 1) ** 2 / (n - 1), c - (c - 1) ** 2 / (n - 1)
    return float(np.sqrt(min(1.0, phi2 / (min(r, c) - 1))))


def _expected(n: np.ndarray) -> np.ndarray:
    """Cells in each combination if the two variables were independent."""
    return np.outer(n.sum(axis=1), n.sum(axis=0)) / n.sum()


def _least(expected: ArrayLike, min_cells: int) -> np.ndarray:
    """The cells from which a combination counts as measured."""
    return np.maximum(min_cells, SHARE * expected)


def _count_samples(labels: list[pd.Series], units: pd.Series, min_cells: int) -> pd.Series:
    """For each combination of labels the samples that count in it."""
    by = list(range(len(labels)))
    cells = pd.DataFrame(dict(zip([*by, "unit"], [*labels, units], strict=True)))
    n = cells.groupby([*by, "unit"], observed=True).size()
    of_labels, of_unit = (n.groupby(level=k, observed=True).transform("sum") for k in (by, "unit"))
    counts = n >= _least(of_labels * of_unit / len(cells), min_cells)
    return counts.groupby(level=by, observed=False).sum()


def _describe(table: pd.DataFrame, min_cells: int) -> tuple[list, bool]:
    """A row of ``pairs``, and whether the second variable is nested within the first."""
    n_cells = table.size
    n = table.to_numpy()
    there = n >= _least(_expected(n), min_cells)
    rows, columns = there.any(axis=1), there.any(axis=0)
    enough = rows.sum() > 1 and columns.sum() > 1
    if enough:
        table, there = table.loc[rows, columns], there[rows][:, columns]
    n, expected, (r, c) = table.to_numpy(), _expected(table.to_numpy()), table.shape

    # The additive design matrix: as many independent columns as levels less separate blocks.
    blocks, _ = connected_components(bmat([[None, there], [there.T, None]]))
    rank, v = r + c - blocks, cramers_v(table)
    # Adjusted residuals: deviations from the expected in standard deviations.
    sure = norm.isf(CHANCE / n.size)
    others = np.outer(1 - n.sum(axis=1) / n.sum(), 1 - n.sum(axis=0) / n.sum())
    short = n - expected <= -sure * np.sqrt(expected * others)
    missing = ~there & (expected >= min_cells) & short
    # Are the unmeasured combinations, taken together, as good as empty, and not by chance?
    stray, due = n[~there].sum(), expected[~there].sum()
    empty = due >= min_cells and stray < _least(due, min_cells)
    empty = empty and due - stray >= sure * np.sqrt(due)
    outer_columns = empty and (there.sum(axis=1) == 1).all()
    outer_rows = empty and (there.sum(axis=0) == 1).all()

    if not enough:
        verdict = "too few cells"
    elif outer_columns and outer_rows:
        verdict = "fully confounded"
    elif outer_columns or outer_rows:
        verdict = "nested"
    elif missing.any() or v >= STRONG:
        verdict = "partly confounded"
    elif rank < r + c - 1:
        verdict = "too few cells"
    else:
        verdict = "crossed"
    row = [n_cells, int(missing.sum()), rank, r + c - 1, v, verdict]
    return row, bool(outer_rows and not outer_columns)


def _names(value: str | Sequence[str] | None) -> list[str]:
    if value is None or isinstance(value, str):
        return [] if value is None else [value]
    names = list(value) if isinstance(value, Iterable) else [value]
    if not all(isinstance(name, str) for name in names):
        raise TypeError(f"Name one column or a list of columns, not {shown(value)}.")
    return list(dict.fromkeys(names))


def _named(levels: pd.DataFrame) -> tuple[str, ...]:
    return tuple(levels["variable"] + "=" + levels["level"].astype(str))
