"""Is the audit right?  Each of its answers beside what is true, on data with a known truth.

    python -m tools.audit_truth          # measure all, write data/audit_truth.json and the page
    python -m tools.audit_truth page     # only write book/audit_truth.md from what was measured

``make truth`` runs the first, which takes a quarter of an hour of one core.
tests/test_audit_truth.py measures some cells of the tables again, and fails when the record was
made with other thresholds than those of helpers/audit/questions.py, or when the page is stale.

Cell types serve as truth; the audit gets them in the runs "with labels" only.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from importlib.metadata import version

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
from scipy import sparse as sp

from helpers import data, kept, metrics, real
from helpers.audit import Audit, audit, begin, questions
from helpers.audit.prepared import AFTER, BEFORE
from tools.pages import ROOT

RECORD = ROOT / "data" / "audit_truth.json"
PAGE = ROOT / "book" / "audit_truth.md"
PACKAGES = ["harmonypy", "scanpy", "anndata", "numpy", "scikit-learn"]
N_CELLS = 2000  # of each data set, at most
LONE = 30  # cells that a withheld type has in the batch that keeps it, at least
ABSENT = 10  # cells in all other batches, below which a type is in one batch only
OWN = 0.8  # share of a type in a cluster, from which the cluster is the type's own
ABSURD = {"theta": 20.0, "lamb": 0.001, "sigma": 0.3, "max_iter_harmony": 40}
THRESHOLDS = [
    "EFFECT", "NO_EFFECT", "SHARED", "MIXED", "PARTLY", "OVER", "LOOK", "COLLAPSED", "LOST",
    "AGREE", "LATE", "N_GENES", "JUDGED",
]  # fmt: skip


def thresholds() -> dict[str, float]:
    """The thresholds of the audit, as they are now."""
    return {name: getattr(questions, name) for name in THRESHOLDS}


# --- data -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Data:
    """Cells with counts in X, and obs: "batch" and "type"."""

    title: str
    cells: Callable[[int], ad.AnnData]
    seeds: tuple[int, ...]
    chosen: bool = False  # whether thresholds were chosen on it
    single: Callable[[int], ad.AnnData] | None = None  # cells of one batch, for compositions


def _some(raw: ad.AnnData, seed: int, n: int = N_CELLS) -> ad.AnnData:
    rows = np.random.default_rng(seed).permutation(raw.n_obs)[:n]
    return raw[np.sort(rows)].copy()


@cache
def _other_cells() -> ad.AnnData:
    """The cells of the full data that the course does not carry, with types by its rule."""
    from tools.record.kang_pbmc import call_cell_types

    raw = data.load_pbmc(full=True)
    raw = raw[~raw.obs_names.isin(data.load_pbmc().obs_names)].copy()
    lanes = [raw[raw.obs["condition"] == name] for name in data.CONDITIONS]
    types = pd.concat([call_cell_types(lane)["cell_type"] for lane in lanes])
    raw.obs["cell_type"] = types[raw.obs_names].to_numpy()
    return raw


def _embedded_cells() -> ad.AnnData:
    return data.load_pbmc()


def _planted(source: Callable[[], ad.AnnData], seed: int, **plant: float) -> ad.AnnData:
    raw = data.plant_run(_some(source(), seed), seed=seed, **plant)
    return _named(raw, "run", "cell_type")


def _control(source: Callable[[], ad.AnnData], seed: int) -> ad.AnnData:
    raw = source()
    raw = _some(raw[raw.obs["condition"] == "control"], seed)
    return _named(raw.copy(), "condition", "cell_type")


def _named(raw: ad.AnnData, batch: str, label: str) -> ad.AnnData:
    obs = pd.DataFrame(
        {"batch": raw.obs[batch].astype(str), "type": raw.obs[label].astype(str)},
        index=raw.obs_names,
    )
    return ad.AnnData(sp.csr_matrix(raw.X), obs=obs, var=pd.DataFrame(index=raw.var_names))


def _cell_lines(seed: int) -> ad.AnnData:
    raw = real.load_cell_lines()
    return _named(raw[raw.obs["genotype"] == "one"].copy(), "run", "cell_line")


def simulate(seed: int, *, batches: int = 4, effect: float = 0.35) -> ad.AnnData:
    """An atlas of eight types in four families; each batch has its own composition.

    Genes' logarithms are sums of a level, the family's and the type's genes, the batch's effect on
    each gene (normal, of standard deviation `effect`), and one direction in which cells of a type
    differ; counts are negative binomial with dispersion 5.
    """
    rng, genes, types = np.random.default_rng(seed), 2000, 8
    level = rng.normal(-1, 1.2, genes)
    family = 1.2 * rng.normal(size=(4, genes)) * (rng.random((4, genes)) < 0.1)
    own = 1.2 * rng.normal(size=(types, genes)) * (rng.random((types, genes)) < 0.06)
    profile = np.repeat(family, 2, axis=0) + own
    shift = rng.normal(0, effect, (batches, genes))
    shares = rng.dirichlet(np.full(types, 3), batches)
    batch = rng.integers(batches, size=N_CELLS)
    kind = np.array([rng.choice(types, p=shares[b]) for b in batch])
    within = rng.normal(0, 0.25, (N_CELLS, 1)) * rng.normal(0, 0.5, genes)
    mean = np.exp(level + profile[kind] + shift[batch] + within)
    mean *= np.exp(rng.normal(7.6, 0.35, (N_CELLS, 1))) / mean.sum(axis=1, keepdims=True)
    counts = rng.negative_binomial(5, 5 / (5 + mean)).astype(np.float32)
    obs = pd.DataFrame(
        {"batch": [f"batch {b + 1}" for b in batch], "type": [f"T{k + 1}" for k in kind]},
        index=[f"cell {i}" for i in range(N_CELLS)],
    )
    names = [f"gene {g}" for g in range(genes)]
    return ad.AnnData(sp.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=names))


DATA = {
    "embedded": Data(
        "2,000 of the embedded cells, planted run of seed 0",
        lambda seed: _planted(_embedded_cells, seed),
        (0,),
        chosen=True,
        single=lambda seed: _control(_embedded_cells, seed),
    ),
    "chemistries": Data(
        "1,200 blood cells of three 10x chemistries",
        lambda seed: _named(real.load_chemistries(), "chemistry", "cell_type"),
        (0,),
        chosen=True,
    ),
    "planted anew": Data(
        "2,000 other draws of the embedded cells, with runs planted anew",
        lambda seed: _planted(_embedded_cells, seed),
        (1, 2),
    ),
    "other cells": Data(
        "2,000 cells of the full data that the course does not carry, planted run",
        lambda seed: _planted(_other_cells, seed),
        (3,),
        single=lambda seed: _control(_other_cells, seed),
    ),
    "cell lines": Data(
        "1,021 cells of five cell lines in five runs of two protocols", _cell_lines, (0, 1)
    ),
    "two labs": Data(
        "1,400 blood cells of two studies",
        lambda seed: _named(real.load_two_labs(seed=seed), "study", "cell_type"),
        (0, 1),
    ),
    "atlas": Data(
        "2,000 simulated cells of eight types in four batches",
        simulate,
        (1, 2),
        single=lambda seed: simulate(seed, batches=1),
    ),
}


# --- situations -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Situation:
    """What is done to the cells, and what is true then."""

    kind: str
    case: str
    make: Callable[[], ad.AnnData]
    options: dict = field(default_factory=dict)
    lone: tuple[str, str] | None = None  # a type, and the one batch that keeps it
    wanted: str | None = None  # of question 3: yes, no, or cannot (tell)


def situations(name: str, seed: int) -> Iterator[Situation]:
    """All that is tried on one data set with one seed."""
    setting, raw = DATA[name], DATA[name].cells(seed)
    types, batch = raw.obs["type"].to_numpy(), raw.obs["batch"].to_numpy()
    counts = pd.crosstab(types, batch)
    counts = counts[counts.index != "unassigned"]
    common = list(counts.sum(axis=1).sort_values(ascending=False).index)
    first, second = pd.Series(batch).value_counts().index[:2]
    half = np.isin(types, common[::2])
    labelled = {"label": "type"}
    both = ({}, labelled) if seed == setting.seeds[0] else ({},)

    def take(rows: np.ndarray) -> Callable[[], ad.AnnData]:
        return lambda: raw[rows].copy()

    def batches(labels: np.ndarray, source: ad.AnnData = raw) -> Callable[[], ad.AnnData]:
        def make() -> ad.AnnData:
            cells = source.copy()
            cells.obs["batch"] = labels
            return cells

        return make

    everything = take(np.ones(len(types), dtype=bool))
    yield Situation("healthy", "", everything, wanted="yes")
    yield Situation("healthy", "labels", everything, labelled, wanted="yes")
    for type_ in common:
        lone = counts.loc[type_].idxmax()
        others = counts.loc[type_].drop(lone).sum()
        if counts.loc[type_, lone] >= LONE and others >= ABSENT:
            rows = (types != type_) | (batch == lone)
            yield Situation(
                "withheld", f"{type_} but in {lone}", take(rows), lone=(type_, lone), wanted="yes"
            )
            if name in ("cell lines", "chemistries"):
                case = f"{type_} but in {lone}, labels"
                yield Situation("withheld", case, take(rows), labelled, (type_, lone), "yes")
    rows = np.isin(batch, [first, second]) & (half == (batch == first))
    for more in both:
        case = "labels" if more else ""
        yield Situation("disjoint", case, take(rows), more, wanted="cannot")
    yield Situation("merged", "absurd settings", everything, {"settings": ABSURD}, wanted=None)
    yield Situation(
        "merged", "absurd settings, labels", everything, {"settings": ABSURD} | labelled
    )
    rng = np.random.default_rng(seed)
    yield Situation("shuffled", "", batches(rng.permutation(batch)), wanted="no")
    for left in (0.25, 0.05):
        rows = (half == (batch == first)) | (rng.random(len(types)) < left)
        for more in both:
            case = f"{100 * left:.0f} % of the other half{', labels' if more else ''}"
            yield Situation("effect and composition", case, take(rows), more, wanted="yes")
    alone = batch.copy()
    alone[0] = "one cell"
    yield Situation("one cell", "", batches(alone), wanted="yes")
    for wrong in (0, 0.01, 0.05):
        yield Situation("confounded", f"{100 * wrong:.0f} % of labels wrong", _copied(raw, wrong),
                        {"keep": ["group"]})  # fmt: skip
    if name in ("embedded", "planted anew", "other cells"):
        source = _other_cells if name == "other cells" else _embedded_cells
        yield Situation(
            "weak effect", "", lambda: _planted(source, seed, depth=0.8, bias=0.3), wanted="yes"
        )
    if setting.single:
        one = setting.single(seed)
        top = one.obs["type"].value_counts().index
        top = top[top != "unassigned"]
        half_of_one = one.obs["type"].isin(list(top[::2])).to_numpy()
        yield Situation(
            "shuffled", "one batch split", batches(rng.choice(["a", "b"], one.n_obs), one),
            wanted="no",
        )  # fmt: skip
        for share in (0.8, 0.95):
            split = np.where(
                rng.random(one.n_obs) < np.where(half_of_one, share, 1 - share), "a", "b"
            )
            for more in both:
                case = f"{100 * share:.0f}/{100 - 100 * share:.0f}{', labels' if more else ''}"
                yield Situation("composition", case, batches(split, one), more, wanted="no")


def _copied(raw: ad.AnnData, wrong: float) -> Callable[[], ad.AnnData]:
    """A biology that is the batch, but for a few labels."""

    def make() -> ad.AnnData:
        cells = raw.copy()
        group = cells.obs["batch"].to_numpy().copy()
        rng = np.random.default_rng(0)
        rows = rng.random(cells.n_obs) < wrong
        group[rows] = rng.permutation(group)[rows]
        cells.obs["group"] = group
        return cells

    return make


# --- what the audit says, beside what is true -------------------------------------------------


def measure(name: str, seed: int, situation: Situation) -> dict:
    """One audit without question 6's doses, as a row of the record."""
    cells = situation.make()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = audit(cells, "batch", quick=True, seed=seed, **situation.options)
    row = {
        "data": name, "seed": seed, "kind": situation.kind, "case": situation.case,
        "n_cells": cells.n_obs, "wanted": situation.wanted,
        "verdicts": {a.id: a.verdict for a in found.answers},
        "findings": [f.id for f in found.findings],
        "all_well": all_well(found.advice),
        "advice": found.advice,
    }  # fmt: skip
    if found.refused:
        return row
    numbers = found["effect"].numbers
    row |= {k: round(float(numbers[k]), 3) for k in ("distance_ratio", "shared", "lowest_decile")}
    row["way"] = round(float(found["mixing"].numbers["way"]), 3)
    row["neighbors"] = round(float(found["stability"].numbers["neighbors_shared"]), 3)
    return row | _clusters(found, cells, situation)


def all_well(advice: list[str]) -> bool:
    """Whether a reader would go on without a doubt."""
    return any("nothing seen was lost" in s or s.startswith("Use ") for s in advice)


def _clusters(found: Audit, cells: ad.AnnData, situation: Situation) -> dict:
    """Clusters judged and named; those of types that one batch alone has; what became of types."""
    asked, types = found.cells.asked, cells.obs["type"].to_numpy()
    batch = cells.obs["batch"].to_numpy()
    clusters = kept.cluster_within(asked, "batch", BEFORE, seed=found.cells.seed).to_numpy()
    table = found["lost"].tables["look here"].set_index("cluster")
    judged = table[table["kept"].notna() & (table["n_cells"] >= questions.JUDGED)]
    counts = pd.crosstab(types, batch)
    most = pd.Series(types).groupby(clusters).agg(lambda t: t.value_counts().index[0])
    share = pd.Series(types).groupby(clusters).agg(lambda t: t.value_counts(normalize=True).iloc[0])
    only = counts.sum(axis=1) - counts.max(axis=1) < ABSENT
    rows, look = [], set(found["lost"].numbers["look"])
    collapsed = set(found["lost"].numbers["collapsed"])
    for cluster, row in table.iterrows():
        is_judged = cluster in judged.index
        rows.append([
            cluster, most[cluster], round(float(share[cluster]), 2), int(row["n_cells"]),
            None if np.isnan(row["kept"]) else round(float(row["kept"]), 3),
            round(float(row["neighbors kept"] - row["floor"]), 3),
            bool(only[most[cluster]]), is_judged, cluster in look, cluster in collapsed,
            row["genes"],
        ])  # fmt: skip
    shares = {
        rep: pd.Series(metrics.own_share(asked.obsm[rep], types)).groupby(types).mean()
        for rep in (BEFORE, AFTER)
    }
    fell = shares[BEFORE] - shares[AFTER]
    sizes = pd.Series(types).value_counts()
    torn = fell[(fell > questions.LOST) & (sizes[fell.index] >= 20)]
    return {
        "clusters": rows,
        "types_fell": {t: round(float(v), 3) for t, v in torn.items() if t != "unassigned"},
        "lone": list(situation.lone) if situation.lone else None,
    }


def measure_all(name: str, seed: int) -> list[dict]:
    """All rows of one data set and seed."""
    return [measure(name, seed, situation) for situation in situations(name, seed)]


def summary(row: dict) -> dict:
    """A row for the record: clusters counted, and those of interest by name."""
    clusters = row.get("clusters")
    short = {k: v for k, v in row.items() if k not in ("clusters", "lone", "advice", "cpu")}
    if clusters is None:
        return short
    columns = ["cluster", "type", "share", "n_cells", "kept", "near_floor", "lone", "judged",
               "look", "collapsed", "genes"]  # fmt: skip
    table = pd.DataFrame(clusters, columns=columns)
    complete = table[table["judged"] & ~table["lone"]]
    false = complete[complete["look"]]
    short["complete"] = {"judged": len(complete), "named": list(false["cluster"])}
    short["complete"]["types"] = list(false["type"])
    short["collapsed"] = list(table.loc[table["collapsed"], "type"])
    if row["lone"]:
        type_, batch = row["lone"]
        mine = table[(table["type"] == type_) & table["cluster"].str.startswith(f"{batch}: ")]
        own = mine[(mine["share"] >= OWN) & mine["judged"]]
        short["withheld"] = {
            "type": type_,
            "only_in": batch,
            "own_cluster": bool(len(own)),
            "found": bool(own["look"].any()),
            "named_at_all": bool(mine["look"].any()),
            "kept": float(own["kept"].min()) if len(own) else None,
        }
    return short


# --- what is in the file ----------------------------------------------------------------------


def _logs(raw: ad.AnnData, base: float | None = None) -> ad.AnnData:
    cells = raw.copy()
    sc.pp.normalize_total(cells, target_sum=1e4)
    sc.pp.log1p(cells, base=base)
    return cells


def _scaled(raw: ad.AnnData) -> ad.AnnData:
    cells = _logs(raw)
    cells.uns.clear()
    sc.pp.scale(cells, max_value=10)
    return cells


def _scaled_beside(raw: ad.AnnData, slot: str) -> ad.AnnData:
    cells = _scaled(raw)
    if slot == "raw":
        cells.raw = raw
    elif slot == "layer":
        cells.layers["umi"] = raw.X.copy()
    else:
        cells.obsm[BEFORE] = begin(raw, "batch").all.obsm[BEFORE]
    return cells


# name: the object made from counts, and the beginning of what must be used
INPUTS: dict[str, tuple[Callable[[ad.AnnData], ad.AnnData], str]] = {
    "counts in X": (lambda raw: raw, "counts in X"),
    "scaled X, counts in a layer": (lambda raw: _scaled_beside(raw, "layer"), "counts in layers"),
    "scaled X, counts in raw": (lambda raw: _scaled_beside(raw, "raw"), "counts in raw.X"),
    "no counts, logarithms in X": (lambda raw: _logs(raw), "logarithms in X"),
    "no counts, logarithms to base 2": (lambda raw: _logs(raw, 2.0), "logarithms in X"),
    "scaled X, nothing else": (_scaled, "refused"),
    "scaled X and an embedding": (lambda raw: _scaled_beside(raw, "pca"), "the embedding 'X_pca'"),
}


def measure_inputs(name: str) -> list[dict]:
    """What the audit takes from one data set in other clothes, and whether its PCs are the same."""
    raw = DATA[name].cells(DATA[name].seeds[0])
    whole, rows = begin(raw, "batch").all.obsm[BEFORE], []
    for case, (make, wanted) in INPUTS.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            cells = make(raw)
            try:
                found = begin(cells, "batch")
            except ValueError as error:
                rows.append({"data": name, "case": case, "wanted": wanted, "used": "refused",
                             "said": str(error), "same": None})  # fmt: skip
                continue
        same = kept.neighbors_kept(whole, found.all.obsm[BEFORE], ["all"] * raw.n_obs).mean()
        rows.append({"data": name, "case": case, "wanted": wanted, "used": found.source,
                     "same": round(float(same), 3)})  # fmt: skip
    return rows


# --- the record -------------------------------------------------------------------------------


def _task(task: tuple[str, int | None]) -> list[dict]:
    name, seed = task
    return measure_inputs(name) if seed is None else measure_all(name, seed)


def record(workers: int = 2) -> None:
    """Measure everything and write it down."""
    used = thresholds()  # before anybody may edit them
    tasks: list = [(name, seed) for name, d in DATA.items() for seed in d.seeds]
    tasks += [(name, None) for name in ("embedded", "cell lines")]
    with ProcessPoolExecutor(workers) as pool:
        found = dict(zip(tasks, pool.map(_task, tasks), strict=True))
    write(
        [summary(row) for (_, seed), rows in found.items() if seed is not None for row in rows],
        [row for (_, seed), rows in found.items() if seed is None for row in rows],
        used,
    )


def write(rows: list[dict], inputs: list[dict], used: dict) -> None:
    """The record, one line for each audit."""
    versions = {name: version(name) for name in PACKAGES}
    head = {"recorded": date.today().isoformat(), "versions": versions, "thresholds": used}
    text = json.dumps(head, indent=1).removesuffix("\n}")
    for name, part in (("audits", rows), ("inputs", inputs)):
        lines = ",\n  ".join(json.dumps(row, ensure_ascii=False) for row in part)
        text += f',\n "{name}": [\n  {lines}\n ]'
    RECORD.write_text(text + "\n}\n", encoding="utf-8")


def read_record() -> dict:
    """What was measured last."""
    return json.loads(RECORD.read_text(encoding="utf-8"))


# --- the page ---------------------------------------------------------------------------------


HEAD = """\
# Is the audit right?

The audit asks seven questions of your cells and answers each with a number and a sentence.
This page sets its answers beside what is true, on data where the truth is known.
Cell types serve as truth; the audit was not told them, except where a table says *with labels*.
It ran as `audit(adata, "batch", quick=True)`.

{data}

The thresholds were chosen on {chosen}; **what counts are the other data**.
*Two labs* is no healthy case: lab, donor, health and culture are one column there, so it has a section of its own.

## In short

{short}

The interval is of Wilson, at 95 %, and takes audits for independent, which those of one data set are not: it is too narrow.

## Where it fails

{fails}
"""  # noqa: E501

HARD = "two labs"
ANSWERS = ["yes", "no", "cannot tell"]


def _table(header: list[str], rows: list[list]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(str(x) for x in row) + " |" for row in rows]
    return ":::{div} carry-table\n" + "\n".join(lines) + "\n:::\n"  # course.css makes it fit


def _of(part: int, whole: int) -> str:
    return f"{part} of {whole}" if whole else "none tried"


def _rate(part: int, whole: int) -> str:
    """Such as "2 of 80: 3 % [1 to 9]"."""
    if not whole:
        return "none tried"
    z, p = 1.96, part / whole
    middle, width = p + z**2 / (2 * whole), z * np.sqrt(p * (1 - p) / whole + z**2 / (4 * whole**2))
    low, high = ((middle + sign * width) / (1 + z**2 / whole) for sign in (-1, 1))
    return f"{part} of {whole}: {100 * p:.0f} % [{100 * low:.0f} to {100 * high:.0f}]"


def _rows(found: dict, *kinds: str, labels: bool | None = False, data: list | None = None) -> list:
    """Rows of these kinds and data; labels=None takes those with and without."""
    names = list(DATA) if data is None else data
    return [
        row
        for row in found["audits"]
        if row["kind"] in kinds
        and row["data"] in names
        and (labels is None or row["case"].endswith("labels") == labels)
    ]


def _answer(row: dict) -> str:
    verdict = row["verdicts"].get("effect", "")
    return "cannot tell" if verdict.startswith("batch or") else verdict


def _false(rows: list[dict]) -> tuple[int, int]:
    """Clusters of complete types that were named, of those judged."""
    whole = [row["complete"] for row in rows]
    return sum(len(c["named"]) for c in whole), sum(c["judged"] for c in whole)


def _found(rows: list[dict]) -> tuple[int, int]:
    """Withheld types that were named, of those with a cluster of their own."""
    own = [row["withheld"] for row in rows if row["withheld"]["own_cluster"]]
    return sum(w["found"] for w in own), len(own)


def _warned(rows: list[dict]) -> tuple[int, int]:
    return sum(bool({"lost", "collapsed"} & set(row["findings"])) for row in rows), len(rows)


def _well(rows: list[dict]) -> tuple[int, int]:
    return sum(row["all_well"] for row in rows), len(rows)


UNSOUND = ("shuffled", "composition", "disjoint", "confounded")
GOALS = [
    (
        "Clusters that were named, though nothing was lost (healthy data)",
        "at most 5 %",
        lambda found, data: _false(_rows(found, "healthy", data=data)),
    ),
    (
        "Healthy data with a warning that something was lost",
        "few",
        lambda found, data: _warned(_rows(found, "healthy", data=data)),
    ),
    (
        "Types taken out of all batches but one, with a cluster of their own, that were named",
        "at least 90 %",
        lambda found, data: _found(_rows(found, "withheld", data=data)),
    ),
    (
        "Told that all is well, though confounded, shuffled, split by type, or with no type shared",
        "none",
        lambda found, data: _well(_rows(found, *UNSOUND, labels=None, data=data)),
    ),
]


def _parts() -> dict[str, list[str]]:
    chosen = [name for name, d in DATA.items() if d.chosen]
    return {
        "chosen on": chosen,
        "other data": [name for name in DATA if name not in (*chosen, HARD)],
    }


def page() -> str:
    """The page of the book, from the record."""
    found = read_record()
    rows = [
        [title, goal, *(_rate(*count(found, data)) for data in _parts().values())]
        for title, goal, count in GOALS
    ]
    text = HEAD.format(
        data="\n".join(
            f"- **{name}**: {d.title}"
            + (f"; seeds {', '.join(map(str, d.seeds))}." if len(d.seeds) > 1 else ".")
            for name, d in DATA.items()
        ),
        chosen=" and ".join(f"*{name}*" for name, d in DATA.items() if d.chosen),
        short=_table(["what", "goal", *_parts()], rows),
        fails="\n".join(f"- {sentence}" for sentence in failures(found)),
    )
    for section in (_lost, _effects, _merged, _designs, _hard, _inputs):
        text += "\n" + section(found)
    text += "\n## How this was measured\n\n"
    text += (
        f"Recorded on {found['recorded']} with "
        + ", ".join(f"{k} {v}" for k, v in found["versions"].items())
        + ", at these thresholds of `helpers/audit/questions.py`: "
        + ", ".join(f"`{k}` {v:g}" for k, v in found["thresholds"].items())
        + ".\n`make truth` measures everything again; `make test` measures some rows, "
        "and fails when this page is stale.\n"
    )
    return text


def _names() -> list[str]:
    return [name for name in DATA if name != HARD]


def _lost(found: dict) -> str:
    rows = []
    for name in _names():
        healthy = _rows(found, "healthy", data=[name])
        withheld = _rows(found, "withheld", data=[name])
        seen, own = _found(withheld)
        rows.append([
            name, _of(*_false(healthy)), _of(*_warned(healthy)), len(withheld), own,
            _of(seen, own), _of(*_false(withheld)),
        ])  # fmt: skip
    missed = [
        f"- {w['type']} of *{row['data']}* (seed {row['seed']}), left in {w['only_in']}: "
        f"{w['kept']:.2f} of its signature kept."
        for row in _rows(found, "withheld", data=_names())
        if (w := row["withheld"])["own_cluster"] and not w["found"]
    ]  # fmt: skip
    blind = [
        f"{w['type']} of *{row['data']}*"
        for row in _rows(found, "withheld", data=_names())
        if not (w := row["withheld"])["own_cluster"]
    ]
    header = [
        "data", "healthy: clusters named", "healthy: audits that warn", "types withheld",
        "with a cluster of their own", "of these named", "beside: clusters of other types named",
    ]  # fmt: skip
    text = (
        "## What was lost (question 5)\n\n"
        "First the data as they are, where no type is missing: "
        "a cluster that is named is a false alarm.\n"
        "Then each type in turn is taken out of all batches but one.\n"
        "A type has a cluster of its own where a cluster of its batch, large enough to be judged "
        f"({questions.JUDGED} cells), is {100 * OWN:.0f} % or more of this type.\n\n"
        + _table(header, rows)
    )
    text += "\nMissed:\n\n" + ("\n".join(missed) if missed else "- none.") + "\n"
    if blind:
        named = pd.Series(blind).value_counts()
        text += (
            "\nWithout a cluster of their own, so that the audit cannot judge them: "
            + ", ".join(f"{k}{f' ({n} times)' if n > 1 else ''}" for k, n in named.items())
            + ".\n"
        )
    text += (
        "\nThe last column holds clusters of complete types: they are named because their nearest "
        "relative is the type that was taken out, and its new neighbours are not of its kind.\n"
    )
    return text


PART = "% of the other half"
EFFECTS = [
    ("healthy", "", "a batch effect", "yes"),
    ("weak effect", "", "a weak batch effect (depth 0.8, bias 0.3)", "yes"),
    ("one cell", "", "a batch effect, and a batch of one cell", "yes"),
    ("shuffled", "", "none: the batch column shuffled", "no"),
    ("shuffled", "one batch split", "none: one batch split at random", "no"),
    ("composition", "80/20", "none: one batch split by type, 80/20", "no"),
    ("composition", "95/5", "none: one batch split by type, 95/5", "no"),
    ("effect and composition", f"25 {PART}", "both: a quarter left of half the types", "yes"),
    ("effect and composition", f"5 {PART}", "both: a twentieth left of half the types", "yes"),
    ("withheld", None, "both: one type in one batch only", "yes"),
    ("disjoint", "", "no type in both batches", "cannot tell"),
]


def _case(row: dict) -> str:
    return row["case"].removesuffix("labels").removesuffix(", ")


def _effects(found: dict) -> str:
    def counts(kind: str, case: str | None, labels: bool) -> list[str]:
        rows = [
            row
            for row in _rows(found, kind, labels=labels, data=_names())
            if case is None or _case(row) == case
        ]
        said = [_answer(row) for row in rows]
        return [str(said.count(a)) if rows else "" for a in ANSWERS]

    header = ["what is true", "right answer"]
    header += [f"says {a}" for a in ANSWERS] + [f"{a}, with labels" for a in ANSWERS]
    rows = [
        [title, wanted, *counts(kind, case, False), *counts(kind, case, True)]
        for kind, case, title, wanted in EFFECTS
    ]
    return (
        "## Is there a batch effect (question 3)\n\n"
        "*Cannot tell* is never wrong, and of little use; *yes* where there is none would make a "
        "reader remove biology, and *no* where there is one would let it stand.\n\n"
        + _table(header, rows)
    )


def _merged(found: dict) -> str:
    rows = []
    for name in list(DATA):
        for labels in (False, True):
            for row in _rows(found, "merged", labels=labels, data=[name]):
                fell = ", ".join(f"{t} (−{v:.2f})" for t, v in row["types_fell"].items())
                said = [
                    f
                    for f in ("lost", "collapsed", "over-mixed", "not-mixed")
                    if f in row["findings"]
                ]
                rows.append([
                    f"{name}, seed {row['seed']}", "yes" if labels else "no", fell or "none",
                    ", ".join(said) or "nothing", "**yes**" if row["all_well"] else "no",
                ])  # fmt: skip
    absurd = ", ".join(f"{k} = {v:g}" for k, v in ABSURD.items() if k != "max_iter_harmony")
    return (
        f"## Types merged by absurd settings\n\n"
        f"Harmony with {absurd}.\n"
        f"True is that types lost neighbours of their own kind (by more than {questions.LOST}).\n\n"
        + _table(
            ["data", "labels", "types that lost", "the audit's warnings", "told that all is well"],
            rows,
        )
    )


def _designs(found: dict) -> str:
    rows = []
    for case in dict.fromkeys(row["case"] for row in _rows(found, "confounded", data=_names())):
        tried = [r for r in _rows(found, "confounded", data=_names()) if r["case"] == case]
        refused = sum("confounded" in row["findings"] for row in tried)
        rows.append(
            [f"biology named is a copy of the batch, {case}", "refused", _of(refused, len(tried))]
        )
    one = _rows(found, "one cell", data=_names())
    rows.append(
        [
            "one batch has one cell",
            "says that this batch cannot be judged",
            _of(sum("small-batches" in row["findings"] for row in one), len(one)),
        ]
    )
    apart = _rows(found, "disjoint", data=list(DATA))
    rows.append(
        [
            "no type in both batches",
            "does not say that all is well",
            _of(sum(not row["all_well"] for row in apart), len(apart)),
        ]
    )
    return "## Designs (questions 2 and 7)\n\n" + _table(
        ["what is true", "right answer", "given"], rows
    )


def _hard(found: dict) -> str:
    rows = []
    for row in _rows(
        found, "healthy", "withheld", "shuffled", "disjoint", labels=None, data=[HARD]
    ):
        named = row["complete"]
        rows.append([
            f"{row['kind']} {row['case']}".strip() + f", seed {row['seed']}", _answer(row),
            row["verdicts"]["mixing"], _of(len(named["named"]), named["judged"]),
            "yes" if row["all_well"] else "no",
        ])  # fmt: skip
    return (
        "## The hard case: two labs\n\n"
        "The batch is lab, donor, health and culture in one, and Harmony does not mix it.\n"
        "Then the neighbours from the other batch are few and far, and most clusters are named: "
        "that says that the batches were not brought together, not that a type is missing.\n\n"
        + _table(
            ["situation", "batch effect?", "mixing", "shared types' clusters named", "all is well"],
            rows,
        )
    )  # fmt: skip


def _inputs(found: dict) -> str:
    rows = []
    for row in found["inputs"]:
        right = row["used"].startswith(row["wanted"])
        same = "" if row["same"] is None else f"{100 * row['same']:.0f} %"
        used = row["used"].split(":")[0]
        rows.append(
            [
                row["data"],
                row["case"],
                used,
                "right" if right else f"**wrong**: {row['wanted']}",
                same,
            ]
        )
    return (
        "## What is in the file (question 1)\n\n"
        "The same cells in other clothes; the last column is the share of each cell's neighbours "
        "that its PCs share with those made from counts.\n\n"
        + _table(["data", "the file holds", "used", "is that right", "neighbours"], rows)
    )


def failures(found: dict) -> list[str]:
    """Where answers were wrong or missing, in words; all data but the hard case."""
    names = _names()
    said = []

    def say(part: int, whole: int, sentence: str) -> None:
        if part:
            said.append(sentence.format(of=_of(part, whole)))

    false, judged = _false(_rows(found, "healthy", data=names))
    say(false, judged, "**False alarms.** On healthy data {of} clusters were named.")
    withheld = _rows(found, "withheld", data=names)
    seen, own = _found(withheld)
    say(
        own - seen,
        own,
        "**Relatives hide a missing type.** {of} withheld types with a cluster of their own were "
        "not named: their relatives in the other batches carry the same genes (listed below).",
    )
    hidden = [row for row in withheld if not row["withheld"]["own_cluster"]]
    well = [row for row in hidden if row["all_well"]]
    say(
        len(hidden),
        len(withheld),
        "**A type without a cluster of its own is not seen.** So it was with {of} withheld types, "
        f"and in {len(well)} of these audits the advice was that all is well. "
        "Look for such types with their marker genes, on the uncorrected cells of each batch.",
    )
    false, judged = _false(withheld)
    say(
        false,
        judged,
        "**A missing type draws others with it.** Beside a withheld type, {of} complete types' "
        "clusters were named too: the list says where to look, not what is wrong.",
    )
    weak = _rows(found, "weak effect", data=names)
    say(
        sum(_answer(row) == "no" for row in weak),
        len(weak),
        "**A weak batch effect counts as none.** {of} runs planted with little bias got a no.",
    )
    split = [row for row in _rows(found, "composition", data=names) if _case(row) == "95/5"]
    say(
        sum(_answer(row) != "no" for row in split),
        len(split),
        "**At 95/5 composition looks like a batch.** Without labels, {of} answers were not *no*: "
        f"{sum(_answer(row) == 'cannot tell' for row in split)} *cannot tell*, "
        f"{sum(_answer(row) == 'yes' for row in split)} a wrong *yes*.",
    )
    both = _rows(found, "effect and composition", data=names)
    say(
        sum(row["all_well"] and bool(row["types_fell"]) for row in both),
        len(both),
        "**Uneven batches lose types quietly.** In {of} audits of batches with an effect and of "
        "unlike composition, all was called well though a type lost neighbours of its own.",
    )
    merged = [r for r in _rows(found, "merged", data=names) if r["types_fell"]]
    say(
        sum(row["all_well"] for row in merged),
        len(merged),
        "**Merged types.** {of} corrections that merged types were called well without labels.",
    )
    copied = _rows(found, "confounded", data=names)
    say(
        sum(row["all_well"] for row in copied),
        len(copied),
        "**A few wrong labels hide a confounded design.** In {of} audits whose biology was a copy "
        "of the batch, the correction was recommended: from about one wrong label in a hundred on, "
        "the design counts as partly confounded. "
        "Read its Cramér's V: near 1, batch and biology are one.",
    )
    apart = _rows(found, "disjoint", labels=None, data=names)
    say(
        sum(row["verdicts"]["mixing"] == "mixed" for row in apart),
        len(apart),
        "**Mixed means nothing where no type is shared.** So {of} audits called such batches: "
        "with labels because chance within types would not mix them either, without because the "
        "correction had merged types into one cluster. Question 3 says that it cannot tell.",
    )
    logs = [r for r in found["inputs"] if r["used"].startswith("logarithms") and r["same"] < 0.9]
    if logs:
        said.append(
            "**Logarithms are not quite counts.** Started from them, the PCs of "
            + " and ".join(dict.fromkeys(f"*{r['data']}*" for r in logs))
            + f" share {100 * min(r['same'] for r in logs):.0f} % of the neighbours with those "
            "made from counts, because other genes are chosen."
        )
    return said or ["Nowhere, on these data."]


def write_page() -> None:
    """Write book/audit_truth.md."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:] != ["page"]:
        record()
    write_page()
