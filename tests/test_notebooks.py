"""Every lesson has the same outline, small cells, stored text, and pictures described in words.

CONTRIBUTING.md says the same rules in prose.
"""

import ast
import re
import warnings
from pathlib import Path

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode

from tools.notebooks import LESSONS, NEUTRAL, as_text, stored, tags

OPENING = ["You will be able to", "Before you start", "Time", "Imports"]
CLOSING = ["Recap", "Exercises", "Next"]
DRAWS = re.compile(
    r"\bplots\.(?!use_style\b)\w+\(|\bExplorable\(|\bsc\.(external\.)?pl\.|\bplt\.(show|subplots|figure)\b|\.plot\b"
)

lessons = pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def markdown(nb: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in nb.cells if cell.cell_type == "markdown"]


def code(nb: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in nb.cells if cell.cell_type == "code"]


def prose(cell: NotebookNode) -> list[str]:
    """Return the lines of a Markdown cell, code fences and formulas blanked."""
    lines, inside = [], ""
    for line in cell.source.splitlines():
        fence = re.match(r"\s*(`{3,}|~{3,}|:{3,}|\$\$)", line)
        if fence and not inside:
            # a line such as $$x$$ opens and closes
            closes = fence[1] == "$$" and line.strip().count("$$") == 2
            inside = "" if closes or fence[1].startswith(":") else fence[1]
            lines.append("")
        elif inside:
            if line.strip().startswith(inside) or line.strip().endswith("$$"):
                inside = ""
            lines.append("")
        else:
            lines.append(line)
    return lines


def headings(nb: NotebookNode, level: int) -> list[str]:
    start = "#" * level + " "
    return [
        line[len(start) :].strip()
        for cell in markdown(nb)
        for line in prose(cell)
        if line.startswith(start)
    ]


def exercise_part(nb: NotebookNode) -> list[NotebookNode]:
    """Return the cells from the heading Exercises up to the heading Next."""
    starts = [cell.source.split("\n")[0] for cell in nb.cells]
    return nb.cells[starts.index("## Exercises") : starts.index("## Next")]


def exercise_groups(nb: NotebookNode) -> list[list[NotebookNode]]:
    """Return the cells of each exercise; each begins with `### Exercise N · title`."""
    groups = []
    for cell in exercise_part(nb):
        if cell.cell_type == "markdown" and cell.source.startswith("### "):
            groups.append([])
        if groups:
            groups[-1].append(cell)
    return groups


def test_there_are_lessons() -> None:
    assert LESSONS, "notebooks/ holds no lesson NN_verb_object.ipynb"


@lessons
def test_name(path: Path) -> None:
    assert re.fullmatch(r"\d\d_[a-z0-9]+(_[a-z0-9]+)*", path.stem)


@lessons
def test_outline(path: Path) -> None:
    nb = read(path)
    assert len(headings(nb, 1)) == 1
    assert nb.cells[0].source.startswith("# ")
    found = headings(nb, 2)
    own = found[len(OPENING) : -len(CLOSING)]
    assert found == OPENING + own + CLOSING
    assert 3 <= len(own) <= 6, f"{len(own)} sections of its own: {own}"


@lessons
def test_stored_as_accept_stores_it(path: Path) -> None:
    """Text outputs only, no errors, nothing on stderr, one form; and small."""
    text = path.read_text(encoding="utf-8")
    assert text == as_text(stored(read(path))), "run `make lessons`, then `make accept`"
    assert len(text.encode()) < 200_000


@lessons
def test_ran_from_top_to_bottom(path: Path) -> None:
    counts = [cell.execution_count for cell in code(read(path))]
    assert counts == list(range(1, len(counts) + 1)), "run `make lessons`, then `make accept`"


@lessons
def test_cells_are_small(path: Path) -> None:
    nb = read(path)
    for cell in code(nb):
        assert cell.source.strip(), f"cell {cell.execution_count} is empty"
        length = len(cell.source.splitlines())
        assert length <= 20, f"cell {cell.execution_count} has {length} lines"
    practice = {cell.id for cell in exercise_part(nb)}
    teaching = [cell for cell in code(nb) if cell.id not in practice]
    assert 15 <= len(teaching) <= 30, f"{len(teaching)} code cells before the exercises"


@lessons
def test_nothing_is_hidden_from_nbval(path: Path) -> None:
    allowed = {"exercise", "check", "solution", "no-figure"}
    allowed |= {"hide-cell", "hide-input", "remove-cell"}
    nb = read(path)
    for cell in nb.cells:
        unknown = set(tags(cell)) - allowed
        if "needs" in nb.metadata and printed(cell).startswith("skipped: "):
            unknown -= {"nbval-ignore-output"}  # runs only where R has the package harmony
        assert not unknown, f"unknown tags {unknown}, or what is stored is not `skipped: why`"
        assert "NBVAL" not in cell.source


@lessons
def test_figures_have_words(path: Path) -> None:
    """A cell that draws says in `mystnb.image.alt` what there is to see.

    The tag `no-figure` is for cells that name a plotting function and show nothing.
    """
    for cell in code(read(path)):
        if DRAWS.search(cell.source) and "no-figure" not in tags(cell):
            check_alt(cell)


def check_alt(cell: NotebookNode) -> None:
    alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
    assert len(alt) >= 40, (
        f"cell {cell.execution_count} draws, and its alternative text has {len(alt)} characters"
    )


@lessons
def test_exercises(path: Path) -> None:
    """Question, place to work, check, folded solution that the check finds right."""
    nb = read(path)
    groups = exercise_groups(nb)
    assert 3 <= len(groups) <= 5, f"{len(groups)} exercises"
    for number, group in enumerate(groups, 1):
        assert re.match(rf"### Exercise {number} · \S", group[0].source)
        assert len(group[0].source.split()) >= 8, f"exercise {number} asks nothing"
        kinds = [kind(cell) for cell in group]
        order = "question+ exercise check solution+"
        pattern = r"(question )+exercise (question )*check (solution )+"
        assert re.fullmatch(pattern, " ".join(kinds) + " "), f"{number}: {kinds}, not {order}"
        check = next(cell for cell in group if kind(cell) == "check")
        assert printed(check).startswith("Not answered yet"), f"exercise {number}"
        answers = [cell for cell in group if kind(cell) == "solution" and cell.cell_type == "code"]
        assert answers, f"exercise {number} has no solution that runs"
        assert "@practice.wants(" in check.source, f"exercise {number}: a check without wrapper"
        assert "Right" in printed(answers[-1]), f"exercise {number}: the check does not say Right"
        for cell in group:
            if kind(cell) == "solution":
                assert "hide-cell" in tags(cell), f"exercise {number}: the solution is not folded"


def kind(cell: NotebookNode) -> str:
    for tag in ("exercise", "check", "solution"):
        if tag in tags(cell):
            return tag
    return "question" if cell.cell_type == "markdown" else "code"


def printed(cell: NotebookNode) -> str:
    return "".join(output.get("text", "") for output in cell.get("outputs", []))


@lessons
def test_exercises_stand_without_solutions(path: Path) -> None:
    """What only a solution defines is used by no other cell: workshop copies lack it."""
    nb = read(path)
    given = set()
    for cell in code(nb):
        if "solution" not in tags(cell):
            given |= names(cell, ast.Store)
    for cell in code(nb):
        if "solution" in tags(cell):
            continue
        solved = set()
        for other in code(nb):
            if "solution" in tags(other):
                solved |= names(other, ast.Store)
        missing = names(cell, ast.Load) & (solved - given)
        assert not missing, f"cell {cell.execution_count} uses {missing} of a solution"


@lessons
def test_cells_stand_without_the_fetched_files(path: Path) -> None:
    """What only cells with this first line define is used by no other cell: they may be skipped."""
    nb = read(path)
    given, fetched = set(), set()
    for cell in code(nb):
        (fetched if needs_files(cell) else given).update(names(cell, ast.Store))
    for cell in code(nb):
        missing = names(cell, ast.Load) & (fetched - given)
        assert needs_files(cell) or not missing, f"cell {cell.execution_count} uses {missing}"


def needs_files(cell: NotebookNode) -> bool:
    return cell.source.startswith("# needs the fetched files")


def names(cell: NotebookNode, context: type) -> set[str]:
    """Return the names that a cell stores or loads; definitions and imports are stored."""
    found = set()
    python = TransformerManager().transform_cell(cell.source)  # lines such as `%cd` are not Python
    for node in ast.walk(ast.parse(python)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, context):
            found.add(node.id)
        elif context is ast.Store:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found.add(node.name)
            elif isinstance(node, ast.alias):
                found.add((node.asname or node.name).split(".")[0])
            elif isinstance(node, ast.arg):
                found.add(node.arg)
    return found


@lessons
def test_length(path: Path) -> None:
    texts = [cell.source.removeprefix(NEUTRAL["markdown"]) for cell in markdown(read(path))]
    words = sum(len(text.split()) for text in texts)
    assert words <= 2800, f"{words} words"
    if not 1200 <= words <= 2500:
        warnings.warn(f"{path.stem} has {words} words, not 1,200 to 2,500", stacklevel=1)


# a full stop, not after "e.g", "i.e", "et al", "vs", "Fig" or an initial, and a capital after it
SHORT = r"(?<!\be\.g)(?<!\bi\.e)(?<!\bal)(?<!\bvs)(?<!\bFig)(?<!\b[A-Z])"
TWO_SENTENCES = re.compile(SHORT + r"[.!?][)\"”*_]* +[\"“*_(]*[A-Z]")
SENTENCE_ENDS = re.compile(r"[.!?:;][)\"”*_]*\\?$")
NO_SENTENCE = re.compile(r"#|\||<|:::|\[\^?\w+\]:|\(.*\)=$")
NEW_BLOCK = re.compile(r"[-*+#|<:>]|\d+\. |\(.*\)=$|!?\[")


@lessons
def test_one_sentence_per_line(path: Path) -> None:
    """A line ends where its sentence ends, so that a diff shows the sentence that changed."""
    for cell in markdown(read(path)):
        lines = prose(cell)
        for number, line in enumerate(lines):
            plain = re.sub(r"`[^`]*`|\$[^$]*\$|\]\([^)]*\)", "x", line).strip()
            plain = re.sub(r"^(?:\d+\.|[-*+]) ", "", plain)
            plain = re.sub(r"^(\*+|_+)[^*_]+\1 ?", "", plain)  # a lead-in such as **Predict.**
            if not plain or NO_SENTENCE.match(plain):
                continue
            assert not TWO_SENTENCES.search(plain), f"two sentences in one line: {line}"
            following = lines[number + 1].strip() if number + 1 < len(lines) else ""
            if following and not NEW_BLOCK.match(following):
                assert SENTENCE_ENDS.search(plain), f"the sentence goes on after: {line}"


@lessons
def test_names_no_place_on_a_machine(path: Path) -> None:
    """Neither a path of the author's machine nor the address of a package registry."""
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"(?<![\w.:/])/(?:home|root|Users|tmp|work|opt|usr|var)/", text)
    assert not re.search(r"\b[A-Z]:\\\\\w", text)
