# ruff: noqa: F821
"""What the checks of lesson 00 must say; run after its last cell (tools/trials.py)."""

before, kept = np.median(ilisi_before), wrong.loc["wrong", "biology kept"]
noise = np.random.default_rng(1).normal(size=(adata.n_obs, 5))
shuffled_pcs = np.random.default_rng(2).permutation(adata.obsm["X_pca"])

trials = [
    (1, ("X_pca", before), "Right"),
    (1, ["X_pca", 1.15], "Right"),
    (1, (np.str_("X_pca"), np.float32(before)), "Right"),
    (1, ["X_pca", [before]], "Right"),
    (1, ("X_pca_harmony", np.median(ilisi_after)), "Not X_pca_harmony"),
    (1, ("X_pca", np.median(ilisi_after)), "the number is not"),
    (1, ("X_pca", before + 0.03), "the number is not"),
    (1, ("X_pca", "1.15"), "wants two things"),
    (1, "X_pca", "This is the text 'X_pca', and the check wants two things"),
    (1, before, "wants two things"),
    (1, ("X_umap", before), "Not X_umap"),
    (2, kept, "Right"),
    (2, round(float(kept), 2), "Right"),
    (2, wrong.loc[["wrong"], "biology kept"], "Right"),
    (2, wrong.loc["before", "biology kept"], "take its biology kept"),
    (2, wrong.loc["wrong", "mixing"], "That is its mixing"),
    (2, kept + 0.02, "the number is not"),
    (2, wrong, "This is a DataFrame of shape 2 x 3, and the check wants the biology kept"),
    (2, "0.54", "This is the text '0.54', and the check wants"),
    (3, noise, "Right"),
    (3, noise.astype(np.float32).tolist(), "Right"),
    (3, pd.DataFrame(shuffled_pcs), "Right"),
    (3, adata.obsm["X_pca_harmony"], "Not yet: mixing 1.9"),
    (3, adata.obsm["X_pca"], "Not yet: mixing 1.1"),
    (3, noise[:-1], "wants an array of finite numbers"),
    (3, noise.T, "wants an array of finite numbers"),
    (3, np.where(noise > 2, np.nan, noise), "wants an array of finite numbers"),
    (3, "X_silly", "This is the text 'X_silly', and the check wants an array"),
    (3, 1.9, "This is 1.9, and the check wants an array"),
]
