"""What the other modules ask of labels and embeddings before they use them."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike


def string_labels(obs: pd.DataFrame, name: str) -> pd.Series:
    """A column as a category of strings, whatever its type, with a plain index 0, 1, ...

    harmonypy < 2 fails on numbers, and repeated ``obs_names`` would not cross-tabulate.

    Raises
    ------
    KeyError
        The column is missing.
    ValueError
        Two columns share the name, a label is missing, or there are fewer than two levels.
    """
    if name not in obs:
        raise KeyError(f"obs has no column {name!r}; it has: {', '.join(map(str, obs))}.")
    if obs[name].ndim > 1:
        raise ValueError(f"obs has several columns {name!r}: rename all but one of them.")
    missing = int(obs[name].isna().sum())
    if missing:
        raise ValueError(
            f"obs[{name!r}] has no label for {missing} of {len(obs)} cells: "
            "label those cells or leave them out."
        )
    labels = pd.Series(obs[name].astype(str).to_numpy(), name=name).astype("category")
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
