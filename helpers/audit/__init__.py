"""Audit one's own data: seven questions, in order, each answered by what a lesson teaches.

``audit(adata, "batch")`` in Python, ``harmony-audit FILE --batch COLUMN --out FOLDER`` at the
command line.  Neither gives one score: an average would hide what the single answers say.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from tqdm import tqdm

from helpers.audit import questions
from helpers.audit.pictures import PLAIN_TEXT
from helpers.audit.prepared import AFTER, Cells, prepared
from helpers.audit.questions import Answer, Finding, Picture
from helpers.audit.read import read_inputs
from helpers.audit.slots import describe_slots
from helpers.integrate import FINISHED, harmonize
from helpers.plots import STYLE

__all__ = [
    "SCHEMA", "Answer", "Audit", "Finding", "Picture", "audit", "begin",
    "describe_slots", "read_inputs",
]  # fmt: skip

SCHEMA = 1  # of audit.json; raised when a name in it changes its meaning
PACKAGES = ("harmony-in-practice", "harmonypy", "scanpy", "anndata", "numpy", "scikit-learn")


@dataclass(repr=False)
class Audit:
    """The outcome; a notebook shows it, :meth:`save` writes it.

    Attributes
    ----------
    answers
        One :class:`Answer` per question, in order; a refused audit has the first two only.
    findings
        What to act on.
    advice
        At most three sentences, each tied to a number above.
    cells
        What was worked on: ``cells.all.obsm["X_pca_harmony"]`` is the corrected embedding of all
        cells, ``cells.all.uns["X_pca_harmony"]`` its record; neither is there if refused.
    settings, quick
        What was asked.
    """

    cells: Cells
    settings: dict[str, Any]
    quick: bool
    answers: list[Answer] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)

    def __getitem__(self, name: str) -> Answer:
        """The answer of this id, such as ``"effect"``."""
        for answer in self.answers:
            if answer.id == name:
                return answer
        raise KeyError(f"No answer {name!r}; there are {', '.join(a.id for a in self.answers)}.")

    @property
    def refused(self) -> bool:
        """Whether nothing was corrected, because batch and biology are the same."""
        return any(finding.id == "confounded" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """All numbers, as ``audit.json`` holds them: plain types, NaN as None."""
        return {
            "schema": SCHEMA,
            "batch": self.cells.batch,
            "keep": self.cells.keep,
            "label": self.cells.label,
            "sample": self.cells.sample,
            "quick": self.quick,
            "seed": self.cells.seed,
            "settings": _plain(self.settings),
            "versions": _versions(),
            "answers": [
                {
                    "id": a.id,
                    "question": a.question,
                    "verdict": a.verdict,
                    "sentence": a.sentence,
                    "blind": a.blind,
                    "numbers": _plain(a.numbers),
                    "tables": {name: _plain(table) for name, table in a.tables.items()},
                }
                for a in self.answers
            ],
            "findings": [{"id": f.id, "sentence": f.sentence} for f in self.findings],
            "advice": self.advice,
            "notes": self.cells.notes,
        }

    def methods(self) -> str:
        """A paragraph for a methods section, from the record of the run."""
        if self.refused:
            return (
                f"Batches ({self.cells.batch}) were not corrected, because they cannot be told "
                "from the biology of interest."
            )
        record = self.cells.all.uns[AFTER]
        versions, n = record["versions"], self.cells.all.obs[self.cells.batch].nunique()
        params = ", ".join(f"{name} = {value}" for name, value in record["params"].items())
        mixing = self["mixing"].numbers
        return (
            f"Starting from {self.cells.source}, the {self.cells.all.n_obs:,} cells were corrected "
            f"for {self.cells.batch} ({n} batches) with Harmony (Korsunsky et al. 2019; harmonypy "
            f"{versions['harmonypy']}, {record['n_rounds']} rounds, seed {record['seed']}, "
            f"{params}, "
            "all else by default). The median local inverse Simpson's index of the batch, on "
            f"{mixing['n_cells']:,} cells, rose from {mixing['iLISI']['before']:.2f} to "
            f"{mixing['iLISI']['after']:.2f}; shuffled within groups it was "
            f"{mixing['reference']:.2f}. The corrected embedding served neighbours and clusters "
            "only; expression was compared on uncorrected counts."
        )

    def save(self, out: Any, **provenance: Any) -> Any:
        """Write the report, the numbers and the corrected cells to a new folder; see ``report``."""
        from helpers.audit.report import save

        return save(self, out, **provenance)

    def __str__(self) -> str:
        lines = [
            f"{i}. {a.question} {a.verdict.upper()}. {a.sentence}"
            for i, a in enumerate(self.answers, 1)
        ]
        return "\n".join([*lines, f"{len(lines) + 1}. What next? " + " ".join(self.advice)])

    __repr__ = __str__  # a notebook that shows no HTML, such as one that is compared

    def _repr_html_(self) -> str:
        from helpers.audit.report import fragment

        return fragment(self)


def begin(adata: ad.AnnData, batch: str, **options: Any) -> Cells:
    """Check the input and embed it: the part of :func:`audit` that an unusable input ends."""
    return prepared(adata, batch, **options)


def audit(
    adata: ad.AnnData | Cells,
    batch: str | None = None,
    *,
    source: ad.AnnData | None = None,
    settings: Mapping[str, Any] | None = None,
    quick: bool = False,
    progress: bool = False,
    **options: Any,
) -> Audit:
    """Ask seven questions of cells and a batch; correct them; say what next.

    1 What is in ``X``?  2 Can batch and biology be told apart?  3 Is there a batch effect at all?
    4 Does Harmony mix it?  5 What was lost?  6 Is it stable?  7 What next?

    Parameters
    ----------
    adata
        Cells x genes, in memory or backed; not changed.  Or what :func:`begin` returned, with the
        object that it came from as ``source``.
    batch
        Column of ``obs`` to correct.
    settings
        Of :func:`helpers.integrate.harmonize`; 40 rounds with the stop rule off by default.
    quick
        Two seeds instead of five, no doses, no type withheld.
    progress
        Show a bar.
    **options
        ``keep``: columns of the biology; ``label``: column of the cell types, missing allowed;
        ``sample``: column of the independent samples, the batch by default; ``layer``: where counts
        or logarithms are, found if not named; ``basis``: an embedding to take as it is; ``seed``;
        ``n_top_genes``; ``n_comps``.

    Returns
    -------
    Audit

    Questions 3 to 6 are put to all cells up to 10,000 and to as many drawn at random above; the
    settings of question 6 are tried on up to 4,000.

    Raises
    ------
    KeyError, TypeError, ValueError
        What is named is missing or unusable; as ``harmonize`` for its settings.
    """
    if isinstance(adata, Cells):
        cells, adata = adata, source
        if not isinstance(adata, ad.AnnData):
            raise TypeError(
                "With cells that were begun, source must be the AnnData they came from."
            )
    else:
        cells = prepared(adata, batch, **options)
    settings = dict(FINISHED if settings is None else settings)
    found = Audit(cells, settings, quick)
    steps = [
        ("matrix", lambda: questions.matrix(cells, adata)),
        ("design", lambda: questions.plan(cells)),
        ("Harmony", lambda: _correct(cells, settings)),
        ("effect", lambda: questions.effect(cells)),
        ("mixing", lambda: questions.mixing(cells, found["effect"].numbers["shared"])),
        ("lost", lambda: questions.lost(cells, settings, quick=quick)),
        ("stability", lambda: questions.stability(cells, settings, quick=quick)),
    ]
    bar = tqdm(steps, disable=not progress, unit="question")
    for name, step in bar:
        bar.set_description(name)
        with plt.rc_context(STYLE | PLAIN_TEXT):
            answered = step()
        if answered is not None:
            found.answers.append(answered[0])
            found.findings += answered[1]
        if found.refused:
            break
    bar.close()
    found.advice = _advice(found)
    return found


def _correct(cells: Cells, settings: Mapping[str, Any]) -> None:
    """Harmony on all cells; those asked get their rows."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        harmonize(cells.all, cells.batch, seed=cells.seed, **settings)
    cells.notes += [str(w.message) for w in said if "has batches of too few" in str(w.message)]
    cells.asked.obsm[AFTER] = cells.all.obsm[AFTER][cells.rows]


def _advice(found: Audit) -> list[str]:
    """At most three sentences, each with the number that it rests on."""
    cells, ids = found.cells, {finding.id for finding in found.findings}
    if found.refused:
        return [
            "Do not integrate: batch and biology are one column in all but name "
            f"({found['design'].verdict}).",
            "Annotate each batch alone, and interpret no difference between them; only another "
            "design mends this.",
        ]
    effect, mixing = found["effect"], found["mixing"]
    ratio, shared = effect.numbers["distance_ratio"], effect.numbers["shared"]
    iLISI, reference = mixing.numbers["iLISI"], mixing.numbers["reference"]
    said = []
    if effect.verdict == "no":
        said.append(
            f"Do not integrate: within {effect.numbers['groups']} the batches are as near to each "
            f"other as to themselves (ratio {ratio:.2f}); use the uncorrected embedding."
        )
        return said
    if effect.verdict != "yes":
        compared = (
            "no cells have a counterpart in another batch"
            if np.isnan(ratio)
            else f"{100 * shared:.0f} % of the cells have a counterpart in another batch, at a "
            f"distance ratio of {ratio:.2f}"
        )
        said.append(
            f"Cannot tell whether this is a batch effect: {compared}; use the correction to find "
            "labels, if at all, and conclude nothing from what it brought together."
        )
    if found["design"].verdict == "partly confounded":
        strongest = max(found["design"].numbers["cramers_v"].values())
        said.append(
            f"Batch and biology go together (Cramér's V {strongest:.2f}; 1 is the same column), so "
            "what Harmony removed is in part biology: conclude nothing from what it brought "
            "together, and compare only within batches that hold both."
        )
    lost = [finding for finding in found.findings if finding.id in ("lost", "collapsed")]
    if "not-mixed" in ids:
        said.append(
            f"Harmony did not mix the batches ({iLISI['after']:.2f} of {reference:.2f}): they may "
            "have too little in common, so look for shared types, try lamb=1, and do not force it."
        )
    if lost:
        look = found["lost"].numbers["look"] or found["lost"].numbers["collapsed"]
        more = f" and {len(look) - 3} more" if len(look) > 3 else ""
        named = f" ({', '.join(look[:3])}{more})" if look else ""
        if "not-mixed" in ids:
            named += ", which may only say that the batches were not brought together,"
        said.append(
            f"Look at what question 5 names{named} on the uncorrected cells before you name or "
            "merge anything; if it belongs to one batch, keep it apart."
        )
    if "unstable" in ids:
        said.append(
            "Report only what all seeds agree on: two share "
            f"{100 * found['stability'].numbers['neighbors_shared']:.0f} % of the neighbours."
        )
    if not said:
        seen = found["lost"].numbers.get("withheld")
        caution = f" (it would have seen {seen['seen']} of {seen['n']} types go)" if seen else ""
        said.append(
            f"Use {AFTER!r} for neighbours, clusters and pictures: mixing went from "
            f"{iLISI['before']:.2f} to {iLISI['after']:.2f} of {reference:.2f}, and this audit saw "
            f"nothing lost{caution}."
        )
    if not cells.keep:
        said.append(
            "No biology was named: what the batch has taken with it, this audit cannot see."
        )
    elif found["design"].verdict != "crossed":
        said.append(
            f"The design is {found['design'].verdict}: compare {', '.join(cells.keep)} on counts "
            "per sample and type, never in the corrected embedding."
        )
    else:
        said.append(
            "Test genes on counts, with the batch in the model; the embedding is for neighbours "
            "only."
        )
    return said[:3]


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _plain(value: Any) -> Any:
    """The value in what JSON has."""
    if isinstance(value, pd.DataFrame):
        named = value.index.name or value.index.dtype == object
        table = value.reset_index(allow_duplicates=True) if named else value
        return {
            "columns": [str(c) for c in table.columns],
            "rows": [[_plain(x) for x in row] for row in table.itertuples(index=False)],
        }
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, str | bool) or value is None:
        return value
    if isinstance(value, np.ndarray | Sequence):
        return [_plain(x) for x in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value if isinstance(value, int | bool) else str(value)
