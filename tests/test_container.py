"""The Containerfile is what its page says: the lock, one Python, no root. Nothing is built here."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tools.environment import LAB, PYTHON, ROOT

FILE = ROOT / "Containerfile"
HADOLINT = shutil.which("hadolint", path=Path(sys.executable).parent)
TEXT = FILE.read_text(encoding="utf-8")
STEPS = [
    re.sub(r"\s*\\\n\s*", " ", step)
    for step in re.findall(r"^[A-Z]+ (?:.*\\\n)*.*$", TEXT, flags=re.MULTILINE)
]


def place(words: str) -> int:
    """Which step it is that holds these words."""
    (number,) = [number for number, step in enumerate(STEPS) if words in step]
    return number


def test_it_is_the_python_of_conda_and_binder_by_name() -> None:
    assert STEPS[0] == f"FROM python:{PYTHON}-slim"


def test_the_lock_is_installed_with_hashes_and_before_the_rest_is_copied() -> None:
    installed = place(f"--require-hashes --requirement {LAB}")
    assert place(f"COPY --chown=learner:learner {LAB} ./") < installed
    assert installed < place("COPY --chown=learner:learner . ./") < place("--no-deps")


def test_nothing_is_installed_or_run_as_root() -> None:
    users = [step for step in STEPS if step.startswith("USER")]
    assert users == ["USER 1000"]
    assert "--uid 1000 learner" in TEXT
    assert place("USER 1000") < min(n for n, step in enumerate(STEPS) if "pip" in step)


def test_it_opens_the_lessons_without_solutions() -> None:
    command = json.loads(STEPS[-1].removeprefix("CMD "))
    (url,) = [word for word in command if word.startswith("--LabApp.default_url=/lab/tree/")]
    assert (ROOT / url.split("/lab/tree/")[1] / "00_quickstart.ipynb").exists()


def test_it_and_its_page_say_that_it_was_not_built() -> None:
    page = (ROOT / "book" / "before_the_day.md").read_text(encoding="utf-8")
    for text in (TEXT, page):
        assert "image has not been built yet" in " ".join(text.replace("#", "").split())
    for command in re.findall(r"^#     (docker .*)$", TEXT, flags=re.MULTILINE):
        assert f"\n{command}\n" in page


def test_what_git_ignores_is_not_copied() -> None:
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    left_out = {
        line.removeprefix("**/").rstrip("/")
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    }
    wanted = {line.strip("/") for line in ignored if line and not line.startswith("#")}
    assert wanted | {".git", "wheels"} <= left_out


def test_hadolint() -> None:
    done = subprocess.run([HADOLINT, FILE], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
