"""Write notebook files: what a lesson stores, and the workshop copies.

    python -m tools.notebooks accept      # _build/ran/ -> notebooks/
    python -m tools.notebooks exercises   # notebooks/ -> notebooks/exercises/

A stored lesson holds the text that its cells print and no pictures, in one fixed form, so that
a diff shows what an author changed and nothing else.
"""

import ast
import copy
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from tools.pages import ROOT

# the lessons of the book, so that a copy which lies about is none
TOC = (ROOT / "_toc.yml").read_text(encoding="utf-8")
LESSONS = [ROOT / f"{name}.ipynb" for name in sorted(re.findall(r"notebooks/[0-9]\w+", TOC))]
RAN = ROOT / "_build" / "ran"
EXERCISES = ROOT / "notebooks" / "exercises"

# JupyterLab shows the first line of a cell that is folded: a solution's tells nothing
NEUTRAL = {"code": "# one way to do it\n", "markdown": "**In words.**\n\n"}
FETCHED = "# needs the fetched files"  # nor does this, which notebooks/conftest.py looks for

KERNEL = {
    "kernelspec": {
        "display_name": "Python 3 (ipykernel)",
        "language": "python",
        "name": "python3",
    },
    "language_info": {"name": "python"},
}


def tags(cell: NotebookNode) -> list[str]:
    """Return the tags of a cell."""
    return cell.metadata.get("tags", [])


def statements(lesson: Path) -> list[ast.stmt]:
    """Return the statements that a lesson shows before its exercises, those at the top level."""
    found = []
    for cell in nbformat.read(lesson, as_version=4).cells:
        if cell.source.startswith("## Exercises"):
            break
        if cell.cell_type == "code" and "remove-cell" not in tags(cell):
            found += ast.parse(cell.source).body
    return found


def functions(lesson: Path, **known: Any) -> dict[str, Any]:
    """Return the functions that a lesson shows, by name, and the names that they know besides.

    These are those given, and the lesson's own numbers, such as ``ROUNDS = 20``.
    """

    def wanted(node: ast.stmt) -> bool:
        number = isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        return isinstance(node, ast.FunctionDef) or (number and node.targets[0].id.isupper())

    body = [node for node in statements(lesson) if wanted(node)]
    exec(compile(ast.Module(body, []), lesson.name, "exec"), known)
    return known


def as_text(nb: NotebookNode) -> str:
    """Return the one form in which a notebook is stored: indent 1, sorted keys, final newline."""
    return nbformat.writes(nb).rstrip("\n") + "\n"


def stored(nb: NotebookNode) -> NotebookNode:
    """Return a copy with what is stored: text outputs, cell ids, tags, alternative texts, folds.

    Raises
    ------
    ValueError
        If a cell failed or wrote to stderr.
    """
    nb = nbformat.v4.upgrade(copy.deepcopy(nb))  # cells of older files get their ids here
    # what a lesson needs beyond the course's packages (notebooks/conftest.py)
    needs = {"needs": nb.metadata["needs"]} if "needs" in nb.metadata else {}
    nb.metadata = nbformat.from_dict(KERNEL | needs)
    for cell in nb.cells:
        cell.metadata = nbformat.from_dict(
            {key: cell.metadata[key] for key in ("tags", "mystnb") if key in cell.metadata}
        )
        fold(cell)
        if cell.cell_type != "code":
            continue
        outputs = []
        for output in cell.outputs:
            if output.output_type == "error":
                raise ValueError(f"a cell failed with {output.ename}: {output.evalue}")
            if output.output_type == "stream":
                if output.name == "stderr":
                    raise ValueError(f"a cell writes to stderr: {output.text}")
                outputs.append(output)
            elif "text/plain" in output.data:
                output.data = nbformat.from_dict({"text/plain": output.data["text/plain"]})
                output.metadata = nbformat.from_dict({})
                outputs.append(output)
        cell.outputs = outputs
    nbformat.validate(nb)
    return nb


def fold(cell: NotebookNode) -> None:
    """Fold a solution, and the code of a check: by tags in the book, by metadata in JupyterLab.

    What a check says stays in sight.  A solution gets a first line that may be read.
    """
    if "solution" in tags(cell):
        neutral = NEUTRAL[cell.cell_type]
        if not cell.source.startswith((neutral, FETCHED)):
            cell.source = neutral + cell.source
        cell.metadata["jupyter"] = {"source_hidden": True}
        if cell.cell_type == "code":
            cell.metadata["jupyter"]["outputs_hidden"] = True
    elif "check" in tags(cell):
        cell.metadata["jupyter"] = {"source_hidden": True}
        if "hide-input" not in tags(cell):
            cell.metadata["tags"] = [*tags(cell), "hide-input"]


def exercise_copy(nb: NotebookNode) -> NotebookNode:
    """Return the workshop copy: no solutions, no outputs, links that work one folder deeper."""
    nb = copy.deepcopy(nb)
    nb.cells = [cell for cell in nb.cells if "solution" not in tags(cell)]
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        else:
            cell.source = re.sub(r"\]\((?=\.\./)", "](../", cell.source)
    return stored(nb)


def accept() -> None:
    """Store the text of the last run of every lesson that differs from what is stored.

    Raises
    ------
    SystemExit
        If a lesson was edited since it ran, or its run failed; the others are stored all the same.
    """
    refused = []
    for path in LESSONS:
        ran_path = RAN / path.name
        if not ran_path.exists():
            print(f"{path.name}: has not run; run `make lessons` first")
            continue
        lesson = nbformat.read(path, as_version=4)
        ran = nbformat.read(ran_path, as_version=4)
        if [cell.source for cell in lesson.cells] != [cell.source for cell in ran.cells]:
            refused.append(f"{path.name}: was edited since it ran; run `make lessons` again")
            continue
        for cell, new in zip(lesson.cells, ran.cells, strict=True):
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = new.outputs, new.execution_count
        try:
            text = as_text(stored(lesson))
        except ValueError as error:
            refused.append(f"{path.name}: {error}")
            continue
        if text != path.read_text(encoding="utf-8"):
            path.write_text(text, encoding="utf-8")
            print(f"{path.name}: stored")
    if refused:
        sys.exit("\n".join(refused))


def is_tracked(path: Path) -> bool:
    """Whether Git knows a file; where there is no Git, or no repository, it knows none."""
    git = shutil.which("git")
    if git is None:
        return False
    command = [git, "ls-files", "--error-unmatch", path.name]
    return subprocess.run(command, cwd=path.parent, capture_output=True).returncode == 0


def exercises() -> None:
    """Write `notebooks/exercises/` anew from the lessons, and remove copies of no lesson.

    Only those that Git tracks: any other is somebody's work, and is left.
    """
    EXERCISES.mkdir(exist_ok=True)
    wanted = {
        EXERCISES / path.name: as_text(exercise_copy(nbformat.read(path, as_version=4)))
        for path in LESSONS
    }
    for path in sorted(set(EXERCISES.glob("*.ipynb")) - set(wanted)):
        if is_tracked(path):
            path.unlink()
            print(f"{path.name}: removed, its lesson is gone")
        else:
            print(f"{path.name}: left as it is, since Git does not track it; my/ is for your work")
    for path, text in wanted.items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"{path.name}: written")


if __name__ == "__main__":
    {"accept": accept, "exercises": exercises}[sys.argv[1]]()
