"""Make ``data/methods_recorded.csv`` and ``.h5ad``: what other methods do to the course's cells.

Lesson 13 runs Harmony, ComBat and BBKNN itself.  Scanorama, scVI, scANVI and the released BBKNN
need a compiler or PyTorch, and Seurat needs R; none of them stands in the course's environment.
So this script prepares each setting once, hands the same cells and genes to every method, each
in a process of its own on one thread, takes the embeddings or graphs back, and scores them all
here, with ``helpers.metrics``.

Run ``python -m tools.record.methods --folder FOLDER`` with the course's Python.  FOLDER keeps what
is done, so a run that was stopped goes on.  ``--env PYTHON`` names a Python that has the methods;
without it, uv makes an environment in FOLDER (some 6 GB).  Seurat is run by ``Rscript``.
It takes about 45 minutes of processor time, nearly all of them scVI's and Seurat's.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import NamedTuple

import anndata as ad
import numpy as np
import pandas as pd
import pooch
import scanpy as sc
import scipy.sparse as sp
from scipy.io import mmwrite

from helpers import metrics, real
from helpers.data import load_pbmc, plant_run, prepare
from tools.pages import ROOT, fill

HERE = Path(__file__).parent
PAGE = ROOT / "book" / "choose.md"
N_CELLS = 2_000  # so few because scVI and Seurat take minutes on more
TABLE = ROOT / "data" / "methods_recorded.csv"
EMBEDDINGS, PUBLISHED = TABLE.with_suffix(".h5ad"), TABLE.with_name("methods_published.csv")
# Open Problems' results, CC BY 4.0, and the methods and metrics that are taken from them
RESULTS = (
    "https://raw.githubusercontent.com/openproblems-bio/website/"
    "76ce7f288da591b1b19c32cbfe8ce50bc3706ece/results/batch_integration/data/results.json"
)
THEIRS = {
    "no_integration": "uncorrected",
    "harmony": "Harmony",
    "combat": "ComBat",
    "scvi": "scVI",
    "scanvi": "scANVI",
    "scanorama": "Scanorama",
    "bbknn": "BBKNN",
    "batchelor_fastmnn": "fastMNN",
    "liger": "LIGER",
}
PINS = ["scvi-tools==1.4.2", "scanorama==1.7.4", "bbknn==1.6.0", "harmonypy==2.1.0"]
PINS += ["scanpy==1.11.5", "anndata==0.12.19", "numpy==2.4.6", "pandas<3"]
ISG = ["ISG15", "ISG20", "IFI6", "IFIT1", "IFIT2", "IFIT3"]
ISG += ["MX1", "LY6E", "OAS1", "IFI44L", "RSAD2", "IFITM3"]


class Setting(NamedTuple):
    """Cells as `prepare` gives them, and which columns say what."""

    cells: ad.AnnData
    batch: str
    types: str
    keep: str


def planted(seed: int = 0, withhold: tuple[str, ...] = (), **more: float) -> ad.AnnData:
    """2,000 of the embedded cells with a planted run, prepared; with a score of interferon."""
    raw = load_pbmc()
    raw = raw[np.sort(np.random.default_rng(0).permutation(raw.n_obs)[:N_CELLS])]
    raw = plant_run(raw, seed, **more)
    gone = raw.obs["cell_type"].isin(withhold) & (raw.obs["run"] == "run 2")
    cells = prepare(raw[~gone].copy())
    cells.obs["interferon"] = np.ravel(cells[:, ISG].X.mean(axis=1))
    return cells


def by_depth(raw: ad.AnnData) -> ad.AnnData:
    """Chosen genes, normalised with the molecules of all, scaled, 20 PCs: as in lesson 10."""
    cells = raw.copy()
    cells.layers["counts"] = cells.X.copy()
    cells.X = (sp.diags(1e4 / cells.obs["n_counts"].to_numpy()) @ cells.X).tocsr()
    sc.pp.log1p(cells)
    cells.var["highly_variable"] = True
    values = ad.AnnData(cells.X.toarray())
    sc.pp.scale(values, max_value=10)
    cells.obsm["X_pca"] = sc.pp.pca(values.X, n_comps=20, random_state=0)
    return cells


def lines() -> ad.AnnData:
    """Five cell lines as in lesson 10."""
    cells = prepare(real.load_cell_lines(), batch_key="run", n_comps=20)
    genes = [148773, 131747, 134057, 170312, 175063, 117724, 89685, 88325]
    cells.obs["cycle"] = cells[:, [f"ENSG{n:011d}" for n in genes]].to_df().mean(axis=1)
    return cells


def labs() -> ad.AnnData:
    """Two labs as in lesson 10."""
    cells = by_depth(real.load_two_labs())
    killer = ["NKG7", "GNLY", "PRF1", "GZMA", "GZMB", "GZMH", "GZMK", "CST7", "CTSW", "CCL5"]
    cells.obs["killer"] = cells[:, killer].to_df().mean(axis=1)
    return cells


@cache
def setting(name: str) -> Setting:
    """One of SETTINGS, prepared."""
    if name == "two labs":
        return Setting(labs(), "study", "cell_type", "killer")
    if name == "three chemistries":
        return Setting(
            by_depth(real.load_chemistries()), "chemistry", "cell_type_broad", "cell_type"
        )
    if name == "five cell lines":
        return Setting(lines(), "run", "cell_line", "cycle")
    if name == "wrong column":
        return setting("planted run")._replace(batch="condition")
    how = {
        "planted run": {},
        "planted run, draw 1": {"seed": 1},
        "planted run, draw 2": {"seed": 2},
        "NK withheld": {"withhold": ("NK",)},
        "T cells withheld": {"withhold": ("CD4 T", "CD8 T")},
        "null batches": {"depth": 1, "bias": 0},
    }[name]
    return Setting(planted(**how), "run", "cell_type", "condition")


STORED = ["Scanorama", "Scanorama, scaled genes", "Seurat CCA", "Seurat RPCA"]
STORED += ["Seurat CCA, projected", "Seurat RPCA, projected"]
STORED += [f"scVI, {epochs} epochs" for epochs in (10, 100, 400)] + [
    "scANVI, 400 epochs",
    "BBKNN",
    "BBKNN, exact",
]
SEURAT = {"cca": "Seurat CCA", "rpca": "Seurat RPCA"}
# setting -> for each seed, epochs of scVI
SETTINGS = {
    "planted run": {0: 400},
    "three chemistries": {0: 400},
    "five cell lines": {0: 400},
    "wrong column": {0: 100},
    "NK withheld": {0: 100},
    "T cells withheld": {0: 100},
    "null batches": {0: 100},
    "two labs": {0: 100},
    "planted run, draw 1": {},
    "planted run, draw 2": {},
}


def one_thread() -> dict[str, str]:
    """The environment of a process that is to use one thread."""
    names = ["OMP", "OPENBLAS", "MKL", "NUMBA", "BLIS", "VECLIB"]
    threads = {f"{name}_NUM_THREADS": "1" for name in names}
    return os.environ | threads | {"NUMBA_THREADING_LAYER": "workqueue"}  # fork needs that


def write_inputs(folder: Path, name: str) -> None:
    """What the methods read: chosen genes as counts, logarithms and scaled values, and PCs."""
    cells, batch, types, _ = setting(name)
    some = cells[:, cells.var["highly_variable"].to_numpy()]
    scaled = ad.AnnData(some.X.toarray())
    sc.pp.scale(scaled, max_value=10)
    obs = {"batch": pd.Categorical(some.obs[batch].astype(str))}
    obs["type"] = pd.Categorical(some.obs[types].astype(str))
    given = ad.AnnData(
        sp.csr_matrix(some.X),
        obs=pd.DataFrame(obs, index=some.obs_names.astype(str)),
        layers={"counts": sp.csr_matrix(some.layers["counts"]), "scaled": scaled.X},
        obsm={"X_pca": some.obsm["X_pca"]},
    )
    centred, pca = scaled.X - scaled.X.mean(axis=0), given.obsm["X_pca"]
    axes = pd.DataFrame(centred.T @ pca / (pca**2).sum(axis=0))
    axes.insert(0, "mean", scaled.var["mean"].to_numpy())
    axes.insert(1, "std", scaled.var["std"].to_numpy())
    axes.to_csv(folder / f"{name} loadings.csv", index=False)
    mmwrite(folder / f"{name}.mtx", sp.coo_matrix(given.X.T), precision=7)
    given.obs.to_csv(folder / f"{name}.csv", index=False)
    given.write_h5ad(folder / f"{name}.h5ad")


def call(*command: object) -> None:
    """Run a program on one thread; what it printed comes with an error."""
    done = subprocess.run([*map(str, command)], env=one_thread(), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{command}: {done.stderr[-3000:]}")


def seurat(folder: Path, name: str, reduction: str) -> None:
    """One of Seurat's integrations, brought into the form of the others."""
    n = setting(name).cells.obsm["X_pca"].shape[1]
    call("Rscript", HERE / "methods_seurat.R", folder, name, n, reduction)
    seconds, peak, *versions = (folder / f"{name} {reduction}.txt").read_text().splitlines()
    versions = dict(line.split(" ", 1) for line in versions)
    said = {"seconds": float(seconds), "GB": float(peak), "versions": versions}
    for form in ("", " projected"):
        X = pd.read_csv(folder / f"{name} {reduction}{form}.csv", header=None).to_numpy(np.float32)
        target = f"{name} {SEURAT[reduction]}{form.replace(' ', ', ')} 0"
        np.savez(folder / f"{target}.npz", X=X)
        (folder / f"{target}.json").write_text(json.dumps(said))


def record_quick(folder: Path, python: Path, names: list[str]) -> None:
    """Run what FOLDER does not hold yet, but scVI and Seurat."""
    for name in names:
        if not (folder / f"{name} loadings.csv").exists():
            write_inputs(folder, name)
    call(python, HERE / "methods_there.py", folder, "quick", *names)


def record_seurat(folder: Path, names: list[str]) -> None:
    """Run what FOLDER does not hold yet of Seurat."""
    for name in names:
        for reduction, method in SEURAT.items():
            if SETTINGS[name] and not (folder / f"{name} {method} 0.json").exists():
                seurat(folder, name, reduction)
                say(name, method)


def say(*words: object) -> None:
    """What is done, and when."""
    print(datetime.now(UTC).strftime("%H:%M:%S"), *words, flush=True)


def record_scvi(folder: Path, python: Path, names: list[str]) -> None:
    """Train what FOLDER does not hold yet; for null batches without them as well, twice."""
    for name in names:
        for seed, epochs in SETTINGS[name].items():
            runs = [("scVI", seed)]
            if name == "null batches":
                runs += [("scVI without batch", seed), ("scVI without batch", seed + 1)]
            for method, own_seed in runs:
                if not (folder / f"{name} {method}, {epochs} epochs {own_seed}.json").exists():
                    call(python, HERE / "methods_there.py", folder, name, method, own_seed, epochs)
                    say(name, method, "seed", own_seed)


def read(folder: Path, name: str, method: str, seed: int) -> np.ndarray | sp.csr_matrix:
    """An embedding, or a graph."""
    found = np.load(folder / f"{name} {method} {seed}.npz")
    if "X" in found:
        return found["X"]
    shape = tuple(found["shape"])
    return sp.csr_matrix((found["data"], found["indices"], found["indptr"]), shape=shape)


def visits(graph: sp.csr_matrix, labels: pd.Series) -> pd.DataFrame:
    """Where a walk on the weights of a graph gets to: for each cell, its share of each label.

    After each step the walk ends with probability 1/2; ten steps are 99.9 % of it.
    """
    step = sp.diags(1 / np.ravel(graph.sum(axis=1))) @ graph
    here = pd.get_dummies(labels.astype(str)).astype(float)
    place, seen = here.to_numpy(), 0
    for number in range(1, 11):
        place = step @ place
        seen = seen + place / 2**number
    return pd.DataFrame(seen / seen.sum(axis=1, keepdims=True), here.index, here.columns)


def walk_numbers(graph: sp.csr_matrix, obs: pd.DataFrame, *columns: str) -> dict[str, float]:
    """The three numbers of a graph: mixing, types apart, and biology kept, if that is groups."""
    batch, types, keep = (obs[column] for column in columns)

    def own(labels: pd.Series) -> np.ndarray:
        table = visits(graph, labels)
        return table.to_numpy()[
            np.arange(len(table)), table.columns.get_indexer(labels.astype(str))
        ]

    named = (types.astype(str) != "unassigned").to_numpy()
    found = {"graph mixing": np.median(1 / (visits(graph, batch) ** 2).sum(axis=1))}
    found["graph types"] = own(types)[named].mean()
    if not pd.api.types.is_numeric_dtype(keep):
        found["graph kept"] = own(keep).mean()
    return found


def graph_of(X: np.ndarray, n_batches: int) -> sp.csr_matrix:
    """scanpy's graph, of as many neighbours as BBKNN takes by default: three for each batch."""
    some = ad.AnnData(np.zeros((len(X), 1), np.float32), obsm={"X": X})
    sc.pp.neighbors(some, n_neighbors=3 * n_batches, use_rep="X", transformer="sklearn")
    return some.obsp["connectivities"]


def scores(folder: Path, name: str, method: str, seed: int) -> dict[str, float]:
    """All that is asked of one result."""
    cells, batch, types, keep = setting(name)
    result = read(folder, name, method, seed)
    n_batches = cells.obs[batch].nunique()
    graph = result if sp.issparse(result) else graph_of(result, n_batches)
    found = walk_numbers(graph, cells.obs, batch, types, keep)
    if sp.issparse(result):
        return found
    some = ad.AnnData(obs=cells.obs, obsm={"X": result})
    columns = {"batch_key": batch, "label_key": types, "keep_key": keep}
    found |= metrics.three_numbers(some, use_reps=["X"], **columns).iloc[0].to_dict()
    if "interferon" in cells.obs:
        columns["keep_key"] = "interferon"
        found["interferon"] = metrics.three_numbers(some, use_reps=["X"], **columns).iloc[0, 2]
    if name == "NK withheld":
        nk = (cells.obs["cell_type"] == "NK").to_numpy()
        found["NK own"] = metrics.own_share(result, cells.obs["cell_type"])[nk].mean()
    if name == "null batches":
        before = "uncorrected" + (", unscaled genes" if "unscaled" in method else "")
        if method.startswith("sc"):  # scVI and scANVI: the same training, not told of batches
            before = "scVI without batch, " + method.split(", ")[1]
        if method.startswith("Scanorama"):
            return found  # its axes have no counterpart without batches
        both = result, read(folder, name, before, 0)
        near = [metrics.nearest_neighbors(X, 30).indices for X in both]
        shared = [len(np.intersect1d(*pair)) / 30 for pair in zip(*near, strict=True)]
        found["neighbours kept"] = np.mean(shared)
    return found


def score(folder: Path) -> None:
    """Score what FOLDER holds; write the table and the embeddings of the planted run."""
    rows, versions, kept = [], {}, {}
    for name in SETTINGS:
        done = folder.glob(f"{name} *.json")
        done = [path.stem.removeprefix(f"{name} ").rsplit(" ", 1) for path in done]
        done = sorted((m, int(s)) for m, s in done if not m.startswith(("run", "draw")))
        cells, batch, types, _ = setting(name)
        for method, seed in done:
            said = json.loads((folder / f"{name} {method} {seed}.json").read_text())
            versions |= said["versions"]
            row = {"setting": name, "method": method, "seed": seed}
            row |= scores(folder, name, method, seed)
            rows.append(row | {key: said[key] for key in ("seconds", "GB")})
            if name == "planted run" and seed == 0 and method in STORED:
                kept[method] = read(folder, name, method, seed)
        row = {"setting": name, "method": "shuffled within types", "seed": 0}
        X = cells.obsm["X_pca"]
        row["mixing"] = metrics.mixing_reference(X, batch=cells.obs[batch], labels=cells.obs[types])
        rows.append(row)
        say(name, "scored")
    table = pd.DataFrame(rows)
    order = ["setting", "method", "seed", "mixing", "types apart", "biology kept", "interferon"]
    order += ["NK own", "neighbours kept", "graph mixing", "graph types", "graph kept"]
    table = table[[*order, "seconds", "GB"]].round(dict.fromkeys(order[3:], 4))
    table = table.round({"seconds": 1, "GB": 2})
    packages = ", ".join(f"{name} {number}" for name, number in versions.items())
    head = f"# Written by tools/record/methods.py on {datetime.now(UTC):%Y-%m-%d}, one thread of a"
    head += f" shared {platform.machine()} machine, Python {platform.python_version()}.\n"
    head += f"# {packages}\n"
    head += "# python -m tools.record.methods --folder FOLDER\n"
    TABLE.write_text(head + table.to_csv(index=False), encoding="utf-8")
    cells = setting("planted run").cells
    ad.AnnData(
        obs=cells.obs[[]].set_axis(cells.obs_names.astype(str)),
        obsm={name: X.astype(np.float16) for name, X in kept.items() if not sp.issparse(X)},
        obsp={name: X.astype(np.float32) for name, X in kept.items() if sp.issparse(X)},
        uns={"made_by": "tools/record/methods.py", "versions": versions},
    ).write_h5ad(EMBEDDINGS, compression="gzip")


def write_published(results: list[dict]) -> None:
    """The published scores of some methods, clipped to 0 to 1; empty where there is none."""
    rows = []
    for one in results:
        if one["method_id"] in THEIRS:
            row = {"data": one["dataset_id"].split("/")[1], "method": THEIRS[one["method_id"]]}
            for metric, value in one["scaled_scores"].items():
                given = one["metric_values"].get(metric, "NA") != "NA"
                row[metric] = round(min(max(value, 0), 1), 3) if given else None
            rows.append(row)
    head = "# Scaled scores of Open Problems in Single-Cell Analysis, batch integration, clipped to"
    head += f" 0 to 1. CC BY 4.0.\n# {RESULTS}\n"
    PUBLISHED.write_text(head + pd.DataFrame(rows).to_csv(index=False), encoding="utf-8")


def tables() -> dict[str, str]:
    """The made parts of the page, from the recorded table."""
    text = TABLE.read_text(encoding="utf-8")
    recorded = pd.read_csv(TABLE, comment="#")
    recorded = recorded[recorded["seed"] == 0]
    recorded = recorded[~recorded["setting"].str.contains("draw")]  # of the lesson alone
    columns = {"mixing": "mixing", "types": "types apart", "kept": "biology kept"}
    columns |= {"graphs": "graph mixing"}
    made = {
        name: markdown(recorded.pivot(index="method", columns="setting", values=column))
        for name, column in columns.items()
    }
    first = recorded[recorded["setting"].isin(["planted run", "three chemistries"])]
    costs = first.pivot(index="method", columns="setting", values=["seconds", "GB"])
    costs.columns = [f"{what}, {where}" for what, where in costs.columns]
    made["costs"] = markdown(costs, digits=1)
    head = [line.removeprefix("# ") for line in text.splitlines() if line.startswith("#")]
    said = head[0].removeprefix("Written by tools/record/methods.py")
    made["head"] = f"Recorded{said}\n`{head[1]}`\n`{head[2]}` makes it again."
    return made


def markdown(table: pd.DataFrame, digits: int = 2) -> str:
    """A table in Markdown, in the order of SETTINGS."""
    wanted = [name for name in SETTINGS if name in table] or list(table)
    table = table[wanted].dropna(how="all")
    rows = [["method", *map(str, table)], ["---"] * (len(table.columns) + 1)]
    for name, values in table.iterrows():
        rows.append([name, *("" if pd.isna(v) else f"{v:.{digits}f}" for v in values)])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def page() -> str:
    """book/choose.md as it should be."""
    return fill(PAGE.read_text(encoding="utf-8"), tables())


def main() -> None:
    """Record, score, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--env", type=Path)
    parser.add_argument("--only", nargs="*", default=[], help="settings")
    parser.add_argument(
        "--part",
        choices=["quick", "seurat", "scvi", "score", "page", "published", "all"],
        default="all",
    )
    given = parser.parse_args()
    given.folder.mkdir(exist_ok=True)
    names = given.only or list(SETTINGS)
    if given.part in ("quick", "all"):
        record_quick(given.folder, given.env, names)
    if given.part in ("seurat", "all"):
        record_seurat(given.folder, names)
    if given.part in ("scvi", "all"):
        record_scvi(given.folder, given.env, names)
    if given.part in ("score", "all"):
        score(given.folder)
    if given.part in ("score", "page", "all"):
        PAGE.write_text(page(), encoding="utf-8")
    if given.part == "published":
        write_published(json.loads(Path(pooch.retrieve(RESULTS, known_hash=None)).read_text()))


if __name__ == "__main__":
    sys.exit(main())
