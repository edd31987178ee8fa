"""What is in a matrix of expression, and where the counts are.

Read from the numbers, not guessed from names: whole numbers, signs, sums of rows, the base of the
logarithm.
"""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse as sp

from helpers.checks import layers

N_ROWS = 2000  # cells looked at, in blocks spread over the file
SAME = 0.02  # sums of rows that differ by less than this share of their mean are one constant
BASES = {"natural logarithm": np.e, "logarithm to base 2": 2.0, "logarithm to base 10": 10.0}
PLAIN = "no logarithm"
LARGEST_LOG = 25.0  # no logarithm of a count comes near it


def describe_slots(adata: ad.AnnData, *, n_rows: int = N_ROWS) -> pd.DataFrame:
    """Say of ``X``, each layer and ``raw`` what kind of numbers they hold.

    Parameters
    ----------
    adata
        In memory or backed; not changed. Of a large object some rows are read, spread evenly.
    n_rows
        How many.

    Returns
    -------
    DataFrame indexed by slot ("X", "layers[...]", "raw.X"): "holds", one of "counts", "logarithms",
    "normalised, no logarithm", "scaled", "negative numbers", "fractions", "no numbers",
    "NaN or infinite", "nothing"; "because", the evidence in words; "genes", how many.
    """
    slots = {"X": (adata.X, adata.n_vars)}
    slots |= {f"layers[{name!r}]": (X, adata.n_vars) for name, X in layers(adata).items()}
    if adata.raw is not None:
        slots["raw.X"] = (adata.raw.X, adata.raw.n_vars)
    rows = {}
    for name, (values, n_genes) in slots.items():
        rows[name] = (*_kind(_some_rows(values, n_rows)), n_genes)
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["holds", "because", "genes"])
    return table.rename_axis("slot")


def _some_rows(values: object, n_rows: int) -> object:
    """Up to n_rows rows, as they are stored: all, or 20 blocks spread evenly."""
    if values is None:
        return None
    n = values.shape[0]
    if n <= n_rows:
        return values[:] if not hasattr(values, "to_memory") else values.to_memory()
    starts = np.linspace(0, n - n_rows // 20, 20).astype(int)
    blocks = [values[start : start + n_rows // 20] for start in starts]
    if all(sp.issparse(block) for block in blocks):
        return sp.vstack(blocks, format="csr")
    return np.concatenate([np.asarray(block) for block in blocks])


def _kind(values: object) -> tuple[str, str]:
    if values is None:
        return "nothing", "the slot is empty"
    if 0 in values.shape:
        return "nothing", f"{values.shape[0]} cells and {values.shape[1]} genes"
    stored = values.data if sp.issparse(values) else np.asarray(values).ravel()
    if stored.dtype.kind not in "biuf":
        return "no numbers", f"the type is {stored.dtype}"
    if not np.isfinite(stored).all():
        return "NaN or infinite", f"{int((~np.isfinite(stored)).sum()):,} values"
    if not stored.size or not stored.any():
        return "nothing", "all values are zero"
    if stored.min() < 0:
        return _negative(values)
    if not np.any(stored != np.rint(stored)):
        most = f"whole numbers from 0 to {stored.max():,.0f}"
        if stored.max() == 1:
            return "fractions", "zeros and ones only: which genes were seen, not how often"
        return "counts", most
    sums = {name: _constant(values, base) for name, base in _bases(stored)}
    name, (total, spread) = min(sums.items(), key=lambda item: item[1][1])
    if spread < SAME:
        if name == PLAIN:
            return "normalised, no logarithm", f"each cell adds up to {total:,.0f}"
        return "logarithms", f"{name} of 1 + x, where a cell's x add up to {total:,.0f}"
    if stored.max() < LARGEST_LOG:
        for name, base in BASES.items():
            if _multiples(values, base):
                return "logarithms", (
                    f"{name} of 1 + x, where a cell's x are multiples of one number but add up to "
                    "no constant, as where genes were left out afterwards"
                )
        return "logarithms", (
            f"fractions from 0 to {stored.max():.1f}; no base gives all cells one sum, as where "
            "genes were left out afterwards"
        )
    return "fractions", (
        f"from 0 to {stored.max():,.0f} and cells of unlike sums: perhaps counts less their "
        "ambient part, or estimated from transcripts"
    )


def _negative(values: object) -> tuple[str, str]:
    dense = np.asarray(values.todense() if sp.issparse(values) else values, dtype=np.float64)
    mean, deviation = dense.mean(axis=0), dense.std(axis=0)
    centred = np.median(np.abs(mean)) < 0.1
    if centred and 0.5 < np.median(deviation[deviation > 0]) < 1.5:
        at = f", none above {dense.max():.0f}" if (dense == dense.max()).sum() > 1 else ""
        return "scaled", f"genes have mean 0 and standard deviation about 1{at}"
    return "negative numbers", f"from {dense.min():.1f} to {dense.max():.1f}: residuals, or centred"


def _bases(stored: np.ndarray) -> list[tuple[str, float | None]]:
    return [(PLAIN, None), *(BASES.items() if stored.max() < LARGEST_LOG else ())]


def _undone(values: object, base: float | None) -> object:
    """What the logarithm was taken of."""
    if base is None:
        return values
    if not sp.issparse(values):
        return np.expm1(np.asarray(values, dtype=np.float64) * np.log(base))
    x = values.copy().astype(np.float64)
    x.data = np.expm1(x.data * np.log(base))
    return x


def _constant(values: object, base: float | None) -> tuple[float, float]:
    """The middle sum of a cell once the logarithm is undone, and within which share 95 % lie."""
    sums = np.asarray(_undone(values, base).sum(axis=1), dtype=np.float64).ravel()
    sums = sums[sums > 0]
    if len(sums) < 3:  # two cells agree by chance
        return np.nan, np.inf
    middle = float(np.median(sums))
    return middle, float(np.quantile(np.abs(sums - middle), 0.95) / middle)


def _multiples(values: object, base: float) -> bool:
    """Whether counts were divided by one number per cell before the logarithm of this base.

    A cell's smallest value is then that of one count, or of few, and the others are its multiples.
    """
    x = sp.csr_matrix(_undone(values, base))
    found = []
    for start, end in zip(x.indptr[:-1], x.indptr[1:], strict=True):
        cell = x.data[start:end]
        ratio = cell[cell > 0] / cell[cell > 0].min(initial=np.inf)
        found.append(ratio[(ratio > 1.001) & (ratio < 30)])
    ratios = np.concatenate(found)
    return len(ratios) >= 100 and np.mean(np.abs(ratios - np.rint(ratios)) < 0.02) > 0.8


def gene_names(names: pd.Index) -> tuple[str, int]:
    """Whether genes are named by symbols or Ensembl identifiers, and how many names repeat."""
    texts = names.astype(str)
    ids = float(np.mean(texts.str.match(r"^ENS[A-Z]*G\d{6,}"))) if len(texts) else 0.0
    kind = "Ensembl identifiers" if ids > 0.5 else "symbols or other names"
    return kind, int(texts.duplicated().sum())
