"""A million cells on paper and a few thousand here: lesson 15's functions, a cluster, the record.

The cluster is what a reader has: a scheduler and two workers as processes of their own, which know
an address and a store and nothing of this repository.  Every wait has an end.
"""

import ast
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import anndata as ad
import dask
import numpy as np
import pytest
import scanpy as sc

from helpers.data import prepare
from tools import scale
from tools.cells import write_cells
from tools.notebooks import ROOT, statements

LESSON = ROOT / "notebooks" / "15_scale_up.ipynb"
SHOWN = ["lazy", "blocks", "by_block", "sum_blocks", "per_cell", "per_gene", "passing"]
SHOWN += ["moments", "divide", "scaled_pcs"]
NEEDED = ["anndata", "dask", "numpy", "scanpy", "zarr"]
WAIT = 240  # seconds, on a machine that has other work; some 20 on a quiet one


def lesson_code() -> str:
    """The imports of lesson 15 and its functions out of core, as one script."""
    wanted = []
    for node in statements(LESSON):
        needed = isinstance(node, ast.Import) and node.names[0].name in NEEDED
        if needed or getattr(node, "name", "") in SHOWN:
            wanted.append(ast.unparse(node))
    return "\n".join(wanted)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    store = tmp_path_factory.mktemp("scale") / "cells.zarr"
    write_cells(store, 3000)
    return store


def shown() -> dict:
    space = {"__name__": "lesson"}
    exec(lesson_code(), space)
    assert all(name in space for name in SHOWN)
    return space


def by_steps(step: dict, store: Path) -> tuple:
    adata = step["lazy"](store)
    cells = step["by_block"](step["per_cell"], adata.X)
    genes = step["sum_blocks"](step["per_gene"], adata.X)
    logged = step["passing"](adata, cells, genes)
    sc.pp.highly_variable_genes(logged, n_top_genes=500)
    chosen = logged[:, logged.var["highly_variable"]].copy()
    return cells, genes, chosen.var_names, step["scaled_pcs"](chosen, n_comps=10)


def same_pcs(mine: np.ndarray, theirs: np.ndarray) -> bool:
    """Up to the sign of each, which nothing decides."""
    signs = np.sign((mine * theirs).sum(axis=0))
    return np.allclose(mine * signs, theirs, atol=0.01)


@pytest.fixture(scope="module")
def expected(store) -> tuple:
    with dask.config.set(scheduler="synchronous"):
        return by_steps(vars(scale), store)


def test_lesson_and_recorder_agree(store, expected) -> None:
    with dask.config.set(scheduler="synchronous"):
        found = by_steps(shown(), store)
    for mine, theirs in zip(found[:3], expected[:3], strict=True):
        assert np.array_equal(mine, theirs)
    assert same_pcs(found[3], expected[3])  # their blocks differ in size


def test_out_of_core_equals_in_memory(store, expected) -> None:
    """Cells, genes and PCs are those of `prepare`, which centres before it scales."""
    cells, genes, names, pcs = expected
    adata = ad.read_zarr(store)
    assert np.array_equal(cells[:, 0], np.ravel(adata.X.sum(axis=1)))
    assert np.array_equal(genes, np.ravel((adata.X > 0).sum(axis=0)))
    passing = adata[cells[:, 1] >= 200, genes >= 3]
    inside = prepare(passing, min_genes=0, min_cells=0, n_top_genes=500, n_comps=10)
    assert list(names) == list(inside.var_names[inside.var["highly_variable"]])
    assert 0 < len(pcs) == inside.n_obs < adata.n_obs
    assert same_pcs(pcs, inside.obsm["X_pca"])


# --- a cluster ----------------------------------------------------------------------------------

CLIENT = """
import json, os, signal, sys
from dask.distributed import Client, wait
address, store = sys.argv[1:]
with Client(address, timeout=60) as client:
    client.wait_for_workers(2, timeout=60)
    adata = lazy(store, rows=250)
    futures = client.compute(blocks(per_cell, adata.X))
    first = wait(futures, timeout=120, return_when="FIRST_COMPLETED").done.pop()
    holder = client.who_has(first)[first.key][0]
    todo = sum(future.status != "finished" for future in futures)
    os.kill(client.run(os.getpid, workers=[holder])[holder], signal.SIGKILL)
    cells = np.concatenate(client.gather(futures))
    genes = sum_blocks(per_gene, adata.X)
    logged = passing(adata, cells, genes)
    sc.pp.highly_variable_genes(logged, n_top_genes=500)
    chosen = logged[:, logged.var["highly_variable"]].copy()
    pcs = scaled_pcs(chosen, n_comps=10)
    np.savez("found.npz", cells=cells, genes=genes, pcs=pcs)
    print(json.dumps({"todo": todo, "left": len(client.scheduler_info()["workers"])}))
"""


@pytest.fixture
def cluster(tmp_path):
    """Address of a scheduler with two workers; all are gone afterwards, whatever happens."""
    env = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    env |= {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "3"}
    env.pop("PYTHONPATH", None)
    started, dask_command = [], [sys.executable, "-m", "dask"]

    def start(*arguments):
        command = [*dask_command, *map(str, arguments)]
        log = (tmp_path / f"{len(started)}.log").open("w")
        started.append(subprocess.Popen(command, cwd=tmp_path, env=env, stdout=log, stderr=log))
        log.close()

    try:
        file = tmp_path / "scheduler.json"
        local = ["--host", "127.0.0.1"]
        start("scheduler", *local, "--port", 0, "--no-dashboard", "--scheduler-file", file)
        until = time.monotonic() + WAIT / 4
        while not file.exists():
            assert started[0].poll() is None, (tmp_path / "0.log").read_text()
            assert time.monotonic() < until, "the scheduler has not started"
            time.sleep(0.1)
        address = json.loads(file.read_text())["address"]
        worker = [address, *local, "--nthreads", 1, "--no-nanny", "--no-dashboard"]
        worker += ["--memory-limit", "1GB", "--death-timeout", 60, "--local-directory", tmp_path]
        for _ in range(2):
            start("worker", *worker)
        yield address
    finally:
        for process in reversed(started):
            process.kill()
        for process in started:
            process.wait(timeout=30)


@pytest.mark.skipif(sys.platform == "win32", reason="kills a process by a signal")
def test_a_worker_is_lost_half_way(cluster, store, expected, tmp_path) -> None:
    """The lesson's functions on processes that see an address and a store, one of them killed."""
    script = tmp_path / "client.py"
    script.write_text(lesson_code() + CLIENT)
    command = [sys.executable, "-W", "ignore", script, cluster, store]
    done = subprocess.run(command, cwd=tmp_path, timeout=WAIT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["todo"] > 0, "no block was left to do when the worker was killed"
    assert said["left"] == 1
    found = np.load(tmp_path / "found.npz")
    cells, genes, _, pcs = expected
    assert (found["cells"] == cells).all()
    assert (found["genes"] == genes).all()
    assert same_pcs(found["pcs"], pcs)


# --- the record ---------------------------------------------------------------------------------


def rows_of(step: str, **where) -> list[dict]:
    rows = [row for row in recorded()["rows"] if row["step"] == step]
    return [row for row in rows if all(row.get(k) == v for k, v in where.items())]


def recorded() -> dict:
    return json.loads(scale.TARGET.read_text(encoding="utf-8"))


def test_record_says_how_it_was_made() -> None:
    found = recorded()
    for name in ("made by", "date", "machine", "versions", "cells", "settings"):
        assert found[name], name
    assert found["sizes"] == scale.SIZES
    planned = [{"step": step, "cells": n, **more} for step, n, more in scale.plan(scale.SIZES)]
    measured = [{k: row[k] for k in plan} for plan, row in zip(planned, found["rows"], strict=True)]
    assert measured == planned
    assert found["slopes"] == scale.slopes(found["rows"])


def test_growth_is_that_of_the_cells() -> None:
    """Harmony, PCA and sampled LISI: at most as the power 1.1 of the cells."""
    found = recorded()["slopes"]
    assert all(found[step] <= scale.BAR for step in scale.GROWTH), found


def test_memory_out_of_core_is_bounded() -> None:
    """Ten times the cells, and less than one gigabyte more."""
    for step in ("QC by blocks", "normalise and HVG", "PCA"):
        peaks = [row["peak_gb"] for row in rows_of(step)]
        assert max(peaks) < 2.5, (step, peaks)
        assert peaks[-1] - peaks[0] < 1, (step, peaks)


def test_slopes() -> None:
    """Four times the cells: four times the seconds is a slope of 1, sixteen times of 2."""
    rows = [
        {"step": step, "cells": n, "cpu_seconds": seconds}
        for step, costs in {"a": (1, 4), "b": (1, 16)}.items()
        for n, seconds in zip((100, 400), costs, strict=True)
    ]
    rows += [{"step": "a", "cells": 400, "cpu_seconds": 99, "threads": 2, "batches": 8}]
    assert scale.slopes(rows) == {"a": 1.0, "b": 2.0}
