"""What did a correction keep? Checks that need no cell types, and what each cannot see.

- `signature_kept`: do clusters found in one batch alone meet their own kind in the other batches?
  It needs genes. It is blind to a type without a cluster of its own, and to one whose relative in
  the other batches carries the same genes. A type that is rare there may seem to be missing.
- `neighbors_kept`: are cells of one batch still near each other? It finds collapse and types
  merged within a batch. It is blind to a type that the other batches lack: strangers come between
  its cells while these stay where they were.
- `moved`: how far did the cells go? It cannot say whether they should have.
- `noise_floor`: how far, where there is nothing to find? It knows chance only: batches of unlike
  composition move further without any batch effect.

Labels, embeddings and neighbours are as in `helpers.metrics`.
"""

from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import ArrayLike
from scipy import sparse
from sklearn.neighbors import NearestNeighbors

from helpers.checks import (
    finite_embedding,
    label_codes,
    number,
    read_parts,
    shown,
    string_labels,
)
from helpers.integrate import harmonize
from helpers.metrics import find_neighbors, leiden, neighbor_graph, say_slow

# Of a cluster and its rivals: cells each, standard deviations between them, number of rivals.
MIN_CELLS, CLEAR, N_RIVALS = 10, 0.8, 3


def moved(X_before: ArrayLike, X_after: ArrayLike) -> float:
    """How far the typical cell moved, as a share of the spread of all cells before.

    Both are root mean squares: 0 is unmoved, 1 as far as the typical cell was from the mean.

    Parameters
    ----------
    X_before, X_after : (n_cells, n_dims) embeddings of the same cells, in the same axes.

    Raises
    ------
    ValueError : unusable or unequal input, or all cells are the same before.
    """
    before, after = _both(X_before, X_after)
    if before.shape != after.shape:
        raise ValueError(f"X_before has {before.shape[1]} dimensions, X_after {after.shape[1]}.")
    spread = ((before - before.mean(axis=0)) ** 2).sum()
    if spread == 0:
        raise ValueError("All cells of X_before are the same, so there is no spread to compare.")
    return float(np.sqrt(((after - before) ** 2).sum() / spread))


def noise_floor(
    adata: AnnData, batch_key: str, *, basis: str = "X_pca", seed: int = 0, **settings: Any
) -> float:
    """`moved` when the batches are none: the reader's own column, shuffled, and corrected.

    A *finished* correction that moves the cells no further has found nothing.

    Parameters
    ----------
    adata : not changed.
    batch_key : column of ``adata.obs``; its sizes matter, so they stay.
    basis : key of ``adata.obsm``, as it was corrected.
    seed : of the shuffle, and of Harmony.
    **settings : of `harmonize`, as the correction had them.

    Raises
    ------
    KeyError, ValueError : as `harmonize`.
    """
    null = corrected_noise(adata, batch_key, basis=basis, seed=seed, **settings)
    return moved(null.obsm["before"], null.obsm["after"])


def corrected_noise(
    adata: AnnData, batch_key: str, *, basis: str = "X_pca", seed: int = 0, **settings: Any
) -> AnnData:
    """The same cells with the reader's own column shuffled, and corrected for it.

    Parameters, errors: as `noise_floor`.

    Returns
    -------
    AnnData without genes: ``obs["batch"]`` shuffled, ``obsm["before"]`` and ``obsm["after"]``.
    """
    shuffled = string_labels(adata.obs, batch_key).sample(frac=1, random_state=seed)
    X, _ = read_parts(adata, basis)
    obs = pd.DataFrame({"batch": shuffled.to_numpy()}, index=np.arange(len(X)).astype(str))
    null = AnnData(obs=obs, obsm={"before": X})
    harmonize(null, "batch", basis="before", adjusted_basis="after", seed=seed, **settings)
    return null


def neighbors_kept(
    X_before: ArrayLike, X_after: ArrayLike, batch: ArrayLike, n_neighbors: int = 30
) -> np.ndarray:
    """Share of each cell's nearest cells of its own batch that are so before and after.

    Range 0 to 1. A correction need not change who is near whom within a batch. Compare settings or
    groups of cells: noise alone changes some neighbours.

    Parameters
    ----------
    X_before, X_after : (n_cells, n_dims) embeddings of the same cells; dimensions may differ.
    batch : (n_cells,) batches (one is enough).
    n_neighbors : without the cell itself; in a batch no larger, all are neighbours and kept.

    Returns
    -------
    (n_cells,) array; NaN in batches of fewer than three cells.

    Raises
    ------
    ValueError : unusable or unequal input.
    """
    before, after = _both(X_before, X_after)
    codes = label_codes(batch, len(before), "batch", one_level=True)
    if (number(n_neighbors, whole=True) or 0) < 1:
        raise ValueError("A neighbourhood must hold at least one other cell.")
    sizes, shares = np.bincount(codes), np.full(len(before), np.nan)
    say_slow(sizes, 2 * sizes)
    for level in range(codes.max() + 1):
        rows = np.flatnonzero(codes == level)
        if len(rows) > 2:
            graphs = [neighbor_graph(find_neighbors(X[rows], n_neighbors)) for X in (before, after)]
            both = graphs[0].multiply(graphs[1]).sum(axis=1)
            shares[rows] = np.asarray(both / graphs[0].sum(axis=1)).ravel()
    return shares


def cluster_within(
    adata: AnnData, batch_key: str, use_rep: str, *, resolution: float = 1.0, seed: int = 0
) -> pd.Series:
    """Leiden clusters of each batch alone, so that no batch effect can shape them.

    Parameters
    ----------
    adata : not changed.
    batch_key : column of ``adata.obs``.
    use_rep : key of ``adata.obsm``; take the uncorrected embedding.
    resolution : higher finds more clusters. The graph joins each cell to its 14 nearest others.
    seed : of Leiden.

    Returns
    -------
    Series of names such as "run 1: 0", indexed like ``adata.obs``; 0 is a batch's largest cluster.

    Raises
    ------
    KeyError, ValueError : the column or the embedding is missing or unusable.

    References
    ----------
    Traag et al. 2019, doi:10.1038/s41598-019-41695-z
    """
    (X, _), batch = read_parts(adata, use_rep), string_labels(adata.obs, batch_key)
    names, sizes = np.empty(len(X), dtype=object), batch.value_counts()
    say_slow(sizes, sizes)
    for level, rows in batch.groupby(batch, observed=True).indices.items():
        found = np.zeros(len(rows), int)
        if len(rows) > 2:
            (found,) = leiden(find_neighbors(X[rows], 14), [resolution], seed)
        names[rows] = [f"{level}: {place}" for place in found]
    return pd.Series(names, adata.obs_names, name="cluster", dtype="category")


def cluster_all(
    adata: AnnData, use_rep: str, *, resolution: float = 1.0, seed: int = 0
) -> pd.Series:
    """Leiden clusters of all cells together, by the same graph as in `cluster_within`.

    Parameters
    ----------
    adata : not changed.
    use_rep : key of ``adata.obsm``; the corrected embedding, for clusters that batches share.
    resolution, seed : as in `cluster_within`.

    Returns
    -------
    Series of "0", "1", ..., the largest first, indexed like ``adata.obs``.

    Raises
    ------
    KeyError, ValueError : the embedding is missing or unusable.
    """
    X, _ = read_parts(adata, use_rep)
    say_slow(len(X), len(X))
    (found,) = leiden(find_neighbors(X, 14), [resolution], seed)
    return pd.Series(found.astype(str), adata.obs_names, name="cluster", dtype="category")


def signature_kept(
    adata: AnnData,
    batch_key: str,
    use_rep: str,
    clusters: ArrayLike,
    *,
    baseline: str = "X_pca",
    n_genes: int = 10,
    n_neighbors: int = 30,
) -> pd.DataFrame:
    """Ask whether a cluster's neighbours from the other batches carry its genes.

    A cluster's rivals are the (up to three) nearest clusters of its batch that differ clearly. Its
    signature against a rival are the genes by which it stands out most, in standard deviations.
    Their mean around its cells, less that around the rival's, is taken twice: among cells of its
    own batch before correction, which is what there is to keep, and among cells of the other
    batches after it. "kept" is the second over the first, averaged over the rivals. Near 1, the
    new neighbours are of its kind; near 0, they are no more so than the rivals' new neighbours.
    A gene that is higher throughout a batch cancels. Above 1: a cluster smaller than n_neighbors,
    whose own side reaches beyond it.

    Look at the lowest rows; there is no threshold, as relatives carry part of a signature. "near"
    tells what became of a cluster with little kept. Many near: strangers came among its cells. Few
    near: it stands alone, as a type of one batch should. The genes tell which it is: a type, or a
    state of one batch only, such as a response. A rival without its kind elsewhere lowers too.

    Parameters
    ----------
    adata : log-normalised ``X``, dense or sparse; not changed.
    batch_key : column of ``adata.obs``.
    use_rep, baseline : keys of ``adata.obsm``: the corrected embedding, and the uncorrected.
    clusters : (n_cells,) from `cluster_within`, or any labels; taken apart by batch.
    n_genes, n_neighbors : of a signature; of a cell, from each side.

    Returns
    -------
    DataFrame, one row per batch and cluster, least "kept" first: "batch", "cluster", "n_cells",
    "genes" (five, against the nearest rival), "kept", and "near", the share of other batches among
    the nearest cells of all. "kept" is NaN with fewer than 10 cells, or without a rival of 10.

    Raises
    ------
    KeyError, ValueError : something is missing or unusable, or ``X`` is not log-normalised.
    """
    for name, value in {"n_genes": n_genes, "n_neighbors": n_neighbors}.items():
        if (number(value, whole=True) or 0) < 1:
            raise ValueError(f"{name} must be a whole number, at least 1, not {shown(value)}.")
    (Z, _), (X, _) = read_parts(adata, use_rep), read_parts(adata, baseline)
    batch, genes = string_labels(adata.obs, batch_key), _log_normalised(adata.X)
    levels, codes = batch.cat.categories, batch.cat.codes.to_numpy()
    names = pd.Series(np.asarray(clusters, dtype=object), name="clusters")
    pairs = np.column_stack([codes, label_codes(names, len(Z), "clusters", one_level=True)])
    found, first, group = np.unique(pairs, axis=0, return_index=True, return_inverse=True)
    group, sizes = group.ravel(), np.bincount(group.ravel())
    member = sparse.csr_matrix((1 / sizes[group], (group, np.arange(len(Z)))))  # times X: means

    say_slow(len(Z), len(Z) + len(Z))  # a cell's neighbours of all, of its batch, of the others
    mean = (member @ genes).toarray()
    variance = (member @ genes.multiply(genes)).toarray() - mean**2 + 0.1  # or rare genes win
    before = (member @ _around(X, codes, n_neighbors, own=True) @ genes).toarray()
    after = (member @ _around(Z, codes, n_neighbors, own=False) @ genes).toarray()
    strangers = codes[find_neighbors(Z, n_neighbors).indices] != codes[:, None]
    near, centre = member @ strangers.mean(axis=1), member @ X
    rows = []
    for c, level in enumerate(found[:, 0]):
        rivals = np.flatnonzero((found[:, 0] == level) & (np.minimum(sizes, sizes[c]) >= MIN_CELLS))
        nearest = np.argsort(np.linalg.norm(centre[rivals] - centre[c], axis=1), kind="stable")
        kept, top = [], []
        for r in rivals[nearest]:
            effect = (before[c] - before[r]) / np.sqrt((variance[c] + variance[r]) / 2)
            best = np.argsort(-effect, kind="stable")[:n_genes]
            if effect[best].mean() >= CLEAR and len(kept) < N_RIVALS:  # never so against itself
                kept.append((after[c] - after[r])[best].sum() / (before[c] - before[r])[best].sum())
                top = top or list(adata.var_names[best[:5]])
        row = levels[level], names[first[c]], sizes[c], ", ".join(top)
        rows.append((*row, np.mean(kept) if kept else np.nan, near[c]))
    table = pd.DataFrame(rows, columns=["batch", "cluster", "n_cells", "genes", "kept", "near"])
    return table.sort_values("kept", kind="stable").reset_index(drop=True)


def _both(X_before: ArrayLike, X_after: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    before, after = finite_embedding(X_before), finite_embedding(X_after)
    if len(before) != len(after):
        raise ValueError(f"X_before has {len(before)} cells, X_after has {len(after)}.")
    return before, after


def _log_normalised(X: ArrayLike) -> sparse.csr_matrix:
    missing = X is None
    X = X.to_memory() if hasattr(X, "to_memory") else X  # of a backed object
    with suppress(TypeError, ValueError):
        X = sparse.csr_matrix(X if sparse.issparse(X) else np.asarray(X, np.float64))
    if missing or not sparse.issparse(X) or X.dtype.kind not in "biuf":
        raise ValueError("adata.X must be log-normalised, but is missing or holds no numbers.")
    X = X.astype(np.float64)
    if not np.isfinite(X.data).all() or (X.data < 0).any():
        raise ValueError("adata.X must be log-normalised, but holds negative or infinite values.")
    if (X.data == np.rint(X.data)).all():
        raise ValueError("adata.X must be log-normalised: it holds whole numbers, such as counts.")
    return X


def _around(X: np.ndarray, codes: np.ndarray, n_neighbors: int, own: bool) -> sparse.csr_matrix:
    """Means over each cell's nearest cells, of its own batch or of the others."""
    X = X - X.mean(axis=0)  # the fast distances lose digits far from the origin
    means = sparse.csr_matrix((len(X), len(X)))
    for level in range(codes.max() + 1):
        rows, pool = np.flatnonzero(codes == level), np.flatnonzero((codes == level) == own)
        if k := min(n_neighbors, len(pool) - own):
            search = NearestNeighbors(n_neighbors=k).fit(X[pool])
            near = pool[search.kneighbors(None if own else X[rows], return_distance=False)]
            where = np.repeat(rows, k), near.ravel()
            means += sparse.csr_matrix((np.full(near.size, 1 / k), where), shape=means.shape)
    return means
