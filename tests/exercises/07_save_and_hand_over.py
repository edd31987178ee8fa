# ruff: noqa: F821
"""What the checks of lesson 07 must say; run after its last cell (tools/trials.py)."""

dense = answer_1.copy()
dense.X = dense.X.toarray()
no_graph = answer_1.copy()
del no_graph.obsp["connectivities"]
logged = back.copy()
del logged.layers["counts"]
no_shift = np.median(metrics.lisi(adata.obsm["X_pca_harmony"], adata.obs["run"]))

two_p = by_cells(two)
as_arrays = answer_2 | {"key": np.array(["condition", "run"]), "left out": ["NK", "B"]}
as_tables = answer_2 | {"rounds by seed": {"1": 16, "0": 15}, "theta": {"run": 1, "condition": 2}}

trials = [
    (1, answer_1, "Right"),
    (1, answer_1.copy(), "Right"),
    (1, dense, "Right"),
    (1, back, "the layer of counts is still there"),
    (1, logged, "does it hold the counts"),
    (1, no_graph, "something was lost"),
    (1, answer_1[:100], "something was lost"),
    (1, answer_1.X, "and the check wants the leaner copy of back"),
    (1, "back", "This is the text 'back'"),
    (2, answer_2, "Right"),
    (2, as_arrays, "Right"),
    (2, as_tables, "Right"),
    (2, notes, "Not yet: "),
    (2, answer_2 | {"key": ["run", "condition"]}, "something changed"),
    (2, answer_2 | {"left out": "B, NK"}, "something changed"),
    (2, answer_2 | {"theta": {"condition": 2.0, "run": 2.0}}, "something changed"),
    (2, {"key": ["condition", "run"]}, "This is a dict of length 1, and the check wants"),
    (2, str(notes), "and the check wants a dictionary with the same four names"),
    (3, answer_3, "Right"),
    (3, round(float(answer_3), 2), "Right"),
    (3, np.array([answer_3]), "Right"),
    (3, answer_3 + 0.02, "Not yet"),
    (3, 0.05, "Not yet"),
    (3, (two_p < 0.05).sum(), "Not yet"),
    (3, 100 * answer_3, "Not yet"),
    (3, two_p, "wants a share of genes"),
    (3, "54 %", "This is the text '54 %'"),
    (4, answer_4, "Right"),
    (4, round(float(answer_4), 2), "Right"),
    (4, np.float32(answer_4), "Right"),
    (4, no_shift, "Not yet"),
    (4, 2 - answer_4, "Not yet"),
    (4, answer_4 + 0.05, "Not yet"),
    (4, back.obsm["X_aside_harmony"], "wants the median iLISI"),
    (4, "1.1", "This is the text '1.1'"),
    (4, [1.1, 1.9], "wants the median iLISI"),
]
