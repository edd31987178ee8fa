"""From the reader's object to what the questions are put to: PCs of all cells, and a sample."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
from scipy import sparse as sp

from helpers.audit.slots import BASES, describe_slots
from helpers.checks import layers, shown, string_labels
from helpers.data import embed, prepare
from helpers.integrate import checked_embedding, checked_labels, in_range
from helpers.metrics import EXACT, sample_cells

CHOOSING = 20_000  # above EXACT cells: how many choose the genes and the components
ASKED = 10_000  # cells to which the questions are put
TRIED = 4_000  # cells on which settings are tried
BLOCK = 20_000
UNNAMED = "unassigned"
DEFAULTS = {"n_top_genes": 2000, "n_comps": 30}  # as in helpers.data
BEFORE, AFTER = "X_pca", "X_pca_harmony"


@dataclass
class Cells:
    """What the audit works on.

    Attributes
    ----------
    all
        All cells without genes: ``obs`` with the variables named, ``obsm["X_pca"]``.
    asked
        The cells asked, which are all or ``ASKED`` drawn at random; log-normalised ``X`` where
        genes are known, and no genes where they are not.
    rows
        Which of all they are.
    slots
        As :func:`helpers.audit.slots.describe_slots` returns it.
    source
        Where the embedding came from, in words.
    code
        The Python that makes it from the reader's object.
    counts
        Whether the embedding can be made anew, as without scaling.
    notes
        What the reader should know, one sentence each.
    clusters
        Of the cells asked, once corrected; made where there are no labels.
    """

    all: ad.AnnData
    asked: ad.AnnData
    rows: np.ndarray
    slots: pd.DataFrame
    source: str
    code: str
    counts: bool
    batch: str
    keep: list[str]
    label: str | None
    sample: str | None
    seed: int
    notes: list[str] = field(default_factory=list)
    clusters: pd.Series | None = None

    @property
    def typed(self) -> np.ndarray:
        """Which of the cells asked have a label."""
        return (self.asked.obs[self.label] != UNNAMED).to_numpy()

    def tried(self) -> ad.AnnData:
        """The cells on which settings are tried: those asked, or some of them."""
        return self.asked[sample_cells(self.asked.n_obs, TRIED, seed=self.seed)].copy()


def prepared(
    adata: ad.AnnData,
    batch: str,
    *,
    keep: str | Sequence[str] = (),
    label: str | None = None,
    sample: str | None = None,
    layer: str | None = None,
    basis: str | None = None,
    n_top_genes: int = DEFAULTS["n_top_genes"],
    n_comps: int = DEFAULTS["n_comps"],
    seed: int = 0,
) -> Cells:
    """Check what is named, find counts or logarithms, and embed; the input is not changed.

    Raises
    ------
    KeyError, TypeError, ValueError
        What is named is missing or unusable, or there is nothing to make an embedding from.
    """
    if not isinstance(adata, ad.AnnData):
        raise TypeError(f"audit reads an AnnData, not a {type(adata).__name__}.")
    if adata.isbacked and adata.is_view:
        raise ValueError("A view of a backed adata cannot be read in blocks: use to_memory().")
    keep = [keep] if isinstance(keep, str) else list(keep)
    seed = in_range("seed", seed, 0, whole=True)
    obs, notes = _variables(adata.obs, batch, keep, label, sample), []
    checked_labels(adata, [batch])
    slots = describe_slots(adata)
    rows = sample_cells(adata.n_obs, ASKED, seed=seed)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        made = _embedded(adata, obs, batch, slots, layer, basis, rows, n_top_genes, n_comps, seed)
    notes += [
        str(w.message) for w in said if "helpers" in w.filename or "helpers" in str(w.message)
    ]
    X, genes, source, code, counts = made
    everything = ad.AnnData(obs=obs, obsm={BEFORE: X})
    asked = ad.AnnData(obs=obs) if genes is None else genes
    if asked.n_obs > len(rows):
        asked = asked[rows].copy()
    asked.obs, asked.obsm[BEFORE] = obs.iloc[rows].copy(), X[rows]
    return Cells(
        everything, asked, rows, slots, source, code, counts, batch, keep, label, sample,
        seed, notes,
    )  # fmt: skip


def _variables(
    obs: pd.DataFrame, batch: str, keep: Sequence[str], label: str | None, sample: str | None
) -> pd.DataFrame:
    """The named columns as categories; cells without a type are named so."""
    named = [batch, *keep, *([label] if label is not None else []), *([sample] if sample else [])]
    for name in named:
        if named.count(name) > 1 and name != sample:
            raise ValueError(
                f"{name!r} is named twice: batch, biology and labels are different columns."
            )
    found = {name: string_labels(obs, name) for name in [batch, *keep]}
    if sample is not None:
        found[sample] = string_labels(obs, sample, one_level=True)
    if label is not None:
        if label in obs and getattr(obs[label], "ndim", 1) == 1:
            values = obs[label].astype(object).where(obs[label].notna(), UNNAMED).astype(str)
            obs = obs.assign(
                **{label: values.replace({"": UNNAMED, "nan": UNNAMED, "None": UNNAMED})}
            )
        found[label] = string_labels(obs, label, one_level=True)
        if (found[label] == UNNAMED).all():
            raise ValueError(f"obs[{label!r}] has no label for any cell: leave label out.")
    return pd.DataFrame({k: v.to_numpy() for k, v in found.items()}, index=obs.index).astype(
        "category"
    )


def _embedded(
    adata: ad.AnnData,
    obs: pd.DataFrame,
    batch: str,
    slots: pd.DataFrame,
    layer: str | None,
    basis: str | None,
    rows: np.ndarray,
    n_top_genes: int,
    n_comps: int,
    seed: int,
) -> tuple[np.ndarray, ad.AnnData | None, str, str, bool]:
    """PCs of all cells; log-normalised cells or None; the source, its code, and whether counts."""
    slot = _slot(adata, slots, layer)
    if basis is not None:
        X = checked_embedding(adata, basis).astype(np.float32)
        genes = None if slot is None else _logs(adata, slot, slots, obs, rows)
        code = _code(adata, slots, slot, batch, {}, basis=basis)
        return X, genes, f"the embedding {basis!r} as it is", code, False
    if slot is None:
        if BEFORE in adata.obsm:
            return (
                checked_embedding(adata, BEFORE).astype(np.float32),
                None,
                "the embedding 'X_pca' as it is, for want of counts",
                _code(adata, slots, None, batch, {}, basis=BEFORE),
                False,
            )
        holds = (
            "; ".join(f"{name} holds {kind}" for name, kind in slots["holds"].items()) or "nothing"
        )
        raise ValueError(
            "There are neither counts nor logarithms to start from, and no embedding 'X_pca': "
            f"{holds}. Name a layer, or an embedding as basis."
        )
    options = {"n_top_genes": n_top_genes, "n_comps": n_comps}
    whole = adata.n_obs <= EXACT
    chosen = (
        np.arange(adata.n_obs)
        if whole
        else np.union1d(sample_cells(adata.n_obs, CHOOSING, seed=seed), rows)
    )
    cells = _taken(adata, slot, slots, obs, chosen)
    counted = slots.loc[slot, "holds"] == "counts"
    if counted:
        cells = prepare(cells, min_genes=0, batch_key=batch, **options)
        cells.layers.pop("counts")
    else:
        sc.pp.filter_genes(cells, min_cells=3)  # as prepare does, so that the same are chosen
        embed(cells, batch_key=batch, **options)
    X = cells.obsm[BEFORE]
    if not whole:
        X = np.vstack(list(_projected(adata, slot, slots, cells, X)))
    what = "counts" if counted else "logarithms"
    n_genes = cells.var["highly_variable"].sum()
    source = f"{what} in {slot}: {n_genes:,} variable genes, scaled, {X.shape[1]} components"
    if not whole:
        source += f", chosen on {len(chosen):,} cells drawn at random and applied to all"
        cells = cells[np.searchsorted(chosen, rows)].copy()
    return X, cells, source, _code(adata, slots, slot, batch, options, whole=whole), counted


def _slot(adata: ad.AnnData, slots: pd.DataFrame, layer: str | None) -> str | None:
    """The slot to start from: the one named, else counts, else logarithms."""
    if layer is not None:
        name = "X" if layer == "X" else f"layers[{layer!r}]"
        if name not in slots.index:
            raise KeyError(
                f"adata has no layer {shown(layer)}; its layers: "
                f"{', '.join(layers(adata)) or 'none'}."
            )
        if slots.loc[name, "holds"] not in ("counts", "logarithms"):
            raise ValueError(
                f"{name} must hold counts or logarithms, but holds {slots.loc[name, 'holds']}: "
                f"{slots.loc[name, 'because']}."
            )
        return name
    for kind in ("counts", "logarithms"):
        found = slots.index[slots["holds"] == kind]
        if len(found):
            return str(found[0])
    return None


def _values(adata: ad.AnnData, slot: str) -> tuple[Any, pd.DataFrame]:
    if slot == "X":
        return adata.X, adata.var
    if slot == "raw.X":
        return adata.raw.X, adata.raw.var
    return adata.layers[slot.removeprefix("layers['").removesuffix("']")], adata.var


def _block(values: Any, rows: np.ndarray | slice, unit: float) -> sp.csr_matrix:
    """Rows in memory, CSR, float32; logarithms made natural ones."""
    block = sp.csr_matrix(values[rows]).astype(np.float32)
    if unit != 1:
        block.data *= unit
    return block


def _unit(slots: pd.DataFrame, slot: str) -> float:
    """What a logarithm of this slot is to be multiplied with, to be a natural one."""
    if slots.loc[slot, "holds"] != "logarithms":
        return 1.0
    named = [
        np.log(base) for name, base in BASES.items() if slots.loc[slot, "because"].startswith(name)
    ]
    return float(named[0]) if named else 1.0


def _taken(
    adata: ad.AnnData, slot: str, slots: pd.DataFrame, obs: pd.DataFrame, rows: np.ndarray
) -> ad.AnnData:
    """Some cells with the numbers of one slot in ``X``."""
    values, var = _values(adata, slot)
    whole = len(rows) == adata.n_obs and not adata.isbacked
    X = _block(values, slice(None) if whole else rows, _unit(slots, slot))
    var = pd.DataFrame({"place": np.arange(len(var))}, index=var.index.astype(str))
    return ad.AnnData(X, obs=obs.iloc[rows].copy(), var=var)


def _logs(
    adata: ad.AnnData, slot: str, slots: pd.DataFrame, obs: pd.DataFrame, rows: np.ndarray
) -> ad.AnnData:
    cells = _taken(adata, slot, slots, obs, rows)
    if slots.loc[slot, "holds"] == "counts":
        sc.pp.normalize_total(cells, target_sum=1e4)
        sc.pp.log1p(cells)
    return cells


def _projected(
    adata: ad.AnnData, slot: str, slots: pd.DataFrame, cells: ad.AnnData, X: np.ndarray
) -> Iterator[np.ndarray]:
    """PCs of all cells, block by block, by the genes, scaling and loadings of some of them."""
    chosen = cells.var["highly_variable"].to_numpy()
    genes = cells.var["place"].to_numpy()
    var, loadings = cells.var[chosen], cells.varm["PCs"][chosen]

    def turned(logs: sp.csr_matrix) -> np.ndarray:
        z = (logs.toarray() - var["mean"].to_numpy()) / var["std"].to_numpy()
        return np.clip(z, -10, 10) @ loadings

    offset = (X[:1000] - turned(cells.X[:1000][:, chosen])).mean(axis=0)  # PCA's own mean
    values, _ = _values(adata, slot)
    counted = slots.loc[slot, "holds"] == "counts"
    for start in range(0, adata.n_obs, BLOCK):
        block = _block(values, slice(start, start + BLOCK), _unit(slots, slot))[:, genes]
        if counted:
            total = np.asarray(block.sum(axis=1)).ravel()
            block = sp.diags(1e4 / np.maximum(total, 1)) @ block
            block.data = np.log1p(block.data)
        yield (turned(block.tocsr()[:, chosen]) + offset).astype(np.float32)


def _code(
    adata: ad.AnnData,
    slots: pd.DataFrame,
    slot: str | None,
    batch: str,
    options: Mapping[str, int],
    *,
    basis: str | None = None,
    whole: bool = True,
) -> str:
    """The Python that makes ``cells`` from the reader's ``adata``."""
    at = (
        "" if whole else "# the audit chose genes and components on some cells: small differences\n"
    )
    counted = slot is not None and slots.loc[slot, "holds"] == "counts"
    chosen = "".join(
        f", {name}={value}" for name, value in options.items() if value != DEFAULTS[name]
    )
    if counted and basis is None:
        start = "adata.raw.to_adata()" if slot == "raw.X" else "adata"
        layer = f", layer={slot[len('layers[') : -1]}" if slot.startswith("layers") else ""
        return (
            f"from helpers.data import prepare\n{at}"
            f"cells = prepare({start}, batch_key={batch!r}, min_genes=0{layer}{chosen})"
        )
    memory = "adata.to_memory()" if adata.isbacked else "adata.copy()"
    lines = [f"cells = {'adata.raw.to_adata()' if slot == 'raw.X' else memory}"]
    if slot is not None:
        values = "cells.X" if slot == "raw.X" else f"cells.{slot}"
        unit = _unit(slots, slot)
        times = f" * np.float32({unit})" if unit != 1 else ""
        lines.insert(0, "from scipy.sparse import csr_matrix")
        lines.append(f"cells.X = csr_matrix({values}, dtype=np.float32){times}")
        if counted:
            lines.insert(0, "import scanpy as sc")
            lines += ["sc.pp.normalize_total(cells, target_sum=1e4)", "sc.pp.log1p(cells)"]
    if basis is not None:
        lines.append(
            f'cells.obsm["{BEFORE}"] = np.asarray(cells.obsm[{basis!r}], dtype=np.float32)'
        )
    else:
        lines[:0] = ["import scanpy as sc", "from helpers.data import embed"]
        lines.append("sc.pp.filter_genes(cells, min_cells=3)")
        lines.append(f"{at}embed(cells, batch_key={batch!r}{chosen})")
    return "\n".join(["import numpy as np", *lines])
