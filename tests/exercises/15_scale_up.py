# ruff: noqa: F821
"""What the checks of lesson 15 must say; run after its last cell (tools/trials.py)."""

with_hbb_total = int(adata[:, "HBB"].X.compute().sum())
two = runs.query("threads == 1 and batches == 8 and cells >= 500_000")
straight = np.polyfit(two["cells"], two["peak_gb"], 1)

trials = [
    (1, 80, "Right"),
    (1, 80.0, "Right"),
    (1, [np.float32(80.4)], "Right"),
    (1, 40, "that is one of the two"),
    (1, 20, "4 bytes for a value, 4 for its gene"),
    (1, 80e9, "cells times genes of a cell"),
    (1, 160, "cells times genes of a cell"),
    (1, "80 GB", "This is the text '80 GB'"),
    (1, [80, 80], "and the check wants the gigabytes of both"),
    (2, answer_2, "Right"),
    (2, float(answer_2), "Right"),
    (2, pd.Series([answer_2]), "Right"),
    (2, with_hbb_total, "count cells, and not molecules"),
    (2, answer_2 / adata.n_obs, "that is a share"),
    (2, answer_2 // 4, "add up what all blocks say"),
    (2, 0, "add up what all blocks say"),
    (2, "many", "This is the text 'many'"),
    (2, genes, "and the check wants a number of cells"),
    (3, answer_3, "Right"),
    (3, round(answer_3), "Right"),
    (3, np.array([answer_3 * 1.01]), "Right"),
    (3, 20 * two["peak_gb"].iloc[0], "Not yet: too low"),
    (3, 20 * two["peak_gb"].iloc[1], "Not yet: too high"),
    (3, straight[0] * 20e6 - 2, "Not yet: too low"),
    (3, two["peak_gb"].iloc[1], "Not yet: too low"),
    (3, "64", "This is the text '64'"),
    (3, straight, "and the check wants the gigabytes for 20 million cells"),
    (4, answer_4, "Right"),
    (4, float(answer_4), "Right"),
    (4, np.array([answer_4]), "Right"),
    (4, 250, "the interval is wider"),
    (4, 300, "one of the five numbers"),
    (4, len(exact), "one of the five numbers"),
    (4, 0.1, "one of the five numbers"),
    (4, "2,000", "This is the text '2,000'"),
    (4, [250, 500], "and the check wants one of 250"),
]
