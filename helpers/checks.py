"""What the other modules ask of labels and embeddings before they use them."""

from __future__ import annotations

import reprlib
from collections.abc import Hashable, Iterable
from contextlib import suppress
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import ArrayLike

# What str makes of missing labels, and how tables write them.  Other cases may be labels: "none" a
# treatment, "NAT" normal adjacent tissue.
MISSING_WORDS = frozenset(
    ("", "nan", "NaN", "NAN", "Nan", "None", "NA", "N/A", "n/a", "<NA>", "NaT", "null", "NULL")
)
# A column of numbers with more levels than the one and fewer cells a level than the other is
# a measurement, such as n_genes.
MANY_LEVELS, FEW_CELLS = 100, 10
SMALL = 20  # cells of a batch that is too small to speak for itself
MOST = 2**31 - 1  # the largest whole number of compiled code


def string_labels(obs: pd.DataFrame, name: str, *, one_level: bool = False) -> pd.Series:
    """A column as a category of strings, whatever its type, with a plain index 0, 1, ...

    harmonypy < 2 fails on numbers, and repeated ``obs_names`` would not cross-tabulate.

    Raises
    ------
    KeyError
        The column is missing.
    TypeError
        The name is a list, or the like.
    ValueError
        Two columns share the name, a label is missing or is a word for it (``nan``, ``None``,
        ``NA``, nothing at all), there are fewer than two levels (with ``one_level``, none), or
        numbers with more than 100 levels and fewer than 10 cells a level on average, which is a
        measurement.
    """
    if not isinstance(name, Hashable) or isinstance(name, tuple):
        raise TypeError(f"Name one column of obs, not {shown(name)}.")
    if name not in obs:
        raise KeyError(f"obs has no column {name!r}; it has: {', '.join(map(str, obs))}.")
    if obs[name].ndim > 1:
        raise ValueError(f"obs has several columns {name!r}: rename all but one of them.")
    gaps = obs[name].isna().to_numpy()
    labels = pd.Series(obs[name].astype(str).to_numpy(), name=name).astype("category")
    words = missing_words(labels[~gaps].unique())
    missing = int((gaps | labels.isin(words)).sum())
    if missing:
        written = f" (written {', '.join(map(repr, sorted(words)))})" if words else ""
        raise ValueError(
            f"obs[{name!r}] has no label for {missing} of {len(obs)} cells{written}: "
            "label those cells or leave them out."
        )
    n_levels = len(labels.cat.categories)
    if is_measurement(obs[name].unique(), len(obs)):
        raise ValueError(
            f"obs[{name!r}] holds numbers with {n_levels} levels for {len(obs)} cells: a "
            f"measurement is no batch; bin it first, for example with pd.qcut(obs[{name!r}], 4)."
        )
    if len(labels.cat.categories) < (1 if one_level else 2):
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


def layers(adata: Any) -> dict[str, Any]:
    """Return the layers by name; anndata 0.13 counts X among them, by the name None."""
    return {name: values for name, values in adata.layers.items() if name is not None}


def missing_words(levels: Iterable) -> list:
    """Those of the levels that are words for a missing label."""
    return [x for x in levels if isinstance(x, str) and x.strip() in MISSING_WORDS]


def is_measurement(levels: ArrayLike, n_cells: int) -> bool:
    """Whether these levels are numbers, many, and each of few cells, as of ``n_genes``."""
    numeric = pd.api.types.is_numeric_dtype(getattr(levels, "categories", levels))
    return bool(numeric and len(levels) > MANY_LEVELS and n_cells < FEW_CELLS * len(levels))


def small_levels(labels: pd.Series, at_most: int = SMALL) -> str:
    """The levels of few cells as text, the smallest first: ``c (1 cell), d (12 cells)``."""
    sizes = labels.value_counts().sort_values(kind="stable")
    few = sizes[(sizes > 0) & (sizes <= at_most)]
    named = [f"{level} ({n} cell{'s' * (n > 1)})" for level, n in few.items()]
    more = f" and {len(named) - 5} more" if len(named) > 5 else ""
    return ", ".join(named[:5]) + more


def numbers(values: Any) -> np.ndarray | None:
    """One number or a sequence of them as an array; None for anything else, text and truth too."""
    with suppress(TypeError, ValueError):
        array = np.asarray(values)
        real = [isinstance(v, Real) and not isinstance(v, bool | np.bool_) for v in array.flat]
        if array.dtype.kind == "O" and all(real):
            array = array.astype(np.float64)
        if array.ndim < 2 and array.dtype.kind in "iuf":
            return array
    return None


def number(value: Any, whole: bool = False) -> float | int | None:
    """One number as plain Python has it; None for anything else, or if it should be whole."""
    array = numbers(value)
    if array is None or array.ndim:
        return None
    found = array.item()
    if not whole:
        return found
    return int(found) if np.isfinite(found) and found == int(found) else None


def shown(value: Any) -> str:
    """The value on one short line, for a message."""
    return " ".join(reprlib.repr(value).split())


def finite_embedding(X: ArrayLike, at_least: int = 3) -> np.ndarray:
    """An embedding as float64, cells x dimensions, all finite and of enough cells for a score.

    Raises
    ------
    ValueError
        As `float_matrix`, NaN or infinite values, or fewer cells than ``at_least``.
    """
    X = float_matrix(X, "X")
    if len(X) < at_least:
        raise ValueError(f"This score needs at least {at_least} cells; X has {len(X)}.")
    if not np.isfinite(X).all():
        raise ValueError("X holds NaN or infinite values; drop those cells or dimensions first.")
    return X


def label_codes(labels: ArrayLike, n_cells: int, name: str, one_level: bool = False) -> np.ndarray:
    """Labels of ``n_cells`` cells as integers 0, 1, ... in order of appearance.

    Raises
    ------
    ValueError
        Not one-dimensional, of another length, missing, or a measurement; without ``one_level``
        also a single level, or as many levels as cells.
    """
    name = getattr(labels, "name", None) or name
    if getattr(labels, "ndim", 1) != 1:
        raise ValueError(f"{name} must be one-dimensional, one value per cell.")
    codes, levels = pd.factorize(pd.Series(labels))
    if len(codes) != n_cells:
        raise ValueError(f"{name} has {len(codes)} values for {n_cells} cells (rows of X).")
    words = levels.isin(missing_words(levels))
    if missing := np.isin(codes, [-1, *np.flatnonzero(words)]).sum():
        raise ValueError(f"{name} is missing for {missing} of {n_cells} cells; name or drop them.")
    if len(levels) < 2 and not one_level:
        raise ValueError(f"{name} has fewer than two levels; this score compares levels.")
    if len(levels) == n_cells and not one_level:
        raise ValueError(f"{name} differs for every cell; were barcodes passed by mistake?")
    if is_measurement(levels, n_cells) and not one_level:
        raise ValueError(f"{name} is a measurement with {len(levels)} values; bin it first.")
    return codes


def read_parts(adata: AnnData, use_rep: str, *columns: str) -> tuple[np.ndarray, list[pd.Series]]:
    """An embedding of ``adata.obsm`` and columns of ``adata.obs``, with a plain index.

    Raises
    ------
    KeyError, TypeError, ValueError
        One is not there, is no name, or occurs twice; the embedding as in `finite_embedding`.
    """
    if not isinstance(use_rep, str) or use_rep not in adata.obsm:
        raise KeyError(f"adata.obsm has no {shown(use_rep)}; it has {list(adata.obsm)}.")
    for column in columns:
        if not isinstance(column, str):
            raise TypeError(f"Name one column of adata.obs, not {shown(column)}.")
        if column not in adata.obs:
            raise KeyError(f"adata.obs has no column {column!r}; it has {list(adata.obs)}.")
        if adata.obs[column].ndim > 1:
            raise ValueError(f"adata.obs has several columns {column!r}; rename all but one.")
    parts = [adata.obs[column].reset_index(drop=True) for column in columns]
    return finite_embedding(adata.obsm[use_rep]), parts
