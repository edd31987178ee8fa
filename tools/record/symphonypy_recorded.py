"""Make ``data/symphonypy_recorded.csv``: what released versions of symphonypy do to lesson 14.

symphonypy is a Python port of Symphony (Kang J.B. et al. 2021, doi 10.1038/s41467-021-25957-x) by
other authors.  It works with any harmonypy and stands in no environment of the course, so this
script makes throw-away environments, hands them reference and query, takes the placed cells back,
and scores them here, beside the lines of the lesson on the same cells.  The reference holds two
runs, or one: for the latter symphonypy makes its soft clusters by k-means, which is another path.

Run ``python -m tools.record.symphonypy_recorded`` with the course's Python, once; it needs a
package index and takes some minutes.  The head of the file says with what and when it was made.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
from sklearn.neighbors import KNeighborsClassifier

from helpers import metrics
from helpers.data import load_pbmc, plant_run, prepare
from tools.environment import throw_away
from tools.pages import ROOT

TARGET = ROOT / "data" / "symphonypy_recorded.csv"
SYMPHONYPY = ["0.2.3", "0.2.4"]
HARMONYPY = ["0.0.10", "2.0.2", "2.1.0"]
COMMON = ["scanpy==1.11.5", "anndata==0.12.6", "numpy==2.3.5", "pandas==2.3.3"]
COMMON += ["scikit-learn==1.7.2", "scipy==1.16.3"]
SCALINGS = {"scaled": True, "unscaled": False}
REFERENCES = {"two runs": ["run 1", "run 2"], "one run": ["run 1"]}
ROUNDS = {"max_iter_harmony": 15, "epsilon_harmony": 0}

# What runs in an environment: it maps each case, with the sums of k-means mended as well, and
# writes the two embeddings, or the error.
THERE = """
import json, warnings
import anndata as ad, numpy as np
warnings.simplefilter("ignore")
import symphonypy as sp
errors = {}
for name, several in json.load(open("cases.json")).items():
    ref, query = (ad.read_h5ad(f"{name} {which}.h5ad") for which in ("reference", "query"))
    np.random.seed(0)
    try:
        if several:
            sp.pp.harmony_integrate(ref, "run", **json.load(open("rounds.json")))
        sp.tl.map_embedding(query, ref)
        rep = "X_pca_harmony" if several else "X_pca"
        np.savez(name + ".npz", ref=ref.obsm[rep], query=query.obsm["X_pca_harmony"])
        if not several:
            ref.uns["harmony"]["C"] = ref.uns["harmony"]["R"] @ ref.obsm["X_pca"]
            sp.tl.map_embedding(query, ref)
            np.savez(name + " mended.npz", ref=ref.obsm[rep], query=query.obsm["X_pca_harmony"])
    except Exception as error:
        errors[name] = f"{type(error).__name__}: {error}"
json.dump(errors, open("errors.json", "w"))
"""


def three_runs(seed: int = 3) -> tuple[ad.AnnData, ad.AnnData]:
    """As in lesson 14: raw cells of runs 1 and 2, and of a run 3."""
    published = load_pbmc()
    published = published[published.obs["cell_type"] != "unassigned"]
    once, twice = plant_run(published, seed), plant_run(published, seed + 100)
    third = np.random.default_rng(seed).random(published.n_obs) < 1 / 3
    query = twice[third & (twice.obs["run"] == "run 2").to_numpy()].copy()
    query.obs["run"] = "run 3"
    return once[~third].copy(), query


def cases() -> dict[str, tuple[ad.AnnData, ad.AnnData]]:
    """Name -> prepared reference and log-normalised query, as symphonypy wants them."""
    raw, query = three_runs()
    found = {}
    for scaling, scale in SCALINGS.items():
        for name, runs in REFERENCES.items():
            full = prepare(raw[raw.obs["run"].isin(runs)].copy(), scale=scale)
            ref = ad.AnnData(full.X, obs=full.obs[["run", "cell_type"]].astype(str))
            ref.var_names = full.var_names
            ref.var["highly_variable"] = full.var["highly_variable"]
            ref.var["mean"] = full.var["mean"] if scale else np.ravel(full.X.mean(axis=0))
            ref.var["std"] = full.var["std"] if scale else 1.0
            ref.obsm["X_pca"] = full.obsm["X_pca"].astype(np.float64)
            ref.varm["PCs"] = full.varm["PCs"]
            new = query[:, query.var_names.isin(ref.var_names)].copy()
            sc.pp.normalize_total(new, target_sum=1e4)
            sc.pp.log1p(new)
            new.obs, new.uns = new.obs[["cell_type"]].astype(str), {"log1p": {}}
            found[f"{name}, {scaling}"] = ref, new
    return found


def scores(ref: ad.AnnData, X: np.ndarray, truth: np.ndarray, new: np.ndarray) -> dict[str, float]:
    """Share of right labels (15 neighbours), and median iLISI of old and new around the new."""
    labels = KNeighborsClassifier(15).fit(X, ref.obs["cell_type"]).predict(new)
    which = np.repeat(["old", "new"], [len(X), len(new)])
    mixing = metrics.lisi(np.vstack([X, new]), which)[len(X) :]
    return {"right": (labels == truth).mean(), "iLISI": float(np.median(mixing))}


def tried(pins: list[str], found: dict, there: Callable[[dict], None]) -> None:
    """Run all cases in an environment of its own; hand each result, or its error, to `there`."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        python = throw_away(folder / "env", [*pins, *COMMON])
        for name, (ref, query) in found.items():
            ref.write_h5ad(folder / f"{name} reference.h5ad")
            query.write_h5ad(folder / f"{name} query.h5ad")
        several = {name: ref.obs["run"].nunique() > 1 for name, (ref, _) in found.items()}
        (folder / "cases.json").write_text(json.dumps(several))
        (folder / "rounds.json").write_text(json.dumps(ROUNDS))
        subprocess.run([python, "-c", THERE], check=True, cwd=folder, capture_output=True)
        errors = json.loads((folder / "errors.json").read_text())
        for name in found:
            there({"name": name, "how": "as released", "error": errors.get(name, "")})
            for how, file in {"as released": name, "sums": f"{name} mended"}.items():
                if (folder / f"{file}.npz").exists():
                    there({"name": name, "how": how, **np.load(folder / f"{file}.npz")})


def main() -> None:
    """Run everything and write the file whole, or not at all."""
    found, rows = cases(), []
    for symphonypy in SYMPHONYPY:
        for harmonypy in HARMONYPY:
            pins = [f"symphonypy=={symphonypy}", f"harmonypy=={harmonypy}"]

            def keep(result: dict, programs: tuple[str, str] = (symphonypy, harmonypy)) -> None:
                reference, scaling = result["name"].split(", ")
                row = dict(zip(["symphonypy", "harmonypy"], programs, strict=True))
                row |= {"how": result["how"], "reference": reference, "scaling": scaling}
                if "query" in result:
                    ref, query = found[result["name"]]
                    truth = query.obs["cell_type"].to_numpy()
                    got = scores(ref, result["ref"], truth, result["query"])
                    rows.append(row | {key: round(value, 4) for key, value in got.items()})
                elif result["error"]:
                    rows.append(row | {"error": result["error"]})

            tried(pins, found, keep)
    here = ", ".join(f"{name} {version(name)}" for name in ["scanpy", "numpy", "scikit-learn"])
    head = f"# Written by tools/record/symphonypy_recorded.py on {datetime.now(UTC):%Y-%m-%d}"
    head += f" with Python {platform.python_version()}, {here}.\n"
    head += f"# Throw-away environments, same Python: {', '.join(COMMON)}.\n"
    partial = TARGET.with_suffix(".partial")
    partial.write_text(head + pd.DataFrame(rows).to_csv(index=False), encoding="utf-8")
    partial.replace(TARGET)
    print(f"{TARGET.name}: {len(rows)} rows")


if __name__ == "__main__":
    sys.exit(main())
