# ruff: noqa: F821
"""What the checks of lesson 12 must say; run after its last cell (tools/trials.py)."""

by_name = pd.Series(adata.obs["seurat"].astype(str), adata.obs_names)
settings = dict(answer_3)
padded = np.where(np.isnan(answer_4), 0, answer_4)

trials = [
    (1, answer_1, "Right"),
    (1, by_name.tolist(), "Right"),
    (1, by_name.astype(int).to_numpy(), "Right"),
    (1, adata.obs["seurat"], "Right"),
    (1, codes.loc[adata.obs_names], "right groups, wrong names"),
    (1, (codes - 1).astype(str), "match by name"),
    (1, codes, "match by name"),
    (1, by_name[:-1], "wants a column of clusters"),
    (1, "0", "This is the text '0', and the check wants a column of clusters"),
    (1, by_name.nunique(), "wants a column of clusters"),
    (2, answer_2, "Right"),
    (2, round(float(answer_2), 2), "Right"),
    (2, [np.float32(answer_2)], "Right"),
    (2, 1 - answer_2, "the share that a cell loses"),
    (2, overlap(near(adata.obsm["X_pca"]), near(Z)), "Not yet"),
    (2, 100 * answer_2, "Not yet"),
    (2, overlap(near(Z), near(Z[:, :20])), "Not yet"),
    (2, "no", "This is the text 'no', and the check wants the mean share"),
    (2, Z, "wants the mean share"),
    (3, settings, "Right"),
    (3, {name: float(value) for name, value in settings.items()}, "Right"),
    (3, dict(reversed(settings.items())), "Right"),
    (3, {"theta": [4], "lamb": [1], "tau": 5, "max_iter_harmony": 20}, "Right"),
    (3, {"theta": 4, "lambda": 1, "tau": 5, "max_iter_harmony": 20}, "lambda is not wanted"),
    (3, {"theta": 4, "lamb": 1, "tau": 5, "max_iter": 20}, "max_iter is not wanted"),
    (3, {"theta": 4, "lamb": 1, "tau": 5}, "1 of the four settings are missing"),
    (3, settings | {"theta": 2}, "a value is not"),
    (3, settings | {"tau": "5"}, "and the check wants a dictionary"),
    (3, list(settings), "This is a list of length 4"),
    (4, answer_4, "Right"),
    (4, pd.DataFrame(answer_4, adata.obs_names), "Right"),
    (4, answer_4.tolist(), "Right"),
    (4, Z, "0 cells are missing, not 100"),
    (4, padded, "0 cells are missing, not 100"),
    (4, np.full(Z.shape, np.nan), "cells are missing, not 100; do the names match"),
    (4, answer_4[::-1], "another cell's values"),
    (4, arrived, "and the check wants an array of"),
    (4, answer_4[:, :10], "wants an array of"),
    (4, "NaN", "This is the text 'NaN'"),
]
