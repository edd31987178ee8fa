# ruff: noqa: F821
"""What the checks of lesson 16 must say; run after its last cell (tools/trials.py)."""

stranger = dict(zip("ABCD", answer_1.values(), strict=True))
logged = lane_A.copy()
sc.pp.normalize_total(logged, target_sum=1e4)
sc.pp.log1p(logged)
normal = [part.copy() for part in (lane_A, lane_B)]
for part in normal:
    part.X = part.layers["counts"].copy()
    sc.pp.normalize_total(part, target_sum=1e4)
b_again = ad.read_h5ad(files[1])

trials = [
    (1, answer_1, "Right"),
    (1, pd.Series(answer_1), "Right"),
    (1, {name: words.upper() for name, words in answer_1.items()}, "Right"),
    (1, dict.fromkeys("ABCD", "counts"), "Look again at A, B, C"),
    (1, answer_1 | {"A": "scaled"}, "Look again at A: "),
    (1, answer_1 | {"C": "logarithms", "A": "normalised, no logarithm"}, "Look again at A, C"),
    (1, answer_1 | {"A": "log"}, "No such kind here: log."),
    (1, answer_1 | {"D": None}, "No such kind here: none."),
    (1, {"A": "counts"}, "This is a dict of length 1, and the check wants a dictionary"),
    (1, list(answer_1.values()), "This is a list of length 4"),
    (2, answer_2, "Right: counts in both."),
    (2, (lane_A, b), "Right: counts in both."),
    (2, [logged, lane_B], "Right: logarithms in both."),
    (2, [lane_A, b_again], "X still holds counts in A and logarithms in B."),
    (2, [logged, b], "X still holds logarithms in A and counts in B."),
    (2, normal, "X holds normalised, no logarithm in both"),
    (2, [b, lane_A], "Lane A has 1,000 cells and 8,373 genes, not 1,000 cells and 10,126 genes."),
    (2, [lane_A, b[:, :5]], "Lane B has 1,000 cells and 5 genes"),
    (2, b, "and the check wants a list of two AnnData"),
    (2, ["lane_A.h5ad", "lane_B.h5ad"], "and the check wants a list of two AnnData"),
    (3, answer_3, "Right: lane_A has no CD14 Mono cells."),
    (3, ["lane_A", "CD14 Mono"], "Right"),
    (3, np.array(["lane_A", " CD14 Mono"]), "Right"),
    (3, ("lane_B", "CD14 Mono"), "CD14 Mono is the type, but lane_B is the lane that has them."),
    (3, ("lane_A", "B"), "lane_A has B cells: "),
    (3, ("lane_A", "FCGR3A Mono"), "lane_A has FCGR3A Mono cells: "),
    (3, ("CD14 Mono", "lane_A"), "No such lane or type here: CD14 Mono, lane_A."),
    (3, ("A", "CD14 Mono"), "No such lane or type here: A, CD14 Mono."),
    (3, "CD14 Mono", "This is the text 'CD14 Mono', and the check wants a lane and a type"),
    (3, ("lane_A", 3), "and the check wants a lane and a type"),
    (4, answer_4, "Right"),
    (4, pd.Series(answer_4), "Right"),
    (4, {name: words.title() for name, words in answer_4.items()}, "Right"),
    (4, answer_4 | {"R": "yes"}, "Look again at R: a ratio of 1.22"),
    (4, answer_4 | {"S": "no"}, "Look again at S"),
    (4, dict.fromkeys("PQRS", "yes"), "Look again at Q"),
    (4, dict.fromkeys("PQRS", "cannot tell"), "Look again at P"),
    (4, answer_4 | {"Q": True}, "Look again at Q"),
    (4, "yes", "This is the text 'yes'"),
    (4, {"P": "yes"}, "This is a dict of length 1"),
]
