"""Scores of an integration: how mixed the batches are, and how far apart the cell types.

Everywhere ``X`` is an embedding of shape (n_cells, n_dims), such as ``adata.obsm["X_pca"]``, and
labels are one-dimensional of length n_cells (list, array, Series or Categorical; read in order,
an index is ignored). Unusable input raises ``ValueError`` with one sentence: X not 2-D, not
numeric, not finite or beyond 1e100; labels missing (words for it, such as ``nan``, count), of
another length, all one level or one level per cell, or measurements; too few cells.

Labels that could be swapped unnoticed, such as batch and cell types, are given by keyword only.

Neighbours and silhouettes are exact, so their time grows with n_cells squared; memory does not.
Above 50,000 cells a single score warns where it compares as many pairs of cells as all of 50,000
have, and the tables sample: 10,000 cells are asked about their neighbours among all.
`lisi_interval` gives the error of a median so estimated.

scikit-learn and SciPy supply silhouette, ARI, NMI, neighbours and components. scib-metrics has
most of these scores but brings JAX and more than 1 GB, so it only cross-checks these in a test.
"""

import random
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

import igraph
import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import ArrayLike
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components
from scipy.stats import binom, chi2
from sklearn import config_context
from sklearn.cluster import MiniBatchKMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, silhouette_samples
from sklearn.neighbors import NearestNeighbors

from helpers.checks import finite_embedding, label_codes, number, read_parts, shown

_BLOCK = 4096  # cells handled at a time
EXACT = 50_000  # cells up to which all are asked
SAMPLE = 10_000  # cells asked beyond

_KORSUNSKY, _LUECKEN = "10.1038/s41592-019-0619-0", "10.1038/s41592-021-01336-8"
_BUTTNER = "10.1038/s41592-018-0254-1"
# fmt: off
METRICS = (  # metric, measures, question, range, better, doi
    ("iLISI", "mixing", "How many batches does a typical cell meet among its neighbours?",
     "1 to number of batches", "higher", _KORSUNSKY),
    ("iLISI scaled", "mixing", "The same, from 0 (one batch) to 1 (all batches equally).",
     "0 to 1", "higher", _LUECKEN),
    ("kBET", "mixing", "In what share of neighbourhoods are the batches as in the whole type?",
     "0 to 1", "higher", _BUTTNER),
    ("Silhouette batch", "mixing", "Within a cell type, do the batches overlap?",
     "0 to 1", "higher", _LUECKEN),
    ("PC regression", "mixing", "How much of the variance of the embedding does the batch explain?",
     "0 to 1", "lower", _BUTTNER),
    ("PCR comparison", "mixing", "What part of that share is gone, compared with the baseline?",
     "0 to 1", "higher", _BUTTNER),
    # Published as batch removal: a batch that cuts a type in two lowers it. Scattered types do too.
    ("Graph connectivity", "mixing", "Does each cell type hold together in the neighbour graph?",
     "0 to 1", "higher", _LUECKEN),
    ("cLISI", "biology", "How many cell types does a typical cell meet among its neighbours?",
     "1 to number of types", "lower", _KORSUNSKY),
    ("cLISI scaled", "biology", "The same, from 0 (all types equally) to 1 (one type).",
     "0 to 1", "higher", _LUECKEN),
    ("Silhouette label", "biology", "Are cells nearer to their own type than to the next one?",
     "0 to 1", "higher", "10.1016/0377-0427(87)90125-7"),
    ("NMI", "biology", "How much do clusters tell about the cell types?",
     "0 to 1", "higher", "10.1088/1742-5468/2005/09/P09008"),
    ("ARI", "biology", "Do clusters and cell types group the same pairs of cells?",
     "-0.5 to 1 (0 is chance)", "higher", "10.1007/BF01908075"),
)
# fmt: on


def metric_info() -> pd.DataFrame:
    """METRICS as a table: one row per value of `score`, with question, range, direction, DOI."""
    columns = ["metric", "measures", "question", "range", "better", "doi"]
    return pd.DataFrame(METRICS, columns=columns).set_index("metric")


# --- input and neighbours ---------------------------------------------------------------------


class Neighbors(NamedTuple):
    """Nearest other cells, nearest first: two (n_cells, n_neighbors) arrays."""

    indices: np.ndarray
    distances: np.ndarray  # Euclidean, in the units of X


def say_slow(asked: ArrayLike, among: ArrayLike) -> None:
    """Warn, once for each score, where comparing that many cells with that many takes long.

    Both are numbers of cells: one of each, or one per group where groups are searched apart.
    """
    n_asked, pairs = np.sum(asked), np.sum(np.multiply(asked, among, dtype=float))
    if n_asked > EXACT and pairs > EXACT**2:
        warnings.warn(
            f"{n_asked:,} cells are compared in {pairs / 1e9:.1f} billion pairs, and these grow "
            "with the square of the cells: use score, which asks fewer, or ask some with "
            "queries=sample_cells(...) where a function takes queries.",
            stacklevel=3,
        )


def sample_cells(n_cells: int, n: int = SAMPLE, *, seed: int = 0) -> np.ndarray:
    """Rows of n cells drawn at random, in order; all of them where there are no more.

    Raises
    ------
    ValueError : n or n_cells is not a whole number, or n is below 1.
    """
    if (size := number(n, whole=True)) is None or size < 1:
        raise ValueError(f"Ask a whole number of cells, at least 1, not {shown(n)}.")
    if (total := number(n_cells, whole=True)) is None or total < 0:
        raise ValueError(f"n_cells must be a whole number, not {shown(n_cells)}.")
    if size >= total:
        return np.arange(total)
    return np.sort(np.random.default_rng(seed).choice(total, size, replace=False))


def _per_level(codes: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Rows of up to n cells of each level, in order."""
    order = np.random.default_rng(seed).permutation(len(codes))
    rank = pd.Series(order).groupby(codes[order]).cumcount().to_numpy()
    return np.sort(order[rank < n])


def _evenly(types: pd.Series, n: int, seed: int) -> np.ndarray:
    """Rows for a score that averages over types: as many of a rare type as of a frequent one."""
    codes = label_codes(types, len(types), "labels")
    return _per_level(codes, max(n // (codes.max() + 1), 100), seed)


def _asked(queries: ArrayLike | None, n_cells: int) -> np.ndarray | None:
    """Rows to ask, or None for all."""
    if queries is None:
        return None
    rows = np.asarray(queries)
    if rows.ndim != 1 or rows.dtype.kind not in "iu" or not rows.size:
        raise ValueError("queries must be rows of X: one or more whole numbers, one-dimensional.")
    if rows.min() < 0 or rows.max() >= n_cells:
        raise ValueError(f"queries must be rows of X, from 0 to {n_cells - 1}.")
    return rows


def _search(
    X: np.ndarray, k: int, queries: np.ndarray | None = None
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Yield rows, indices and distances of the k nearest other cells, block by block."""
    queries = np.arange(len(X)) if queries is None else queries
    X = X - X.mean(axis=0)  # the fast distances lose digits far from the origin
    norm = np.linalg.norm(X, axis=1)
    tree = NearestNeighbors().fit(X)
    for start in range(0, len(queries), _BLOCK):
        cells = queries[start : start + _BLOCK]
        distances, indices = tree.kneighbors(X[cells], n_neighbors=k + 1)
        itself = indices == cells[:, None]  # not always the first: cells may be duplicated
        itself[~itself.any(axis=1), -1] = True  # hidden by more than k duplicates
        indices, distances = (a[~itself].reshape(-1, k) for a in (indices, distances))
        # They also lose digits between near-identical cells: recompute those few.
        row, column = np.nonzero(distances < 0.01 * norm[cells, None])
        gap = X[cells[row]] - X[indices[row, column]]
        distances[row, column] = np.linalg.norm(gap, axis=1)
        yield slice(start, start + len(cells)), indices, distances


def nearest_neighbors(
    X: ArrayLike, n_neighbors: int = 90, *, queries: ArrayLike | None = None
) -> Neighbors:
    """Find the exact nearest other cells once, to share between scores.

    Parameters
    ----------
    X : (n_cells, n_dims) embedding.
    n_neighbors : per cell, without the cell itself; at most n_cells - 1 are returned.
    queries : rows of X, such as `sample_cells` draws; only their neighbours, which may be any
        cells, are found. None asks all.

    Returns
    -------
    Neighbors, 12 bytes per cell asked and neighbour; ties at the edge are broken arbitrarily.

    Raises
    ------
    ValueError : unusable X or queries, or n_neighbors below 1.
    """
    X = finite_embedding(X)
    if (number(n_neighbors, whole=True) or 0) < 1:
        raise ValueError("A neighbourhood must hold at least one other cell.")
    queries = _asked(queries, len(X))
    say_slow(len(X) if queries is None else len(queries), len(X))
    return find_neighbors(X, n_neighbors, queries)


def find_neighbors(X: np.ndarray, n_neighbors: int, queries: np.ndarray | None = None) -> Neighbors:
    """As `nearest_neighbors`, unchecked and unsaid."""
    n_asked = len(X) if queries is None else len(queries)
    shape = (n_asked, min(int(n_neighbors), len(X) - 1))
    found = Neighbors(np.empty(shape, np.int32), np.empty(shape))
    for rows, indices, distances in _search(X, shape[1], queries):
        found.indices[rows], found.distances[rows] = indices, distances
    return found


def _shared(
    neighbors: Neighbors | None, X: np.ndarray, k: int, queries: np.ndarray | None = None
) -> Neighbors:
    if (number(k, whole=True) or 0) < 1:
        raise ValueError("A neighbourhood must hold at least one other cell.")
    if neighbors is None:
        return find_neighbors(X, k, queries)
    shape, n_asked = neighbors.indices.shape, len(X) if queries is None else len(queries)
    if shape[0] != n_asked or shape[1] < k:
        raise ValueError(f"neighbors has shape {shape}; this score needs ({n_asked}, {k}) or more.")
    return Neighbors(neighbors.indices[:, :k], neighbors.distances[:, :k])


def _of_some(near: Neighbors, X: np.ndarray, some: np.ndarray, k: int) -> Neighbors:
    """The k nearest of some cells, among these: read off those of all, or searched where too few.

    ``some``: (n_cells,) whether a cell is one of them.
    """
    k = min(k, int(some.sum()) - 1)
    place = (np.cumsum(some) - 1).astype(np.int32)  # its row among them
    indices, distances = near.indices[some], near.distances[some]
    first = np.argsort(~some[indices], axis=1, kind="stable")[:, :k]
    found = Neighbors(
        place[np.take_along_axis(indices, first, axis=1)],
        np.take_along_axis(distances, first, axis=1),
    )
    few = np.flatnonzero(some[indices].sum(axis=1) < k)
    if len(few):
        found.indices[few], found.distances[few] = find_neighbors(X[some], k, few)
    return found


def neighbor_graph(neighbors: Neighbors) -> csr_matrix:
    """Cells x cells, 1 for each nearest other cell."""
    n, k = neighbors.indices.shape
    starts = np.arange(0, n * k + 1, k)
    return csr_matrix((np.ones(n * k), neighbors.indices.ravel(), starts), shape=(n, n))


def _count(codes: np.ndarray, n_levels: int, weights: np.ndarray | None = None) -> np.ndarray:
    """(Weighted) count of each level in each row: (rows, columns) to (rows, n_levels)."""
    flat = codes + n_levels * np.arange(len(codes))[:, None]
    weights = None if weights is None else weights.ravel()
    counts = np.bincount(flat.ravel(), weights, minlength=len(codes) * n_levels)
    return counts.reshape(-1, n_levels)


# --- LISI -------------------------------------------------------------------------------------


def _weights(distances: np.ndarray, perplexity: float) -> np.ndarray:
    """Weights exp(-beta d), rows summing to 1, with beta bisected to the perplexity asked for."""
    # Subtracting the nearest distance changes no weight, and an outlier does not underflow.
    d = distances - distances.min(axis=1, keepdims=True)
    weights = np.empty_like(d)
    todo = np.arange(len(d))
    beta, low, high = np.ones(len(d)), np.full(len(d), -np.inf), np.full(len(d), np.inf)
    for _ in range(50):
        w = np.exp(-beta[:, None] * d)
        total = w.sum(axis=1)
        excess = np.log(total) + beta * np.einsum("ij,ij->i", d, w) / total - np.log(perplexity)
        weights[todo] = w / total[:, None]
        unmet = np.abs(excess) >= 1e-5  # the published tolerance
        if not unmet.any():
            break
        todo, d, beta, low, high = (a[unmet] for a in (todo, d, beta, low, high))
        flat = excess[unmet] > 0  # too many neighbours count: raise beta
        low, high = np.where(flat, beta, low), np.where(flat, high, beta)
        middle = (low + high) / 2
        beta = np.where(np.isfinite(middle), middle, np.where(flat, beta * 2, beta / 2))
    return weights


def lisi(
    X: ArrayLike,
    labels: ArrayLike | pd.DataFrame,
    *,
    perplexity: float = 30,
    neighbors: Neighbors | None = None,
    queries: ArrayLike | None = None,
) -> np.ndarray:
    """Local Inverse Simpson's Index: the effective number of levels around each cell.

    Of batches it measures mixing (iLISI, higher is better), of cell types separation (cLISI, lower
    is better). Range 1 to the number of levels. Full mixing stays a little below that number, by
    chance (about 1.9 of 2), and further below it with batches of unequal size. Compare values of
    one number of cells only: where batches lie apart, a sample of the cells scores higher, because
    its neighbourhoods reach further.
    The 3 x perplexity = 90 nearest other cells are weighted by distance to a perplexity of 30,
    as in harmonypy 2. R's lisi and harmonypy 0 count the cell itself among the 90, so they use
    89. With 90 cells or fewer, all others are used.

    Parameters
    ----------
    X : (n_cells, n_dims) embedding.
    labels : (n_cells,), or a DataFrame with a column per kind of label, which share one search.
    perplexity : effective number of neighbours.
    neighbors : from `nearest_neighbors` of the same queries, at least 3 x perplexity; searched if
        None.
    queries : rows of X, such as `sample_cells` draws: only these cells are asked, about their
        neighbours among all. Their values are exact; `lisi_interval` says how near their median
        is to that of all cells.

    Returns
    -------
    (n_cells,) array, or (n_cells, n_columns) for a DataFrame; of the queries only, if given.

    Raises
    ------
    ValueError : unusable input, or fewer than perplexity + 2 cells.

    References
    ----------
    Korsunsky et al. 2019, doi:10.1038/s41592-019-0619-0
    """
    if number(perplexity) is None or not 1 < perplexity < np.inf:
        raise ValueError(f"perplexity must be a number above 1, not {perplexity}.")
    X = finite_embedding(X, at_least=int(perplexity) + 2)
    table = labels if isinstance(labels, pd.DataFrame) else {"labels": labels}
    codes = [label_codes(column, len(X), name) for name, column in table.items()]
    k = min(int(3 * perplexity), len(X) - 1)
    queries = _asked(queries, len(X))
    n_asked = len(X) if queries is None else len(queries)
    if neighbors is None:
        say_slow(n_asked, len(X))
        blocks = _search(X, k, queries)
    else:
        found = _shared(neighbors, X, k, queries)
        rows = (slice(start, start + _BLOCK) for start in range(0, n_asked, _BLOCK))
        blocks = ((r, found.indices[r], found.distances[r]) for r in rows)
    values = np.empty((n_asked, len(codes)))
    for rows, indices, distances in blocks:
        weights = _weights(distances, perplexity)
        for column, code in enumerate(codes):
            share = _count(code[indices], code.max() + 1, weights)
            values[rows, column] = 1 / (share**2).sum(axis=1)
    return values if isinstance(labels, pd.DataFrame) else values[:, 0]


def lisi_interval(values: ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """Where the median of all cells lies, given the values of cells drawn from them at random.

    The two order statistics that enclose the median with at least the probability asked for,
    whatever the distribution; the finite number of cells, which narrows it, is not counted.

    Raises
    ------
    ValueError : a level outside 0 to 1, or too few values for it, such as five for 0.95.

    References
    ----------
    Conover 1999, Practical Nonparametric Statistics, section 3.2
    """
    values = np.sort(np.asarray(values, dtype=float).ravel())
    if not 0 < level < 1:
        raise ValueError("level must lie between 0 and 1.")
    if 1 - 2 * 0.5 ** len(values) < level:  # what even the smallest and the largest enclose
        raise ValueError(f"{len(values)} values are too few for an interval of {100 * level:g} %.")
    rank = int(binom.ppf((1 - level) / 2, len(values), 0.5))
    rank = max(rank - 1, 0)
    return float(values[rank]), float(values[-1 - rank])


def block_interval(
    values: ArrayLike, X: ArrayLike, *, level: float = 0.95, size: int = 90, seed: int = 0
) -> tuple[float, float]:
    """Where the median of a score of neighbours lies, if other cells had been sampled.

    Cells that share neighbours share their score, so an interval that takes them for independent
    is too narrow. Here they are drawn, with replacement, in blocks of cells that lie together
    (k-means), as large as the neighbourhoods of LISI. It covers neither seeds nor donors.

    Parameters
    ----------
    values : (n_cells,) of cells.
    X : (n_cells, n_dims) embedding in which their neighbours were searched.
    level : of the interval.
    size : cells of a block, on average.
    seed : of the blocks and the 1,000 draws.

    Raises
    ------
    ValueError : a level outside 0 to 1, unusable X, another length, or fewer than two blocks.

    References
    ----------
    Lahiri 2003, Resampling Methods for Dependent Data, doi:10.1007/978-1-4757-3803-2
    """
    X, values = finite_embedding(X), np.asarray(values, dtype=float)
    if values.shape != (len(X),):
        raise ValueError(f"values has shape {values.shape}; one for each of {len(X)} cells is due.")
    if not 0 < level < 1:
        raise ValueError("level must lie between 0 and 1.")
    if (n_blocks := round(len(X) / size)) < 2:
        raise ValueError(f"{len(X)} cells make no two blocks of {size}: too few for an interval.")
    say_slow(len(X), n_blocks)
    blocks = MiniBatchKMeans(n_blocks, n_init=1, random_state=seed).fit_predict(X)
    parts = [values[blocks == block] for block in np.unique(blocks)]
    rng = np.random.default_rng(seed)
    draws = rng.integers(len(parts), size=(1000, len(parts)))
    medians = [np.median(np.concatenate([parts[i] for i in draw])) for draw in draws]
    low, high = np.quantile(medians, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def mixing_reference(
    X: ArrayLike,
    *,
    batch: ArrayLike,
    labels: ArrayLike | None = None,
    seed: int = 0,
    neighbors: Neighbors | None = None,
    queries: ArrayLike | None = None,
) -> float:
    """Median LISI of the batch once its labels are dealt out again at random: what chance gives.

    A reference and not a ceiling: a correction that evens out chance as well, or mixes what should
    stay apart, scores higher. Batches that differ in their cell types can only mix within types,
    so give `labels`: the batches are then dealt out within each.

    Parameters
    ----------
    X : (n_cells, n_dims) embedding.
    batch : (n_cells,) batches.
    labels : (n_cells,) cell types, within which to shuffle; None shuffles all cells.
    seed : of the shuffle.
    neighbors, queries : as in `lisi`.

    Raises
    ------
    ValueError : as `lisi`.
    """
    X = finite_embedding(X)
    shuffled = label_codes(batch, len(X), "batch")
    groups = np.zeros(len(X)) if labels is None else labels
    groups = label_codes(groups, len(X), "labels", one_level=True)
    rng = np.random.default_rng(seed)
    for group in range(groups.max() + 1):
        inside = np.flatnonzero(groups == group)
        shuffled[inside] = rng.permutation(shuffled[inside])
    return float(np.median(lisi(X, shuffled, neighbors=neighbors, queries=queries)))


# --- neighbours: of the own kind, and what they know ------------------------------------------


def own_share(
    X: ArrayLike,
    labels: ArrayLike,
    *,
    n_neighbors: int = 30,
    neighbors: Neighbors | None = None,
    queries: ArrayLike | None = None,
) -> np.ndarray:
    """Share of each cell's nearest other cells that have its own label.

    Range 0 to 1. Of cell types higher is better; a label that is spread at random gets its own
    share of all cells.

    Parameters
    ----------
    X : (n_cells, n_dims) embedding.
    labels : (n_cells,) cell types, conditions or batches.
    n_neighbors : without the cell itself; all others where there are fewer.
    neighbors : from `nearest_neighbors` of the same queries, at least n_neighbors; searched if
        None.
    queries : rows of X to ask, as in `lisi`.

    Returns
    -------
    (n_cells,) array; of the queries only, if given.

    Raises
    ------
    ValueError : unusable input.
    """
    X = finite_embedding(X)
    codes = label_codes(labels, len(X), "labels")
    queries = _asked(queries, len(X))
    if neighbors is None:
        say_slow(len(X) if queries is None else len(queries), len(X))
    found = _shared(neighbors, X, min(n_neighbors, len(X) - 1), queries)
    own = codes if queries is None else codes[queries]
    return (codes[found.indices] == own[:, None]).mean(axis=1)


def distance_ratio(
    X: ArrayLike,
    *,
    batch: ArrayLike,
    groups: ArrayLike | None = None,
    n_neighbors: int = 30,
    min_cells: int = 20,
    seed: int = 0,
) -> np.ndarray:
    """How much farther the cells of other batches are than those of the own batch.

    For each cell, the mean distance to its nearest cells of other batches over that to its nearest
    others of its own batch, each sought among equally many cells. About 1 without a batch effect,
    above 1 with one. Where batches differ in their cell types it is below 1 for some cells and
    above 1 for others, so give the types as `groups`: within each there is only the batch.

    Parameters
    ----------
    X : (n_cells, n_dims) embedding, before correction.
    batch : (n_cells,) batches.
    groups : (n_cells,) cell types or clusters; cells are compared within each. None compares all.
    n_neighbors : on each side; fewer where there are fewer.
    min_cells : a batch with fewer cells of a group is left out of it.
    seed : of the cells drawn, to have equally many on both sides.

    Returns
    -------
    (n_cells,) array, without unit; NaN for cells whose group has fewer than two batches left.

    Raises
    ------
    ValueError : unusable input.
    """
    X = finite_embedding(X)
    codes = label_codes(batch, len(X), "batch")
    groups = np.zeros(len(X)) if groups is None else groups
    groups = label_codes(groups, len(X), "groups", one_level=True)
    rng, ratios = np.random.default_rng(seed), np.full(len(X), np.nan)
    sizes = np.zeros((groups.max() + 1, codes.max() + 1), int)
    np.add.at(sizes, (groups, codes), 1)
    sizes[sizes < min_cells] = 0
    own_side = np.minimum(sizes, sizes.sum(axis=1, keepdims=True) - sizes)  # 0 where it is alone
    say_slow(sizes, 2 * own_side)
    for group in range(groups.max() + 1):
        enough = sizes[group] > 0
        inside = np.flatnonzero((groups == group) & enough[codes])
        for level in np.flatnonzero(enough) if enough.sum() > 1 else []:
            own, others = (inside[(codes[inside] == level) == same] for same in (True, False))
            n = min(len(own), len(others))
            own_pool, other_pool = (rng.permutation(cells)[:n] for cells in (own, others))
            k = min(n_neighbors, n - 1)
            near, found = NearestNeighbors(n_neighbors=k + 1).fit(X[own_pool]).kneighbors(X[own])
            itself = own_pool[found] == own[:, None]
            itself[~itself.any(axis=1), -1] = True  # not in the pool: the k nearest are the first
            far, _ = NearestNeighbors(n_neighbors=k).fit(X[other_pool]).kneighbors(X[own])
            with np.errstate(divide="ignore", invalid="ignore"):  # cells without any distance
                ratios[own] = far.mean(axis=1) / near[~itself].reshape(-1, k).mean(axis=1)
    return ratios


def known(
    X: ArrayLike,
    values: ArrayLike,
    *,
    labels: ArrayLike | None = None,
    n_neighbors: int = 30,
    neighbors: Neighbors | None = None,
    queries: ArrayLike | None = None,
) -> float:
    """How much of a number that each cell carries its neighbours know: R2 with their mean.

    Range 0 to 1. With `labels`, R2 is taken within each type of at least 50 cells and averaged, so
    that a difference between types does not count as knowledge.

    Parameters
    ----------
    X : (n_cells, n_dims) embedding.
    values : (n_cells,) finite numbers, such as the score of a gene set.
    labels : (n_cells,) cell types.
    n_neighbors, neighbors, queries : as in `own_share`; neighbours may be of any type.

    Raises
    ------
    ValueError : unusable input, no type with 50 cells whose values differ, or fewer than 50 queries
        of a type that has 50 cells.
    """
    X = finite_embedding(X)
    try:
        values = np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        values = np.empty(0)
    if values.shape != (len(X),) or not np.isfinite(values).all():
        raise ValueError(f"values must be {len(X)} finite numbers, one per cell.")
    groups = np.zeros(len(X)) if labels is None else labels
    groups = label_codes(groups, len(X), "labels", one_level=True)
    queries = _asked(queries, len(X))
    if neighbors is None:
        say_slow(len(X) if queries is None else len(queries), len(X))
    found = _shared(neighbors, X, min(n_neighbors, len(X) - 1), queries)
    guess, sizes = values[found.indices].mean(axis=1), np.bincount(groups)
    if queries is not None:
        values, groups = values[queries], groups[queries]
    r2 = []
    for group in range(len(sizes)):
        a, b = values[groups == group], guess[groups == group]
        if len(a) < 50 <= sizes[group]:
            raise ValueError(
                f"A type of {sizes[group]} cells has {len(a)} among the queries, and 50 are "
                "needed: ask as many cells of each type."
            )
        if len(a) >= 50 and a.std() > 0:
            r2.append(np.corrcoef(a, b)[0, 1] ** 2 if b.std() > 0 else 0.0)
    if not r2:
        raise ValueError("No type has 50 cells whose values differ, so there is nothing to know.")
    return float(np.mean(r2))


# --- the other scores -------------------------------------------------------------------------


def _silhouettes(X: np.ndarray, codes: np.ndarray) -> np.ndarray:
    with config_context(working_memory=128):  # MB, where scikit-learn takes 1 GB
        return silhouette_samples(X, codes)


def silhouette_label(X: ArrayLike, labels: ArrayLike) -> float:
    """Average silhouette width of the cell types, rescaled by (s + 1) / 2 as in scIB.

    Range 0 to 1, higher is better: 1 compact types far apart, 0.5 overlapping, 0 misplaced. It
    rewards compact round types, which true ones need not be (Rautenstrauch & Ohler).

    Parameters
    ----------
    X : (n_cells, n_dims) embedding.
    labels : (n_cells,) cell types.

    Raises
    ------
    ValueError : unusable input.

    References
    ----------
    Rousseeuw 1987, doi:10.1016/0377-0427(87)90125-7
    Luecken et al. 2022, doi:10.1038/s41592-021-01336-8
    Rautenstrauch & Ohler 2025, doi:10.1038/s41587-025-02743-4
    """
    X = finite_embedding(X)
    codes = label_codes(labels, len(X), "labels")
    say_slow(len(X), len(X))
    return float((_silhouettes(X, codes).mean() + 1) / 2)


def silhouette_batch(X: ArrayLike, *, batch: ArrayLike, labels: ArrayLike) -> float:
    """Overlap of the batches within each cell type: mean of 1 - abs(silhouette of the batch).

    Range 0 to 1, higher is better. Each type counts the same; types of one batch are left out.
    A high value alone does not prove mixing: batches side by side in a long cloud reach it too, and
    with several batches it asks only about the nearest. scib-metrics has replaced it by BRAS.

    Parameters
    ----------
    X : (n_cells, n_dims) embedding.
    batch, labels : (n_cells,) batches and cell types (one type is enough).

    Raises
    ------
    ValueError : unusable input, or no type has cells of two batches, two of them of the same.

    References
    ----------
    Luecken et al. 2022, doi:10.1038/s41592-021-01336-8
    Rautenstrauch & Ohler 2025, doi:10.1038/s41587-025-02743-4
    """
    X = finite_embedding(X)
    batch = label_codes(batch, len(X), "batch")
    labels = label_codes(labels, len(X), "labels", one_level=True)
    each = [labels == label for label in range(labels.max() + 1)]
    each = [rows for rows in each if len(np.unique(batch[rows])) > 1]
    if not each:
        raise ValueError("No label has cells of two batches, so their overlap is not defined.")
    each = [rows for rows in each if len(np.unique(batch[rows])) < rows.sum()]
    if not each:
        raise ValueError(
            "Labels with cells of several batches have one cell of each, and a silhouette needs "
            "two of a batch: ask more cells, merge small batches or labels, or leave label_key out."
        )
    sizes = [rows.sum() for rows in each]
    say_slow(sizes, sizes)
    means = [1 - np.abs(_silhouettes(X[rows], batch[rows])).mean() for rows in each]
    return float(np.mean(means))


def graph_connectivity(
    X: ArrayLike,
    labels: ArrayLike,
    n_neighbors: int = 15,
    *,
    connection: Literal["weak", "strong"] = "weak",
    neighbors: Neighbors | None = None,
) -> float:
    """Share of each cell type in its largest connected piece of the neighbour graph, averaged.

    Range 0 to 1, higher is better: 1 when every type holds together. Published as a score of batch
    removal: it falls where a batch cuts a type in two. A few edges between the pieces keep it high,
    so it sees only batches that are far apart; types that scatter among others lower it as well.

    Parameters
    ----------
    X : (n_cells, n_dims) embedding.
    labels : (n_cells,) cell types (one is enough).
    n_neighbors : counted as scanpy counts, the cell included: 15 means 14 others.
    connection : "weak" ignores who is whose neighbour, as scIB's symmetric graph does; "strong"
        follows it, as scib-metrics does.
    neighbors : from `nearest_neighbors`, at least n_neighbors - 1; searched if None.

    Raises
    ------
    ValueError : unusable input.

    References
    ----------
    Luecken et al. 2022, doi:10.1038/s41592-021-01336-8
    """
    X = finite_embedding(X)
    labels = label_codes(labels, len(X), "labels", one_level=True)
    if neighbors is None:
        say_slow(len(X), len(X))
    graph = neighbor_graph(_shared(neighbors, X, min(n_neighbors, len(X)) - 1))
    shares = []
    for label in range(labels.max() + 1):
        inside = np.flatnonzero(labels == label)
        _, pieces = connected_components(graph[inside][:, inside], connection=connection)
        shares.append(np.bincount(pieces).max() / len(inside))
    return float(np.mean(shares))


def pc_regression(X: ArrayLike, covariate: ArrayLike) -> float:
    """Share of the variance of X that a batch explains (principal component regression).

    Range 0 to 1, lower is better for a technical batch. The published score averages the R2 of
    each principal component, weighted by its variance. Over all components of X that equals the
    sum of squares between the batches over the total, so no PCA is needed.

    Parameters
    ----------
    X : (n_cells, n_dims) embedding.
    covariate : (n_cells,) batch or another categorical variable.

    Raises
    ------
    ValueError : unusable input, or all cells of X are the same.

    References
    ----------
    Buettner et al. 2019, doi:10.1038/s41592-018-0254-1
    """
    X = finite_embedding(X)
    codes = label_codes(covariate, len(X), "covariate")
    same = (X[0] == X).all()  # asked before the mean is subtracted, which may round
    X = X - X.mean(axis=0)
    total = (X**2).sum()
    if same or total == 0:
        raise ValueError("All cells of X are the same, so there is no variance to explain.")
    sums = csr_matrix((np.ones(len(X)), (codes, np.arange(len(X))))) @ X
    return float((sums**2 / np.bincount(codes)[:, None]).sum() / total)


def pc_regression_comparison(
    X_before: ArrayLike, X_after: ArrayLike, covariate: ArrayLike
) -> float:
    """Part of the variance explained by a batch that is gone: (before - after) / before.

    Range 0 to 1 (not below 0, as in scIB), higher is better for a technical batch. It cannot say
    how much should go: where batches differ in their cell types, a perfect correction scores low.

    Parameters
    ----------
    X_before, X_after : (n_cells, n_dims) embeddings of the same cells.
    covariate : (n_cells,) batch or another categorical variable.

    Raises
    ------
    ValueError : unusable input, or the batch explains nothing before.

    References
    ----------
    Buettner et al. 2019, doi:10.1038/s41592-018-0254-1
    Luecken et al. 2022, doi:10.1038/s41592-021-01336-8
    """
    before, after = (pc_regression(X, covariate) for X in (X_before, X_after))
    if before == 0:
        raise ValueError("The covariate explains nothing before, so nothing can be removed.")
    return max(0.0, (before - after) / before)


def kbet(
    X: ArrayLike,
    *,
    batch: ArrayLike,
    labels: ArrayLike | None = None,
    n_neighbors: int | None = None,
    alpha: float = 0.05,
    queries: ArrayLike | None = None,
) -> float:
    """k-nearest-neighbour Batch Effect Test: share of cells whose neighbourhood passes.

    A chi-squared test compares the batches of a cell and its nearest cells with those of all
    cells. Range 0 to 1, higher is better; with batches at random about 1 - alpha of cells pass.
    With `labels`, each cell type is tested among its own cells and the types are averaged, as in
    scIB, so that a type that is rarer in one batch is no fault; types of one batch or of under 10
    cells are left out. A small type passes more easily and counts as much as a large one, and a
    sample of the cells passes more often: compare values of one number of cells only. Unlike the R
    package it tests every cell, not a tenth; unlike scIB it finds neighbours in X, not by diffusion
    on a graph.

    Parameters
    ----------
    X : (n_cells, n_dims) embedding.
    batch, labels : (n_cells,) batches and cell types (one type is enough).
    n_neighbors : neighbourhood size, the cell included; None means a quarter of the mean batch
        size, at least 10 and at most 70, as in scIB.
    alpha : significance level.
    queries : rows of X to ask, as in `lisi`; types without one are left out.

    Raises
    ------
    ValueError : unusable input, or no type can be tested.

    References
    ----------
    Buettner et al. 2019, doi:10.1038/s41592-018-0254-1
    Luecken et al. 2022, doi:10.1038/s41592-021-01336-8
    """
    X = finite_embedding(X, at_least=10)
    batch = label_codes(batch, len(X), "batch")
    labels = np.zeros(len(X)) if labels is None else labels
    labels = label_codes(labels, len(X), "labels", one_level=True)
    queries = np.arange(len(X)) if queries is None else _asked(queries, len(X))
    is_asked, n_types = np.isin(np.arange(len(X)), queries), labels.max() + 1
    say_slow(np.bincount(labels[is_asked], minlength=n_types), np.bincount(labels))
    passed = []
    for label in range(n_types):
        inside = np.flatnonzero(labels == label)
        local = pd.factorize(batch[inside])[0]
        sizes = np.bincount(local)
        asked = np.flatnonzero(is_asked[inside])
        if len(inside) < 10 or len(sizes) < 2 or not len(asked):
            continue
        k = min(n_neighbors or int(np.clip(sizes.mean() // 4, 10, 70)), len(inside))
        around = _shared(None, X[inside], k - 1, asked).indices
        observed = _count(np.column_stack([local[asked], local[around]]), len(sizes))
        expected = k * sizes / len(inside)
        statistic = ((observed - expected) ** 2 / expected).sum(axis=1)
        passed.append((chi2.sf(statistic, len(sizes) - 1) >= alpha).mean())
    if not passed:
        raise ValueError("No label has 10 cells and two batches, so kBET is not defined.")
    return float(np.mean(passed))


def ari(labels_true: ArrayLike, labels_pred: ArrayLike) -> float:
    """Compare two groupings by pairs of cells, corrected for chance: the adjusted Rand index.

    Range -0.5 to 1, higher is better: 1 the same groups whatever their names, 0 chance.

    Parameters
    ----------
    labels_true, labels_pred : (n_cells,) cell types and clusters.

    Raises
    ------
    ValueError : missing labels, unequal lengths or no cells.

    References
    ----------
    Hubert & Arabie 1985, doi:10.1007/BF01908075
    """
    return float(adjusted_rand_score(*_pair(labels_true, labels_pred)))


def nmi(labels_true: ArrayLike, labels_pred: ArrayLike) -> float:
    """Normalised mutual information of two groupings: mutual information over mean entropy.

    Range 0 to 1, higher is better. Chance is not subtracted: many small clusters raise it, so read
    it beside the ARI.

    Parameters
    ----------
    labels_true, labels_pred : (n_cells,) cell types and clusters.

    Raises
    ------
    ValueError : missing labels, unequal lengths or no cells.

    References
    ----------
    Danon et al. 2005, doi:10.1088/1742-5468/2005/09/P09008
    """
    return float(normalized_mutual_info_score(*_pair(labels_true, labels_pred)))


def _pair(labels_true: ArrayLike, labels_pred: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    true = label_codes(labels_true, len(labels_true), "labels_true", one_level=True)
    if not len(true):
        raise ValueError("There are no cells, so there are no groups to compare.")
    return true, label_codes(labels_pred, len(true), "labels_pred", one_level=True)


def leiden(neighbors: Neighbors, resolutions: Iterable[float], seed: int) -> list[np.ndarray]:
    """Leiden clusters at each resolution, of a graph without weights; the largest is 0."""
    edges = neighbor_graph(neighbors).tocoo()
    n_cells = len(neighbors.indices)
    graph = igraph.Graph(n_cells, np.column_stack([edges.row, edges.col])).simplify()
    found = []
    try:
        for resolution in resolutions:
            igraph.set_random_number_generator(random.Random(seed))
            tried = graph.community_leiden("modularity", resolution=resolution, n_iterations=2)
            codes = np.array(tried.membership)
            by_size = np.argsort(-np.bincount(codes), kind="stable")
            found.append(np.argsort(by_size)[codes])
    finally:
        igraph.set_random_number_generator(random)  # igraph's default
    return found


def best_clusters(
    X: ArrayLike,
    labels: ArrayLike,
    *,
    n_neighbors: int = 15,
    seed: int = 0,
    neighbors: Neighbors | None = None,
) -> np.ndarray:
    """Leiden clusters at the resolution, of 0.2 to 2, that agrees best with labels (scIB).

    One fixed resolution would favour the embedding that it happens to fit. The graph of exact
    neighbours has no weights, so nothing needs compiling, and the seed fixes the result.

    Parameters
    ----------
    X : (n_cells, n_dims) embedding.
    labels : (n_cells,) cell types, compared by NMI.
    n_neighbors : counted as scanpy counts, the cell included: 15 means 14 others.
    neighbors : from `nearest_neighbors`, at least n_neighbors - 1; searched if None.

    Returns
    -------
    (n_cells,) integer clusters, for `ari` and `nmi`.

    Raises
    ------
    ValueError : unusable input.

    References
    ----------
    Traag et al. 2019, doi:10.1038/s41598-019-41695-z
    Luecken et al. 2022, doi:10.1038/s41592-021-01336-8
    """
    X = finite_embedding(X)
    labels = label_codes(labels, len(X), "labels")
    if neighbors is None:
        say_slow(len(X), len(X))
    near = _shared(neighbors, X, min(n_neighbors, len(X)) - 1)
    tried = leiden(near, np.arange(2, 21, 2) / 10, seed)
    return max(tried, key=lambda clusters: nmi(labels, clusters))


# --- tables -----------------------------------------------------------------------------------


def score(
    adata: AnnData,
    *,
    batch_key: str,
    label_key: str | None = None,
    use_rep: str,
    ignore: Iterable[str] = ("unassigned",),
    baseline: str | None = None,
    seed: int = 0,
    n_queries: int | None = None,
) -> pd.Series:
    """All scores of one embedding; `metric_info` says how to read them.

    iLISI and cLISI are medians over cells. Scaled as in scIB, (iLISI - 1) / (batches - 1) and
    (types - cLISI) / (types - 1), they run from 0 to 1 and higher is better; where batches differ
    in their cell types, a perfect correction stays below 1. kBET and the silhouette of the batch
    are per cell type. NMI and ARI are those of `best_clusters`. There is no overall score, since an
    average would hide what the single ones show.

    Above 50,000 cells, or with `n_queries`, the scores are estimated, and a warning says so. LISI
    asks n_queries cells, drawn at random, about their neighbours among all cells; kBET asks as
    many, dealt out evenly to the types. The silhouettes, graph connectivity, NMI and ARI are those
    of the cells drawn, among themselves. PC regression is exact. ``attrs["sampled"]`` of the
    result says how many cells were asked, and within what interval the exact medians of LISI lie
    (95 %, `lisi_interval`).

    Parameters
    ----------
    adata : not changed.
    batch_key, label_key : columns of ``adata.obs``. Without a label_key only iLISI, PC regression
        and PCR comparison are returned.
    use_rep : key of ``adata.obsm``.
    ignore : labels that name no cell type. Their cells are left out of all scores but iLISI, PC
        regression and PCR comparison, as if they were not in the data.
    baseline : key of ``adata.obsm`` before integration; adds "PCR comparison".
    seed : of the Leiden clusters, and of the cells drawn.
    n_queries : how many cells to ask; None asks all up to 50,000 cells, and 10,000 above.

    Raises
    ------
    KeyError : a column or an embedding is not there.
    TypeError : a list in place of a column's name.
    ValueError : as the single scores, two columns share the name, or n_queries is below 6.

    References
    ----------
    Luecken et al. 2022, doi:10.1038/s41592-021-01336-8
    """
    columns = [batch_key] if label_key is None else [batch_key, label_key]
    X, (batch, *labels) = read_parts(adata, use_rep, *columns)
    queries = _draw(len(X), n_queries, seed)
    neighbors = nearest_neighbors(X, queries=queries)
    ilisi = lisi(X, batch, neighbors=neighbors, queries=queries)
    intervals = {} if queries is None else {"iLISI": lisi_interval(ilisi)}
    ilisi = float(np.median(ilisi))
    values = {
        "iLISI": ilisi,
        "iLISI scaled": (ilisi - 1) / (batch.nunique() - 1),
        "PC regression": pc_regression(X, batch),
    }
    if labels:
        keep = ~labels[0].isin(_skipped(ignore)).to_numpy()
        near = neighbors if keep.all() else None
        typed = X[keep], batch[keep].reset_index(drop=True), labels[0][keep].reset_index(drop=True)
        if queries is None:
            values |= _label_scores(*typed, seed, near)
        else:
            asked = queries if near else sample_cells(int(keep.sum()), len(queries), seed=seed)
            values |= _sampled_scores(*typed, seed, near, asked, intervals)
    if baseline is not None:
        before, _ = read_parts(adata, baseline)
        values["PCR comparison"] = pc_regression_comparison(before, X, batch)
    found = pd.Series({m[0]: values[m[0]] for m in METRICS if m[0] in values}, name=use_rep)
    if queries is not None:
        found.attrs["sampled"] = _say_sampled(len(X), len(queries), values, intervals)
    return found


def _skipped(ignore: Iterable[str]) -> list[str]:
    return [ignore] if isinstance(ignore, str) else list(ignore)


def _draw(n_cells: int, n_queries: int | None, seed: int) -> np.ndarray | None:
    """The cells to ask; None for all of them."""
    if n_queries is None:
        n_queries = n_cells if n_cells <= EXACT else SAMPLE
    elif (number(n_queries, whole=True) or 0) < 6:
        raise ValueError("n_queries must be a whole number, at least 6, to say the error.")
    queries = sample_cells(n_cells, n_queries, seed=seed)
    return None if len(queries) == n_cells else queries


def _say_sampled(n_cells: int, n: int, values: Mapping, intervals: Mapping) -> dict[str, Any]:
    """Warn that a table is estimated, and return what to record with it."""
    errors = [
        f"{name} {values[name]:.3f} [{low:.3f} to {high:.3f}]"
        for name, (low, high) in intervals.items()
    ]
    warnings.warn(
        f"Estimated from {n:,} of {n_cells:,} cells, drawn at random: {', '.join(errors)} "
        "(95 %); n_queries asks more.",
        stacklevel=3,
    )
    return {"n_cells": n_cells, "n_queries": n, **intervals}


def _label_scores(
    X: np.ndarray, batch: pd.Series, types: pd.Series, seed: int, near: Neighbors | None
) -> dict[str, float]:
    near = near or nearest_neighbors(X)
    clisi = float(np.median(lisi(X, types, neighbors=near)))
    return _among(X, types, seed, near) | {
        "kBET": kbet(X, batch=batch, labels=types),
        "Silhouette batch": silhouette_batch(X, batch=batch, labels=types),
        "cLISI": clisi,
        "cLISI scaled": (types.nunique() - clisi) / (types.nunique() - 1),
    }


def _sampled_scores(
    X: np.ndarray,
    batch: pd.Series,
    types: pd.Series,
    seed: int,
    near: Neighbors | None,
    queries: np.ndarray,
    intervals: dict[str, tuple[float, float]],
) -> dict[str, float]:
    """The label scores of some cells; writes the interval of cLISI."""
    clisi = lisi(X, types, neighbors=near, queries=queries)
    intervals["cLISI"] = lisi_interval(clisi)
    clisi = float(np.median(clisi))
    even = _evenly(types, len(queries), seed)
    evenly = {"batch": batch.iloc[even], "labels": types.iloc[even]}
    return _among(X[queries], types[queries], seed) | {
        "kBET": kbet(X, batch=batch, labels=types, queries=even),
        "Silhouette batch": silhouette_batch(X[even], **evenly),
        "cLISI": clisi,
        "cLISI scaled": (types.nunique() - clisi) / (types.nunique() - 1),
    }


def _among(
    X: np.ndarray, types: pd.Series, seed: int, near: Neighbors | None = None
) -> dict[str, float]:
    """The scores that look at the cells given and no others."""
    near = near or nearest_neighbors(X, 14)
    clusters = best_clusters(X, types, seed=seed, neighbors=near)
    return {
        "Graph connectivity": graph_connectivity(X, types, neighbors=near),
        "Silhouette label": silhouette_label(X, types),
        "NMI": nmi(types, clusters),
        "ARI": ari(types, clusters),
    }


def score_table(
    adata: AnnData,
    *,
    batch_key: str,
    label_key: str | None = None,
    use_reps: Mapping[str, str] | Iterable[str],
    **kwargs: Any,
) -> pd.DataFrame:
    """`score` of several embeddings of the same cells, one row each.

    Parameters
    ----------
    adata, batch_key, label_key : as in `score`.
    use_reps : keys of ``adata.obsm``, or a mapping from the name to show to the key.
    **kwargs : ignore, baseline, seed and n_queries of `score`.

    Returns
    -------
    DataFrame, embeddings x scores; ``attrs["sampled"]`` by embedding where cells were sampled.

    Raises
    ------
    KeyError, ValueError : as `score`.
    """
    named = use_reps if isinstance(use_reps, Mapping) else {key: key for key in use_reps}
    keys = {"batch_key": batch_key, "label_key": label_key, **kwargs}
    rows = {name: score(adata, use_rep=rep, **keys) for name, rep in named.items()}
    table = pd.DataFrame(rows).T.rename_axis("embedding")
    sampled = {name: row.attrs["sampled"] for name, row in rows.items() if row.attrs}
    table.attrs = {"sampled": sampled} if sampled else {}
    return table


def three_numbers(
    adata: AnnData,
    *,
    batch_key: str,
    label_key: str,
    keep_key: str,
    use_reps: Mapping[str, str] | Iterable[str],
    ignore: Iterable[str] = ("unassigned",),
    n_queries: int | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Tabulate the course's three: is the batch mixed, are the types apart, is the biology kept.

    - "mixing": median iLISI of the batch, 1 to the number of batches; a good correction raises it
      to about what `mixing_reference` gives.
    - "types apart": mean `own_share` of the cell types, 0 to 1; should not fall.
    - "biology kept": of a column of groups, such as the condition, their mean `own_share`, 0 to 1;
      of a column of numbers, such as a score of genes, how much of it is `known` within the types,
      0 to 1. Should not fall.

    Parameters
    ----------
    adata : not changed.
    batch_key, label_key, keep_key : columns of ``adata.obs``.
    use_reps : keys of ``adata.obsm``, or a mapping from the name to show to the key. Compare only
        embeddings of the same cells: all three depend on how many there are.
    ignore : labels that name no cell type. Their cells are left out of "types apart", and of
        "biology kept" where that is a number.
    n_queries, seed : how many cells to ask about their neighbours among all, and which; None asks
        all up to 50,000 cells, and above 10,000, which a warning and ``attrs["sampled"]`` say.

    Returns
    -------
    DataFrame, embeddings x (mixing, types apart, biology kept).

    Raises
    ------
    KeyError : a column or an embedding is not there.
    TypeError : a list in place of a column's name.
    ValueError : as the single scores, two columns share the name, or n_queries is below 6.
    """
    named = use_reps if isinstance(use_reps, Mapping) else {key: key for key in use_reps}
    rows, sampled = {}, {}
    for name, rep in named.items():
        X, (batch, labels, keep) = read_parts(adata, rep, batch_key, label_key, keep_key)
        typed = ~labels.isin(_skipped(ignore)).to_numpy()
        queries, of_typed = _draw(len(X), n_queries, seed), None
        if queries is not None:
            of_typed = sample_cells(int(typed.sum()), len(queries), seed=seed)
        near = nearest_neighbors(X, queries=queries)
        if queries is None:
            among = _of_some(near, X, typed, 30)
        else:  # other cells are asked, unless all have a type
            among = near if typed.all() else nearest_neighbors(X[typed], 30, queries=of_typed)
        if pd.api.types.is_numeric_dtype(keep) and not pd.api.types.is_bool_dtype(keep):
            even = None if queries is None else _evenly(labels[typed], len(queries), seed)
            found = among if even is None else None
            how = {"neighbors": found, "queries": even}
            kept = known(X[typed], keep[typed], labels=labels[typed], **how)
        else:
            kept = own_share(X, keep, neighbors=near, queries=queries).mean()
        mixing = lisi(X, batch, neighbors=near, queries=queries)
        rows[name] = {
            "mixing": np.median(mixing),
            "types apart": own_share(
                X[typed], labels[typed], neighbors=among, queries=of_typed
            ).mean(),
            "biology kept": kept,
        }
        if queries is not None:
            interval = {"mixing": lisi_interval(mixing)}
            sampled[name] = _say_sampled(len(X), len(queries), rows[name], interval)
    table = pd.DataFrame(rows).T.rename_axis("embedding")
    table.attrs = {"sampled": sampled} if sampled else {}
    return table


def lisi_by_type(
    adata: AnnData,
    *,
    batch_key: str,
    label_key: str,
    use_rep: str,
    ignore: Iterable[str] = (),
    n_queries: int | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Median LISI of the batch for each cell type: which types are mixed, and which are not.

    Parameters
    ----------
    adata, batch_key, label_key, use_rep : as in `score`.
    ignore : labels left out of the table; their cells remain neighbours of the others.
    n_queries, seed : how many cells of each type to ask about their neighbours among all, and
        which; None asks all up to 50,000 cells, and above 1,000 of each type.

    Returns
    -------
    DataFrame indexed by cell type: "n_cells"; "n_asked", if not all were; "iLISI", the median (1 to
    the number of batches, higher is more mixed); "if mixed", the LISI of the type's own proportions
    of batches, which
    full mixing within the type would give.

    Raises
    ------
    KeyError, ValueError : as `score`.

    References
    ----------
    Korsunsky et al. 2019, doi:10.1038/s41592-019-0619-0
    """
    X, (batch, labels) = read_parts(adata, use_rep, batch_key, label_key)
    named = ~labels.isin(_skipped(ignore)).to_numpy()
    label_codes(labels[named], int(named.sum()), label_key, one_level=True)
    queries = np.arange(len(X))
    if n_queries is not None or len(X) > EXACT:
        n_queries = SAMPLE // 10 if n_queries is None else n_queries
        sample_cells(len(X), n_queries)  # refuses what is no number of cells
        queries = _per_level(pd.factorize(labels)[0], int(n_queries), seed)
    values = lisi(X, batch, queries=queries if len(queries) < len(X) else None)
    values = pd.Series(values).groupby(labels.to_numpy()[queries])
    share = pd.crosstab(labels.to_numpy(), batch.to_numpy(), normalize="index")
    columns = {"n_cells": pd.Series(labels.to_numpy()).value_counts().sort_index()}
    if len(queries) < len(X):
        columns["n_asked"] = values.size()
    columns["iLISI"] = values.median()
    table = pd.DataFrame(columns | {"if mixed": 1 / (share**2).sum(axis=1)})
    return table[~table.index.isin(_skipped(ignore))].rename_axis(label_key)
