"""The workflows of the public host run commands and name files that exist."""

import re

import pytest
import yaml

from tools.pages import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def commands(path) -> list[str]:
    jobs = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].values()
    return [step["run"] for job in jobs for step in job["steps"] if "run" in step]


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
        "learner": "ubuntu-latest",
    }
    assert ".ci/run" in commands(ROOT / ".github/workflows/test.yml")
