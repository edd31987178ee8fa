"""Write the tables of book/parity.md from data/parity.json; `make tables` runs it.

A table stands between two marks of the page, the first of which names it; the rest is written by
hand and holds no measured number.
"""

import json
from collections.abc import Callable
from math import floor
from statistics import median
from typing import Any

from tools.pages import ROOT, fill

RECORD = ROOT / "data" / "parity.json"
PAGE = ROOT / "book" / "parity.md"

SECOND = ("harmonypy", "R harmony", "lesson 08", "scanpy, harmony2")
FIRST = ("harmonypy 0.0.10", "scanpy, harmony1")
BOTH = ("defaults", "patient")
FIXED, COUNTED = "harmonypy, lamb=1", "scanpy, harmony2, 15 rounds"


def table(heads: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table: the first two columns are text, the others numbers."""
    lines = [heads, ["---", "---", *["---:"] * (len(heads) - 2)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def shown(name: str) -> str:
    """Return the name of an implementation as the page has it."""
    return name.replace("scanpy, ", "scanpy ").replace(", lamb=1", " with lamb=1")


def cut(value: float, digits: int) -> str:
    """Return a number with some digits; the others are cut, lest a 1 appear that is none."""
    return f"{floor(value * 10**digits) / 10**digits:.{digits}f}"


def spread(values: list[float], digits: int) -> str:
    """Return the range of some values, or the one value."""
    low, high = (f"{value:.{digits}f}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def by_seed(rounds: list[int]) -> str:
    """Return the rounds of each seed, or the one number where all are the same."""
    return ", ".join(map(str, rounds if len(set(rounds)) > 1 else rounds[:1]))


def called(name: str, settings: dict[str, Any]) -> str:
    """Return settings as arguments; R's have a function of their own for names with a dot."""
    if name == "R harmony":
        names = {"epsilon": "epsilon.harmony"}  # its column in the files of tools/record/parity.py
        settings = {names.get(key, key): value for key, value in settings.items()}
    given = [
        f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in settings.items()
    ]
    options = [argument for argument in given if "." in argument.partition("=")[0]]
    if options:
        given = [argument for argument in given if argument not in options]
        given.append(f".options=harmony_options({', '.join(options)})")
    return ", ".join(f"`{argument}`" for argument in given)


def agreement(found: dict[str, Any]) -> list[str]:
    """Return how well pairs of runs agree: the typical pair, and in brackets the worst."""
    cells = [cut(found["mean r"], 4)]
    for name, digits in [("smallest r", 3), ("overlap", 2)]:
        cells.append(f"{cut(median(found[name]), digits)} ({cut(min(found[name]), digits)})")
    return cells


AGREEMENT = ["Mean r", "Smallest r", "Overlap"]


def yardstick(record: dict[str, Any]) -> str:
    """Each implementation of Harmony2 against itself."""
    rows = []
    for setting in BOTH:
        results = record["results"][setting]
        for name in (name for name in (*SECOND, COUNTED) if name in results):
            found = results[name]
            facts = [by_seed(found["rounds"]), spread(found["median iLISI"], 2)]
            rows.append([shown(name), setting, *facts, *agreement(found["itself"])])
    return table(["Implementation", "Settings", "Rounds", "Median iLISI", *AGREEMENT], rows)


def others(record: dict[str, Any]) -> str:
    """Each implementation of Harmony2 against harmonypy, between harmonypy itself and nothing."""
    rows = []
    for setting in BOTH:
        results = record["results"][setting]
        rows.append(["*harmonypy, itself*", setting, *agreement(results["harmonypy"]["itself"])])
        names = (*SECOND[1:], COUNTED, "no correction")
        for name in (name for name in names if name in results):
            label = f"*{name}*" if name == "no correction" else shown(name)
            rows.append([label, setting, *agreement(results[name]["harmonypy"])])
    return table(["Against harmonypy", "Settings", *AGREEMENT], rows)


def first(record: dict[str, Any]) -> str:
    """The first Harmony: its two implementations, and harmonypy with its ridge penalty."""
    rows = []
    for setting in BOTH:
        results = record["results"][setting]
        pairs = {
            f"{FIRST[0]}, itself": results[FIRST[0]]["itself"],
            f"{FIRST[0]} and {shown(FIRST[1])}": results[FIRST[1]][FIRST[0]],
            f"{FIRST[0]} and harmonypy": results[FIRST[0]]["harmonypy"],
            f"{FIRST[0]} and {shown(FIXED)}": results[FIXED][FIRST[0]],
        }
        rows += [[pair, setting, *agreement(found)] for pair, found in pairs.items()]
    return table(["Compared", "Settings", *AGREEMENT], rows)


def mixing(record: dict[str, Any]) -> str:
    """Median iLISI of the two methods."""
    rows = []
    for setting in BOTH:
        for name in ("no correction", "harmonypy", FIXED, *FIRST):
            ilisi = record["results"][setting][name]["median iLISI"]
            rows.append([shown(name), setting, spread(ilisi, 2)])
    return table(["Implementation", "Settings", "Median iLISI"], rows)


def seconds(record: dict[str, Any]) -> str:
    """CPU seconds per run and per round."""
    rows = []
    for setting in BOTH:
        for name in (*SECOND, *FIRST):
            found = record["results"][setting][name]
            spent, rounds = found["CPU seconds"], median(found["rounds"])
            rows.append(
                [shown(name), setting, f"{rounds:.0f}", f"{spent:.1f}", f"{spent / rounds:.2f}"]
            )
    return table(["Implementation", "Settings", "Rounds", "Seconds", "Seconds a round"], rows)


def fixture(record: dict[str, Any]) -> str:
    """The thinned cells of data/r_harmony.h5ad."""
    rows = [
        [pair, setting, by_seed(found.get("rounds", [""])), *agreement(found)]
        for setting in BOTH
        for pair, found in record["r_harmony.h5ad"][setting].items()
    ]
    return table(["Compared", "Settings", "Rounds", *AGREEMENT], rows)


def made_with(record: dict[str, Any]) -> str:
    """What was run, on what, when."""
    versions = record["versions"]
    pinned = versions["environments"]
    facts = {
        "Recorded": record["date"],
        "Cells and PCs": f"{record['input']['cells']:,} cells, {record['input']['PCs']} PCs",
        "SHA-256 of the PCs": f"`{record['input']['X_pca_sha256']}`",
        "Seeds": ", ".join(map(str, record["seeds"])),
        "harmonypy, lesson 08": f"harmonypy {versions['harmonypy']}, NumPy {versions['numpy']}, "
        f"Python {versions['Python']}",
        "R harmony": f"harmony {versions['harmony']}, R {versions['R']}, BLAS `{versions['BLAS']}`",
        "scanpy": ", ".join(f"`{pin}`" for pin in pinned["scanpy"]),
        "harmonypy 0.0.10": ", ".join(f"`{pin}`" for pin in pinned["harmonypy 0.0.10"]),
    }
    for label, settings in [
        ("Defaults", record["default settings"]),
        ("Patient", record["settings"]["patient"]),
    ]:
        facts |= {f"{label}, {shown(name)}": called(name, how) for name, how in settings.items()}
    return table(["What", "How"], [list(fact) for fact in facts.items()])


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    make.__name__: make for make in (yardstick, others, first, mixing, seconds, fixture, made_with)
}


def page() -> str:
    """Return the text of the page with its tables made anew."""
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    made = {name: make(record) for name, make in TABLES.items()}
    return fill(PAGE.read_text(encoding="utf-8"), made)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
