"""The three places that name versions agree, and nothing in them is tied to one machine."""

import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from tools.environment import (
    FULL,
    LAB,
    ROOT,
    canonicalize_name,
    direct_requirements,
    environment,
    locked_versions,
)
from tools.notebooks import LESSONS

PYTHONS = ["3.11", "3.12", "3.13"]
LOCKS = {name: (ROOT / name).read_text(encoding="utf-8") for name in (FULL, LAB)}
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")

# written in two parts so that this file does not name them itself
HOSTS = ["py" + "pi.org", "python" + "hosted", "registry." + "npmjs", "deb." + "debian"]
HOSTS += ["archive." + "ubuntu", "anaconda" + ".org", "conda." + "io"]
PLACES = ["/" + place + "/" for place in ("root", "home", "Users", "tmp", "work", "opt")]


def tracked() -> list[Path]:
    """List the files of the repository; what merely lies about is nobody's business."""
    command = ["git", "ls-files", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git repository: an unpacked ZIP does not say which files are its own")
    names = listed.stdout.split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


@pytest.mark.parametrize("lock", [FULL, LAB])
@pytest.mark.parametrize("python", PYTHONS)
def test_lock_satisfies_pyproject(python: str, lock: str) -> None:
    versions = locked_versions(python, lock)
    for requirement in direct_requirements(lock):
        name = canonicalize_name(requirement.name)
        assert name in versions, f"{lock} lacks {name}: run `make lock`"
        assert requirement.specifier.contains(versions[name]), (
            f"{lock} holds {name} {versions[name]}, "
            f"pyproject.toml asks for {requirement.specifier}: run `make lock`"
        )


@pytest.mark.parametrize("python", PYTHONS)
def test_learners_have_a_part_of_what_authors_have(python: str) -> None:
    """In the same versions, and a quarter fewer packages; no browser, no Sphinx."""
    lab, full = locked_versions(python, LAB), locked_versions(python)
    assert lab.items() <= full.items(), "run `make lock`"
    assert len(lab) < 0.75 * len(full)
    assert not {"playwright", "sphinx", "pytest", "ruff"} & set(lab)


def test_environment_is_fresh() -> None:
    text = (ROOT / "environment.yml").read_text(encoding="utf-8")
    assert text == environment(), "environment.yml is stale: run `make lock`"


def test_installed_is_locked() -> None:
    """The environment that runs these tests is the locked one."""
    versions = locked_versions(f"{sys.version_info.major}.{sys.version_info.minor}")
    for requirement in direct_requirements():
        name = canonicalize_name(requirement.name)
        assert version(name) == versions[name], f"{name}: remove .venv and run `make`"


def test_every_upper_bound_says_why() -> None:
    lines = PYPROJECT.splitlines()
    bounded = [
        number
        for number, line in enumerate(lines)
        if re.match(r'(\s*|requires-python = )"[^"]*(<|==|~=|!=)', line)
    ]
    assert bounded
    for number in bounded:
        above = lines[number - 1].strip()
        assert above.startswith("#") or "#" in lines[number], (
            f"pyproject.toml line {number + 1} bounds a version without naming the failure: "
            f"{lines[number].strip()}"
        )


@pytest.mark.parametrize("lock", [FULL, LAB])
def test_every_locked_file_is_hashed(lock: str) -> None:
    """Each pin is followed by at least one SHA-256, so pip and uv both refuse other files."""
    pins = re.split(r"\n(?=[A-Za-z0-9])", LOCKS[lock])[1:]
    assert len(pins) > 100
    for pin in pins:
        assert "==" in pin.splitlines()[0]
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", pin), f"no hash: {pin.splitlines()[0]}"


@pytest.mark.parametrize("lock", [FULL, LAB])
def test_lock_names_no_place(lock: str) -> None:
    """No index, no link, no path: the lock serves whatever index the reader's pip uses."""
    assert "://" not in LOCKS[lock]
    assert "--index-url" not in LOCKS[lock]
    assert "--find-links" not in LOCKS[lock]
    for place in PLACES:
        assert place not in LOCKS[lock]


def test_no_file_names_a_registry_or_a_machine() -> None:
    for path in tracked():
        if path.suffix in {".h5ad", ".png", ".woff", ".woff2", ".js", ".css", ".ico", ".svg"}:
            continue
        text = path.read_text(encoding="utf-8")
        for host in HOSTS:
            assert host not in text, f"{path.relative_to(ROOT)} names {host}"
        for place in ("/ro" + "ot/", "/Us" + "ers/", "/wo" + "rk/"):
            assert place not in text, f"{path.relative_to(ROOT)} names {place}"


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=["check", "format"])
def test_ruff(command: list[str]) -> None:
    """Python files and notebooks are formatted and free of what the rules find."""
    files = [str(path) for path in tracked() if path.suffix in {".py", ".ipynb"}]
    ruff = [sys.executable, "-m", "ruff", *command, *files]
    done = subprocess.run(ruff, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_lesson_is_in_the_book() -> None:
    """The list of lessons is read from _toc.yml; a file that it does not name runs nowhere."""
    files = {
        path.name for path in tracked() if re.match(r"notebooks/\d", f"{path.relative_to(ROOT)}")
    }
    assert files == {path.name for path in LESSONS}
