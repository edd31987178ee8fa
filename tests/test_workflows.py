"""The workflows of the public host run commands and name files that exist."""

import re

import pytest
import yaml
from test_environment import PYTHONS, tracked

from tools.pages import ROOT

FOLDER = ROOT / ".github" / "workflows"
WORKFLOWS = [FOLDER / name for name in ("matrix.yml", "publish.yml", "test.yml", "weekly.yml")]


def jobs(path) -> dict[str, dict]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]


def commands(path) -> list[str]:
    return [step["run"] for job in jobs(path).values() for step in job["steps"] if "run" in step]


def test_every_workflow_is_looked_at() -> None:
    assert {path for path in tracked() if path.parent == FOLDER} == set(WORKFLOWS)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_job_ends_by_itself_and_may_only_read(path) -> None:
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    assert all(job["timeout-minutes"] <= 90 for job in workflow["jobs"].values())


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_commands_and_files_exist(path) -> None:
    makefile = (
        (ROOT / "Makefile").read_text(encoding="utf-8").replace("$(READY)", ".venv/installed")
    )
    for command in commands(path):
        if target := re.match(r"make (\S+)", command):
            assert re.search(rf"^{re.escape(target[1])}:", makefile, re.M), command
        for file in re.findall(r"(?<!\S)(?:tests|\.ci)/[\w./]*", command):
            assert (ROOT / file).exists(), f"{path.name} names {file}"


def test_a_pull_request_runs_everything_on_linux_and_the_core_on_macos() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8"))
    assert "pull_request" in workflow[True]  # YAML 1.1 reads `on` as true
    hosts = {name: job["runs-on"] for name, job in workflow["jobs"].items()}
    assert hosts == {
        "linux": "ubuntu-latest",
        "macos": "macos-latest",
        "lessons": "ubuntu-latest",
        "learner": "ubuntu-latest",
    }
    assert ".ci/run" in commands(ROOT / ".github/workflows/test.yml")


def test_a_pull_request_runs_the_lessons_on_every_python() -> None:
    runs = set()
    for job in jobs(FOLDER / "test.yml").values():
        steps = job["steps"]
        run = [step.get("run", "") for step in steps]
        if any(re.match(r"\.ci/run$|make (test|lessons)\b", command) for command in run):
            (asked,) = [step["with"]["python-version"] for step in steps if "with" in step]
            runs.add(asked.split()[-1])  # of several the last one is `python3`
    assert runs == set(PYTHONS)


def test_every_week_scores_are_compared_and_deprecations_seen() -> None:
    """The cross-check against scib-metrics runs where that is installed, and selects tests."""
    weekly = jobs(FOLDER / "weekly.yml")
    runs = {name: [step.get("run", "") for step in job["steps"]] for name, job in weekly.items()}
    assert any("pip install" in command and "scib-metrics" in command for command in runs["scores"])
    assert any("tests/test_metrics.py -k scib_metrics" in command for command in runs["scores"])
    metrics = (ROOT / "tests" / "test_metrics.py").read_text(encoding="utf-8")
    assert re.search(r"def test_\w*scib_metrics", metrics)
    seen = [command for command in runs["deprecations"] if "-m pytest tests" in command]
    assert len(seen) == 1
    for kind in ("DeprecationWarning", "PendingDeprecationWarning"):
        assert f"-W default::{kind}" in seen[0]
