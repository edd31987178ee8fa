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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, version
from textwrap import shorten
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
from packaging.version import Version

from helpers.checks import MOST, float_matrix, number, numbers, shown, small_levels, string_labels
from helpers.design import Design

MIN_CELLS = 30  # harmonypy makes one soft cluster per 30 cells
MOST_ROUNDS = 1000  # compiled code that no key interrupts: more would seem to hang
BACKENDS = ("harmonypy", "scanpy")
ADJUSTED = "X_pca_harmony"

# Where scanpy says otherwise what harmonypy says: scanpy's name, harmonypy's.
NAMES = {
    "n_clusters": "nclust",
    "max_iter_clustering": "max_iter_kmeans",
    "tol_clustering": "epsilon_cluster",
    "tol_harmony": "epsilon_harmony",
    "ridge_lambda": "lamb",
    "block_proportion": "block_size",
    "batch_prune_threshold": "batch_prop_cutoff",
}
# What harmonize takes, and what people and other programs call it.
ALIASES = {
    "key": ("batch_key", "batch", "group_by_vars", "group.by.vars", "vars_use"),
    "basis": ("use_rep", "reduction", "reduction.use"),
    "adjusted_basis": ("key_added", "reduction.save"),
    "seed": ("random_state", "random_seed", "rng"),
    "max_iter_harmony": ("max_iter", "maxiter", "max.iter", "n_iter", "n_rounds"),
    "epsilon_harmony": ("epsilon", "tol"),
    "lamb": ("lambda", "lambda_", "lam"),
    "nclust": ("K", "n_clusters"),
    "ncores": ("n_jobs", "n_cores", "n_threads"),
}
# What harmonize fills in itself.
FILLED = ("data_mat", "meta_data", "adata")
# harmonypy 0.0.10 takes these and does nothing with them; later versions do not know them.
WITHOUT_EFFECT = {
    "reference_values": "all cells are corrected and none held fixed: leave it out, and map new "
    "cells onto the old ones (lesson 14) or correct all of them together",
    "cluster_prior": "the clusters are always sought anew: leave it out; nclust says how many",
    "plot_convergence": "no plot is drawn: leave it out, and hand the record in adata.uns to "
    "helpers.plots.convergence, which draws the objective",
}
NO_THETA_PER_BATCH = (
    "there is no theta per batch, but lamb takes one number per batch, and tau lowers theta in "
    "small ones"
)

# A fixed number of rounds, the stop rule off: `harmonize(adata, "run", **FINISHED)`. The default
# rule may stop on a plateau; lesson 03 and book/carry.md show where these rounds land.
FINISHED = {"max_iter_harmony": 40, "epsilon_harmony": 0}


def harmonize(
    adata: ad.AnnData,
    key: str | Sequence[str] | None = None,
    *,
    basis: str = "X_pca",
    adjusted_basis: str = ADJUSTED,
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
        Column or columns of ``adata.obs`` that hold the batch variables; always needed.
    basis
        Embedding to correct, ``adata.obsm[basis]``: cells x PCs. It is left as it is.
    adjusted_basis
        Where the result goes: ``adata.obsm[adjusted_basis]``, cells x PCs, float32 if the
        embedding is float32 and float64 otherwise. Only an earlier result of ``harmonize``, or
        what lies at ``"X_pca_harmony"``, is replaced.
    backend
        ``"harmonypy"``, or ``"scanpy"`` for scanpy's own implementation (scanpy >= 1.13).
    theta
        Diversity penalty, one number or one per variable (without unit; 0 switches it off);
        ``None`` leaves it to the backend. There is no theta per batch; ``lamb`` takes one number
        per batch.
    seed
        Seed of the clustering, 0 to 2147483647.
    verbose
        Let the backend report its progress.
    design
        What :func:`helpers.design.check` said of these cells. A variable of ``key`` that it
        found fully confounded with biology is refused,
    allow_confounded
        unless this is true.
    **kwargs
        Passed to the backend, under the backend's own names, once each is in its range.

    Writes ``adata.uns[adjusted_basis]``: ``key``, ``basis``, ``backend``, ``seed``,
    ``params`` (what was passed beyond the defaults), ``versions``, and, from harmonypy,
    ``n_rounds``, ``objective`` (one value before the first round and one per round),
    ``converged`` (harmonypy's stop rule: in the last round the objective fell, and by less than
    ``epsilon_harmony`` of its size), ``last_fall`` and ``total_fall`` (of the objective, in the
    last round and in all, in its own units). scanpy does not return those five. ``converged`` is
    about one round: a run may stop on a plateau long before its end, and with
    ``epsilon_harmony=0``, as in :data:`FINISHED`, the rule is off and ``converged`` is false.

    Warns of batches of 20 cells or fewer.

    Raises
    ------
    KeyError
        A column of ``key`` or the embedding ``basis`` is missing.
    TypeError
        The installed backend has no such parameter, or an argument is of no use as what it is.
    ValueError
        Missing labels, one level only, (nearly) one level per cell, fewer than 30 cells, an
        embedding that is not a cells x PCs matrix of finite numbers (at most 1e100), a parameter
        out of its range, a name that is taken, an unknown backend, a fully confounded variable,
        two columns of one name, a view of a backed object, or no finite result.
    ImportError
        The backend is not installed.

    After an error ``adata`` is as it was.
    """
    if not isinstance(adata, ad.AnnData):
        raise TypeError(f"harmonize corrects an AnnData, not a {type(adata).__name__}.")
    if adata.isbacked and adata.is_view:
        raise ValueError("A view of a backed adata holds no results: use adata.to_memory().")
    if not isinstance(backend, str) or backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, not {shown(backend)}.")
    defaults = _checked_names(backend, kwargs)
    keys = _checked_keys(key)
    labels = checked_labels(adata, keys)
    if design is not None and not allow_confounded:
        if not isinstance(design, Design):
            raise TypeError("design must be what helpers.design.check returned.")
        for first, second in design.confounded_with(keys):
            raise ValueError(
                f"obs[{first!r}] and obs[{second!r}] are fully confounded: correcting one removes "
                "the other; pass allow_confounded=True if that is what you want."
            )
    pcs = checked_embedding(adata, basis)
    _check_name(adata, basis, adjusted_basis)
    seed = in_range("seed", seed, 0, whole=True)
    if not (isinstance(verbose, bool | int | np.bool_) and verbose in (0, 1)):
        raise ValueError(f"verbose must be True or False, not {shown(verbose)}.")
    params = _checked_params(defaults, kwargs, labels)
    if theta is not None:
        params["theta"] = _checked_theta(theta, labels)
    for name in labels:
        if few := small_levels(labels[name]):
            warnings.warn(
                f"obs[{name!r}] has batches of too few cells to tell the batch's shift from the "
                f"cells' own differences: {few}; merge them with like batches or leave them out.",
                stacklevel=2,
            )

    corrected, trace = _run(backend, pcs, labels, seed=seed, verbose=bool(verbose), **params)
    record = {
        "key": keys,
        "basis": basis,
        "backend": backend,
        "seed": seed,
        "params": {name: _writable(value) for name, value in params.items()},
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


def _checked_keys(key: Any) -> list[str]:
    """The names of the batch variables."""
    keys = [key] if isinstance(key, str) else key
    if not isinstance(keys, Sequence | pd.Index | np.ndarray):
        keys = [keys]
    if not len(keys):
        raise ValueError("key is empty: name at least one column of adata.obs.")
    if not all(isinstance(name, str) for name in keys):
        raise TypeError(
            f"key names one column of adata.obs or a list of them, and is not {shown(key)}."
        )
    return [str(name) for name in keys]


def checked_labels(adata: ad.AnnData, keys: list[str]) -> pd.DataFrame:
    """The batch variables as string categories, or an error that says what is wrong."""
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


def checked_embedding(adata: ad.AnnData, basis: str) -> np.ndarray:
    """The embedding as float64, cells x PCs."""
    if not isinstance(basis, str) or basis not in adata.obsm:
        raise KeyError(
            f"adata.obsm has no {shown(basis)}: run sc.pp.pca(adata) first, or name the embedding "
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


def _check_name(adata: ad.AnnData, basis: str, name: Any) -> None:
    """Whether the result may lie at this name, in ``obsm`` and in ``uns``."""
    if not isinstance(name, str) or not name or "/" in name:
        raise ValueError(f"adjusted_basis must be a name without '/', not {shown(name)}.")
    earlier = adata.uns.get(name)
    ours = isinstance(earlier, Mapping) and {"key", "backend", "params"} <= earlier.keys()
    taken = name in adata.uns or (name in adata.obsm and name != ADJUSTED)
    if name in (basis, "X_pca", "pca", "neighbors") or (taken and not ours):
        raise ValueError(
            f"adjusted_basis={name!r} would overwrite what is no result of harmonize: "
            "choose another name."
        )


def in_range(
    name: str,
    value: Any,
    low: float,
    high: float = MOST,
    *,
    whole: bool = False,
    above: bool = False,
) -> float:
    """The value as a plain number between two bounds, or an error that names them."""
    found = number(value, whole=whole)
    if found is None or not (low < found if above else low <= found) or found > high:
        bounds = f" above {low}" if above else f", at least {low}"
        if high < MOST:
            bounds = f" from {low:.3g} to {high}"
        elif found is not None and found > high:
            bounds += f", at most {high}"
        elif low == -np.inf:
            bounds = ""
        kind = "a whole number" if whole else "a number"
        raise ValueError(f"{name} must be {kind}{bounds}, not {shown(value)}.")
    return found


def _checked_names(backend: str, params: Mapping) -> dict[str, Any]:
    """Refuse what the installed backend does not know, and return the defaults of what it does."""
    own = inspect.signature(harmonize).parameters.keys() - {"adata", "kwargs"}
    filled = {*FILLED, *own - {"theta"}, *ALIASES["key"], *ALIASES["seed"]}
    known = {
        name: parameter.default
        for name, parameter in inspect.signature(_function(backend)).parameters.items()
        if name not in filled and name not in WITHOUT_EFFECT
    }
    for name in params:
        if name in known:
            continue
        if name in FILLED:
            raise TypeError(f"harmonize fills in {name} by itself, from adata: leave it out.")
        if why := WITHOUT_EFFECT.get(name):
            raise TypeError(f"{name} has no effect in any harmonypy: {why}.")
        other = next((meant for meant, said in ALIASES.items() if name in said), name)
        by_scanpy = next((k for k, v in NAMES.items() if v == other), None)
        names = [n for n in (other, NAMES.get(other), by_scanpy) if n in known or n in own]
        names = names or get_close_matches(name, [*known, *own], 1)
        meant = f" (did you mean {names[0]!r}?)" if names else ""
        if names and names[0] in own:
            raise TypeError(
                f"harmonize has no parameter {name!r}{meant}; "
                f"to {backend} it hands on: {', '.join(known)}."
            )
        raise TypeError(
            f"{backend} {version(backend)} has no parameter {name!r}{meant}; "
            f"it has: {', '.join(known)}."
        )
    return known


def _checked_params(defaults: Mapping, params: Mapping, labels: pd.DataFrame) -> dict:
    """What the user hands on, each in its range; ``defaults`` are those of the backend.

    harmonypy 2.1 never returns from more clusters than cells and from a negative block size, takes
    0 rounds for a result, and answers a wrong type with the signature of its C++.
    """
    n_cells, found = len(labels), {}
    # sigma last, for nclust says how long it may be
    for name, value in sorted(params.items(), key=lambda given: given[0] == "sigma"):
        if value is None and defaults[name] is None:
            continue  # the backend's default, and h5ad has no None
        match NAMES.get(name, name):
            case "nclust":
                words = f"{name}, at most one per cell,"
                value = in_range(words, value, 1, n_cells, whole=True)
            case "max_iter_harmony" | "max_iter_kmeans":
                value = in_range(name, value, 1, MOST_ROUNDS, whole=True)
            case "ncores":
                value = in_range(name, value, 0, whole=True)
            case "tau":
                value = in_range(name, value, 0)
            case "alpha":
                value = in_range(name, value, 0, above=True)
            case "block_size":  # a share of the cells, at least one
                value = in_range(name, value, 1 / n_cells, 1)
            case "batch_prop_cutoff":
                value = in_range(name, value, 0, 1)
            case "epsilon_harmony" | "epsilon_cluster":
                value = in_range(name, value, -np.inf, np.inf)
            case "sigma" | "lamb":
                value = _checked_list(name, value, labels, found, estimate="alpha" in defaults)
        found[name] = value
    return found


def _checked_list(name: str, value: Any, labels: pd.DataFrame, found: dict, estimate: bool) -> Any:
    """``sigma`` or ``lamb``: one number above 0, or one per cluster, variable or batch."""
    values = numbers(value)
    if values is None or values.ndim == 0 or name == "ridge_lambda":
        if name == "lamb" and estimate and number(value) == -1:
            return -1
        return in_range(name, value, 0, above=True)
    if name == "sigma":
        lengths = {"cluster": found.get("nclust") or _n_clusters(len(labels))}
    else:
        lengths = {"variable": labels.shape[1], "batch": int(labels.nunique().sum())}
    if len(values) not in lengths.values() or not (np.isfinite(values) & (values > 0)).all():
        forms = " or ".join(f"one per {what} ({n})" for what, n in lengths.items())
        raise ValueError(f"{name} must be numbers above 0: one for all, or {forms}.")
    return values.tolist()


def _n_clusters(n_cells: int) -> int:
    """How many soft clusters the backends make if they are not told."""
    return max(1, min(round(n_cells / 30), 100))


def _writable(value: Any) -> Any:
    """The value as h5ad can hold it."""
    if isinstance(value, bool | str):
        return value
    found = numbers(value)
    return str(getattr(value, "__name__", value)) if found is None else found.tolist()


def _function(backend: str) -> Callable:
    """The function of the installed backend."""
    if backend == "harmonypy":
        import harmonypy

        return harmonypy.run_harmony
    if not hasattr(sc.pp, "harmony_integrate"):
        raise ImportError(
            f"scanpy {version('scanpy')} has no Harmony of its own (1.13 has): "
            'use backend="harmonypy".'
        )
    return sc.pp.harmony_integrate


def _run(backend: str, *args: Any, **params: Any) -> tuple[np.ndarray, dict]:
    """Corrected cells x PCs and the trace, all finite, or what the backend said in one sentence."""
    run = {"harmonypy": _run_harmonypy, "scanpy": _run_scanpy}[backend]
    problem, cause = "the result holds NaN or infinite values", None
    try:
        corrected, trace = run(*args, **params)
        if np.isfinite(corrected).all():
            return corrected, trace
    except (ArithmeticError, AssertionError, RuntimeError, TypeError, ValueError) as error:
        said = str(error) or type(error).__name__
        problem, cause = shorten(said, 200, placeholder=" ...").rstrip("."), error
    raise ValueError(
        f"{backend} {version(backend)} found no solution with these settings: {problem}."
    ) from cause


def _checked_theta(theta: float | Sequence[float], labels: pd.DataFrame) -> float | list[float]:
    """Theta as one number or one per variable."""
    values = numbers(theta)
    if values is None or values.size == 0:
        raise ValueError(
            f"theta must be one number or one per variable, and is not {shown(theta)}; "
            f"{NO_THETA_PER_BATCH}."
        )
    if values.ndim == 1 and len(values) != labels.shape[1]:
        raise ValueError(
            f"theta must be one number or one per variable: {labels.shape[1]} for "
            f"{', '.join(labels)}, not {values.size}; {NO_THETA_PER_BATCH}."
        )
    if not np.isfinite(values).all() or (values < 0).any():
        raise ValueError("theta must be finite and not negative.")
    return values.astype(float).tolist()


def _run_harmonypy(pcs: np.ndarray, labels: pd.DataFrame, *, seed: int, verbose: bool, **params):
    """Corrected cells x PCs and the convergence trace, from any harmonypy."""
    import harmonypy

    old = not _gives_cells_by_pcs()
    if Version(version("harmonypy")) < Version("2.1"):
        # harmonypy before 2.1 does not repeat sigma when there is a single cluster.
        n_clusters = params.get("nclust") or _n_clusters(len(pcs))
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
