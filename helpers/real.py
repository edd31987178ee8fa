"""Real technical batches for lesson 10: two labs (offline), three chemistries, five cell lines.

The last two are fetched once from the public repositories of their authors, at a pinned commit,
checked by SHA-256, and kept in the user's cache; ``HARMONY_COURSE_DATA`` names a folder to read
instead. Every loader gives whole counts in ``X``. ``data/README.md`` is the card of all three.
"""

from __future__ import annotations

import os
import warnings
from functools import cache
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pooch
import scanpy as sc
import scipy.sparse as sp

from helpers.data import cache_folder, load_pbmc, sha256

FOLDER = "HARMONY_COURSE_DATA"
NEEDS_FILES = "# needs the fetched files"  # the first line of a cell that does
RAW = "https://raw.githubusercontent.com"
ADDRESSES = {
    "pbmc_chemistries": (
        f"{RAW}/immunogenomics/symphony/bf7aaf9a2919f660d028f7ec3a775f040238a829/data"
    ),
    "sc_mixology": f"{RAW}/LuyiTian/sc_mixology/7d00ffb0bd043467f365a9358d7312f294f13c9f/data/csv",
}
# fmt: off
SHA256 = {
    "pbmc_chemistries/pbmcs_exprs_small.rda":
        "c64deb8a26e3d7c131196fc4829c62130070fdeff8a0a0a0806930014086c1de",
    "pbmc_chemistries/pbmcs_meta_small.rda":
        "5d0151004629ec2e7d05694109565b79b268b163d74e9bf378fc1ca238cf4dc3",
    "sc_mixology/sc_celseq2.count.csv.gz":
        "a82aa89b8995aed412f4260c0adb343967e33a801af6f2e0aa647c1d897a5a21",
    "sc_mixology/sc_celseq2.metadata.csv.gz":
        "78429916bac394d92d8c972059a8f195c5479ce578da04f1eb3ba599585ef3d9",
    "sc_mixology/sc_celseq2_5cl_p1.count.csv.gz":
        "577324d2fd427685144420536489202c68ae98cb22f5825c40c8cf41c5fe0a07",
    "sc_mixology/sc_celseq2_5cl_p1.metadata.csv.gz":
        "a6f5b206f891113162d2c9af27860c187a04ccd8848f9bc29be97dfa95eeadc4",
    "sc_mixology/sc_celseq2_5cl_p2.count.csv.gz":
        "c6ef3df82d9fa44598ee15d8a07113c44a830ee3d2e3205c93590d594240bab5",
    "sc_mixology/sc_celseq2_5cl_p2.metadata.csv.gz":
        "06d2f3b9fd646b4a3c1e6d1af7205c7eec1017bfab9a4c68853f9a3fc97be836",
    "sc_mixology/sc_celseq2_5cl_p3.count.csv.gz":
        "e535abac653a5a3ee44eff88345db2315693732f679156ab20ee924b21bced9a",
    "sc_mixology/sc_celseq2_5cl_p3.metadata.csv.gz":
        "c373869c9d3bbca9dc7773a8b8ef65e6035c939d45b18cb410fede526770eadb",
    "sc_mixology/sc_dropseq.count.csv.gz":
        "98c0bb6a9fbf4b93967ef82cef9985d7691cf59a31dc5b0b3699f70ed1a0fd08",
    "sc_mixology/sc_dropseq.metadata.csv.gz":
        "4c48f3e13778e89192d9861095bc102cc0deb9eba1a7f47a093f5a058ce1aa6a",
}
# fmt: on

BROAD = {  # the names of both studies, in the words of lesson 10
    "CD14+ Monocyte": "Mono",
    "CD14 Mono": "Mono",
    "FCGR3A Mono": "Mono",
    "CD19+ B": "B",
    "B": "B",
    "CD4+/CD25 T Reg": "T",
    "CD4+/CD45RA+/CD25- Naive T": "T",
    "CD4+/CD45RO+ Memory": "T",
    "CD8+ Cytotoxic T": "T",
    "CD8+/CD45RA+ Naive Cytotoxic": "T",
    "CD4 T": "T",
    "CD8 T": "T",
    "CD56+ NK": "NK",
    "NK": "NK",
    "Dendritic": "DC",
    "DC": "DC",
}
CHEMISTRIES = {"3pv1": "3' v1", "3pv2": "3' v2", "5p": "5'"}
RUNS = {  # name: (run in the file names, protocol)
    "celseq2 a": ("sc_celseq2", "CEL-seq2"),
    "celseq2 p1": ("sc_celseq2_5cl_p1", "CEL-seq2"),
    "celseq2 p2": ("sc_celseq2_5cl_p2", "CEL-seq2"),
    "celseq2 p3": ("sc_celseq2_5cl_p3", "CEL-seq2"),
    "dropseq": ("sc_dropseq", "Drop-seq"),
}


def load_two_labs(n_control: int = 700, seed: int = 0) -> ad.AnnData:
    """700 cells of Zheng et al. 2017 beside control cells of Kang et al. 2018; offline.

    Parameters
    ----------
    n_control
        How many of the 3,000 embedded control cells, drawn at random.
    seed
        Seed of the draw.

    Returns
    -------
    AnnData
        ``X``: counts of the 765 genes that both have, CSR, float32. ``obs["study"]``:
        ``Zheng 2017`` or ``Kang 2018``; ``obs["cell_type"]``: T, NK, B, Mono, DC, or
        ``unassigned`` for any other label; ``obs["label"]``: the label of the study itself;
        ``obs["n_counts"]``: all molecules of the cell, the other genes' too.

    Raises
    ------
    ValueError
        Fewer than one or more than 3,000 control cells asked for.

    Source: ``scanpy.datasets.pbmc68k_reduced``, which scanpy itself ships (doi
    10.1038/ncomms14049), and ``load_pbmc`` (doi 10.1038/nbt.4042).
    """
    with warnings.catch_warnings():  # the file is of 2019
        warnings.simplefilter("ignore")
        zheng = sc.datasets.pbmc68k_reduced()
    total = zheng.obs["n_counts"].to_numpy(dtype=float)
    zheng_counts = _counts(zheng.raw.X, total)
    kang = load_pbmc()
    control = np.flatnonzero(kang.obs["condition"] == "control")
    if not 1 <= n_control <= len(control):
        raise ValueError(f"n_control must be 1 to {len(control):,}, not {n_control}.")
    drawn = np.random.default_rng(seed).choice(control, n_control, replace=False)
    kang = kang[np.sort(drawn)]
    genes = zheng.raw.var_names.astype(str)
    parts = {
        "Zheng 2017": (zheng_counts, zheng.obs["bulk_labels"], total),
        "Kang 2018": (kang[:, genes].X, kang.obs["cell_type"], np.ravel(kang.X.sum(axis=1))),
    }
    labels = np.concatenate([part[1].astype(str) for part in parts.values()])
    types = pd.Series(labels).map(BROAD).fillna("unassigned")
    obs = pd.DataFrame(
        {
            "study": pd.Categorical(
                np.repeat(list(parts), [len(part[1]) for part in parts.values()]), list(parts)
            ),
            "cell_type": pd.Categorical(types, ["T", "NK", "B", "Mono", "DC", "unassigned"]),
            "label": pd.Categorical(labels),
            "n_counts": np.concatenate([part[2] for part in parts.values()]).astype(np.float32),
        },
        index=[f"zheng_{name}" for name in zheng.obs_names] + list(kang.obs_names),
    )
    return _anndata(sp.vstack([part[0] for part in parts.values()]), obs, genes)


def load_chemistries() -> ad.AnnData:
    """Blood cells of three 10x chemistries: 3' v1, 3' v2 and 5'.

    Returns
    -------
    AnnData
        1,200 cells x 1,767 variable genes. ``X``: counts, CSR, float32 (published as logarithms,
        from which the counts come back exactly). ``obs["chemistry"]``: ``3' v1``, ``3' v2`` or
        ``5'``, in a column that the source calls ``donor``; ``obs["cell_type"]`` and
        ``obs["cell_type_broad"]``: the authors' labels; ``obs["n_counts"]``: all molecules of the
        cell, the other genes' too; ``obs["percent_mito"]``: their mitochondrial share, 0 to 1.

    Raises
    ------
    ConnectionError, FileNotFoundError, ValueError
        As :func:`load_cell_lines`.

    Source: R package symphony, Kang J.B. et al. 2021, doi 10.1038/s41467-021-25957-x; cells
    published by 10x Genomics.
    """
    import rdata  # only here, and a second and a half

    def read(name: str) -> object:
        classes = rdata.conversion.DEFAULT_CLASS_MAP | {"dgCMatrix": lambda obj, attrs: attrs}
        path = _file(f"pbmc_chemistries/{name}.rda")
        return rdata.read_rda(path, constructor_dict=classes)[name]

    matrix = read("pbmcs_exprs_small")
    logs = sp.csc_matrix((matrix["x"], matrix["i"], matrix["p"]), shape=tuple(matrix["Dim"])).T
    genes, cells = matrix["Dimnames"]
    meta = read("pbmcs_meta_small").set_index("cell_id").loc[list(cells)]
    total = meta["nUMI"].to_numpy(dtype=float)
    obs = pd.DataFrame(
        {
            "chemistry": _category(meta["donor"].map(CHEMISTRIES), CHEMISTRIES.values()),
            "cell_type": _category(meta["cell_type"]),
            "cell_type_broad": _category(meta["cell_type_broad"]),
            "n_counts": total.astype(np.float32),
            "percent_mito": meta["percent_mito"].to_numpy(dtype=float),
        },
        index=list(meta.index),
    )
    return _anndata(_counts(logs, total), obs, genes)


def load_cell_lines() -> ad.AnnData:
    """Cells of five lung cancer lines in five runs, each known by its genotype.

    Returns
    -------
    AnnData
        1,408 cells x the 11,533 genes that all runs have (Ensembl identifiers, without the
        spiked-in ones). ``X``: counts, CSR, float32. ``obs["cell_line"]``: A549, H1975, H2228,
        H838 or HCC827, from the cell's own genetic variants, not from its expression;
        ``obs["genotype"]``: ``one`` or ``two``, how many genotypes the authors' demuxlet saw;
        ``obs["run"]``: five; ``obs["protocol"]``: ``CEL-seq2`` or ``Drop-seq``. Two of the runs
        hold three of the lines only.

    Raises
    ------
    ConnectionError
        The files are not in the cache and could not be downloaded.
    FileNotFoundError
        The folder that ``HARMONY_COURSE_DATA`` names lacks a file.
    ValueError
        A file is not the published one.

    Source: Tian et al. 2019, doi 10.1038/s41592-019-0425-8, GEO GSE118767.
    """
    counts, obs = [], []
    for run, (name, protocol) in RUNS.items():
        table = pd.read_csv(_file(f"sc_mixology/{name}.count.csv.gz"), index_col=0)
        meta = pd.read_csv(_file(f"sc_mixology/{name}.metadata.csv.gz"), index_col=0)
        counts.append(table[meta.index].set_axis(f"{run} " + meta.index, axis=1))
        part = meta[["cell_line_demuxlet", "demuxlet_cls"]].set_index(counts[-1].columns)
        obs.append(part.assign(run=run, protocol=protocol))
    table, obs = pd.concat(counts, axis=1, join="inner"), pd.concat(obs)
    table = table.loc[sorted(table.index[table.index.str.startswith("ENSG")])]
    obs = pd.DataFrame(
        {
            "cell_line": _category(obs["cell_line_demuxlet"]),
            "genotype": _category(obs["demuxlet_cls"].map({"SNG": "one", "DBL": "two"})),
            "run": _category(obs["run"], RUNS),
            "protocol": _category(obs["protocol"]),
        },
        index=list(obs.index),
    )
    return _anndata(sp.csr_matrix(table.to_numpy().T), obs, table.index)


def available() -> bool:
    """Whether the files of the two fetched data sets are to be had; fetches what is not cached."""
    return not why_not()


@cache
def why_not() -> str:
    """Why the files are not to be had, in one sentence; empty where they are.

    A damaged file is an error here as well, not a reason to go on without it.
    """
    try:
        for name in SHA256:
            _file(name)
    except (ConnectionError, FileNotFoundError) as error:
        return str(error)
    return ""


def skip_cells_without_files() -> None:
    """In a notebook: where the files lack, cells that need them print why they are skipped.

    Such a cell begins with the line ``# needs the fetched files``, and all others run as ever.
    """
    from IPython import get_ipython

    def skip(lines: list[str]) -> list[str]:
        needs = bool(lines) and lines[0].strip() == NEEDS_FILES
        return [f"print({'skipped: ' + why_not()!r})\n"] if needs and not available() else lines

    get_ipython().input_transformers_cleanup.append(skip)


def _file(name: str) -> Path:
    """The path of one checked file, of the named folder or of the cache."""
    folder, file = name.split("/")
    if FOLDER in os.environ:
        path = Path(os.environ[FOLDER]) / name
        if not path.is_file():
            raise FileNotFoundError(
                f"{FOLDER} names the folder {path.parents[1]}, which has no {name}."
            )
        if sha256(path) != SHA256[name]:
            raise ValueError(f"{path} is not the published file, or it is damaged.")
        return path
    try:
        return Path(
            pooch.retrieve(
                f"{ADDRESSES[folder]}/{file}",
                known_hash=f"sha256:{SHA256[name]}",
                fname=file,
                path=Path(cache_folder()) / folder,
                # seconds to connect, and between two pieces
                downloader=pooch.HTTPDownloader(progressbar=True, timeout=(5, 30)),
            )
        )
    except OSError as error:  # as those of requests, which pooch uses, are
        raise ConnectionError(
            f"{file} is not in the cache and could not be downloaded ({type(error).__name__}): "
            f"connect to the internet, or let {FOLDER} name a folder with {name} in it."
        ) from None


def _counts(logs: sp.spmatrix, total: np.ndarray) -> sp.csr_matrix:
    """Whole counts from log(1 + counts x 10,000 / total), or an error if they are none."""
    counts = sp.csr_matrix(logs, dtype=np.float64)
    counts.data = np.expm1(counts.data) * np.repeat(total / 1e4, np.diff(counts.indptr))
    whole = np.rint(counts.data)
    if np.abs(counts.data - whole).max() > 0.25:
        raise ValueError("These logarithms are not those of whole counts per 10,000.")
    counts.data = whole
    return counts


def _category(values: pd.Series, levels: object = None) -> pd.Categorical:
    return pd.Categorical(np.asarray(values, dtype=object), None if levels is None else [*levels])


def _anndata(counts: sp.spmatrix, obs: pd.DataFrame, genes: object) -> ad.AnnData:
    var = pd.DataFrame(index=pd.Index(np.asarray(genes, dtype=object)))
    return ad.AnnData(sp.csr_matrix(counts, dtype=np.float32), obs=obs, var=var)
