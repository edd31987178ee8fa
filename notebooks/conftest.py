"""Keep what nbval computes, so that one run of a lesson serves the tests and the book.

nbval executes a lesson cell by cell, compares the text that comes out with the text that is
stored, and forgets the rest.  This file keeps all of it, pictures and tables too, as an executed
copy of the lesson:

- ``_build/ran/NN_name.ipynb``: whatever came out, for ``make accept`` to store;
- ``_build/executed/NN_name.ipynb``: only when every cell passed; the book is built from it;
- ``_build/ran/NN_name.json``: seconds and peak memory, which a test holds to the limits;
- ``_build/ran/NN_name.trials.json``: what the checks of the exercises say to right and wrong
  answers (tools/trials.py), tried in the same kernel after the last cell.

A lesson whose metadata say ``"needs": "R with Seurat"`` is skipped where there is none, with the
reason; the book then shows its stored text, with a note.  REQUIRE_R=1 makes that an error.
The same holds, cell by cell, for cells that begin with ``# needs the fetched files`` where these
(helpers/real.py) can neither be read nor fetched.  REQUIRE_DATA=1 makes that an error.

pytest reads this file by itself when it collects a notebook of this folder.
"""

import ast
import copy
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbconvert.preprocessors import CoalesceStreamsPreprocessor
from nbval.plugin import IPyNbCell, IPyNbFile

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "_build"
# a chart with sliders (helpers/explore.py); its text is its table of numbers
VEGALITE = "application/vnd.vegalite.v5+json"
# user and system seconds and peak memory so far: of the kernel, and of what it ran, such as R
USAGE = "[tuple(__import__('resource').getrusage(who))[:3] for who in (0, -1)]"

# for each kernel, before its first cell: see tools/compiled.py
COMPILED = f"""__import__('sys').path.append({str(ROOT)!r})
__import__('tools.compiled')
__import__('sys').path.pop()"""

NEEDS_R = "R with Seurat"
NO_R = (
    "R with Seurat is not installed on this machine; on Debian and Ubuntu "
    "`apt-get install r-base-core r-cran-seurat` gets it, with conda environment-r.yml"
)
# helpers.real.NEEDS_FILES, whose import takes seconds
NEEDS_FILES = "# needs the fetched files"
NO_FILES_NOTE = """:::{{warning}}
From here on, cells that begin with `# needs the fetched files` were not executed for this book.
The reason: {reason}
What they print is what they printed for the authors, without the pictures.
:::"""
NOTE = """:::{{warning}}
This lesson was not executed when this book was built: {reason}.
What its cells print is what they printed for the authors, without the pictures.
:::"""


class Record:
    """One run of one lesson: a copy of the notebook that fills up with new outputs."""

    def __init__(self, lesson: IPyNbFile) -> None:
        self.started = time.perf_counter()
        self.failed = False
        self.count = 0
        self.without_files = ""  # why cells that need the fetched files were skipped
        self.notebook = nbformat.read(lesson.path, as_version=4)
        self.code_cells = [
            (index, cell)
            for index, cell in enumerate(self.notebook.cells)
            if cell.cell_type == "code"
        ]
        # never starts a kernel here: it turns kernel messages into outputs as Jupyter does
        self.client = NotebookClient(self.notebook, record_timing=False)
        self.client.reset_execution_trackers()


@pytest.hookimpl
def pytest_collectstart(collector: pytest.Collector) -> None:
    """Say which outputs nbval leaves alone: pictures, charts and HTML differ between versions."""
    if isinstance(collector, IPyNbFile):
        collector.skip_compare += ("image/svg+xml", "text/html", VEGALITE)
        # a stored lesson has this line in place of a picture; the size says nothing
        collector.sanitize_patterns[r"<Figure size .*>"] = "<Figure>"


def r_with_seurat() -> bool:
    """Whether there is an Rscript that finds Seurat."""
    rscript = shutil.which("Rscript")
    question = "quit(status = !nzchar(system.file(package = 'Seurat')))"
    return bool(rscript) and not subprocess.run([rscript, "-e", question]).returncode


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the lessons that need what is not here, and keep a copy that says so for the book."""
    cells = [item for item in items if isinstance(item, IPyNbCell)]
    skip_without_files(
        [cell for cell in cells if cell.cell.source.startswith(NEEDS_FILES)]
    )
    lacking = {
        cell.parent for cell in cells if cell.parent.nb.metadata.get("needs") == NEEDS_R
    }
    if not lacking or r_with_seurat():
        return
    if os.environ.get("REQUIRE_R") == "1":
        raise pytest.UsageError(f"REQUIRE_R=1, but {NO_R}")
    for lesson in lacking:
        write(BUILD / "executed" / lesson.path.name, not_executed(lesson.nb))
        for leftover in (BUILD / "ran").glob(f"{lesson.path.stem}.*"):
            leftover.unlink()
    for cell in cells:
        if cell.parent in lacking:
            cell.add_marker(pytest.mark.skip(reason=NO_R))


def skip_without_files(cells: list[IPyNbCell]) -> None:
    """Skip these cells where the files can neither be read nor fetched; fetch them, if need be."""
    if not cells:
        return
    from helpers import real

    if real.available():
        return
    if os.environ.get("REQUIRE_DATA") == "1":
        raise pytest.UsageError(f"REQUIRE_DATA=1, but {real.why_not()}")
    for cell in cells:
        cell.add_marker(pytest.mark.skip(reason=real.why_not()))
        cell.without_files = real.why_not()


def not_executed(notebook: nbformat.NotebookNode) -> str:
    """Return the stored lesson with a note after its first cell."""
    notebook = copy.deepcopy(notebook)
    note = nbformat.v4.new_markdown_cell(NOTE.format(reason=NO_R), id="not-executed")
    note.metadata["tags"] = ["not-executed"]
    notebook.cells.insert(1, note)
    return nbformat.writes(notebook) + "\n"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Start the clock before nbval starts the kernel for the first cell."""
    if isinstance(item, IPyNbCell) and not hasattr(item.parent, "record"):
        item.parent.record = Record(item.parent)
    if hasattr(item, "without_files"):  # skipped: the record keeps what is stored
        item.parent.record.without_files = item.without_files
        item.parent.record.count += 1


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Run the cell, overhear its messages, and fail it for anything on stderr."""
    if not isinstance(item, IPyNbCell):
        return (yield)

    lesson, record = item.parent, item.parent.record
    if record.count == 0 and (ROOT / "tools" / "compiled.py").exists():
        ask(lesson, "0", COMPILED, timeout=120)
    messages = []

    def overhear(timeout: float | None = None, stream: str = "iopub") -> dict[str, Any]:
        message = lesson.kernel.get_message(stream, timeout=timeout)
        messages.append(message)
        return message

    lesson.get_kernel_message = overhear
    try:
        result = yield
        stderr = "".join(
            message["content"]["text"]
            for message in messages
            if message["msg_type"] == "stream"
            and message["content"]["name"] == "stderr"
        )
        if stderr:
            item.raise_cell_error(
                "The cell writes to stderr, which no lesson may do", stderr
            )
        return result
    except BaseException:
        record.failed = True
        raise
    finally:
        keep(record, item.cell_num, messages)


def keep(record: Record, number: int, messages: list[dict[str, Any]]) -> None:
    """Put the messages of code cell `number` (from 0) into the record as its outputs."""
    index, cell = record.code_cells[number]
    cell.outputs = []
    record.client.clear_before_next_output = False
    for message in messages:
        if message["msg_type"] != "status":
            record.client.process_message(message, cell, index)
    CoalesceStreamsPreprocessor().preprocess_cell(cell, {}, index)
    record.count += 1
    # nbval asks the kernel for no history, so the kernel does not count
    cell.execution_count = record.count
    for output in cell.outputs:
        if output.output_type == "execute_result":
            output.execution_count = record.count


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """After the last cell, while the kernel still lives, write the executed copy."""
    if not isinstance(item, IPyNbCell) or (nextitem and nextitem.parent is item.parent):
        return
    lesson, record = item.parent, item.parent.record
    if record.count < len(record.code_cells):
        return  # only some cells were asked for
    name = lesson.path.stem
    cost = {"seconds": round(time.perf_counter() - record.started, 1), **usage(lesson)}
    text = nbformat.writes(record.notebook) + "\n"
    write(BUILD / "ran" / f"{name}.ipynb", text)
    write(BUILD / "ran" / f"{name}.json", json.dumps(cost) + "\n")
    if not record.failed:
        write(BUILD / "ran" / f"{name}.trials.json", trials(lesson))
        write(BUILD / "executed" / f"{name}.ipynb", with_note(record) or text)
    item.config.stash.setdefault(COSTS, {})[name] = cost


def with_note(record: Record) -> str:
    """Return the record with a note before the first cell that was skipped; "" if none was."""
    if not record.without_files:
        return ""
    note = nbformat.v4.new_markdown_cell(
        NO_FILES_NOTE.format(reason=record.without_files), id="not-executed"
    )
    note.metadata["tags"] = ["partly-executed"]
    notebook = copy.deepcopy(record.notebook)
    first = next(
        i for i, cell in record.code_cells if cell.source.startswith(NEEDS_FILES)
    )
    notebook.cells.insert(first, note)
    return nbformat.writes(notebook) + "\n"


COSTS = pytest.StashKey[dict[str, dict[str, float]]]()


def usage(lesson: IPyNbFile) -> dict[str, float]:
    """Ask the kernel for processor seconds and peak memory in MB; nothing if it died.

    What the kernel ran counts as well: the largest of it, as if at the kernel's own peak.
    """
    if not lesson.kernel.is_alive():
        return {}
    user, system, peak = map(sum, zip(*ask(lesson, USAGE), strict=True))
    # the system counts in bytes on macOS and in kilobytes elsewhere
    peak *= 1 if sys.platform == "darwin" else 1024
    return {"cpu_seconds": round(user + system, 1), "peak_mb": round(peak / 1e6)}


def trials(lesson: IPyNbFile) -> str:
    """Try the answers in tests/exercises/ on the checks of the lesson; "{}" if it has no table."""
    name = lesson.path.stem
    if not (ROOT / "tests" / "exercises" / f"{name}.py").exists():
        return "{}"
    first = f"import sys; sys.path.insert(0, {str(ROOT)!r})"
    run = f"__import__('tools.trials').trials.run({name!r}, globals())"
    return ask(lesson, run, first, timeout=600)


def ask(lesson: IPyNbFile, what: str, first: str = "", timeout: int = 10) -> Any:
    """Return the value of an expression in the kernel, where it must print as Python."""
    client = lesson.kernel.kc
    asked = client.execute(first, silent=True, user_expressions={"it": what})
    while True:
        reply = client.get_shell_msg(timeout=timeout)
        if reply["parent_header"].get("msg_id") == asked:
            break
    return ast.literal_eval(
        reply["content"]["user_expressions"]["it"]["data"]["text/plain"]
    )


def write(path: Path, text: str) -> None:
    """Write whole or not at all: make must not take half a lesson for a finished one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what each lesson cost."""
    for name, cost in terminalreporter.config.stash.get(COSTS, {}).items():
        terminalreporter.write_line(f"{name}: {cost}")
