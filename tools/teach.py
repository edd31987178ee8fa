"""Write the made parts of book/teach.md: ``python -m tools.teach``, or `make teach`.

Plans, blocks and answers to questions come from tools/workshop.yml; titles of exercises from the
lessons; wrong answers and what the checks say to them from the trials of the last `make lessons`
(tools/trials.py); threads from the troubleshooting catalogue; sizes from data/hub_recorded.json.
"""

import ast
import json
import math
import re
import sys
from datetime import datetime, timedelta
from functools import cache

import nbformat
import yaml
from docutils.nodes import make_id
from nbformat import NotebookNode

from tools.notebooks import RAN
from tools.pages import ROOT, fill
from tools.record.hub import FILE as HUB
from tools.trials import TABLES, digest
from tools.troubleshooting import LESSON, Failure, failures, more

SOURCE = ROOT / "tools" / "workshop.yml"
PAGE = ROOT / "book" / "teach.md"
ROOM = 1.1  # minutes of a row, at least, as a multiple of those of reading and exercises
NAMES = {"one_day": "one-day plan", "half_day": "half-day plan"}


@cache
def workshop() -> dict:
    """Return plans, blocks and questions."""
    return yaml.safe_load(SOURCE.read_text(encoding="utf-8"))


@cache
def lesson(name: str) -> NotebookNode:
    """Return a stored lesson."""
    return nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)


def heading(cell: NotebookNode) -> str:
    """Return the heading that a cell begins with, or nothing."""
    found = cell.cell_type == "markdown" and re.match(r"#{1,3} (.*)", cell.source)
    return found[1].strip() if found else ""


def section(nb: NotebookNode, title: str) -> list[NotebookNode]:
    """Return the cells of a section up to the next heading, of whatever level.

    Raises
    ------
    KeyError
        If the lesson has no such section, or two.
    """
    starts = [i for i, cell in enumerate(nb.cells) if heading(cell)]
    found = [i for i in starts if heading(nb.cells[i]) == title]
    if len(found) != 1:
        raise KeyError(f"the lesson has {len(found)} sections {title!r}")
    ends = [i for i in starts if i > found[0]] + [len(nb.cells)]
    return nb.cells[found[0] : ends[0]]


def exercise(nb: NotebookNode, number: int) -> str:
    """Return the heading of an exercise, such as `Exercise 1 · A rare batch`."""
    return next(h for h in map(heading, nb.cells) if h.startswith(f"Exercise {number} "))


def timed(plan: list[dict]) -> list[dict]:
    """Return the rows of a plan with `from` and `to`; lunch fills the gap between two starts."""
    found, clock = [], None
    for row in plan:
        if "start" in row:
            start = datetime.strptime(row["start"], "%H:%M")
            if clock:
                found.append({"name": "Lunch", "from": clock, "to": start})
            clock = start
        end = clock + timedelta(minutes=row["minutes"])
        found.append(row | {"from": clock, "to": end})
        clock = end
    return found


def link(name: str) -> str:
    """Return a Markdown link to a lesson."""
    return f"[{name[:2]}](../notebooks/{name}.ipynb)"


def plan_table(plan: list[dict]) -> str:
    """Return a plan as a Markdown table."""
    lines = ["| From | Min. | Block | Lesson: together | Alone |", "|---" * 5 + "|"]
    for row in timed(plan):
        minutes = (row["to"] - row["from"]).seconds // 60
        when = f"| {row['from']:%H:%M} | {minutes} |"
        block = workshop()["blocks"].get(row.get("block"))
        if block is None:
            lines.append(f"{when} *{row['name']}* | | |")
            continue
        title = f'<a href="#{make_id(block["title"])}">{block["title"]}</a>'
        together = alone = ""
        if "lesson" in block:
            sections = "; ".join(row["sections"])
            together = f"{link(block['lesson'])}: {sections}"
        if "exercises" in row:
            alone = "Exercises " if len(row["exercises"]) > 1 else "Exercise "
            alone += ", ".join(map(str, row["exercises"]))
            alone += f". {row['also']}" if "also" in row else ""
        lines.append(f"{when} {title} | {together} | {alone} |")
    total = sum(row["minutes"] for row in plan)
    end = f"{timed(plan)[-1]['to']:%H:%M}"
    lines += ["", f"It ends at {end}: {total} minutes, breaks included and lunch not."]
    return "\n".join(lines)


class Spell(ast.NodeTransformer):
    """Put short definitions of a table in place of the names that it gave them."""

    def __init__(self, known: dict[str, ast.expr]) -> None:
        self.known = known

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self.known.get(node.id, node)


def answers(name: str) -> list[str]:
    """Return the answers that a table of trials tries, as Python, in its order."""
    tree = ast.parse((TABLES / f"{name}.py").read_text(encoding="utf-8"))
    known, rows = {}, []
    for node in tree.body:
        if not (isinstance(node, ast.Assign) and len(node.targets) == 1):
            continue
        target, value = node.targets[0], node.value
        pairs = [(target, value)]
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            pairs = list(zip(target.elts, value.elts, strict=True))
        for one, its in pairs:
            if isinstance(one, ast.Name) and one.id == "trials":
                rows = [row.elts[1] for row in its.elts]
            elif isinstance(one, ast.Name) and len(ast.unparse(its)) <= 60:
                known[one.id] = Spell(known).visit(its)
    return [ast.unparse(Spell(known).visit(answer)) for answer in rows]


def wrong_answers(name: str, number: int) -> dict[str, list[str]]:
    """Return what the check of an exercise says -> the wrong answers to which it says so.

    Answers of a wrong type are left out: their message explains itself.

    Raises
    ------
    RuntimeError
        If the trials were not made with today's table.
    """
    file = RAN / f"{name}.trials.json"
    trials = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    written = answers(name)
    rows = trials.get("rows", [])
    if trials.get("digest") != digest(TABLES / f"{name}.py") or len(rows) != len(written):
        raise RuntimeError(f"the trials of {name} are missing or old: run `make lessons`")
    found: dict[str, list[str]] = {}
    for row, answer in zip(rows, written, strict=True):
        said = row["said"]
        if row["exercise"] == number and not said.startswith(("Right", "This is a", "This is the")):
            found.setdefault(said, []).append(answer)
    return {said: tried for said, tried in found.items() if " and the check wants " not in said}


def plain(text: str) -> str:
    """Return text in which a Markdown table sees nothing of its own."""
    return re.sub(r"([|*<$\\])", r"\\\1", text.replace("\n", " "))


def block_text(block: dict, plans: dict[str, list[dict]]) -> str:
    """Return what the page says of a block."""
    lines = [f"### {block['title']}", ""]
    for key, words in {
        "goal": "Goal",
        "board": "On the board",
        "stuck": "Where people get stuck",
        "skip": "Skip",
        "keep": "To take home",
    }.items():
        lines += [f"**{words}.** {block[key]}", ""]
    if "lesson" not in block:
        return "\n".join(lines)
    nb = lesson(block["lesson"])
    for number, say in block.get("say", {}).items():
        inside = [NAMES[plan] for plan, used in plans.items() if number in used]
        where = "" if len(inside) == len(NAMES) else f" ({' and '.join(inside)} only)"
        lines += [f"**{exercise(nb, number)}**{where}. {say}", ""]
        lines += ["| A wrong answer | The check says |", "|---|---|"]
        for said, tried in wrong_answers(block["lesson"], number).items():
            # a pipe ends a cell, in code too
            code = ", ".join("`" + answer.replace("|", r"\|") + "`" for answer in tried)
            lines.append(f"| {code} | {plain(said)} |")
        lines.append("")
    return "\n".join(lines)


def blocks_text() -> str:
    """Return all blocks, in the order of the one-day plan."""
    found = []
    for name, block in workshop()["blocks"].items():
        plans = {
            plan: {n for row in rows if row.get("block") == name for n in row.get("exercises", [])}
            for plan, rows in workshop()["plans"].items()
        }
        found.append(block_text(block, plans))
    return "\n".join(found).strip()


def catalogue() -> dict[str, Failure]:
    """Return title -> entry of the troubleshooting catalogue."""
    return {entry.title: entry for entry in failures(nbformat.read(LESSON, as_version=4)) + more()}


def questions_table() -> str:
    """Return the questions with their answers, entries and threads."""
    entries = catalogue()
    lines = ["| They ask | Say | Proved and cited |", "|---|---|---|"]
    for question in workshop()["questions"]:
        entry = entries[question["entry"]]
        anchor = make_id(entry.title.replace("`", ""))
        at = f'<a href="troubleshooting.html#{anchor}">{entry.title.replace("`", "")}</a>'
        thread = entry.parts["**Thread.**"].removeprefix("**Thread.** ").replace("\n", " ")
        lines.append(f"| {question['ask']} | {question['say']} | {at}; {thread} |")
    return "\n".join(lines)


def hub_text() -> str:
    """Return what data/hub_recorded.json says of memory and processors."""
    found = json.loads(HUB.read_text(encoding="utf-8"))
    one, *_ = found["at_once"]["1"]["kernels"]
    n, many = list(found["at_once"].items())[-1]
    machine, tested = found["machine"], link(found["lesson"])
    peak, held, cpu = (
        max(kernel[key] for kernel in many["kernels"])
        for key in ("peak_mb", "held_mb", "cpu_seconds")
    )
    names = [b["lesson"] for b in workshop()["blocks"].values() if "lesson" in b]
    cost = {name: found["lessons"][name] for name in names}
    largest = max(cost, key=lambda name: cost[name]["peak_mb"])
    lines = [
        f"Measured on {found['recorded']} with the workshop copy of lesson {tested}, on "
        f"{machine['cores']} cores of {machine['processor']}, Python {machine['python']}, "
        f"one thread a kernel (`{found['command']}`):",
        "",
        f"| | One kernel | {n} kernels at once |",
        "|---|---|---|",
        f"| most memory of a kernel, MB | {one['peak_mb']} | {peak} |",
        f"| still held when it idles, MB | {one['held_mb']} | {held} |",
        f"| most memory of all together, MB | {found['at_once']['1']['together_mb']} | "
        f"{many['together_mb']} |",
        f"| processor, seconds a kernel | {one['cpu_seconds']} | {cpu} |",
        "",
        "*All together* counts once the pages that kernels share, and its sampling may miss a "
        "short peak, so it is below the sum, for one kernel too.",
        f"JupyterLab's own server holds {found['server_mb']} MB beside them.",
        "The lessons of the one-day plan, each alone:",
        "",
        "| Lesson | Most memory, MB | Processor, seconds |",
        "|---|---|---|",
    ]
    lines += [f"| {link(k)} | {v['peak_mb']} | {v['cpu_seconds']:.0f} |" for k, v in cost.items()]
    limit = math.ceil(1.25 * (cost[largest]["peak_mb"] + found["server_mb"]) / 500) / 2
    wait = round(cpu * int(n) / machine["cores"])
    clock = max(kernel["seconds"] for kernel in many["kernels"])
    lines += [
        "",
        f"So give each participant **{limit:g} GB**: that holds the largest of these, lesson "
        f"{link(largest)}, with the server and a quarter to spare.",
        "A participant's own file is not in this: on a hub, ask for a random sample of a few "
        "thousand cells, or give more.",
        f"Each other lesson that was left open holds some {held} MB more: ask them to shut kernels "
        "down (*Kernel*, *Shut Down All Kernels*) at each break.",
        "**One core for two participants** will do, because people read between the cells; "
        f"should all run the whole of lesson {tested} at the same moment, it takes them {wait} "
        f"seconds at the very least; here it took {clock:.0f}, on a machine that was busy besides.",
        "Set `OMP_NUM_THREADS=1` for all, or each kernel takes every core.",
    ]
    return "\n".join(lines)


def page() -> str:
    """Return the text of the page with its parts made anew."""
    made = {plan: plan_table(rows) for plan, rows in workshop()["plans"].items()}
    made |= {"blocks": blocks_text(), "questions": questions_table(), "hub": hub_text()}
    return fill(PAGE.read_text(encoding="utf-8"), made)


if __name__ == "__main__":
    try:
        PAGE.write_text(page(), encoding="utf-8")
    except RuntimeError as error:
        sys.exit(str(error))
