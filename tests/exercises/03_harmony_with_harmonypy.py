# ruff: noqa: F821
"""What the checks of lesson 03 must say; run after its last cell (tools/trials.py)."""


def by_reordering(labels):
    """Move the PCs to the order of the labels, and the result back."""
    order = adata.obs_names.get_indexer(labels.index)
    found = harmonypy.run_harmony(pcs[order], labels, "run", verbose=False, random_state=0)
    back = np.empty_like(pcs)
    back[order] = found.Z_corr
    return back, found.Z_corr


restored, not_restored = by_reordering(labels_table)
by_position = harmonypy.run_harmony(pcs, labels_table, "run", verbose=False, random_state=0)

spread = pd.Series(effective).groupby(cell_type)
medians = spread.median()
swapped = medians.to_dict() | {"NK": medians["B"], "B": medians["NK"]}


def last_two(objective, epsilon):
    if len(objective) == 1:
        return 0
    fall = (objective[-2] - objective[-1]) / abs(objective[-2])
    return int(fall >= 0 and fall < epsilon)


def stop(objective, epsilon):
    falls = -np.diff(np.asarray(objective, dtype=float)[-2:])
    return falls.size and 0 <= falls[0] < epsilon * abs(objective[-2])


def rise_is_convergence(objective, epsilon):
    return len(objective) > 1 and (objective[-2] - objective[-1]) / abs(objective[-2]) < epsilon


def first_fall(objective, epsilon):
    return len(objective) > 1 and 0 <= (objective[0] - objective[1]) / abs(objective[0]) < epsilon


def no_abs(objective, epsilon):
    return len(objective) > 1 and 0 <= (objective[-2] - objective[-1]) / objective[-2] < epsilon


def absolute(objective, epsilon):
    return len(objective) > 1 and 0 <= objective[-2] - objective[-1] < epsilon


trials = [
    (1, corrected, "Right"),
    (1, restored, "Right"),
    (1, pd.DataFrame(restored, adata.obs_names).astype("float32"), "Right"),
    (1, corrected.tolist(), "Right"),
    (1, by_position.Z_corr, "each cell needs its own label"),
    (1, not_restored, "each cell needs its own label"),
    (1, pcs, "each cell needs its own label"),
    (1, corrected.T, "PCs x cells"),
    (1, by_position, "This is a Harmony, and the check wants the corrected embedding"),
    (1, restored[:, :10], "wants the corrected embedding"),
    (1, "X_pca_harmony", "This is the text 'X_pca_harmony'"),
    (2, medians, "Right"),
    (2, medians.round(2).to_dict(), "Right"),
    (2, medians.to_frame("effective"), "Right"),
    (2, medians.drop("unassigned"), "Right"),
    (2, spread.mean(), "is it the median"),
    (2, medians + 0.2, "is it the median"),
    (2, swapped, "Not yet, B: is it the median"),
    (2, medians.drop("NK"), "wants one median for each cell type"),
    (2, medians.tolist(), "This is a list of length 10, and the check wants one median"),
    (2, np.median(effective), "wants one median for each cell type"),
    (2, medians.astype(str), "wants one median for each cell type"),
    (3, last_two, "Right"),
    (3, stop, "Right"),
    (3, lambda o, e: len(o) > 1 and 0 <= o[-2] - o[-1] < e * abs(o[-2]), "Right"),
    (3, rise_is_convergence, "[500, 400, 401], epsilon 0.01, should give False"),
    (3, first_fall, "should give"),
    (3, no_abs, "[-100, -120, -120.5], epsilon 0.01, should give True"),
    (3, absolute, "should give True"),
    (3, lambda o, e: o[-2] - o[-1] < e, "should give True"),
    (3, lambda o: True, "ends in TypeError"),
    (3, True, "This is True, and the check wants a function"),
    (3, [True, False], "wants a function"),
    (4, {"max_iter_harmony": 25, "epsilon_harmony": 0}, "Right: 25 rounds"),
    (4, {"max_iter_harmony": np.int64(22), "epsilon_harmony": 0.0}, "Right: 22 rounds"),
    (4, {"epsilon_harmony": 1e-6, "max_iter_harmony": 24.0}, "Right: 24 rounds"),
    (4, {}, "it stopped after"),
    (4, {"max_iter_harmony": 40, "epsilon_harmony": 0}, "6 to 39 whole rounds"),
    (4, {"max_iter_harmony": 7, "epsilon_harmony": 0}, "the last five rounds made"),
    (4, {"max_iter_harmony": "25", "epsilon_harmony": 0}, "and the check wants a dictionary"),
    (4, {"max_iter_harmony": 20.5, "epsilon_harmony": 0}, "6 to 39 whole rounds"),
    (4, {"theta": 4}, "This is a dict of length 1, and the check wants a dictionary with max"),
    (4, 25, "This is 25, and the check wants a dictionary"),
]
