"""Say, before anything is corrected, whether batch and biology can be told apart at all.

``check`` cross-tabulates the variables and gives one verdict. No algorithm can separate two
variables that always occur together; the table shows it before Harmony hides it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product
from textwrap import fill

import numpy as np
import pandas as pd
from scipy.stats import chi2_contingency

from helpers.checks import string_labels

# From harmless to hopeless; the verdict of a design is that of its worst pair.
VERDICTS = ("crossed", "partly confounded", "nested", "fully confounded")
STRONG = 0.5  # Cramer's V from which two crossed variables count as partly confounded
ADVICE = {
    "crossed": "Every combination was measured, so the batch can be corrected; compare cell "
    "types and scores before and after all the same.",
    "partly confounded": "Some combinations are missing or rare: correct with care, and check "
    "each cell type that rests on few combinations.",
    "nested": "One variable lies within the other, so correcting the inner one also removes "
    "differences of the outer one: correct only within its levels, or model counts instead.",
    "fully confounded": "The batch and the biology always occur together and cannot be told "
    "apart: correcting one removes the other; no method mends this, only another design does.",
}


@dataclass(frozen=True)
class Design:
    """The outcome of :func:`check`; ``print`` it.

    Attributes
    ----------
    pairs
        One row per pair of variables: ``cells`` and ``empty`` (combinations in all and with too
        few cells), ``rank`` and ``columns`` of the additive design matrix, ``cramers_v`` (0 to
        1) and ``verdict``.
    counts
        For each pair ``(first, second)`` the cross-table of cells.
    small
        Levels with fewer than ``min_cells`` cells, as ``variable=level``.
    verdict, advice
        The worst verdict among the pairs of batch and biology, and what to do.
    batch
        The batch variables.
    """

    pairs: pd.DataFrame
    counts: dict[tuple[str, str], pd.DataFrame]
    small: tuple[str, ...]
    verdict: str
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
        parts = [table.to_string() for table in self.counts.values()]
        parts.append(self.pairs.round(2).to_string())
        if self.small:
            parts.append("Levels with too few cells: " + ", ".join(self.small) + ".")
        parts.append(fill(f"Verdict: {self.verdict}. {self.advice}", 88))
        return "\n\n".join(parts)


def check(
    obs: pd.DataFrame,
    *,
    batch: str | Sequence[str],
    biology: str | Sequence[str],
    min_cells: int = 10,
) -> Design:
    """Say whether batch variables can be told from biological ones.

    Two variables are *fully confounded* when each level of one goes with one level of the other
    and the reverse; *nested* when that holds in one direction only (donors within conditions);
    *partly confounded* when some combination has fewer than ``min_cells`` cells, when the
    additive design matrix has not full rank, or when the association is strong (bias-corrected
    Cramer's V of at least 0.5); and *crossed* otherwise.

    Parameters
    ----------
    obs
        Cells x variables, such as ``adata.obs``.
    batch, biology
        Column or columns to correct, and column or columns to keep.
    min_cells
        A combination or level with fewer cells counts as too small.

    Raises
    ------
    KeyError
        A column is missing.
    ValueError
        No column is named, two columns share the name, labels are missing, or a variable has
        one level only.

    References
    ----------
    Bergsma 2013, doi:10.1016/j.jkss.2012.10.002 (bias correction of Cramer's V).
    """
    batches, biologies = _names(batch), _names(biology)
    labels = {name: string_labels(obs, name) for name in dict.fromkeys(batches + biologies)}
    mixed = list(product(batches, biologies))
    counts, rows = {}, {}
    for first, second in mixed + list(combinations(batches, 2)):
        table = pd.crosstab(labels[first], labels[second])
        table.index.name, table.columns.name = first, second
        counts[first, second] = table
        rows[f"{first} x {second}"] = _describe(table, min_cells)
    pairs = pd.DataFrame(rows).T.infer_objects()
    worst = max(pairs["verdict"].iloc[: len(mixed)], key=VERDICTS.index)
    small = tuple(
        f"{name}={level}"
        for name, values in labels.items()
        for level, n in values.value_counts(sort=False).items()
        if n < min_cells
    )
    return Design(pairs, counts, small, worst, ADVICE[worst], tuple(batches))


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


def _describe(table: pd.DataFrame, min_cells: int) -> dict:
    seen = table.to_numpy() > 0
    r, c = seen.shape
    # One row per combination that occurs: an intercept and an indicator for each level but one.
    row, column = np.nonzero(seen)
    matrix = np.column_stack([np.ones(len(row)), np.eye(r)[row, 1:], np.eye(c)[column, 1:]])
    rank, columns = int(np.linalg.matrix_rank(matrix)), r + c - 1
    one_way, other_way = (seen.sum(axis=1) == 1).all(), (seen.sum(axis=0) == 1).all()
    few, v = int((table.to_numpy() < min_cells).sum()), cramers_v(table)
    if one_way and other_way:
        verdict = "fully confounded"
    elif one_way or other_way:
        verdict = "nested"
    elif few or rank < columns or v >= STRONG:
        verdict = "partly confounded"
    else:
        verdict = "crossed"
    return {
        "cells": r * c,
        "empty": few,
        "rank": rank,
        "columns": columns,
        "cramers_v": v,
        "verdict": verdict,
    }


def _names(value: str | Sequence[str]) -> list[str]:
    names = [value] if isinstance(value, str) else list(dict.fromkeys(value))
    if not names:
        raise ValueError("Name at least one batch column and one biology column.")
    return names
