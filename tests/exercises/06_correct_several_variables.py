# ruff: noqa: F821
"""What the checks of lesson 06 must say; run after its last cell (tools/trials.py)."""

swapped = answer_1 | {"C": "fully confounded", "A": "nested"}
everything = left(X, "condition", "CD4 T")
by_donor = ["lane 1"] * 4 + ["lane 2"] * 4

trials = [
    (1, answer_1, "Right"),
    (1, {name: verdict.upper() for name, verdict in answer_1.items()}, "Right"),
    (1, pd.Series(answer_1), "Right"),
    (1, swapped, "Look again at A, C"),
    (1, answer_1 | {"D": "crossed"}, "Look again at D"),
    (1, answer_1 | {"C": "partly confounded"}, "Look again at C"),
    (1, answer_1 | {"B": "balanced"}, "No such verdict here: balanced"),
    (1, {"A": "crossed"}, "This is a dict of length 1, and the check wants a dictionary"),
    (1, list(answer_1.values()), "This is a list of length 4"),
    (1, dict.fromkeys("ABCD", "crossed"), "Look again at A, C, D"),
    (2, 4, "Right"),
    (2, 4.0, "Right"),
    (2, [np.float32(4)], "Right"),
    (2, 3, "Memberships differ"),
    (2, 2, "Memberships differ"),
    (2, 4.2, "Memberships differ"),
    (2, -4, "This is -4, and the check wants a theta"),
    (2, [1, 3], "This is a list of length 2"),
    (2, "4", "This is the text '4'"),
    (3, answer_3, "Right"),
    (3, round(float(answer_3), 2), "Right"),
    (3, np.float32(answer_3), "Right"),
    (3, everything, "before correction"),
    (3, left(X, "condition", "CD4 T", three), "before correction"),
    (3, 1 - answer_3, "Not this number"),
    (3, 100 * answer_3, "Not this number"),
    (3, left(corrected_3, "run", "CD4 T", three), "Not this number"),
    (3, "0.7", "This is the text '0.7'"),
    (3, corrected_3, "and the check wants what is left of the condition"),
    (4, answer_4, "Right"),
    (4, tuple(answer_4[::-1]), "Right"),
    (4, pd.Series(answer_4[2:] + answer_4[:2], dtype="category"), "Right"),
    (4, ["lane 1", "lane 2"] * 4, "Not crossed yet: "),
    (4, by_donor, "Not crossed yet: "),
    (4, ["lane 1"] * 8, "must hold four of the eight tubes"),
    (4, [1, 2, 1, 2, 2, 1, 2, 1], "must hold four of the eight tubes"),
    (4, answer_4[:6], "This is a list of length 6, and the check wants a list of eight"),
    (4, "lane 1", "This is the text 'lane 1'"),
]
