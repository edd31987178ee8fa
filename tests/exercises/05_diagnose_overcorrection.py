# ruff: noqa: F821
"""What the checks of lesson 05 must say; run after its last cell (tools/trials.py)."""

after = own_type(crossed, "X_pca_harmony", "NK")
two_runs = kept.noise_floor(adata, "run", **rounds)
adata.obs["by type"] = [f"donor {i}" for i in np.argsort(np.argsort(cell_type)) * 8 // len(adata)]
twenty = np.random.default_rng(2).permutation(adata.n_obs) % 20
adata.obs["twenty donors"] = twenty.astype(str)

trials = [
    (1, {"alpha": 0.5}, "Right"),
    (1, {"alpha": np.float32(0.5), "theta": 2}, "Right"),
    (1, {"lamb": 10}, "Right"),
    (1, {}, "NK kept is"),
    (1, {"theta": 4}, "NK kept is"),
    (1, {"alpha": 3}, "Mixing is"),
    (1, {"max_iter_harmony": 2}, "Leave max_iter_harmony alone"),
    (1, {"teta": 1}, "Harmony refuses these settings"),
    (1, 0.5, "This is 0.5, and the check wants a dictionary of settings"),
    (1, "alpha=0.5", "This is the text 'alpha=0.5'"),
    (2, after["all cells"], "Right"),
    (2, after, "Right"),
    (2, round(float(answer_2), 2), "Right"),
    (2, np.array([answer_2]), "Right"),
    (2, own_type(crossed, "X_pca", "NK")["all cells"], "before correction"),
    (2, after["all cells"] + 0.05, "Not this number"),
    (2, 100 * answer_2, "Not this number"),
    (2, 1 - answer_2, "Not this number"),
    (2, {"NK": 0.34}, "This is a dict of length 1, and the check wants the share of NK"),
    (2, "0.34", "This is the text '0.34'"),
    (3, 0.05 / 0.95, "Right"),
    (3, 0.05, "Right"),
    (3, 0.053, "Right"),
    (3, [np.float64(1) / 19], "Right"),
    (3, 0.2, "it must be smaller"),
    (3, 0.95, "it must be smaller"),
    (3, 0.06, "it must be smaller"),
    (3, 0.01, "a larger one would do"),
    (3, 5, "it must be smaller"),
    (3, -0.05, "This is -0.05, and the check wants the largest alpha"),
    (3, "5 %", "This is the text '5 %'"),
    (4, answer_4, "Right"),
    (4, round(float(answer_4), 2), "Right"),
    (4, pd.Series([answer_4]), "Right"),
    (4, kept.noise_floor(adata, "donor"), "Right"),  # as the rule stops it
    (4, two_runs, "Too little"),
    (4, 100 * answer_4, "Too much"),
    (4, kept.noise_floor(adata, "twenty donors"), "Too much"),
    (4, answer_4 / 2, "Too little"),
    (4, "0.11", "This is the text '0.11'"),
    (4, adata.obs["donor"], "wants how far the cells move"),
]
