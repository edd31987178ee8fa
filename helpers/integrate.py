"""One way to call Harmony, whatever versions of harmonypy and scanpy are installed.

``harmonize`` checks what it is given, runs Harmony, stores cells x PCs in ``adata.obsm`` and
writes what it did into ``adata.uns``. It holds none of the method: harmonypy or scanpy does
the work. Harmony: Korsunsky et al. 2019, doi 10.1038/s41592-019-0619-0; Harmony2, which
harmonypy >= 2 and scanpy >= 1.13 compute: Patikas et al. 2026, doi 10.64898/2026.03.16.711825.
"""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from types import SimpleNamespace
from unittest.mock import patch

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
from packaging.version import Version

from helpers.checks import float_matrix, string_labels
from helpers.design import Design

MIN_CELLS = 30  # harmonypy makes one soft cluster per 30 cells
BACKENDS = ("harmonypy", "scanpy")

# A fixed number of rounds, the stop rule off: `harmonize(adata, "run", **FINISHED)`. The default
# rule often stops on a plateau; lesson 03 and tests/test_finished.py show where these rounds land.
FINISHED = {"max_iter_harmony": 40, "epsilon_harmony": 0}


def harmonize(
    adata: ad.AnnData,
    key: str | Sequence[str],
    *,
    basis: str = "X_pca",
    adjusted_basis: str = "X_pca_harmony",
    backend: str = "harmonypy",
    theta: float | Sequence[float] | None = None,
    seed: int = 0,
    verbose: bool = False,
    design: Design | None = None,
    allow_confounded: bool = False,
    **kwargs,
) -> None:
    """Correct an embedding for one or several batch variables with Harmony, in place.

    Parameters
    ----------
    adata
        Annotated cells; a view becomes a copy, as in scanpy, and a backed object keeps its
        ``X`` on disk.
    key
        Column or columns of ``adata.obs`` that hold the batch variables.
    basis
        Embedding to correct, ``adata.obsm[basis]``: cells x PCs. It is left as it is.
    adjusted_basis
        Where the result goes: ``adata.obsm[adjusted_basis]``, cells x PCs, float32 if the
        embedding is float32 and float64 otherwise.
    backend
        ``"harmonypy"``, or ``"scanpy"`` for scanpy's own implementation (scanpy >= 1.13).
    theta
        Diversity penalty, one number or one per variable (without unit; 0 switches it off);
        ``None`` leaves it to the backend.
    seed
        Seed of the clustering.
    verbose
        Let the backend report its progress.
    design
        What :func:`helpers.design.check` said of these cells. A variable of ``key`` that it
        found fully confounded with biology is refused,
    allow_confounded
        unless this is true.
    **kwargs
        Passed to the backend, under the backend's own names.

    Writes ``adata.uns[adjusted_basis]``: ``key``, ``basis``, ``backend``, ``seed``,
    ``params`` (what was passed beyond the defaults), ``versions``, and, from harmonypy,
    ``n_rounds``, ``objective`` (one value before the first round and one per round),
    ``converged`` (harmonypy's stop rule: in the last round the objective fell, and by less than
    ``epsilon_harmony`` of its size), ``last_fall`` and ``total_fall`` (of the objective, in the
    last round and in all, in its own units). scanpy does not return those five. ``converged`` is
    about one round: a run may stop on a plateau long before its end, and with
    ``epsilon_harmony=0``, as in :data:`FINISHED`, the rule is off and ``converged`` is false.

    Raises
    ------
    KeyError
        A column of ``key`` or the embedding ``basis`` is missing.
    ValueError
        Missing labels, one level only, (nearly) one level per cell, fewer than 30 cells, an
        embedding that is not a cells x PCs matrix of finite numbers (at most 1e100), a ``theta``
        of the wrong length, an unknown backend, a fully confounded variable, two columns of one
        name, or a view of a backed object.
    ImportError
        The backend is not installed.

    After an error ``adata`` is as it was.
    """
    keys = [key] if isinstance(key, str) else list(key)
    if adata.isbacked and adata.is_view:
        raise ValueError("A view of a backed adata holds no results: use adata.to_memory().")
    labels = _checked_labels(adata, keys)
    if design is not None and not allow_confounded:
        for first, second in design.confounded_with(keys):
            raise ValueError(
                f"obs[{first!r}] and obs[{second!r}] are fully confounded: correcting one removes "
                "the other; pass allow_confounded=True if that is what you want."
            )
    pcs = _checked_embedding(adata, basis)
    if theta is not None:
        theta = _checked_theta(theta, labels)
    run = {"harmonypy": _run_harmonypy, "scanpy": _run_scanpy}.get(backend)
    if run is None:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, not {backend!r}.")

    params = {**kwargs, **({} if theta is None else {"theta": theta})}
    corrected, trace = run(pcs, labels, seed=seed, verbose=verbose, **params)
    record = {
        "key": keys,
        "basis": basis,
        "backend": backend,
        "seed": seed,
        # None means "the backend's default" and h5ad has no None.
        "params": {name: value for name, value in params.items() if value is not None},
        "versions": _versions(backend),
        **trace,
    }
    single = getattr(adata.obsm[basis], "dtype", None) == np.float32
    dtype = np.float32 if single else np.float64  # never whole numbers, which would round it
    with warnings.catch_warnings():  # a view is meant to become a copy here
        warnings.simplefilter("ignore", ad.ImplicitModificationWarning)
        adata.obsm[adjusted_basis] = corrected.astype(dtype, copy=False)
        adata.uns[adjusted_basis] = record


@contextmanager
def oriented_harmonypy() -> Iterator[None]:
    """Let ``sc.external.pp.harmony_integrate`` run where scanpy and harmonypy disagree.

    scanpy up to 1.12 transposes ``Z_corr``, which was PCs x cells up to harmonypy 0.0.10 and
    is cells x PCs since 0.1. Inside this context harmonypy hands over the orientation that
    such a scanpy expects; where the two agree already, nothing is changed.
    """
    import harmonypy

    if Version(version("scanpy")) >= Version("1.13a0") or not _gives_cells_by_pcs():
        yield
        return
    run_harmony = harmonypy.run_harmony

    def run_and_turn(*args, **kwargs):
        result = run_harmony(*args, **kwargs)
        return SimpleNamespace(Z_corr=result.Z_corr.T, result=result)

    with patch.object(harmonypy, "run_harmony", run_and_turn):
        yield


@contextmanager
def expect_error(error: type[BaseException], match: str = "") -> Iterator[None]:
    """Assert that the block raises ``error`` with ``match`` in its message, and print it.

    Raises
    ------
    AssertionError
        The block raised nothing, or a message without ``match``.
    """
    try:
        yield
    except error as caught:
        # KeyError puts its message in quotes; the reader should see the sentence.
        message = str(caught.args[0]) if caught.args else ""
        assert match in message, f"expected {match!r} in the message, got: {message}"
        print(f"{type(caught).__name__}: {message}")
    else:
        raise AssertionError(f"expected {error.__name__}, but nothing was raised")


def _checked_labels(adata: ad.AnnData, keys: list[str]) -> pd.DataFrame:
    """The batch variables as string categories, or an error that says what is wrong."""
    if not keys:
        raise ValueError("key is empty: name at least one column of adata.obs.")
    if adata.n_obs < MIN_CELLS:
        raise ValueError(
            f"Harmony needs at least {MIN_CELLS} cells to make clusters; adata has {adata.n_obs}."
        )
    labels = {}
    for name in dict.fromkeys(keys):
        labels[name] = string_labels(adata.obs, name)
        n_levels = len(labels[name].cat.categories)
        if n_levels > adata.n_obs / 2:
            raise ValueError(
                f"obs[{name!r}] has {n_levels} levels for {adata.n_obs} cells: it looks like "
                "a barcode; pass the column that names the batch."
            )
    return pd.DataFrame(labels)


def _checked_embedding(adata: ad.AnnData, basis: str) -> np.ndarray:
    """The embedding as float64, cells x PCs."""
    if basis not in adata.obsm:
        raise KeyError(
            f"adata.obsm has no {basis!r}: run sc.pp.pca(adata) first, or name the embedding "
            f"with basis=; it has: {', '.join(adata.obsm) or 'nothing'}."
        )
    pcs = float_matrix(adata.obsm[basis], f"adata.obsm[{basis!r}]")
    n_bad = int((~np.isfinite(pcs).all(axis=1)).sum())
    if n_bad:
        raise ValueError(
            f"adata.obsm[{basis!r}] has NaN or infinite values in {n_bad} cells: "
            "look for empty cells or a failed scaling before PCA."
        )
    return pcs


def _checked_theta(theta: float | Sequence[float], labels: pd.DataFrame) -> float | list[float]:
    """Theta as one number or one per variable."""
    values = np.asarray(theta, dtype=float)
    if values.ndim > 1 or (values.ndim == 1 and len(values) != labels.shape[1]):
        raise ValueError(
            f"theta must be one number or one per variable: {labels.shape[1]} for "
            f"{', '.join(labels)}, not {values.size}."
        )
    if not np.isfinite(values).all() or (values < 0).any():
        raise ValueError("theta must be finite and not negative.")
    return values.tolist()


def _run_harmonypy(pcs: np.ndarray, labels: pd.DataFrame, *, seed: int, verbose: bool, **params):
    """Corrected cells x PCs and the convergence trace, from any harmonypy."""
    import harmonypy

    old = not _gives_cells_by_pcs()
    if Version(version("harmonypy")) < Version("2.1"):
        # harmonypy before 2.1 does not repeat sigma when there is a single cluster.
        n_clusters = params.get("nclust") or max(1, min(round(len(pcs) / 30), 100))
        params["sigma"] = np.broadcast_to(params.get("sigma", 0.1), n_clusters)
    state = np.random.get_state()  # harmonypy <= 0.0.10 reseeds NumPy's global generator
    logger = logging.getLogger("harmonypy")
    level = logger.level
    logger.setLevel(level if verbose else logging.WARNING)
    try:
        # Given PCs x cells, every version knows which side the cells are on, also when
        # there are as many PCs as cells.
        result = harmonypy.run_harmony(
            pcs.T, labels, list(labels), random_state=seed, verbose=verbose, **params
        )
    finally:
        logger.setLevel(level)
        np.random.set_state(state)
    corrected = np.asarray(result.Z_corr).T if old else np.asarray(result.Z_corr)

    objective = np.asarray(result.objective_harmony, dtype=np.float64)
    default = inspect.signature(harmonypy.run_harmony).parameters["epsilon_harmony"].default
    epsilon = params.get("epsilon_harmony", default)
    before, after = (
        objective[-2:][0],
        objective[-1],
    )  # of the last round; one value if none was made
    last_fall = float(before - after)
    return corrected, {
        "n_rounds": len(result.kmeans_rounds),
        "objective": objective,
        # Judged here, because harmonypy <= 0.0.10 also stops when the objective rises; an
        # objective of exactly zero can fall no further.
        "converged": bool(
            len(objective) > 1 and (0 <= last_fall < epsilon * abs(before) or before == after == 0)
        ),
        "last_fall": last_fall,
        "total_fall": float(objective[0] - objective[-1]),
    }


def _run_scanpy(pcs: np.ndarray, labels: pd.DataFrame, *, seed: int, verbose: bool, **params):
    """Corrected cells x PCs from scanpy >= 1.13; it returns no trace."""
    if not hasattr(sc.pp, "harmony_integrate"):
        raise ImportError(
            f"scanpy {version('scanpy')} has no Harmony of its own (1.13 has): "
            'use backend="harmonypy".'
        )
    cells = ad.AnnData(obs=labels.set_axis(labels.index.astype(str)), obsm={"X_pca": pcs})
    verbosity = sc.settings.verbosity
    sc.settings.verbosity = "info" if verbose else "warning"
    try:
        sc.pp.harmony_integrate(cells, list(labels), rng=seed, **params)
    finally:
        sc.settings.verbosity = verbosity
    return cells.obsm["X_pca_harmony"], {}


def _gives_cells_by_pcs() -> bool:
    """Whether the installed harmonypy returns cells x PCs (since 0.1) or PCs x cells."""
    return Version(version("harmonypy")) >= Version("0.1")


def _versions(backend: str) -> dict[str, str]:
    names = ["harmonypy", "scanpy"] if backend == "harmonypy" else ["scanpy"]
    found = {}
    for name in [*names, "anndata", "numpy"]:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
