"""The Python side of tools/record/methods.py, run in an environment that holds the methods.

``methods_there.py FOLDER quick SETTING ...`` runs all methods but scVI, each in a process of its
own; ``methods_there.py FOLDER SETTING METHOD SEED EPOCHS`` trains scVI once (METHOD is ``scVI``, or
``scVI without batch``), looks at it on the way, and ends with scANVI.

Both read ``FOLDER/SETTING.h5ad``: log-normalised chosen genes in ``X``, their counts and scaled
values in ``layers``, ``obsm["X_pca"]``, ``batch`` and ``type`` in ``obs``.  For each result they
write ``FOLDER/SETTING NAME SEED.npz`` with ``X`` (cells x dimensions) or a graph, and a ``.json``
beside it with seconds, memory and versions.  Seconds are those of the processor, from the data in
memory to the result in memory, all packages loaded and compiled; memory is the peak of the whole
process.
"""

import json
import os
import resource
import sys
import time
import traceback
import warnings
from importlib.metadata import version
from pathlib import Path

import anndata as ad
import numpy as np
import scanpy as sc
import scipy.sparse as sp

warnings.simplefilter("ignore")
N_LATENT = 10  # the default of scvi-tools
LENGTHS = (10, 100, 400)  # epochs after which scVI is looked at; 400 is its default here


def harmony(cells, seed, **settings):
    """Corrected PCs of harmonypy."""
    import harmonypy

    run = harmonypy.run_harmony(
        cells.obsm["X_pca"], cells.obs, "batch", random_state=seed, verbose=False, **settings
    )
    return run.Z_corr


def pcs(values, n_comps):
    """Principal components of genes that are scaled here."""
    scaled = ad.AnnData(np.array(values, dtype=np.float32))
    sc.pp.scale(scaled, max_value=10)
    return sc.pp.pca(scaled.X, n_comps=n_comps, random_state=0)


def unscaled(cells):
    """The same cells with PCs of genes that are not scaled."""
    n = cells.obsm["X_pca"].shape[1]
    pca = sc.pp.pca(cells.X.toarray(), n_comps=n, random_state=0)
    return ad.AnnData(obs=cells.obs, obsm={"X_pca": pca})


def combat(cells, seed):
    """PCs of the genes that ComBat corrected."""
    some = ad.AnnData(cells.X.toarray(), obs=cells.obs)
    sc.pp.combat(some, "batch")
    return pcs(some.X, cells.obsm["X_pca"].shape[1])


def scanorama(cells, seed, dims=None, layer=None):
    """Its joint embedding, brought back into the order of the cells."""
    import scanorama

    values = cells.X if layer is None else cells.layers[layer]
    rows = [np.flatnonzero(cells.obs["batch"] == b) for b in cells.obs["batch"].cat.categories]
    parts = [ad.AnnData(values[r], var=cells.var) for r in rows]
    dims = dims or cells.obsm["X_pca"].shape[1]
    scanorama.integrate_scanpy(parts, dimred=dims, seed=seed)
    found = np.empty((cells.n_obs, parts[0].obsm["X_scanorama"].shape[1]))
    for r, part in zip(rows, parts, strict=True):
        found[r] = part.obsm["X_scanorama"]
    return found


def bbknn(cells, seed, **settings):
    """The graph of the released package."""
    import bbknn

    return bbknn.matrix.bbknn(cells.obsm["X_pca"], cells.obs["batch"], **settings)[1]


def scvi(cells, seed, keep, epochs, batch=True):
    """One training, looked at on the way; with the last of it, scANVI."""
    import lightning.pytorch as lightning
    import scvi
    import torch

    torch.set_num_threads(1)
    scvi.settings.seed, scvi.settings.verbosity = seed, 40
    lengths = [length for length in LENGTHS if length <= epochs]
    some = ad.AnnData(sp.csr_matrix(cells.layers["counts"]), obs=cells.obs.copy(), var=cells.var)
    scvi.model.SCVI.setup_anndata(some, batch_key="batch" if batch else None)
    begin = time.process_time()
    model = scvi.model.SCVI(some, n_latent=N_LATENT)
    seen = {}

    class Look(lightning.Callback):
        def on_train_epoch_end(self, trainer, module):
            if (done := trainer.current_epoch + 1) in lengths:
                weights = {k: v.clone() for k, v in model.module.state_dict().items()}
                seen[done] = time.process_time() - begin, weights

    quiet = {"enable_progress_bar": False, "logger": False, "enable_model_summary": False}
    quiet |= {"accelerator": "cpu", "devices": 1}
    model.train(max_epochs=epochs, callbacks=[Look()], **quiet)
    before = "scVI" if batch else "scVI without batch"
    for length, (seconds, weights) in seen.items():
        model.module.load_state_dict(weights)
        begin_read = time.process_time()
        X = model.get_latent_representation()
        taken = seconds + time.process_time() - begin_read
        keep(f"{before}, {length} epochs", X, taken)
    if batch and "type" in cells.obs and cells.obs["type"].nunique() > 1:
        some.obs["label"] = cells.obs["type"].astype(str)
        begin_last = time.process_time()
        known = scvi.model.SCANVI.from_scvi_model(model, "unassigned", labels_key="label")
        known.train(**quiet)
        X = known.get_latent_representation()
        keep(f"scANVI, {epochs} epochs", X, taken + time.process_time() - begin_last)


FINISHED = {"max_iter_harmony": 40, "epsilon_harmony": 0}
METHODS = {
    "uncorrected": lambda cells, seed: cells.obsm["X_pca"],
    "Harmony": lambda cells, seed: harmony(cells, seed, **FINISHED),
    "Harmony, default stop": lambda cells, seed: harmony(cells, seed),
    "Harmony, lamb=1": lambda cells, seed: harmony(cells, seed, lamb=1, **FINISHED),
    "uncorrected, unscaled genes": lambda cells, seed: unscaled(cells).obsm["X_pca"],
    "Harmony, unscaled genes": lambda cells, seed: harmony(unscaled(cells), seed, **FINISHED),
    "ComBat": combat,
    "Scanorama": scanorama,
    "Scanorama, scaled genes": lambda cells, seed: scanorama(cells, seed, layer="scaled"),
    "Scanorama, 100 dimensions": lambda cells, seed: scanorama(cells, seed, dims=100),
    "BBKNN": bbknn,
    # exact search, and no cell's edges are cut down to a number
    "BBKNN, exact": lambda cells, seed: bbknn(cells, seed, computation="cKDTree", trim=0),
}
PACKAGES = ["harmonypy", "scanpy", "scanorama", "bbknn", "scvi-tools", "torch", "umap-learn"]
PACKAGES += ["numpy", "scikit-learn"]


def written(place, setting, seed, name, result, seconds):
    """Write one result, and beside it what it took so far in this process."""
    target = f"{setting} {name} {seed}"
    if sp.issparse(result):
        graph = sp.csr_matrix(result)
        arrays = {k: getattr(graph, k) for k in ("data", "indices", "indptr", "shape")}
    else:
        arrays = {"X": np.asarray(result, dtype=np.float32)}
    np.savez(place / f"{target}.npz", **arrays)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    said = {"seconds": seconds, "GB": peak, "versions": {p: version(p) for p in PACKAGES}}
    (place / f"{target}.json").write_text(json.dumps(said))


def quick(place: Path, settings: list[str]) -> None:
    """Run all but scVI, each in a copy of this process in which all is loaded and compiled."""
    for package in ("harmonypy", "scanorama", "bbknn"):
        __import__(package)
    first = ad.read_h5ad(place / f"{settings[0]}.h5ad")
    some = first[np.random.default_rng(0).permutation(first.n_obs)[:400]].copy()
    for method in METHODS.values():
        method(some, 0)
    for setting in settings:
        cells = ad.read_h5ad(place / f"{setting}.h5ad")
        for method, run in METHODS.items():
            for seed in (0, 1, 2) if method.startswith("Harmony") else (0,):
                if (place / f"{setting} {method} {seed}.json").exists():
                    continue
                if child := os.fork():
                    if os.waitpid(child, 0)[1]:
                        sys.exit(f"{setting}, {method}: failed")
                    continue
                try:
                    begin = time.process_time()
                    result = run(cells, seed)
                    seconds = time.process_time() - begin
                    written(place, setting, seed, method, result, seconds)
                except BaseException:
                    traceback.print_exc()
                    os._exit(1)
                os._exit(0)


def trained(place: Path, setting: str, method: str, seed: int, epochs: int) -> None:
    """Run one training."""
    cells = ad.read_h5ad(place / f"{setting}.h5ad")

    def keep(name, result, seconds):
        written(place, setting, seed, name, result, seconds)

    scvi(cells, seed, keep, epochs, batch="without" not in method)


if __name__ == "__main__":
    folder, what, *more = sys.argv[1:]
    if what == "quick":
        quick(Path(folder), more)
    else:
        trained(Path(folder), what, more[0], int(more[1]), int(more[2]))
