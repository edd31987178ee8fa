"""What the other modules ask of labels and embeddings before they use them."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

# What str makes of missing labels, and how tables write them.
MISSING_WORDS = frozenset(("", "nan", "NaN", "NAN", "None", "NA", "N/A", "<NA>", "NaT", "null"))
# A column of numbers with more levels than the one and fewer cells a level than the other is
# a measurement, such as n_genes.
MANY_LEVELS, FEW_CELLS = 100, 10


def string_labels(obs: pd.DataFrame, name: str) -> pd.Series:
    """A column as a category of strings, whatever its type, with a plain index 0, 1, ...

    harmonypy < 2 fails on numbers, and repeated ``obs_names`` would not cross-tabulate.

    Raises
    ------
    KeyError
        The column is missing.
    ValueError
        Two columns share the name, a label is missing or is a word for it (``nan``, ``None``,
        ``NA``, nothing at all), there are fewer than two levels, or numbers with more than 100
        levels and fewer than 10 cells a level on average, which is a measurement.
    """
    if name not in obs:
        raise KeyError(f"obs has no column {name!r}; it has: {', '.join(map(str, obs))}.")
    if obs[name].ndim > 1:
        raise ValueError(f"obs has several columns {name!r}: rename all but one of them.")
    gaps = obs[name].isna().to_numpy()
    labels = pd.Series(obs[name].astype(str).to_numpy(), name=name).astype("category")
    words = [level for level in labels[~gaps].unique() if level.strip() in MISSING_WORDS]
    missing = int((gaps | labels.isin(words)).sum())
    if missing:
        written = f" (written {', '.join(map(repr, sorted(words)))})" if words else ""
        raise ValueError(
            f"obs[{name!r}] has no label for {missing} of {len(obs)} cells{written}: "
            "label those cells or leave them out."
        )
    n_levels = len(labels.cat.categories)
    numeric = pd.api.types.is_numeric_dtype(obs[name])
    if numeric and n_levels > MANY_LEVELS and len(obs) < FEW_CELLS * n_levels:
        raise ValueError(
            f"obs[{name!r}] holds numbers with {n_levels} levels for {len(obs)} cells: a "
            f"measurement is no batch; bin it first, for example with pd.qcut(obs[{name!r}], 4)."
        )
    if len(labels.cat.categories) < 2:
        only = ", ".join(map(repr, labels.cat.categories)) or "no cells"
        raise ValueError(
            f"obs[{name!r}] has fewer than two levels ({only}): there is nothing to correct."
        )
    return labels


def float_matrix(values: ArrayLike, name: str) -> np.ndarray:
    """An embedding as float64, cells x dimensions; what is masked becomes NaN.

    Raises
    ------
    ValueError
        Not dense, not two-dimensional, not real numbers, or numbers beyond 1e100: their squares
        may overflow, and harmonypy 2.1 then never returns.
    """
    matrix = np.empty(0)
    if not np.iscomplexobj(values):
        with suppress(TypeError, ValueError):
            matrix = np.ma.filled(np.ma.asarray(values, dtype=np.float64), np.nan)
    if matrix.ndim != 2 or matrix.shape[1] == 0:
        raise ValueError(f"{name} must be a dense 2-D array of numbers, cells x dimensions.")
    if (np.isfinite(matrix) & (np.abs(matrix) > 1e100)).any():
        raise ValueError(f"{name} holds numbers beyond 1e100, whose squares overflow: rescale it.")
    return matrix
