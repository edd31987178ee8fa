"""The troubleshooting page is what `make catalogue` writes, and holds what people search for.

Each message that it shows and the lab does not print is provoked here.
"""

import re
import subprocess
import sys
import warnings
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import anndata as ad
import harmonypy
import nbformat
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp
from packaging.version import Version

from helpers.data import load_pbmc, plant_run, prepare
from helpers.integrate import FINISHED, harmonize
from helpers.metrics import three_numbers
from tools.troubleshooting import LESSON, PAGE, catalogue, failures, more

# the messages of the failures that learners report, as they would type them
SEARCHES = [
    "is of incorrect shape",
    "Did not find X_pca_harmony",
    "KeyError: 'batch'",
    "has missing labels",
    "number of columns of matrices must match",
    "No module named 'harmonypy'",
    "has no attribute 'harmony_integrate'",
    "fewer than two levels",
    "contrasts can be applied only to factors with 2 or more levels",
    "use_rep",
    "n_pcs",
    "Converged after 1 iteration",
    "Stopped before convergence",
    "looks like a barcode",
    "MemoryError",
    "densifies it",
    "fully confounded",
    "corrected counts",
    "KeyError: 'unique'",
    "rng=None",
    "did not converge in 25 iterations",
    "no applicable method for 'Key'",
    "element-wise pow()",
    "There are other near singularities as well",
    "reciprocal condition number",
    "Subclustering",
    "theta = 0 changes the clusters",
    "shape` is inconsistent with `obs",
    "Can only use .cat accessor",
    "Input X contains NaN",
    "reference_values",
    "has batches of too few cells",
    "has no parameter",
    "did you mean",
    "would overwrite what is no result of harmonize",
    "must hold raw counts",
]


def test_page_is_fresh() -> None:
    assert PAGE.read_text(encoding="utf-8") == catalogue(), (
        "book/troubleshooting.md is stale: run `make catalogue`"
    )


@pytest.mark.parametrize("message", SEARCHES)
def test_message_is_found(message: str) -> None:
    assert message in catalogue()


def test_every_failure_names_a_thread_or_says_that_there_is_none() -> None:
    thread = re.compile(r"\]\(https://github\.com/[\w.-]+/[\w.-]+/(issues|pull)/\d+\)")
    for failure in failures(nbformat.read(LESSON, as_version=4)) + more():
        text = failure.parts["**Thread.**"]
        assert thread.search(text) or "None that we know" in text, failure.title


# Public threads that the course answers: repository, and the numbers of its issues.
THREADS = {
    "immunogenomics/harmony": [
        *(6, 24, 66, 75, 78, 101, 104, 115, 117, 126, 127, 133, 153, 157, 167, 187, 232, 246),
        *(256, 259, 292),
    ],
    "slowkow/harmonypy": [30, 38],
    "satijalab/seurat": [5289, 8073, 8755, 9736],
    "scverse/scanpy": [64, 391, 824, 1187, 1825, 2163, 2364, 2669, 2853, 3103, 3628, 4098],
    "scverse/anndata": [365, 726, 761, 2221],
    "jlakkis/CarDEC": [3],
    "lueckenlab/scAtlasTb": [383],
}


def test_every_thread_is_answered() -> None:
    text = catalogue()
    for repository, numbers in THREADS.items():
        cited = set(re.findall(rf"github\.com/{repository}/(?:issues|pull)/(\d+)\)", text))
        assert not set(map(str, numbers)) - cited, repository


def test_a_part_that_is_missing_stops_it() -> None:
    nb = nbformat.read(LESSON, as_version=4)
    cell = next(cell for cell in nb.cells if "**Mend.**" in cell.source)
    cell.source = cell.source.replace("**Mend.**", "Mend.", 1)
    with pytest.raises(ValueError, match=r"has no \*\*Mend"):
        failures(nb)


# --- the messages of tools/troubleshooting.md -------------------------------------------------


def some_cells(n: int = 200, n_genes: int = 300, **columns: object) -> ad.AnnData:
    """Sparse counts of `n` cells."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.gamma(0.5, 2, n_genes), (n, n_genes)).astype(np.float32)
    adata = ad.AnnData(
        sp.csr_matrix(counts), obs=pd.DataFrame(columns, [f"c{i}" for i in range(n)])
    )
    adata.var_names = [f"g{i}" for i in range(n_genes)]
    adata.obsm["X_pca"] = rng.standard_normal((n, 10))
    return adata


def dense(n: int = 20, n_genes: int = 5) -> ad.AnnData:
    adata = some_cells(n, n_genes)
    adata.X = adata.X.toarray()
    return adata


def choose_genes(batch: object, **how: object) -> None:
    adata = some_cells(batch=batch)
    if how.get("flavor") == "seurat_v3":  # which wants counts, and a package of its own
        pytest.importorskip("skmisc")
    else:
        sc.pp.normalize_total(adata)
        sc.pp.log1p(adata)
    sc.pp.highly_variable_genes(adata, n_top_genes=50, batch_key="batch", **how)


def scrublet_on_repeated_names() -> None:
    adata = some_cells(batch=pd.Categorical(["a"] * 100 + ["b"] * 100))
    adata.obs_names = [f"c{i % 100}" for i in range(200)]
    sc.pp.scrublet(adata, batch_key="batch", verbose=False, n_prin_comps=5)


def tiny(n: int) -> pd.Categorical:
    return pd.Categorical(["a"] * (200 - n) + ["b"] * n)


def choose_genes_by_a_curve() -> None:
    """The three messages of seurat_v3, of batches of two and three cells; the last goes on."""
    for n, how in [(2, {}), (3, {"span": 0.6})]:
        with pytest.raises(
            ValueError, match=r"svddc failed|reciprocal condition number|near singularities"
        ):
            choose_genes(tiny(n), flavor="seurat_v3", **how)
    choose_genes(tiny(3), flavor="seurat_v3")


def pca_after_outer_join() -> None:
    other = dense()
    other.var_names = [f"g{i + 2}" for i in range(5)]
    sc.pp.pca(ad.concat([dense(), other], join="outer", index_unique="-"), n_comps=2)


def pca_after_log_of_scaled() -> None:
    adata = dense()
    adata.X[0] = -3
    sc.pp.log1p(adata)
    sc.pp.pca(adata, n_comps=2)


def fill_obs_from_repeated_rows() -> None:
    table = pd.DataFrame({"donor": 1}, ["c0", "c0", *[f"c{i}" for i in range(2, 20)]])
    dense().obs["donor"] = table["donor"]


def write_mixed_column(folder: Path) -> None:
    adata = dense()
    adata.obs["age"] = pd.Series([30, "unknown"] * 10, adata.obs_names, dtype=object)
    adata.write_h5ad(folder / "mixed.h5ad")


def write_nullable_strings(folder: Path) -> None:
    adata = dense()
    adata.uns["names"] = pd.array(["a", None], dtype="string")
    adata.write_h5ad(folder / "nullable.h5ad")


def import_own_file(folder: Path) -> None:
    (folder / "harmonypy.py").write_text("import harmonypy\nharmonypy.run_harmony\n")
    run = [sys.executable, "harmonypy.py"]
    last = subprocess.run(run, cwd=folder, capture_output=True, text=True).stderr.splitlines()[-1]
    raise AttributeError(last.removeprefix("AttributeError: "))


def correct(column: str, labels: object, **settings: object) -> None:
    harmonize(some_cells(**{column: labels}), column, **settings)


def correct_tiny_sample() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        correct("sample", ["a"] * 197 + ["b"] * 3)


def correct_over_another_result() -> None:
    adata = some_cells(batch=["a", "b"] * 100)
    adata.obsm["X_umap"] = adata.obsm["X_pca"][:, :2]
    harmonize(adata, "batch", adjusted_basis="X_umap")


def prepare_logarithms(**layers: object) -> None:
    adata = some_cells(batch=["a", "b"] * 100)
    adata.layers.update(layers)
    sc.pp.normalize_total(adata)
    sc.pp.log1p(adata)
    prepare(adata)


# by title; what a later version mends itself is asked of earlier ones only
PROVOKED = {
    "`shape` is inconsistent with `obs`": scrublet_on_repeated_names,
    "Can only use .cat accessor with a 'category' dtype": lambda: choose_genes(
        [1] * 100 + [2] * 100
    ),
    "Bin edges must be unique": lambda: choose_genes(
        pd.Categorical(["a"] * 198 + ["b"] * 2), flavor="cell_ranger"
    ),
    "There are other near singularities as well": choose_genes_by_a_curve,
    "Input X contains NaN, after joining data sets": pca_after_outer_join,
    "Input X contains NaN, after log1p": pca_after_log_of_scaled,
    "cannot reindex on an axis with duplicate labels": fill_obs_from_repeated_rows,
    "Can't implicitly convert non-string objects to strings": write_mixed_column,
    "allow_write_nullable_strings is False": write_nullable_strings,
    "partially initialized module 'harmonypy' has no attribute 'run_harmony'": import_own_file,
    "A sample of one to four cells": correct_tiny_sample,
    "`has batches of too few cells`": correct_tiny_sample,
    "`has no parameter` ... (did you mean ...?)": lambda: correct(
        "batch", ["a", "b"] * 100, teta=5
    ),
    "`would overwrite what is no result of harmonize`": correct_over_another_result,
    "`must hold raw counts`": prepare_logarithms,
    "A continuous covariate": lambda: correct("depth", np.linspace(0, 1, 200)),
    "A covariate that is known in one data set only": lambda: correct(
        "donor", ["d1"] * 50 + ["d2"] * 50 + [None] * 100
    ),
    "reference_values": lambda: correct("batch", ["a", "b"] * 100, reference_values=["a"]),
}
MENDED = {
    "`shape` is inconsistent with `obs`": ("scanpy", "1.12"),
    "allow_write_nullable_strings is False": ("anndata", "0.13"),
}


NOT_PROVOKED = {  # of old R packages, which no test has, and of R against Python
    "no applicable method for 'Key' applied to an object of class \"character\"",
    "element-wise pow(): incompatible matrix dimensions",
    "Several variables in R: one with theta = 0 changes the clusters",
}
ASKED = {  # questions, which have no message
    "Subclustering: run Harmony again on a subset of cells?",
    "Other clusters than two years ago, or on another machine",
    "Correct within groups only",
    "Two batches of each condition",
    "Paste two covariates into one?",
    "Tumour cells merge with normal cells",
    "Which values for theta and lambda?",
}


def test_every_message_is_provoked() -> None:
    assert {failure.title for failure in more() if failure.messages} == set(PROVOKED)
    others = {failure.title for failure in more() if not failure.messages}
    assert others == NOT_PROVOKED | ASKED
    for failure in more():
        said = "We did not provoke it" in failure.parts["**Cause.**"]
        assert said == (failure.title in NOT_PROVOKED)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("title", PROVOKED)
def test_message(title: str, tmp_path: Path) -> None:
    package, mended = MENDED.get(title, ("scanpy", "99"))
    if Version(version(package)) >= Version(mended):
        pytest.skip(f"{package} {version(package)} may have mended it")
    messages = next(failure.messages for failure in more() if failure.title == title)
    kinds, words = zip(*[message.split(": ", 1) for message in messages], strict=True)
    either = "|".join(re.escape(text.split(" (")[0]) for text in words)
    provoke = PROVOKED[title]
    wants_folder = "folder" in provoke.__code__.co_varnames[: provoke.__code__.co_argcount]
    with pytest.raises((Exception, UserWarning), match=either) as caught:
        provoke(tmp_path) if wants_folder else provoke()
    assert type(caught.value).__name__ in kinds


@pytest.mark.filterwarnings("ignore")
def test_mends_of_messages(tmp_path: Path) -> None:
    """What each **Mend.** advises runs."""
    choose_genes(pd.Series([1] * 100 + [2] * 100, [f"c{i}" for i in range(200)]).astype(str))
    if find_spec("skmisc"):
        choose_genes(tiny(4), flavor="seurat_v3", span=0.6)
    other = dense()
    other.var_names = [f"g{i + 2}" for i in range(5)]
    both = ad.concat([dense(), other], join="outer", index_unique="-", fill_value=0)
    assert both.obs_names.is_unique
    sc.pp.pca(both, n_comps=2)
    adata = dense()
    mixed = pd.Series([30, "unknown"] * 10, adata.obs_names, dtype=object)
    adata.obs["age"] = pd.to_numeric(mixed, errors="coerce")
    adata.obs["text"] = mixed.astype(str)
    adata.obs.index = pd.Index(pd.array(adata.obs_names, dtype="string"))
    adata.obs_names = adata.obs_names.astype(object)
    adata.write_h5ad(tmp_path / "mended.h5ad")
    assert ad.read_h5ad(tmp_path / "mended.h5ad").obs["age"].isna().sum() == 10


def test_messages_of_helpers_say_how_to_mend_them() -> None:
    """The name that is offered, all names; a name that is free or ours; the place of the counts."""
    with pytest.raises(TypeError, match=r"did you mean 'theta'.*hands on: .*lamb"):
        correct("batch", ["a", "b"] * 100, teta=5)
    with pytest.raises(ValueError, match="counts are there with layer='counts'"):
        prepare_logarithms(counts=some_cells().X)
    adata = some_cells(batch=["a", "b"] * 100)
    for _ in range(2):  # a result of harmonize may be written over
        harmonize(adata, "batch", adjusted_basis="X_pca_harmony_run", max_iter_harmony=1)


@pytest.mark.filterwarnings("ignore")
def test_joining_says_it_too() -> None:
    one, other = dense(), dense()
    one.var_names = ["g", "g", "h", "i", "j"]
    words = "cannot reindex on an axis|Reindexing only valid with uniquely valued"
    with pytest.raises((ValueError, pd.errors.InvalidIndexError), match=words):
        ad.concat([one, other], join="outer", index_unique="-")


def test_tiny_batch_votes_unheard() -> None:
    """With the default flavour such a batch raises nothing."""
    choose_genes(pd.Categorical(["a"] * 198 + ["b"] * 2))


def test_pasted_columns_of_a_nested_design() -> None:
    """the pasted column ... gives the same result to the last digit"""
    adata = some_cells(run=["r1", "r2"] * 100)
    sample = adata.obs["run"] + pd.Series(np.arange(200) // 100, adata.obs_names).astype(str)
    adata.obs["sample"], adata.obs["pasted"] = sample, adata.obs["run"] + "_" + sample
    results = []
    for key in ["sample", "pasted"]:
        harmonize(adata, key)
        results.append(adata.obsm["X_pca_harmony"].copy())
    assert np.array_equal(*results)
    assert not np.allclose(results[0], adata.obsm["X_pca"])


def test_lambda_grows_with_the_cells() -> None:
    """The estimated lambda is alpha times the cells expected from a batch in a cluster."""
    moved = []
    for n in [20, 200]:  # of batch b, shifted alike, with one cluster
        rng = np.random.default_rng(0)
        X = rng.standard_normal((400 + n, 5))
        X[400:] += 3
        labels = pd.DataFrame({"batch": ["a"] * 400 + ["b"] * n})
        how = {"nclust": 1, "max_iter_harmony": 1, "verbose": False, "random_state": 0}
        left = {}
        for lamb in [None, 20.0]:
            Z = harmonypy.run_harmony(X, labels, "batch", lamb=lamb, **how).Z_corr
            left[lamb] = np.linalg.norm(Z[400:].mean(axis=0) - Z[:400].mean(axis=0))
        moved.append(left)
    few, many = moved
    assert few[20.0] > 1.3 * few[None]  # so the estimate for 20 cells is below 20
    assert many[20.0] < many[None]  # and above it for 200


def test_answers_on_the_course_cells() -> None:
    """The same three numbers within groups; pasted takes the condition; depth leaves the types."""
    adata = prepare(plant_run(load_pbmc()))
    obs, depth = adata.obs, adata.layers["counts"].sum(axis=1).A1
    obs["depth"] = pd.qcut(depth, 4, labels=["q1", "q2", "q3", "q4"])
    obs["pasted"] = obs["run"].astype(str) + "_" + obs["condition"].astype(str)
    keys = {"run": "run", "pasted": "pasted", "both": ["run", "condition"], "quarters": "depth"}
    rounds = FINISHED | {"max_iter_harmony": 15}
    for name, key in keys.items():
        harmonize(adata, key, adjusted_basis=name, **rounds)
    within = np.zeros_like(adata.obsm["X_pca"])
    for condition in obs["condition"].unique():
        mine = (obs["condition"] == condition).to_numpy()
        group = adata[mine].copy()
        harmonize(group, "run", adjusted_basis="alone", **rounds)
        within[mine] = group.obsm["alone"]
    adata.obsm["within"] = within
    how = {"batch_key": "run", "label_key": "cell_type", "keep_key": "condition"}
    found = three_numbers(adata, **how, use_reps=["X_pca", "within", *keys])
    assert np.allclose(found.loc["within"], found.loc["run"], atol=0.02)
    assert found.loc["run", "mixing"] > found.loc["X_pca", "mixing"] + 0.5
    assert found.loc["pasted", "biology kept"] < found.loc["run", "biology kept"] - 0.2
    assert abs(found.loc["pasted"] - found.loc["both"]).max() < 0.03
    deepest = (obs["depth"] == "q4").groupby(obs["cell_type"], observed=True).mean()
    assert deepest[["CD14 Mono", "FCGR3A Mono"]].min() > 0.5
    assert deepest["CD4 T"] < 0.1
    assert found.loc["quarters", "types apart"] > found.loc["X_pca", "types apart"] - 0.02
