"""Run the course's adapter on other versions of harmonypy and scanpy; `make matrix` runs it.

Every pair of versions gets an environment of its own in `_build/matrix`, with the course's other
dependencies as pyproject.toml bounds them and today's newest versions of these.  There it runs the
contract tests of the adapter and executes the quick start; the numbers that the lesson prints are
not compared, because other versions rightly give others.  What came out, and all that was
installed, goes into `data/version_matrix.json`, from which the tables of `book/versions.md` are
made.

    python -m tools.matrix                 all pairs
    python -m tools.matrix 0.0.10+1.11.5   some: harmonypy+scanpy
    python -m tools.matrix --ends          the oldest and the newest, with direct dependencies
                                           as recorded; compares and writes nothing

It fails when a pair fails that is not recorded as failing, when a pair was not run, and when an
end passes fewer tests than are recorded.
"""

import argparse
import json
import platform
import re
import shutil
import subprocess
import sys
import time
import tomllib
import xml.etree.ElementTree as ET
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

import nbformat
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from uv import find_uv_bin

from tools.environment import one_line, run, throw_away
from tools.pages import ROOT, fill

HARMONYPY = ["0.0.10", "0.2.0", "2.0.2", "2.1.0"]
SCANPY = ["1.11.5", "1.12.4", "1.13.0a2"]
PAIRS = [f"{harmonypy}+{scanpy}" for harmonypy, scanpy in product(HARMONYPY, SCANPY)]

RECORD = ROOT / "data" / "version_matrix.json"
PAGE = ROOT / "book" / "versions.md"
PLACE = ROOT / "_build" / "matrix"

CONTRACT = ["tests/test_integrate.py", "tests/test_other_versions.py", "tests/test_skill.py"]
LESSON = "notebooks/00_quickstart.ipynb"
# On the newest pair also the lessons on scanpy's own functions, which a pre-release moves.
NEWEST_TOO = ["notebooks/02_harmony_with_scanpy.ipynb", "notebooks/11_troubleshooting_lab.ipynb"]
SCORE = re.compile(r"median iLISI after Harmony: ([\d.]+)")
SHOWN = ["numpy", "pandas", "anndata", "torch"]


def python_for(scanpy: str) -> str | None:
    """Return a Python that this scanpy runs on: the one in use, or another of this machine."""
    if Version(scanpy) < Version("1.12a0") or sys.version_info >= (3, 12):
        return sys.executable
    for wanted in ("3.12", "3.13"):
        find = [find_uv_bin(), "python", "find", "--system", "--no-python-downloads", wanted]
        found = subprocess.run(find, cwd=ROOT, capture_output=True, text=True)
        if found.returncode == 0:
            return found.stdout.strip()
    return None


def requirements(harmonypy: str, scanpy: str, recorded: dict[str, str]) -> list[str]:
    """Return what the course depends on, with this pair in place of its own.

    The course's other direct dependencies have the recorded versions, if any are given. What
    these and the tools bring along has not: some of that wants a certain micro version of Python.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {canonicalize_name(Requirement(line).name): line for line in project["dependencies"]}
    pins = recorded | {"harmonypy": harmonypy, "scanpy": scanpy}
    tools = ["ipykernel", "nbconvert", "pytest"]
    return [f"{name}=={pins[name]}" if name in pins else names[name] for name in names] + tools


def try_pair(pair: str, recorded: dict | None) -> dict:
    """Make the environment of one pair, run both parts in it, and say what came out.

    With `recorded`, a row of the record, the direct dependencies are as there, where it was made
    with the same Python.
    """
    harmonypy, scanpy = pair.split("+")
    row = {"harmonypy": harmonypy, "scanpy": scanpy, "date": f"{datetime.now(UTC):%Y-%m-%d}"}
    base = python_for(scanpy)
    if base is None:
        reason = f"scanpy {scanpy} needs Python 3.12 or later, and none was found"
        return row | {"result": "not run", "messages": [reason]}

    place = PLACE / pair
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    asked = run([base, "-c", "import platform; print(platform.python_version())"])
    row["python"] = asked.stdout.strip()
    pins = {}
    if recorded and same_minor(recorded.get("python", ""), row["python"]):
        pins = versions_in(recorded)
    try:
        python = throw_away(place / "env", requirements(harmonypy, scanpy, pins), base)
    except RuntimeError as error:
        return row | {"result": "fail", "messages": [str(error)]}

    listed = run([find_uv_bin(), "pip", "list", "--format", "json", "--python", python])
    installed = {found["name"]: found["version"] for found in json.loads(listed.stdout)}
    assert (installed["harmonypy"], installed["scanpy"]) == (harmonypy, scanpy)
    counts, messages = contract(python, place)
    lesson, problems = quick_start(python, place)
    messages += problems
    for name in NEWEST_TOO if pair == PAIRS[-1] else []:
        problem = executed(python, place, name)[1]
        messages += [f"{Path(name).stem}: {problem}"] if problem else []
        row.setdefault("lessons", []).append(Path(name).stem)
    if not messages:
        shutil.rmtree(place / "env")  # that of a failing pair stays, to look into
    return row | {
        "platform": f"{platform.system()} {platform.machine()}",
        "result": "fail" if messages else "pass",
        "messages": messages,
        **counts,
        **lesson,
        "installed": " ".join(f"{name}=={version}" for name, version in installed.items()),
    }


def versions_in(row: dict) -> dict[str, str]:
    """Return package -> version of all that was installed for a row."""
    return dict(pin.split("==") for pin in row.get("installed", "").split())


def same_minor(one: str, other: str) -> bool:
    """Say whether two versions of Python, such as 3.12.1, differ in their last part only."""
    return one.split(".")[:2] == other.split(".")[:2]


def contract(python: Path, place: Path) -> tuple[dict, list[str]]:
    """Run the contract tests of the adapter; count them, and say what failed."""
    report = place / "contract.xml"
    # no conftest.py: what it serves are lessons and pages of the locked environment
    quiet = ["-q", "--noconftest", "-p", "no:cacheprovider", f"--junitxml={report}"]
    done = run([python, "-m", "pytest", *CONTRACT, *quiet])
    said = done.stdout + done.stderr
    (place / "contract.txt").write_text(said, encoding="utf-8")
    counts = {"passed": 0, "skipped": 0, "failed": 0}
    skipped: Counter[str] = Counter()
    messages = []
    for case in ET.parse(report).getroot().iter("testcase") if report.exists() else []:
        bad = [*case.findall("failure"), *case.findall("error")]
        skip = case.find("skipped")
        counts["failed" if bad else "passed" if skip is None else "skipped"] += 1
        if skip is not None:
            skipped[skip.get("message", "")] += 1
        messages += [f"{case.get('name')}: {one_line(one.get('message', ''), 0)}" for one in bad]
    if (done.returncode or not counts["passed"]) and not messages:
        messages = [f"Tests: {one_line(said, -1)}"]
    return {"contract": counts, "skipped": dict(skipped)}, messages


def executed(python: Path, place: Path, lesson: str) -> tuple[Path, str]:
    """Execute a lesson from top to bottom; say where the copy is, and what failed, if anything."""
    target = place / Path(lesson).name
    convert = ["-m", "nbconvert", "--to", "notebook", "--execute", "--output", target]
    done = run([python, *convert, lesson], IPYTHONDIR=str(place / "ipython"))
    target.with_suffix(".txt").write_text(done.stdout + done.stderr, encoding="utf-8")
    return target, one_line(done.stderr, -1) if done.returncode else ""


def quick_start(python: Path, place: Path) -> tuple[dict, list[str]]:
    """Execute the quick start; keep its score after Harmony."""
    target, problem = executed(python, place, LESSON)
    if problem:
        return {"quick_start": "fail"}, [f"Quick start: {problem}"]
    nb = nbformat.read(target, as_version=4)
    text = "".join(out.get("text", "") for cell in nb.cells for out in cell.get("outputs", []))
    found = SCORE.search(text)
    if found is None:
        return {"quick_start": "fail"}, ["Quick start: it printed no score"]
    return {"quick_start": "pass", "iLISI": float(found[1])}, []


def read() -> dict[str, dict]:
    """Return pair -> row of the record."""
    rows = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else []
    return {f"{row['harmonypy']}+{row['scanpy']}": row for row in rows}


def write(rows: dict[str, dict]) -> None:
    """Write the record, in the order of the pairs, and the page."""
    ordered = [rows[pair] for pair in PAIRS if pair in rows]
    RECORD.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(), encoding="utf-8")


def passed(row: dict) -> int:
    """Return how many contract tests passed."""
    return row.get("contract", {}).get("passed", 0)


def tests_of(row: dict) -> str:
    """Say how many contract tests did what."""
    counts = row.get("contract", {})
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "–"


def lesson_of(row: dict) -> str:
    """Say how the quick start ended."""
    return {"pass": f"iLISI {row.get('iLISI')}", "fail": "fails"}.get(row.get("quick_start"), "–")


def table(heads: list[str], rows: list[list[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return [f"| {' | '.join(fields)} |" for fields in lines]


def tables(rows: dict[str, dict]) -> str:
    """Return everything between the marks of the page."""
    missing = [pair for pair in PAIRS if pair not in rows]
    if missing:
        return f"Not recorded yet: {', '.join(missing)}."
    rows = {pair: rows[pair] for pair in PAIRS}
    dates = sorted(row["date"] for row in rows.values())
    when = " to ".join(dict.fromkeys([dates[0], dates[-1]]))
    where = ", ".join(dict.fromkeys(r["platform"] for r in rows.values() if "platform" in r))
    bad = [row for row in rows.values() if row["result"] != "pass"]
    lines = ["## On which pairs `harmonize` passes", ""]
    lines += [f"{len(PAIRS) - len(bad)} of {len(PAIRS)} pairs pass, tried on {when} ({where}).", ""]
    words = {"pass": "passes", "fail": "**fails**", "not run": "not run"}
    lines += table(
        ["", *(f"scanpy {scanpy}" for scanpy in SCANPY)],
        [
            [f"harmonypy {harmonypy}"]
            + [words[rows[f"{harmonypy}+{scanpy}"]["result"]] for scanpy in SCANPY]
            for harmonypy in HARMONYPY
        ],
    )
    lines += ["", "## What did not pass", ""]
    for row in bad:
        lines.append(f"- harmonypy {row['harmonypy']} with scanpy {row['scanpy']}: {row['result']}")
        lines += [f"  - ``{message}``" for message in row["messages"]]
    lines += [] if bad else ["Nothing: every pair passes."]
    names = " and ".join(name[:2] for name in rows[PAIRS[-1]].get("lessons", []))
    lines += ["", f"On the newest pair lessons {names} were executed as well."] if names else []
    lines += ["", "## What came out", ""]
    lines += table(
        ["harmonypy", "scanpy", "Tests", "Quick start", "Date"],
        [
            [row["harmonypy"], row["scanpy"], tests_of(row), lesson_of(row), row["date"]]
            for row in rows.values()
        ],
    )
    lines += ["", "Tests were skipped for these reasons:", ""]
    reasons: dict[str, list[str]] = {}
    for pair, row in rows.items():
        for reason, count in row.get("skipped", {}).items():
            reasons.setdefault(reason, []).append(f"{pair} ({count})")
    lines += [f"- *{reason}*: {', '.join(pairs)}" for reason, pairs in reasons.items()]
    lines += ["", "## What was installed", ""]
    facts = []
    for row in rows.values():
        found = versions_in(row)
        shown = [found.get(name, "–") for name in SHOWN]
        facts.append([row["harmonypy"], row["scanpy"], row.get("python", "–"), *shown])
    lines += table(["harmonypy", "scanpy", "Python", *SHOWN], facts)
    return "\n".join(lines)


def page() -> str:
    """Return the text of the page with its tables made anew."""
    return fill(PAGE.read_text(encoding="utf-8"), {"tables": tables(read())})


def ends() -> list[str]:
    """Return the oldest pair, and the newest that the Pythons of this machine can take."""
    for scanpy in reversed(SCANPY):
        if python_for(scanpy):
            return [PAIRS[0], f"{HARMONYPY[-1]}+{scanpy}"]
        print(f"scanpy {scanpy} needs Python 3.12 or later: none was found, so an older one runs.")
    raise AssertionError("no Python")


def main() -> None:
    """Run what was asked for, side by side, and report each pair when it is done."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pairs", nargs="*", metavar="harmonypy+scanpy", help="default: all")
    parser.add_argument("--ends", action="store_true", help="only compare the two ends")
    parser.add_argument("--jobs", type=int, default=2, help="pairs at a time")
    args = parser.parse_args()
    unknown = set(args.pairs) - set(PAIRS)
    if unknown:
        parser.error(f"no such pair: {', '.join(sorted(unknown))}; there are {', '.join(PAIRS)}")
    pairs = ends() if args.ends else args.pairs or PAIRS

    recorded = read()
    rows, problems = dict(recorded), []
    started = time.perf_counter()
    with ThreadPoolExecutor(args.jobs) as pool:
        known = {pair: recorded.get(pair) if args.ends else None for pair in pairs}
        jobs = {pool.submit(try_pair, pair, known[pair]): pair for pair in pairs}
        for job in as_completed(jobs):
            pair, row = jobs[job], job.result()
            seconds = time.perf_counter() - started
            print(f"{pair}, Python {row.get('python', '-')}: {row['result']}", end="; ")
            print(f"{tests_of(row)}; quick start {lesson_of(row)}; {seconds:.0f} s")
            for message in row["messages"]:
                print(f"    {message}")
            old = recorded.get(pair, {})
            before = old.get("result")
            if row["result"] == "not run" or (row["result"] == "fail" and before != "fail"):
                problems.append(f"{pair}: {row['result']} (recorded: {before or 'nothing'})")
            elif args.ends and passed(row) < passed(old):
                problems.append(f"{pair}: {passed(row)} tests passed (recorded: {passed(old)})")
            # a pair that cannot run here keeps what was recorded elsewhere, with its date
            if row["result"] != "not run" or pair not in recorded:
                rows[pair] = row
            if not args.ends:
                write(rows)
    if problems:
        sys.exit("matrix: " + "; ".join(problems))


if __name__ == "__main__":
    main()
