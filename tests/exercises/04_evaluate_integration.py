# ruff: noqa: F821
"""What the checks of lesson 04 must say; run after its last cell (tools/trials.py)."""


def few_lisi(rep, rows=few):
    """Median iLISI of the run."""
    return np.median(metrics.lisi(adata.obsm[rep][rows], run[rows]))


again = np.random.default_rng(5).permutation(run)
at_5 = metrics.lisi(adata.obsm["X_pca"], again, perplexity=5)
won = [name for name in scores if name in answer_2]

trials = [
    (1, answer_1, "Right"),
    (1, round(float(answer_1), 2), "Right"),
    (1, [np.float32(answer_1)], "Right"),
    (1, few_lisi("X_pca"), "looks like X_pca"),
    (1, few_lisi("X_never", slice(None)), "is that of all cells"),
    (1, 1.22, "the most it could be"),
    (1, answer_1 + 0.03, "is not it"),
    (1, metrics.lisi(adata.obsm["X_never"][few], run[few]), "wants the median iLISI"),
    (1, "1.16", "This is the text '1.16', and the check wants the median iLISI"),
    (1, float("nan"), "This is nan, and the check wants"),
    (2, answer_2, "Right"),
    (2, won, "Right"),
    (2, ", ".join(won), "Right"),
    (2, pd.Index(won), "Right"),
    (2, won[1:], "So far so good, but 1 more"),
    (2, won[:1], "more can be found"),
    (2, list(scores), "Noise does not win"),
    (2, [*won, "ARI"], "Noise does not win ARI"),
    (2, ["mixing"], "Not among the nine scores: mixing"),
    (2, len(won), "wants the names of the scores"),
    (2, scores.loc["noise"], "wants the names of the scores"),
    (3, answer_3, "Right"),
    (3, round(float(answer_3), 2), "Right"),
    (3, [np.median(at_5)], "Right"),
    (3, 1.5, "1.50 is not it"),
    (3, np.median(metrics.lisi(adata.obsm["X_pca"], again)), "reference at perplexity 30"),
    (3, np.median(metrics.lisi(adata.obsm["X_pca"], run, perplexity=5)), "shuffle them first"),
    (3, 0.5, "0.50 is not it"),
    (3, at_5, "wants the reference at perplexity 5"),
    (3, "half-way", "This is the text 'half-way'"),
    (3, True, "This is True, and the check wants the reference"),
    (4, {"a", "c"}, "Right"),
    (4, "c, a", "Right"),
    (4, ["A.", "C."], "Right"),
    (4, "ac", "Right"),
    (4, {"a"}, "one more is"),
    (4, {"c"}, "one more is"),
    (4, {"a", "b", "c"}, "Not supported, b: the rise is small"),
    (4, ["d"], "Not supported, d: look at biology kept"),
    (4, ["a", "c", "e"], "Not supported, e"),
    (4, ["f"], "Not supported, f"),
    (4, "x", "no such sentence"),
    (4, 2, "This is 2, and the check wants the letters"),
    (5, answer_5, "Right"),
    (5, round(float(answer_5), 1), "Right"),
    (5, np.array([answer_5], dtype=np.float32), "Right"),
    (5, lot_after, "is the median itself"),
    (5, -answer_5, "after minus before"),
    (5, 0, "0.00 is not it"),
    (5, lot_after / lot_before, "is not it"),
    (5, (lot_before, lot_after), "wants the rise of the median iLISI"),
    (5, "0.3", "This is the text '0.3'"),
]
