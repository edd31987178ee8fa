"""Files of the reader as one AnnData: h5ad, zarr, 10x folders and .h5, tables of an embedding."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc

from helpers.audit.slots import describe_slots
from helpers.checks import shown
from helpers.data import sha256

ZARR = (".zgroup", "zarr.json")  # of versions 2 and 3
TABLES = (".csv", ".csv.gz", ".tsv", ".tsv.gz")
KINDS = "an .h5ad or .zarr, a folder or an .h5 of 10x, or a .csv or .tsv of an embedding"
BACKED = 2 * 1024**3  # bytes of an h5ad from which it is left on disk


def read_inputs(
    paths: Sequence[str | Path],
    batch_key: str,
    columns: Sequence[str] = (),
    *,
    layer: str | None = None,
) -> tuple[ad.AnnData, list[str]]:
    """Read one file, or several as batches of one object.

    Parameters
    ----------
    paths
        h5ad, zarr, a folder or .h5 of 10x Genomics' Cell Ranger, or a table of an embedding (first
        column: cell names; the named columns are variables, the other numeric ones dimensions).
        An h5ad above 2 GB is opened backed. Several are joined by the genes that all have.
    batch_key
        Of several files without this column it is made, from the names of the files.
    columns
        Further variables that a table may hold.
    layer
        Of several files, the layer to be used; without one, their ``X`` must hold the same.

    Returns
    -------
    adata, and what the reader should know of it, one sentence each.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        A file is of another kind or damaged, the files share no genes, or their ``X`` hold unlike
        things.
    """
    files = [Path(path) for path in paths]
    if not files:
        raise ValueError(f"Name at least one input: {KINDS}.")
    for file in files:
        if not file.exists():
            raise FileNotFoundError(f"There is no file {file}.")
    if len(files) == 1:
        return _read(files[0], [batch_key, *columns], backed=True), []
    parts = [_read(file, [batch_key, *columns], backed=False) for file in files]
    names = _names(files)
    _check_alike(parts, names, layer)
    for column in [batch_key, *columns]:
        own = [column in part.obs for part in parts]
        if any(own) and not all(own):
            without = ", ".join(name for name, has in zip(names, own, strict=True) if not has)
            raise ValueError(
                f"{column!r} is a column of some inputs and not of others ({without}): add or "
                "rename it."
            )
    return _joined(parts, names, batch_key)


def fingerprint(path: str | Path) -> str:
    """SHA-256 of a file; of a folder, of the sums of its files in the order of their names."""
    path = Path(path)
    if path.is_file():
        return sha256(path)
    digest = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()} {sha256(file)}\n".encode())
    return digest.hexdigest()


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    """What readers raise on damaged files, as one sentence."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # each format has errors of its own
        said = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"{file} cannot be read, it may be damaged or of another kind: {said}"[:300]
        ) from error


def _read(file: Path, columns: Sequence[str], *, backed: bool) -> ad.AnnData:
    name = file.name.lower()
    with _readable(file):
        if name.endswith(".h5ad"):
            on_disk = backed and file.stat().st_size > BACKED
            return ad.read_h5ad(file, backed="r" if on_disk else None)
        zarr = name.endswith(".zarr") or any((file / one).exists() for one in ZARR)
        if file.is_dir() and zarr:
            return ad.read_zarr(file)
        if file.is_dir():
            return sc.read_10x_mtx(file)
        if name.endswith(".h5"):
            return sc.read_10x_h5(file)
        if name.endswith(TABLES):
            return _table(file, columns)
    raise ValueError(f"{file} is none of what can be read: {KINDS}.")


def _table(file: Path, columns: Sequence[str]) -> ad.AnnData:
    """Variables and dimensions of a table, one row per cell."""
    table = pd.read_csv(file, index_col=0, sep="\t" if ".tsv" in file.name.lower() else ",")
    named = [column for column in columns if column in table]
    X = table.drop(columns=named).select_dtypes("number")
    if X.shape[1] < 2:
        raise ValueError(f"its numeric columns are {shown(list(X))}, and an embedding has several")
    obs = table.drop(columns=list(X)).set_axis(table.index.astype(str))
    return ad.AnnData(obs=obs, obsm={"X_pca": X.to_numpy(np.float64)})


def _stem(file: Path) -> str:
    """The name without its ending; that of a folder has none but .zarr."""
    if file.is_dir():
        return file.resolve().name.removesuffix(".zarr")
    return file.name.removesuffix(".gz").rsplit(".", 1)[0]


def _names(files: Sequence[Path]) -> list[str]:
    """A name for each file: its own, or with its folder's where they would be the same."""
    names = [_stem(file) for file in files]
    if len(set(names)) < len(names):
        names = [
            f"{file.resolve().parent.name}/{name}" for file, name in zip(files, names, strict=True)
        ]
    if len(set(names)) < len(names):
        raise ValueError(
            f"The inputs cannot be told apart by name: {', '.join(names)}; rename one."
        )
    return names


def _check_alike(parts: list[ad.AnnData], names: list[str], layer: str | None) -> None:
    """Counts of one file and logarithms of another make no common matrix."""
    if layer is not None:
        without = [n for n, part in zip(names, parts, strict=True) if layer not in part.layers]
        if without:
            raise KeyError(f"There is no layer {layer!r} in {', '.join(without)}.")
        return
    holds = {
        n: describe_slots(part).loc["X", "holds"] for n, part in zip(names, parts, strict=True)
    }
    if len(set(holds.values())) > 1:
        each = ", ".join(f"{kind} in {name}" for name, kind in holds.items())
        raise ValueError(f"X holds {each}: make them alike, or name a layer that all have.")


def _joined(
    parts: list[ad.AnnData], names: list[str], batch_key: str
) -> tuple[ad.AnnData, list[str]]:
    notes = []
    if all(part.n_vars == 0 for part in parts) and all("X_pca" in part.obsm for part in parts):
        raise ValueError(
            "Several tables of an embedding cannot be joined: PCs of one run only compare."
        )
    for part, name in zip(parts, names, strict=True):
        if repeated := int(part.var_names.duplicated().sum()):
            part.var_names_make_unique()
            notes.append(f"{name}: {repeated} repeated gene names have got a number.")
    shared = set.intersection(*(set(part.var_names) for part in parts))
    if not shared:
        firsts = ", ".join(
            f"{part.var_names[0]} ({name})"
            for part, name in zip(parts, names, strict=True)
            if part.n_vars
        )
        raise ValueError(
            "The inputs share no gene names, as where some hold symbols and some identifiers: "
            f"{firsts}."
        )
    label = None if batch_key in parts[0].obs else batch_key
    adata = ad.concat(
        dict(zip(names, parts, strict=True)), join="inner", label=label, index_unique=" "
    )
    most = max(part.n_vars for part in parts)
    lost = {name: part.n_vars - len(shared) for name, part in zip(names, parts, strict=True)}
    if most > len(shared):
        each = ", ".join(f"{n:,} of {name}" for name, n in lost.items() if n)
        notes.append(f"{len(shared):,} genes are in all inputs; left out: {each}.")
    if label:
        notes.append(f"obs[{batch_key!r}] holds the names of the {len(names)} inputs.")
    return adata, notes
