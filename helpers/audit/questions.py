"""The seven questions, in their order.

Each answer has a verdict, a sentence, numbers, tables, pictures, and the lines of Python that give
its numbers; each check is one that a lesson imports.

The thresholds were chosen on two data sets and tried on others: book/audit_truth.md shows how
often the answers are right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd

from helpers import design, kept, metrics
from helpers.audit.pictures import (
    LOOK,
    Picture,
    bars,
    doses,
    dots,
    dots_alt,
    dumbbells,
    heat,
    ratios,
)
from helpers.audit.prepared import AFTER, BEFORE, UNNAMED, Cells
from helpers.audit.slots import gene_names
from helpers.data import embed
from helpers.integrate import harmonize
from helpers.plots import convergence

EFFECT = 1.05  # distance ratio within groups from which there is a batch effect
NO_EFFECT = 1.03  # and below which there is none
SHARED = 0.8  # cells in groups that batches share, to tell a batch effect from composition
MIXED, PARTLY = 0.6, 0.3  # share of the way from one batch to the reference
OVER = 1.05  # times the reference: more than chance mixes
COLLAPSED = 0.15  # neighbours kept, below the floor of the same cluster
LOST = 0.05  # own-type share lost, to be named
AGREE = 0.8  # neighbours that two seeds share
LATE = 0.05  # of the objective's fall, in the last quarter of the rounds
N_GENES = 20  # of a signature
JUDGED = 30  # cells of a cluster, as many as the neighbours that its signature is sought in
N_SEEDS = 5
DOSES: dict[str, dict[str, Any]] = {
    "default": {},
    "alpha 1": {"alpha": 1.0},
    "lamb 10": {"lamb": 10.0},
    "lamb 1": {"lamb": 1.0},
    "theta 0.5": {"theta": 0.5},
    "theta 4": {"theta": 4.0},
}


@dataclass
class Answer:
    """One question answered: ``numbers`` and ``tables`` hold all that the sentence says."""

    id: str
    question: str
    verdict: str
    sentence: str
    numbers: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    pictures: list[Picture] = field(default_factory=list)
    code: str = ""
    blind: str = ""


@dataclass(frozen=True)
class Finding:
    """Something to act on: ``id`` is what ``--fail-on`` of the command names."""

    id: str
    sentence: str


# --- 1. what is there -------------------------------------------------------------------------


def matrix(cells: Cells, adata: ad.AnnData) -> tuple[Answer, list[Finding]]:
    """Say what is in ``X`` and in each slot, and where the counts are."""
    holds = cells.slots["holds"]
    found = list(holds.index[holds == "counts"])
    kind, repeated = gene_names(adata.var_names)
    verdict = "counts" if found else "logarithms" if (holds == "logarithms").any() else "embedding"
    where = f"Counts are in {' and '.join(found)}" if found else "There are no counts"
    sentence = f"{where}; used here: {cells.source}."
    if repeated:
        sentence += f" {repeated:,} gene names are there more than once."
    numbers = {
        "n_cells": int(adata.n_obs),
        "n_genes": int(adata.n_vars),
        "n_asked": int(cells.asked.n_obs),
        "gene_names": kind,
        "repeated_gene_names": repeated,
        "source": cells.source,
    }
    sizes = cells.all.obs[cells.batch].value_counts()
    code = f"{cells.code}\nfrom helpers.audit import describe_slots\ndescribe_slots(adata)"
    figure = bars(sizes, "cells")
    picture = Picture(
        figure, f"Cells of each batch: from {sizes.min():,} ({sizes.index[-1]}) to {sizes.max():,}."
    )
    title = "What is in X and in each slot, and where are the counts?"
    answer = Answer(
        "matrix", title, verdict, sentence, numbers, {"slots": cells.slots}, [picture], code
    )
    few = sizes[sizes <= 20]
    if not len(few):
        return answer, []
    named = ", ".join(f"{name} ({n})" for name, n in few.iloc[::-1][:5].items())
    return answer, [
        Finding(
            "small-batches",
            f"Batches of 20 cells or fewer cannot be judged and may be placed anywhere: {named}; "
            "merge them with like batches or leave them out.",
        )
    ]


# --- 2. the design ----------------------------------------------------------------------------


def plan(cells: Cells) -> tuple[Answer, list[Finding]]:
    """Say whether batch and biology can be told apart, counted in samples."""
    found = design.check(
        cells.all.obs,
        batch=cells.batch,
        biology=cells.keep or None,
        sample=cells.sample or cells.batch,
    )
    verdict = found.verdict or "nothing named"
    sentence = found.advice
    if found.single:
        names = ", ".join(found.single)
        sentence += f" One sample only, so nothing can be concluded from it: {names}."
    tables = {f"{a} x {b}": table for (a, b), table in found.counts.items()}
    tables["levels"] = found.levels
    pictures = [
        Picture(
            heat(table),
            f"Cells by {a} and {b}: {(table == 0).sum().sum()} of {table.size} combinations are "
            "empty.",
        )
        for (a, b), table in list(found.counts.items())[:2]
    ]  # fmt: skip
    numbers = {
        "verdict": verdict,
        "n_batches": int(cells.all.obs[cells.batch].nunique()),
        "one_sample": list(found.single),
        "small": list(found.small),
        "cramers_v": {str(k): float(v) for k, v in found.pairs["cramers_v"].items()},
    }
    biology = f", biology={cells.keep}" if cells.keep else ""
    code = (
        "from helpers import design\n"
        f"design.check(adata.obs, batch={cells.batch!r}{biology}, "
        f"sample={cells.sample or cells.batch!r})"
    )
    answer = Answer(
        "design", "Can the batch be told from the biology?", verdict, sentence, numbers, tables,
        pictures, code,
        "" if cells.keep else "No biology was named: this audit cannot see what the batch takes "
        "with it.",
    )  # fmt: skip
    if verdict != "fully confounded":
        return answer, []
    pairs = " and ".join(f"{a} with {b}" for a, b in found.confounded_with([cells.batch]))
    return answer, [Finding("confounded", f"Fully confounded: {pairs}; correcting removes both.")]


# --- 3. is there a batch effect ---------------------------------------------------------------


def effect(cells: Cells) -> tuple[Answer, list[Finding]]:
    """Say whether there is a batch effect at all, or only another composition."""
    asked, batch = cells.asked, cells.asked.obs[cells.batch]
    X, groups, by = asked.obsm[BEFORE], *_groups(cells)
    near = metrics.nearest_neighbors(X)
    ilisi = float(np.median(metrics.lisi(X, batch, neighbors=near)))
    shuffled, within = (
        metrics.mixing_reference(X, batch=batch, labels=g, seed=cells.seed, neighbors=near)
        for g in (None, groups)
    )
    overall = metrics.distance_ratio(X, batch=batch, seed=cells.seed)
    inside = metrics.distance_ratio(X, batch=batch, groups=groups, seed=cells.seed)
    shared = float(np.isfinite(inside).mean())
    ratio = float(np.nanmedian(inside)) if shared else np.nan
    decile = float(np.nanquantile(overall, 0.1)) if np.isfinite(overall).any() else np.nan
    if ratio < NO_EFFECT and shared >= SHARED / 2:
        verdict = "no"
        sentence = (
            f"Within {by}, cells of other batches are as near as those of the own batch, or so "
            "nearly that there is nothing worth correcting"
        )
    elif ratio >= EFFECT and shared >= SHARED:
        verdict = "yes"
        sentence = f"Within {by}, cells of other batches are farther than those of the own batch"
    else:
        verdict = "batch or composition: cannot tell"
        sentence = (
            f"The batches share too few of their {by} to tell a batch effect from another "
            "composition"
            if shared < SHARED
            else f"Within {by}, cells of other batches are hardly farther: a small effect, or a "
            "trace of composition"
        )
    ratio_said = "no cells to compare" if not shared else f"median ratio {ratio:.2f}"
    sentence += f" ({ratio_said}, {100 * shared:.0f} % of the cells in groups that batches share)."
    numbers = {
        "distance_ratio": ratio, "shared": shared, "lowest_decile": decile, "iLISI": ilisi,
        "iLISI_shuffled": shuffled, "iLISI_shuffled_within": within, "groups": by,
    }  # fmt: skip
    alt = f"Distance ratios of the cells within {by}: {ratio_said}; 1 would be no batch effect."
    lines = ["import numpy as np", "from helpers import kept, metrics"]
    name = _asked(cells)
    if _corrects_first(cells):
        lines += _correcting(cells)
    if not cells.label:
        lines.append(f'groups = kept.cluster_all({name}, "{AFTER}", seed={cells.seed})')
    elif cells.typed.all():
        lines.append(f"groups = {name}.obs[{cells.label!r}]")
    else:
        lines += [
            f"groups = {name}.obs[{cells.label!r}].astype(object).fillna({UNNAMED!r})",
            f'groups = groups.astype(str).replace(["", "nan", "None"], {UNNAMED!r})',
        ]
    lines.append(f'X, batch = {name}.obsm["{BEFORE}"], {name}.obs[{cells.batch!r}]')
    call = f"metrics.distance_ratio(X, batch=batch, groups=groups, seed={cells.seed})"
    lines.append(f"np.nanmedian({call})")
    code = "\n".join(lines)
    answer = Answer(
        "effect", "Is there a batch effect at all?", verdict, sentence, numbers, {},
        [Picture(ratios(inside), alt)], code,
        "" if cells.label else "Without labels, the groups are clusters of the corrected cells: "
        "types that the correction merged pass for one type with a batch effect.",
    )  # fmt: skip
    if verdict == "yes":
        return answer, []
    return answer, [Finding("no-effect" if verdict == "no" else "cannot-tell", sentence)]


def _asked(cells: Cells) -> str:
    """What the lines of Python call the cells asked."""
    return "cells" if cells.asked.n_obs == cells.all.n_obs else "asked"


def _corrects_first(cells: Cells) -> bool:
    """Whether question 3 needs the corrected cells already."""
    return not cells.label or _asked(cells) == "asked"


def _correcting(cells: Cells) -> list[str]:
    """The lines of Python that correct the cells, and take those asked."""
    record = cells.all.uns[AFTER]
    lines = [
        "from helpers.integrate import harmonize",
        f"harmonize(cells, {cells.batch!r}, seed={record['seed']}{_given(record['params'])})",
    ]
    if _asked(cells) == "asked":
        rows = f"metrics.sample_cells(cells.n_obs, {cells.asked.n_obs}, seed={cells.seed})"
        lines.append(f"asked = cells[{rows}].copy()")
    return lines


def _given(settings: Mapping[str, Any]) -> str:
    """Settings as they are written in a call."""
    plain = {k: v.tolist() if hasattr(v, "tolist") else v for k, v in settings.items()}
    return "".join(f", {name}={value!r}" for name, value in plain.items())


def _groups(cells: Cells) -> tuple[pd.Series, str]:
    """Cell types where they are known, else clusters of the corrected cells."""
    if cells.label:
        return cells.asked.obs[cells.label].astype(str), "cell types"
    if cells.clusters is None:
        cells.clusters = kept.cluster_all(cells.asked, AFTER, seed=cells.seed).astype(str)
    return cells.clusters, "clusters"


# --- 4. does Harmony mix it -------------------------------------------------------------------


def mixing(cells: Cells, shared: float) -> tuple[Answer, list[Finding]]:
    """Say whether Harmony, finished, mixes the batches, and where it does not.

    ``shared`` is what question 3 found: the share of cells in groups that batches share.
    """
    asked, batch = cells.asked, cells.asked.obs[cells.batch]
    groups, by = _groups(cells)
    near = metrics.nearest_neighbors(asked.obsm[AFTER])
    before = metrics.lisi(asked.obsm[BEFORE], batch)
    after = metrics.lisi(asked.obsm[AFTER], batch, neighbors=near)
    reference = metrics.mixing_reference(
        asked.obsm[AFTER], batch=batch, labels=groups, seed=cells.seed, neighbors=near
    )
    # under names of our own, since the reader's may be any
    grouped = ad.AnnData(
        obs=pd.DataFrame({"batch": batch, "group": groups}), obsm={AFTER: asked.obsm[AFTER]}
    )
    table = metrics.lisi_by_type(
        grouped, batch_key="batch", label_key="group", use_rep=AFTER, ignore=[UNNAMED]
    ).rename(columns={"iLISI": "after"})
    table.insert(1, "before", pd.Series(before).groupby(groups.to_numpy()).median())
    inside = [(groups == group).to_numpy() for group in table.index]
    ends = [_interval(after[rows], asked.obsm[AFTER][rows], cells.seed) for rows in inside]
    table["low"], table["high"] = [low for low, _ in ends], [high for _, high in ends]
    medians = {"before": float(np.median(before)), "after": float(np.median(after))}
    interval = _interval(after, asked.obsm[AFTER], cells.seed)
    way = (medians["after"] - 1) / (reference - 1) if reference > 1 else np.nan
    record = cells.all.uns[AFTER]
    objective = np.asarray(record["objective"])
    fall = float(objective.max() - objective.min())
    quarter = objective[-1 - len(objective) // 4]
    late = float((quarter - objective[-1]) / fall) if fall > 0 else 0.0

    findings = []
    verdict = "mixed" if way >= MIXED else "partly mixed" if way >= PARTLY else "not mixed"
    if shared < SHARED and verdict != "not mixed":
        verdict = "cannot tell"  # what was mixed may not belong together
    unmixed = table[(table["after"] - 1) < PARTLY * (table["if mixed"] - 1)]
    unmixed = unmixed[(unmixed["if mixed"] > 1.2) & (unmixed["n_cells"] >= 30)]
    sentence = (
        f"A typical cell meets {medians['after']:.2f} batches after Harmony and met "
        f"{medians['before']:.2f} before; chance within {by} would give {reference:.2f}."
    )
    if len(unmixed):
        sentence += f" Least mixed: {', '.join(map(str, unmixed.index[:5]))}."
    if verdict in ("partly mixed", "not mixed"):
        findings.append(
            Finding(
                "not-mixed",
                f"Harmony has gone {100 * max(way, 0):.0f} % of the way to the mixing that chance "
                "gives.",
            )
        )  # fmt: skip
    if interval[0] > OVER * reference:
        verdict = "over-mixed"
        findings.append(
            Finding(
                "over-mixed",
                f"The batches are mixed more evenly ({medians['after']:.2f}) than chance does "
                f"({reference:.2f}): the correction fits noise.",
            )
        )  # fmt: skip
    if abs(late) > LATE:
        findings.append(
            Finding(
                "unfinished",
                "In its last quarter of rounds the objective still moved by "
                f"{100 * abs(late):.0f} % of its fall: give max_iter_harmony more rounds.",
            )
        )  # fmt: skip
    numbers = {
        "iLISI": medians, "interval": list(interval), "reference": reference, "way": way,
        "n_cells": int(asked.n_obs), "n_rounds": int(record["n_rounds"]), "late_fall": late,
    }  # fmt: skip
    alt = (
        f"Mixing by {by}, before and after, beside what chance would give: the medians of all "
        "cells "
        f"go from {medians['before']:.2f} to {medians['after']:.2f} of {reference:.2f}."
    )
    curve = convergence(record)
    pictures = [
        Picture(dumbbells(table, by), alt),
        Picture(
            curve,
            f"Harmony's objective over {record['n_rounds']} rounds: the last quarter makes "
            f"{100 * late:.0f} % of the fall.",
        ),
    ]  # fmt: skip
    lines = ["import numpy as np", "from helpers import metrics"]
    if not _corrects_first(cells):
        lines += _correcting(cells)
    name = _asked(cells)
    lines.append(f'np.median(metrics.lisi({name}.obsm["{AFTER}"], {name}.obs[{cells.batch!r}]))')
    code = "\n".join(lines)
    return Answer(
        "mixing", "Does Harmony mix the batches?", verdict, sentence, numbers,
        {"by group": table}, pictures, code,
        "The intervals say how much other cells of the same samples would change the medians; "
        "they cover neither seeds (question 6) nor donors.",
    ), findings  # fmt: skip


def _interval(values: np.ndarray, X: np.ndarray, seed: int) -> tuple[float, float]:
    """Ends for the median, NaN of fewer cells than two neighbourhoods hold."""
    if len(values) < 180:
        return np.nan, np.nan
    return metrics.block_interval(values, X, seed=seed)


# --- 5. what was lost -------------------------------------------------------------------------


def lost(cells: Cells, settings: Mapping[str, Any], *, quick: bool) -> tuple[Answer, list[Finding]]:
    """Say what the correction cost."""
    asked, batch = cells.asked, cells.asked.obs[cells.batch].astype(str)
    X, Z = asked.obsm[BEFORE], asked.obsm[AFTER]
    clusters = kept.cluster_within(asked, cells.batch, BEFORE, seed=cells.seed)
    near = kept.neighbors_kept(X, Z, batch)
    null = kept.corrected_noise(asked, cells.batch, basis=BEFORE, seed=cells.seed, **settings)
    floor = kept.neighbors_kept(null.obsm["before"], null.obsm["after"], null.obs["batch"])
    table = pd.DataFrame({"neighbors kept": near, "floor": floor}).groupby(
        clusters.to_numpy(), observed=True
    )
    table = table.mean().rename_axis("cluster").reset_index()
    genes = asked.n_vars > 0
    if genes:
        signatures = kept.signature_kept(
            asked, cells.batch, AFTER, clusters, baseline=BEFORE, n_genes=N_GENES
        )
        table = signatures.merge(table, on="cluster")
        look = table[(table["kept"] < LOOK) & (table["n_cells"] >= JUDGED)]
    else:
        look = table[:0]
    collapsed = table[table["neighbors kept"] < table["floor"] - COLLAPSED]
    if genes and cells.label:
        types = asked.obs[cells.label].astype(str).groupby(clusters.to_numpy(), observed=True)
        table["mostly"] = table["cluster"].map(types.agg(lambda t: t.value_counts().index[0]))

    numbers: dict[str, Any] = {
        "n_clusters": len(table),
        "n_judged": int((table["kept"].notna() & (table["n_cells"] >= JUDGED)).sum())
        if genes
        else 0,
        "look": list(look["cluster"]),
        "collapsed": list(collapsed["cluster"]),
        "neighbors_kept": float(np.nanmean(near)),
        "neighbors_kept_floor": float(np.nanmean(floor)),
        "moved": kept.moved(X, Z),
        "moved_floor": kept.moved(null.obsm["before"], null.obsm["after"]),
    }
    tables, findings, words = {"look here": table}, [], []
    if len(look):
        named = "; ".join(f"{r.cluster} ({r.genes})" for r in look.head(3).itertuples())
        words.append(f"Clusters whose new neighbours do not carry their genes: {named}.")
        findings.append(Finding("lost", words[-1]))
    if len(collapsed):
        named = ", ".join(collapsed["cluster"].head(5))
        words.append(f"Neighbours within the batch were torn apart in: {named}.")
        findings.append(Finding("collapsed", words[-1]))
    pictures = [Picture(dots(table, look, JUDGED), dots_alt(table, look))]
    blind = [
        "Blind to a type without a cluster of its own, and to one whose relatives in other batches "
        "carry the same genes."
    ]
    if not genes:
        blind.append("Without genes, a type that other batches lack is not seen at all.")
    if cells.label:
        words += _types(cells, tables, numbers, findings)
        if not quick and genes:
            blind += _withheld(cells, settings, tables, numbers)
    verdict = "look here" if findings else "nothing found"
    if not findings:
        words.insert(
            0,
            f"Of {numbers['n_judged'] or len(table)} clusters found in one batch alone, none lost "
            "its "
            "genes or its neighbours.",
        )
    name, lines = _asked(cells), ["from helpers import kept"]
    if genes:
        lines += [
            f'clusters = kept.cluster_within({name}, {cells.batch!r}, "{BEFORE}", '
            f"seed={cells.seed})",
            "kept.signature_kept(",
            f'    {name}, {cells.batch!r}, "{AFTER}", clusters,',
            f'    baseline="{BEFORE}", n_genes={N_GENES},',
            ")",
        ]
    else:
        lines += [
            "import numpy as np",
            f'X, Z = {name}.obsm["{BEFORE}"], {name}.obsm["{AFTER}"]',
            f"np.nanmean(kept.neighbors_kept(X, Z, {name}.obs[{cells.batch!r}]))",
        ]
    code = "\n".join(lines)
    return Answer(
        "lost", "What was lost?", verdict, " ".join(words), numbers, tables, pictures, code,
        " ".join(blind),
    ), findings  # fmt: skip


def _types(
    cells: Cells, tables: dict[str, pd.DataFrame], numbers: dict[str, Any], findings: list[Finding]
) -> list[str]:
    """With labels: own-type share of the neighbours before and after, and the three numbers."""
    typed = cells.asked[cells.typed]
    labels = typed.obs[cells.label].astype(str)
    if labels.nunique() < 2:
        return []
    shares = {
        name: pd.Series(metrics.own_share(typed.obsm[rep], labels))
        .groupby(labels.to_numpy())
        .mean()
        for name, rep in {"before": BEFORE, "after": AFTER}.items()
    }
    table = pd.DataFrame(shares | {"n_cells": labels.value_counts()}).rename_axis(cells.label)
    tables["own-type share"] = table
    numbers["types_apart"] = {name: float(share.mean()) for name, share in shares.items()}
    if cells.keep:
        tables["three numbers"] = metrics.three_numbers(
            cells.asked, batch_key=cells.batch, label_key=cells.label, keep_key=cells.keep[0],
            use_reps={"before": BEFORE, "after": AFTER},
        )  # fmt: skip
    fell = table[(table["before"] - table["after"] > LOST) & (table["n_cells"] >= 20)]
    if not len(fell):
        return [f"No cell type has fewer neighbours of its own than before (by more than {LOST})."]
    named = ", ".join(f"{t} ({r.before:.2f} to {r.after:.2f})" for t, r in fell.iterrows())
    sentence = f"Types with fewer neighbours of their own than before: {named}."
    findings.append(Finding("lost", sentence))
    return [sentence]


def _withheld(
    cells: Cells,
    settings: Mapping[str, Any],
    tables: dict[str, pd.DataFrame],
    numbers: dict[str, Any],
) -> list[str]:
    """Each type taken out of all batches but one: what Harmony does to it, and whether we see."""
    some = cells.tried()
    types, batch = some.obs[cells.label].astype(str), some.obs[cells.batch].astype(str)
    counts = pd.crosstab(types, batch).drop(UNNAMED, errors="ignore")
    counts = counts[(counts >= 20).sum(axis=1) >= 2]
    rows = {}
    for name in counts.sum(axis=1).nlargest(8).index:
        lone = counts.loc[name].idxmax()
        part = some[((types != name) | (batch == lone)).to_numpy()].copy()
        if part.obs[cells.batch].nunique() < 2:
            continue
        harmonize(part, cells.batch, seed=cells.seed, **settings)
        is_it = (part.obs[cells.label] == name).to_numpy()
        before, after = (
            metrics.own_share(part.obsm[rep], is_it)[is_it].mean() for rep in (BEFORE, AFTER)
        )
        clusters = kept.cluster_within(part, cells.batch, BEFORE, seed=cells.seed)
        table = kept.signature_kept(part, cells.batch, AFTER, clusters, n_genes=N_GENES)
        own = pd.Series(is_it).groupby(clusters.to_numpy(), observed=True).mean()
        mine = table[table["cluster"].isin(own.index[own > 0.5]) & (table["batch"] == lone)]
        state = "no cluster of its own" if not len(mine) else "not seen"
        if ((mine["kept"] < LOOK) & (mine["n_cells"] >= JUDGED)).any():
            state = "seen"
        rows[name] = [lone, before, after, state]
    if not rows:
        return []
    columns = ["only in", "own share before", "own share after", "this audit"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis(cells.label)
    tables["each type withheld in turn"] = table
    unseen = list(table.index[table["this audit"] != "seen"])
    numbers["withheld"] = {
        "n": len(table), "seen": int((table["this audit"] == "seen").sum()), "unseen": unseen,
        "own_share_before": float(table["own share before"].mean()),
        "own_share_after": float(table["own share after"].mean()),
    }  # fmt: skip
    if not unseen:
        return [f"Taken out of all batches but one, each of {len(table)} types was seen here."]
    return [
        f"Taken out of all batches but one, {len(table) - len(unseen)} of {len(table)} types were "
        f"seen here; the absence of {', '.join(unseen)} would go unnoticed."
    ]


# --- 6. is it stable --------------------------------------------------------------------------


def stability(
    cells: Cells, settings: Mapping[str, Any], *, quick: bool
) -> tuple[Answer, list[Finding]]:
    """Say whether seeds, doses and scaling change the answer."""
    some = cells.tried()
    batch, n_seeds = some.obs[cells.batch], 2 if quick else N_SEEDS
    seeds = {}
    for seed in range(cells.seed, cells.seed + n_seeds):
        harmonize(some, cells.batch, seed=seed, **settings)
        seeds[seed] = some.obsm[AFTER].copy()
    mix = {seed: float(np.median(metrics.lisi(Z, batch))) for seed, Z in seeds.items()}
    first, *others = seeds.values()
    agree = [kept.neighbors_kept(first, Z, ["all"] * some.n_obs).mean() for Z in others]
    numbers: dict[str, Any] = {
        "iLISI_by_seed": mix, "neighbors_shared": float(min(agree)), "n_cells": int(some.n_obs),
    }  # fmt: skip
    tables = {}
    sentence = (
        f"Over {n_seeds} seeds the mixing is {min(mix.values()):.2f} to {max(mix.values()):.2f}, "
        "and "
        f"two of them share at least {100 * min(agree):.0f} % of each cell's neighbours."
    )
    if not quick:
        table = _doses(cells, some, settings)
        tables["dose"] = table
        numbers["dose"] = table.to_dict("index")
        if table["lone share left"].notna().any():
            safest = table["lone share left"].idxmax()
            sentence += (
                f" Of the settings tried, '{safest}' keeps most of a cluster that the other half "
                "of "
                f"its batch lacks ({table['lone share left'].max():.2f} of its own share, default "
                f"{table.loc['default', 'lone share left']:.2f}), at a mixing of "
                f"{table.loc[safest, 'mixing']:.2f}: an order, not a promise."
            )
    pictures = [Picture(doses(mix, tables.get("dose")), sentence)]
    verdict = "stable" if min(agree) >= AGREE else "unstable"
    findings = []
    if verdict == "unstable":
        findings.append(
            Finding(
                "unstable",
                f"Two seeds share only {100 * min(agree):.0f} % of the neighbours: report what all "
                "seeds agree on.",
            )
        )
    name, taken = _asked(cells), []
    if some.n_obs < cells.asked.n_obs:
        rows = f"metrics.sample_cells({name}.n_obs, {some.n_obs}, seed={cells.seed})"
        taken, name = [f"some = {name}[{rows}].copy()"], "some"
    lines = [
        f"from helpers import kept{', metrics' if taken else ''}",
        "from helpers.integrate import harmonize",
        *taken,
        f"for seed in {list(seeds)}:",
        f'    harmonize({name}, {cells.batch!r}, adjusted_basis=f"seed {{seed}}", seed=seed'
        f"{_given(settings)})",
        f'first, *others = ({name}.obsm[f"seed {{seed}}"] for seed in {list(seeds)})',
        f'one = ["all"] * {name}.n_obs',
        "min(kept.neighbors_kept(first, other, one).mean() for other in others)",
    ]
    code = "\n".join(lines)
    return Answer(
        "stability", "Is it stable?", verdict, sentence, numbers, tables, pictures, code,
        "Agreement of seeds says nothing of whether they are right.",
    ), findings  # fmt: skip


def _doses(cells: Cells, some: ad.AnnData, settings: Mapping[str, Any]) -> pd.DataFrame:
    """Mixing, and what is left of clusters withheld from half of their batch, by setting."""
    lone = _lone_halves(cells, some)
    rows = {}
    for name, dose in DOSES.items():
        harmonize(some, cells.batch, seed=cells.seed, **{**settings, **dose})
        mixing = float(np.median(metrics.lisi(some.obsm[AFTER], some.obs[cells.batch])))
        left = []
        for half, is_it in lone:
            harmonize(half, "half", seed=cells.seed, **{**settings, **dose})
            shares = [
                metrics.own_share(half.obsm[rep], is_it)[is_it].mean() for rep in (BEFORE, AFTER)
            ]
            left.append(shares[1] / shares[0])
        rows[name] = [mixing, float(np.mean(left)) if left else np.nan]
    if cells.counts:  # the same genes without scaling
        flat = some.copy()
        embed(flat, batch_key=cells.batch, n_comps=some.obsm[BEFORE].shape[1], scale=False)
        harmonize(flat, cells.batch, seed=cells.seed, **settings)
        rows["unscaled"] = [
            float(np.median(metrics.lisi(flat.obsm[AFTER], flat.obs[cells.batch]))),
            np.nan,
        ]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["mixing", "lone share left"])
    return table.rename_axis("setting")


def _lone_halves(cells: Cells, some: ad.AnnData) -> list[tuple[ad.AnnData, np.ndarray]]:
    """The largest batch in two halves, one of them without one of its three largest clusters."""
    largest = some.obs[cells.batch].value_counts().index[0]
    own = some[(some.obs[cells.batch] == largest).to_numpy()]
    if own.n_obs < 200:
        return []
    rng = np.random.default_rng(cells.seed)
    clusters = kept.cluster_all(own, BEFORE, seed=cells.seed)
    found = []
    for name in [c for c in clusters.value_counts().index if (clusters == c).sum() >= 40][:3]:
        second = rng.permutation(own.n_obs) < own.n_obs // 2
        is_it = (clusters == name).to_numpy()
        rows = ~(second & is_it)
        obs = pd.DataFrame(
            {"half": np.where(second, "second", "first")[rows]}, index=own.obs_names[rows]
        )
        found.append((ad.AnnData(obs=obs, obsm={BEFORE: own.obsm[BEFORE][rows]}), is_it[rows]))
    return found
