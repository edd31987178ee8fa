# ruff: noqa: F821
"""What the checks of lesson 11 must say; run after its last cell (tools/trials.py)."""


def mended(labels=None, **settings):
    """Mend what a colleague sent; with labels from elsewhere, 40 more cells are usable."""
    some = sent.copy()
    some.obs = some.obs.rename(columns={"Run ": "run"})
    if labels is not None:
        some.obs["run"] = labels
    usable = some.obs["run"].notna() & np.isfinite(some.obsm["X_pca"]).all(axis=1)
    some = some[usable.to_numpy()].copy()
    harmonize(some, "run", **settings)
    return some


plain_copy = answer_2.copy()
del plain_copy.uns["X_pca_harmony"]
filled = sent.copy()
filled.obs["run"] = filled.obs["Run "].fillna("unknown").astype(str)
filled = filled[np.isfinite(filled.obsm["X_pca"]).all(axis=1)].copy()
harmonize(filled, "run")

right = dict(answer_1)
names_of = dict(answer_3)
two_swapped = names_of | {"A": names_of["B"], "B": names_of["A"]}


def by_share(Z, X):
    """How much of the gap is left."""
    left = gap(Z) / gap(X)
    return np.bool_(left < 0.3 and left > 0.13)


trials = [
    (1, right, "Right"),
    (1, {str(number): letter.lower() for number, letter in right.items()}, "Right"),
    (1, pd.Series(right), "Right"),
    (1, right | {4: "D", 5: "C"}, "look again at 4, 5"),
    (1, right | {1: "B", 2: "E"}, "look again at 1, 2"),
    (1, dict.fromkeys(range(1, 6), "A"), "look again at 1, 2, 4, 5"),
    (1, {1: "E", 2: "B"}, "This is a dict of length 2, and the check wants a dictionary"),
    (1, "EBACD", "This is the text 'EBACD'"),
    (1, list(right.values()), "This is a list of length 5"),
    (2, answer_2, "Right: 5,833 cells"),
    (2, mended(), "Right: 5,833 cells"),
    (2, mended(cells.obs["run"]), "Right: 5,873 cells"),
    (2, answer_2[::-1].copy(), "Right: 5,833 cells"),
    (2, filled, "another correction"),
    (2, mended(theta=1), "another correction"),
    (2, answer_2[:-1].copy(), "cells are left; which can be used"),
    (2, plain_copy, "wants the corrected AnnData"),
    (2, sent, "wants the corrected AnnData"),
    (2, answer_2.obsm["X_pca_harmony"], "wants the corrected AnnData"),
    (3, names_of, "Right"),
    (3, pd.Series(names_of), "Right"),
    (3, {letter: np.str_(fault) for letter, fault in names_of.items()}, "Right"),
    (3, two_swapped, "examine A, B again"),
    (3, dict.fromkeys("ABCDE", "sound"), "again"),
    (3, names_of | {"C": "broken"}, "This is a dict of length 5, and the check wants"),
    (3, {"A": "sound"}, "This is a dict of length 1"),
    (3, list(names_of.values()), "This is a list of length 5"),
    (3, "sound", "This is the text 'sound'"),
    (4, answer_4, "Right"),
    (4, by_share, "Right"),
    (4, lambda Z, X: gap(X) / 8 < gap(Z) < gap(X) / 3, "Right"),
    (4, lambda Z, X: True, "wrong about the run"),
    (4, lambda Z, X: gap(Z) < gap(X) / 3, "wrong about the run 'run twice'"),
    (4, lambda Z, X: gap(Z) > gap(X) / 8, "wrong about the run 'uncorrected'"),
    (4, lambda Z, X: gap(X) / 8 < gap(Z) < 0.9 * gap(X), "wrong about the run 'theta=0'"),
    (4, lambda Z, X: not np.allclose(Z, X), "wrong about the run"),
    (4, lambda Z: True, "and the check wants a function of two embeddings; it met a TypeError"),
    (4, True, "This is True, and the check wants a function"),
]
