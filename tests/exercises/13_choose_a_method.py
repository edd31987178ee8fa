# ruff: noqa: F821
"""What the checks of lesson 13 must say; run after its last cell (tools/trials.py)."""

first_1, last_1 = answer_1
chosen_2, walk_2 = answer_2

trials = [
    (1, answer_1, "Right"),
    (1, list(answer_1), "Right"),
    (1, pd.Series(answer_1), "Right"),
    (1, (last_1, first_1), "the other way round"),
    (1, (first_1, first_1), "Not yet: use fillna(0)"),
    (1, ("Harmony", "Harmony"), "Not yet: use fillna(0)"),
    (1, ("ComBat", last_1), "Not yet: use fillna(0)"),
    (1, first_1, "wants two names of methods"),
    (1, zero, "and the check wants two names"),
    (1, (0.5, 0.7), "and the check wants two names"),
    (2, answer_2, "Right"),
    (2, [2, round(float(walk_2), 2)], "Right"),
    (2, np.array(answer_2), "Right"),
    (2, (walk_2, chosen_2), "balanced_graph returns"),
    (2, (2, 2), "the first is right"),
    (2, (1, walk_2), "balanced_graph returns"),
    (2, (0.5, 0), "balanced_graph returns"),
    (2, shares, "and the check wants two medians"),
    (2, 2, "and the check wants two medians"),
    (2, "2 and 1", "This is the text"),
    (3, answer_3, "Right"),
    (3, sorted(answer_3), "Right"),
    (3, pd.Series(leads), "Right"),
    (3, ["Harmony"], "Not yet"),
    (3, list(three.index), "not all of these come first"),
    (3, sorted(answer_3)[1:], "a name is missing"),
    (3, {"harmony"}, "is no row of three"),
    (3, 3, "and the check wants a collection of names"),
    (3, "Seurat CCA, ComBat", "This is the text"),
]
