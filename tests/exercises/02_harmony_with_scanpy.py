# ruff: noqa: F821
"""What the checks of lesson 02 must say; run after its last cell (tools/trials.py)."""

import warnings

warnings.simplefilter("ignore")  # scanpy's own Leiden advises another package


def split(resolution, **how):
    """Cut the cluster of NK and CD8 T cells."""
    sc.tl.leiden(adata, resolution, random_state=0, **(restrict | {"key_added": "cut"}), **how)
    return adata.obs["cut"].copy()


both, coarse, cut = adata.obs["leiden_both"], adata.obs["leiden_0.5"], adata.obs["leiden_split"]
sc.tl.leiden(adata, 0.4, random_state=1, neighbors_key="both", key_added="both_1", **leiden)
by_types = np.where(adata.obs["cell_type"] == "NK", "NK", "CD8 T")
inside = (adata.obs["name"] == "NK, CD8 T").to_numpy()
known = np.where(inside, by_types, coarse.astype(str))
at_random = np.where(inside, np.random.default_rng(0).choice(["x", "y"], adata.n_obs), known)
own_leiden = split(0.2)

trials = [
    (1, ["graph_b", "graph_d"], "Right"),
    (1, {"graph_d", "graph_b"}, "Right"),
    (1, "graph_b, graph_d", "Right"),
    (1, pd.Index(["graph_d", "graph_b"]), "Right"),
    (1, ["graph_b"], "So far so good, but not all"),
    (1, ["graph_a", "graph_b"], "No, graph_a saw X_pca"),
    (1, ["graph_b", "graph_c", "graph_d"], "No, graph_c saw X_pca"),
    (1, ["b", "d"], "There is no graph called b, d"),
    (1, 2, "This is 2, and the check wants a list of names"),
    (1, [], "This is a list of length 0, and the check wants a list of names"),
    (2, both, "Right"),
    (2, both.astype(int).to_numpy(), "Right"),
    (2, adata.obs["both_1"].astype(str).tolist(), "Right"),
    (2, coarse, "A cluster still holds one condition"),
    (2, adata.obs["before_0.5"], "A cluster still holds one condition"),
    (2, np.zeros(adata.n_obs, dtype=int), "agree with the types less"),
    (2, np.random.default_rng(0).integers(0, 8, adata.n_obs), "agree with the types less"),
    (2, both[:-1], "wants a column of clusters"),
    (2, "both", "This is the text 'both', and the check wants a column of clusters"),
    (2, 8, "wants a column of clusters"),
    (3, cut, "Right"),
    (3, known.tolist(), "Right"),
    (3, own_leiden, "Right"),
    (3, cut.astype(str).to_numpy(), "Right"),
    (3, coarse, "in one piece"),
    (3, split(0.8, **leiden), "pieces, not two"),
    (3, adata.obs["cell_type"], "Other clusters have changed"),
    (3, at_random, "do not follow CD8 T and NK"),
    (3, cut[inside], "wants a column of clusters"),
    (3, "leiden_split", "This is the text 'leiden_split'"),
    (4, answer_4, "Right"),
    (4, sorted(answer_4), "Right"),
    (4, pd.Series(list(answer_4)), "Right"),
    (4, first["control"], "too many, 0 too few"),
    (4, first["control"] | first["stimulated"], ", 0 too few"),
    (4, sorted(answer_4)[1:], "0 too many, 1 too few"),
    (4, answer_4 & set(response), "0 too many"),
    (4, len(answer_4), "wants a set of gene names"),
    (4, set(), "This is a set of length 0, and the check wants a set of gene names"),
]
