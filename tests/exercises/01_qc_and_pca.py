# ruff: noqa: F821
"""What the checks of lesson 01 must say; run after its last cell (tools/trials.py)."""


def joined(join="outer", label="panel", order="ab", **how):
    """Join the panels."""
    panels = {name: {"a": panel_a, "b": panel_b}[name] for name in order}
    return ad.concat(panels, join=join, label=label, **how)


def by_hand():
    """Name, label and join the panels one by one."""
    parts = []
    for name, panel in {"a": panel_a, "b": panel_b}.items():
        part = panel.copy()
        part.obs["panel"] = name
        part.obs_names = name + "_" + part.obs_names
        parts.append(part)
    return ad.concat(parts, join="outer", fill_value=np.nan)


not_unique = joined()
not_unique.obs_names = ["cell"] * not_unique.n_obs
swapped = joined(index_unique="_")
swapped.obs["panel"] = swapped.obs["panel"].astype(str).map({"a": "b", "b": "a"})

lost = share.sort_values()
numbers = too_many.groupby(adata.obs["cell_type"], observed=True).sum()
lane_genes = (plain & ~per_lane["highly_variable"]).sum()

everything = adata.copy()
everything.obsm["X_pca"] = np.zeros((adata.n_obs, 3))
no_counts = answer_5.copy()
del no_counts.layers["counts"]

trials = [
    (1, answer_1, "Right"),
    (1, joined(index_unique="-", order="ba"), "Right"),
    (1, by_hand(), "Right"),
    (1, joined("inner", index_unique="_"), "Which join keeps every gene"),
    (1, not_unique, "some cell names repeat"),
    (1, joined(label="lane", index_unique="_"), "obs['panel'] should say a"),
    (1, swapped, "obs['panel'] should say a"),
    (1, panel_a, "should give 500, not 200"),
    (1, [panel_a, panel_b], "This is a list of length 2, and the check wants the joined object"),
    (1, answer_1.to_df(), "wants the joined object, an AnnData"),
    (2, 5, "Right"),
    (2, 12.5, "Right"),
    (2, np.float32(20), "Right"),
    (2, [4], "Right"),
    (2, 0.05, "Too low"),
    (2, 1, "Too low"),
    (2, 0, "Too low"),
    (2, 50, "Too high"),
    (2, 90, "Too high"),
    (2, "5 %", "This is the text '5 %', and the check wants a threshold in percent"),
    (2, (5, 50), "wants a threshold in percent"),
    (3, lost.index[-1], "Right"),
    (3, [lost.index[-1]], "Right"),
    (3, np.str_(lost.index[-1]), "Right"),
    (3, lost.index[-2], f"Not yet: {lost.index[-2]} loses"),
    (3, numbers.idxmax(), "Shares, not numbers of cells"),
    (3, lost.index[0], "Not yet"),
    (3, "dendritic", "'dendritic' is no cell type here"),
    (3, lost.max(), "and the check wants the name of one cell type"),
    (3, lost, "This is a Series of shape"),
    (4, answer_4, "Right"),
    (4, int(answer_4), "Right"),
    (4, [float(answer_4)], "Right"),
    (4, lane_genes, "with your random_lane it is not"),
    (4, 2000 - answer_4, "with your random_lane it is not"),
    (4, answer_4 + 1, "with your random_lane it is not"),
    (4, plain & ~random["highly_variable"], "wants a number of genes"),
    (4, "239", "This is the text '239'"),
    (5, answer_5, "Right"),
    (5, answer_5[::-1].copy(), "Right"),
    (
        5,
        data.prepare(ad.AnnData(counts, obs=adata.obs[singlets], var=adata.var), n_comps=20),
        "Right",
    ),
    (5, adata[singlets].copy(), "Not yet"),
    (5, everything, "are not flagged"),
    (5, answer_5[:-1], "are not flagged"),
    (5, no_counts, "no X_pca or no counts"),
    (5, answer_5.obsm["X_pca"], "wants the prepared object, an AnnData"),
    (5, "clean", "This is the text 'clean'"),
]
