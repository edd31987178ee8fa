"""Write the tables of book/parameters.md from lesson 09; `make tables` runs it.

What a parameter does, what is often said and when to touch it are written once, in the small
tables of the lesson; the measured numbers are what its last cell before the recap printed, for
scaled and for unscaled genes, and the defaults are those of the installed harmonypy.  Everything
between the two marks of the page is made here; the rest is written by hand.
"""

import inspect
import io
import re

import harmonypy
import nbformat
import pandas as pd

from tools.pages import ROOT, fill

LESSON = ROOT / "notebooks" / "09_parameters.ipynb"
PAGE = ROOT / "book" / "parameters.md"

GROUPS = {
    "How much is corrected": ["theta", "alpha", "lamb"],
    "How cells are clustered": ["sigma", "nclust", "block_size"],
    "When it stops": ["max_iter_harmony", "epsilon_harmony", "max_iter_kmeans", "epsilon_cluster"],
    "Small batches": ["tau", "batch_prop_cutoff"],
    "Before and after Harmony": ["number of PCs", "n_neighbors"],
}
# how the lesson's last cell names it; what None stands for on its cells; scanpy's own defaults
PRINTED = {"number of PCs": "n_pcs"}
MEANT = {"theta": "2", "nclust": "67", "n_neighbors": "15", "tau": "default"}
SCANPY = {
    "number of PCs": ("number of PCs", "50"),
    "n_neighbors": ("`n_neighbors` of scanpy", "15"),
}


def said(nb: nbformat.NotebookNode) -> dict[str, dict[str, str]]:
    """Return parameter -> {column: sentence} from the tables in the lesson's Markdown."""
    found: dict[str, dict[str, str]] = {}
    for cell in nb.cells:
        columns: list[str] = []
        for line in cell.source.splitlines() if cell.cell_type == "markdown" else []:
            fields = [field.strip() for field in line.strip("|").split("|")]
            if not line.startswith("|"):
                columns = []
            elif fields[0] == "parameter":
                columns = fields
            elif columns and not re.fullmatch(r"[-:| ]+", line):
                row = dict(zip(columns, fields, strict=True))
                found.setdefault(row.pop("parameter").strip("`"), {}).update(row)
    return found


def measured(nb: nbformat.NotebookNode) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the numbers that the lesson printed, as text: the scores, a row for each parameter,
    value and scaling; and other numbers, a row for each of these and each score.
    """
    (cell,) = (cell for cell in nb.cells if cell.source.startswith("# `make tables` reads"))
    text = "".join(output.get("text", "") for output in cell.outputs)
    scores, others = text.split("\n\n")
    return tuple(pd.read_csv(io.StringIO(part), sep=";", dtype=str) for part in (scores, others))


def outcome(numbers: pd.DataFrame, score: str) -> str:
    """Return one score for the values tried, first for scaled genes and then for unscaled."""
    both = [", ".join(table[score]) for _, table in numbers.groupby("scaling", sort=False)]
    return " / ".join(both)


def tried(numbers: pd.DataFrame, default: str) -> str:
    """Return the values tried, the default in bold."""
    values = dict.fromkeys(numbers["value"])
    return ", ".join(f"**{value}**" if value == default else value for value in values)


def tables(nb: nbformat.NotebookNode) -> str:
    """Return everything between the marks of the page."""
    sentences, (numbers, others) = said(nb), measured(nb)
    scores = list(numbers.columns[3:])
    signature = inspect.signature(harmonypy.run_harmony).parameters
    before = numbers[numbers["parameter"] == "uncorrected"]
    lines = []
    rows = ["| **no correction** | | | " + " | ".join(outcome(before, s) for s in scores) + " |"]
    beside = []
    for title, names in GROUPS.items():
        lines += [f"## {title}", "", "| Parameter | Default | What it does | When to touch it |"]
        lines += ["|---|---|---|---|"]
        for name in names:
            row = sentences[name]
            shown, default = SCANPY.get(name) or (f"`{name}`", repr(signature[name].default))
            facts = [shown, f"`{default}`", row["what it does"], row["when to touch it"]]
            lines.append(f"| {' | '.join(facts)} |")
            bold = MEANT.get(name) or ("" if default == "None" else f"{float(default):g}")
            mine = numbers[numbers["parameter"] == PRINTED.get(name, name)]
            facts = [f"**{name}**", row["often said"]]
            if len(mine):
                facts += [tried(mine, bold), *(outcome(mine, score) for score in scores)]
                rows.append(f"| {' | '.join(facts)} |")
            mine = others[others["parameter"] == name]
            for score, table in mine.groupby("score", sort=False):
                which = [*facts[:2], tried(table, bold), score, outcome(table, "number")]
                beside.append(f"| {' | '.join(which)} |")
        lines.append("")
    lines += ["## What was measured", "", "Scaled genes before the slash, unscaled behind it.", ""]
    lines += [f"| Parameter | Often said | Tried | {' | '.join(scores)} |"]
    lines += ["|---|---|---|" + "---|" * len(scores), *rows, ""]
    lines += ["| Parameter | Often said | Tried | Score | What came out |", "|---|---|---|---|---|"]
    return "\n".join([*lines, *beside])


def page() -> str:
    """Return the text of the page with its tables made anew."""
    made = tables(nbformat.read(LESSON, as_version=4))
    return fill(PAGE.read_text(encoding="utf-8"), {"tables": made})


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
