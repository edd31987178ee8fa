"""Try right and wrong answers on the checks of a lesson, in the lesson's own kernel.

tests/exercises/NN_name.py holds the table of a lesson: it sets ``trials``, a list of rows
``(exercise, answer, words)``.  It is run after the lesson's last cell, so everything that the
lesson made is there.  ``words`` is what the check must say: ``Right`` for a right answer, part of
the hint for a wrong one.
"""

import contextlib
import hashlib
import io
import json
import time
import traceback
from pathlib import Path
from typing import Any

from helpers.practice import described
from tools.pages import ROOT

TABLES = ROOT / "tests" / "exercises"


def digest(table: Path) -> str:
    """Return what tells one version of a table from another."""
    return hashlib.sha256(table.read_bytes()).hexdigest()


def run(name: str, lesson: dict[str, Any]) -> str:
    """Run the table of a lesson in a copy of the lesson's globals and return JSON.

    It holds what each check said, and never raises: an error in the table is in it as well.
    """
    table = TABLES / f"{name}.py"
    rows, error, started = [], "", time.process_time()
    try:
        space = dict(lesson)
        exec(compile(table.read_text(encoding="utf-8"), str(table), "exec"), space)
        for exercise, answer, words in space["trials"]:
            said = said_by(lesson[f"check_{exercise}"], answer)
            row = {"exercise": exercise, "answer": described(answer), "words": words, "said": said}
            rows.append(row)
    except Exception:
        error = traceback.format_exc()
    seconds = round(time.process_time() - started, 1)
    return json.dumps(
        {"digest": digest(table), "error": error, "rows": rows, "cpu_seconds": seconds}
    )


def said_by(check: Any, answer: Any) -> str:
    """Return what a check prints, on stderr too; a traceback if it fails."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            check(answer)
        except Exception:
            traceback.print_exc()
    return out.getvalue().strip()


def faults(rows: list[dict[str, Any]]) -> list[str]:
    """Return what is wrong with what the checks said, a sentence for each row that is."""
    found = []
    for row in rows:
        said, words = row["said"], row["words"]
        right = words.startswith("Right")
        if said.startswith("Right") != right or words not in said:
            found.append(f"{row['exercise']}, {row['answer']}: wants {words!r}, says {said!r}")
        elif "Traceback" in said or "Warning" in said or not said.endswith((".", "?")):
            found.append(f"{row['exercise']}, {row['answer']}: no plain sentence: {said!r}")
    for exercise in sorted({row["exercise"] for row in rows}):
        tried = [row["words"].startswith("Right") for row in rows if row["exercise"] == exercise]
        if tried.count(True) < 3 or tried.count(False) < 5:
            found.append(f"{exercise}: {tried.count(True)} right and {tried.count(False)} wrong")
    return found
