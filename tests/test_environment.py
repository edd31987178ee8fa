"""The three places that name versions agree, and nothing in them is tied to one machine."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

import tools.environment
from tools.environment import (
    FULL,
    LAB,
    ROOT,
    canonicalize_name,
    direct_requirements,
    environment,
    locked_versions,
    throw_away,
)
from tools.notebooks import LESSONS

PYTHONS = ["3.11", "3.12", "3.13"]
LEARNERS = 170  # packages at most; there were 166 when the bound was set
LOCKS = {name: (ROOT / name).read_text(encoding="utf-8") for name in (FULL, LAB)}
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")

# written in two parts so that this file does not name them itself
HOSTS = ["py" + "pi.org", "python" + "hosted", "registry." + "npmjs", "deb." + "debian"]
HOSTS += ["archive." + "ubuntu", "anaconda" + ".org", "conda." + "io"]
PLACES = ["/" + place + "/" for place in ("root", "home", "Users", "tmp", "work", "opt")]


def tracked() -> list[Path]:
    """List the files of the repository; what merely lies about is nobody's business.

    A test that is collected from them is skipped with its whole file where there is no Git.
    """
    command = ["git", "ls-files", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        why = "not a git repository: an unpacked ZIP does not say which files are its own"
        pytest.skip(why, allow_module_level=True)
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
    """In the same versions, and a bounded number of packages; no browser, no Sphinx."""
    lab, full = locked_versions(python, LAB), locked_versions(python)
    assert lab.items() <= full.items(), "run `make lock`"
    assert len(lab) <= LEARNERS, "a learner installs more than before: say in the commit what for"
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


def tools_by_name() -> dict[str, str]:
    """The texts of the Python files in tools/, each by its path in that folder."""
    folder = ROOT / "tools"
    return {
        path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
        for path in tracked()
        if path.is_relative_to(folder) and path.suffix == ".py"
    }


def written_whole() -> set[str]:
    """What one command writes from top to bottom; pages with marked parts are not among them."""
    names = {path.relative_to(ROOT).as_posix() for path in tracked()}
    whole = {name for name in names if name.startswith("data/")} - {"data/README.md"}
    whole |= {name for name in names if re.fullmatch(r"notebooks/exercises/.*\.ipynb", name)}
    whole |= {"environment.yml", FULL, LAB}
    for text in tools_by_name().values():
        if not re.search(r"^from tools\.pages import .*\bfill\b", text, re.MULTILINE):
            places = re.findall(r'^(\w+) = ROOT / "book" / "(.*)"', text, re.MULTILINE)
            whole |= {f"book/{name}" for place, name in places if f"{place}.write_text" in text}
    return whole & names


def test_what_a_command_writes_whole_is_marked_as_generated() -> None:
    whole = written_whole()
    assert {"data/methods_recorded.csv", "book/carry.md", "book/troubleshooting.md"} <= whole
    names = sorted(path.relative_to(ROOT).as_posix() for path in tracked())
    command = ["git", "check-attr", "--stdin", "-z", "linguist-generated"]
    said = subprocess.run(
        command, cwd=ROOT, input="\0".join(names), capture_output=True, text=True, check=True
    ).stdout.split("\0")
    marked = {name for name, value in zip(said[::3], said[2::3], strict=False) if value == "set"}
    assert marked == whole


# what stands in for programs of another machine: it answers with one line
STUB = "#!/bin/sh\necho '{}'\n"


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
@pytest.mark.parametrize(
    ("beside", "anew"), [("(3, 12)", True), ("(3, 11)", False)], ids=["another", "the same"]
)
def test_another_python_makes_the_environment_anew(tmp_path, beside: str, anew: bool) -> None:
    """`make check PYTHON=...` beside an environment of another version is not ignored."""
    for name in ("Makefile", "_toc.yml", LAB):
        shutil.copy(ROOT / name, tmp_path)
    stubs = {".venv/bin/python": beside, "other": "(3, 11)"}
    for name, answer in stubs.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(STUB.format(answer))
        path.chmod(0o755)
    (tmp_path / ".venv" / "lab").touch()  # newer than its lock: nothing else is to be done
    command = ["make", "-n", "check", f"PYTHON={tmp_path / 'other'}"]
    settings = {name: os.environ[name] for name in os.environ if not name.startswith("MAKE")}
    said = subprocess.run(
        command, cwd=tmp_path, env=settings, capture_output=True, text=True, check=True
    ).stdout
    assert "-m tools.check" in said
    assert ("it is made anew" in said) == anew
    assert ("-m venv --clear .venv" in said) == anew


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
@pytest.mark.parametrize(("target", "lock"), [("lab", LAB), ("installed", FULL)])
def test_make_says_how_many_packages_it_is_about_to_install(tmp_path, target, lock) -> None:
    for name in ("Makefile", "_toc.yml", LAB, FULL):
        shutil.copy(ROOT / name, tmp_path)
    settings = {name: os.environ[name] for name in os.environ if not name.startswith("MAKE")}
    command = ["make", "-n", f".venv/{target}", f"PYTHON={sys.executable}"]
    said = subprocess.run(
        command, cwd=tmp_path, env=settings, capture_output=True, text=True, check=True
    ).stdout
    (about,) = re.findall(r"Setting up \.venv, once: some (\d+) packages", said)
    for python in PYTHONS:
        assert abs(len(locked_versions(python, lock)) - int(about)) <= 10


def test_a_throw_away_environment_is_made_in_one_place(tmp_path, monkeypatch) -> None:
    """By uv, else by pip, and a failure says which step and why."""
    failing, asked = set(), []

    def answer(command: list, **changes: str) -> subprocess.CompletedProcess:
        step = "pip" if command[1:3] == ["-m", "pip"] else "venv" if "venv" in command else "uv"
        asked.append(step)
        return subprocess.CompletedProcess(command, step in failing, "", f"the end\n{step} failed")

    monkeypatch.setattr(tools.environment, "run", answer)
    assert throw_away(tmp_path, ["numpy"]) == tmp_path / "bin" / "python"
    assert asked == ["venv", "uv"]
    failing.add("uv")
    throw_away(tmp_path, ["numpy"])
    assert asked[2:] == ["venv", "uv", "pip"]
    failing.add("pip")
    with pytest.raises(RuntimeError, match=r"^Installing: uv failed$"):
        throw_away(tmp_path, ["numpy"])
    failing.add("venv")
    with pytest.raises(RuntimeError, match=r"^Environment: venv failed$"):
        throw_away(tmp_path, ["numpy"])
    texts = tools_by_name().items()
    makers = [name for name, text in texts if re.search(r'"venv"|\bvenv\.', text)]
    assert makers == ["environment.py"]


def test_pythons_are_those_that_the_package_allows() -> None:
    allowed = tomllib.loads(PYPROJECT)["project"]["requires-python"]
    assert allowed == ">=3.11,<3.14"
    said = "its packages resolve; there was no interpreter here to run it"
    assert f"3.14: {said}" in PYPROJECT
    assert f"3.14 {said}" in (ROOT / "book" / "install.md").read_text(encoding="utf-8")
