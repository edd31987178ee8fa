# ruff: noqa: F821
"""What the checks of lesson 14 must say; run after its last cell (tools/trials.py)."""

with_sums = hit.mean()
apart = np.linalg.norm(symphony(on_pcs[:20], batch[:20], ref) - ways["Symphony"][1][:20], axis=1)
moved_by = np.median(np.linalg.norm(ways["Symphony"][1][:20] - on_pcs[:20], axis=1))
markers_of_b = np.asarray(query[:, ["CD79A", "MS4A1"]].X.sum(axis=1)).ravel() > 0

trials = [
    (1, answer_1, "Right"),
    (1, round(float(answer_1), 2), "Right"),
    (1, np.array([answer_1]), "Right"),
    (1, with_sums, "that is the share with sums"),
    (1, 1 - answer_1, "Not yet: divide each row"),
    (1, 100 * answer_1, "Not yet: divide each row"),
    (1, answer_1 - 0.05, "Not yet: divide each row"),
    (1, ref["N"], "and the check wants the share of right types"),
    (1, "half", "This is the text 'half'"),
    (2, answer_2, "Right"),
    (2, round(float(answer_2), 1), "Right"),
    (2, [np.float32(answer_2)], "Right"),
    (2, moved_by, "that is how far they were moved"),
    (2, answer_2 + 0.2, "Not yet: one distance"),
    (2, 0, "Not yet: one distance"),
    (2, apart.sum(), "Not yet: one distance"),
    (2, apart, "and the check wants the median distance"),
    (2, "1", "This is the text '1'"),
    (3, answer_3, "Right"),
    (3, round(float(answer_3), 2), "Right"),
    (3, pd.Series([answer_3]), "Right"),
    (3, 1 / 3, "too low"),
    (3, 0.93, "too high"),
    (3, answer_3 - 1 / 15, "too low"),
    (3, 1.05, "too high"),
    (3, 95, "too high"),
    (3, limits, "and the check wants a share of votes"),
    (3, "0.93", "This is the text '0.93'"),
    (4, answer_4, "Right"),
    (4, markers_of_b.tolist(), "Right"),
    (4, pd.Series(markers_of_b, query.obs_names), "Right"),
    (4, np.zeros(query.n_obs, dtype=bool), "only 0% of the B cells"),
    (4, np.ones(query.n_obs, dtype=bool), "of the other cells are turned away"),
    (4, ~markers_of_b, "Not yet"),
    (4, trials["B"][-1] == "CD4 T", "of the other cells are turned away"),
    (4, markers_of_b.astype(int), "and the check wants one True or False"),
    (4, markers_of_b[:-1], "wants one True or False"),
    (4, "CD79A", "wants one True or False"),
]
