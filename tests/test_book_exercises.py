"""Each check of each exercise, tried on right and wrong answers when its lesson ran.

tests/exercises/NN_name.py holds the answers, and notebooks/conftest.py tries them in the lesson's
kernel after its last cell.  Run after `make lessons`; `make test` sees to that.
"""

import json
from pathlib import Path

from test_book_lessons import ran
from test_environment import tracked
from test_notebooks import exercise_groups, lessons, read

from tools.notebooks import LESSONS, RAN
from tools.trials import TABLES, digest, faults


@lessons
def test_right_answers_pass_and_wrong_ones_get_a_sentence(path: Path) -> None:
    """At least three right and five wrong answers for each exercise; see tools/trials.py."""
    ran(path)
    tried = json.loads((RAN / f"{path.stem}.trials.json").read_text(encoding="utf-8"))
    assert tried["digest"] == digest(TABLES / path.name.replace("ipynb", "py")), (
        "the table has changed since: run `make lessons`"
    )
    assert not tried["error"], tried["error"]
    exercises = {row["exercise"] for row in tried["rows"]}
    assert exercises == set(range(1, len(exercise_groups(read(path))) + 1))
    wrong = faults(tried["rows"])
    assert not wrong, "\n".join(wrong)


def test_a_table_for_each_lesson_and_no_other() -> None:
    assert {path.stem for path in tracked() if path.parent == TABLES} <= {p.stem for p in LESSONS}
    assert all((TABLES / f"{path.stem}.py").is_file() for path in LESSONS)
