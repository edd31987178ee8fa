"""Write environment.yml from pyproject.toml and requirements-lab.lock; `make lock` runs it.

Conda gives Python and pip; everything else comes by pip in the locked versions, so conda, Binder
and `make lab` hold the same packages: those of a learner.

And make the throw-away environments in which other versions are tried (`throw_away`).
"""

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from uv import find_uv_bin

from tools.pages import ROOT

PYTHON = "3.12"
SECONDS = 1800  # for one command: what takes longer hangs

HEAD = f"""\
# For conda and Binder.  Written by `make lock` from pyproject.toml and requirements-lab.lock: a
# learner's direct dependencies in their locked versions for Python {PYTHON}.  Edit those, not this.
# On Windows only inside WSL: harmonypy 2 has no build for native Windows.
name: harmony-in-practice
channels:
  - conda-forge
  - nodefaults
dependencies:
  - python={PYTHON}
  - pip
  - pip:
"""


FULL, LAB = "requirements.lock", "requirements-lab.lock"


def direct_requirements(lock: str = FULL) -> list[Requirement]:
    """Return what pyproject.toml asks for: of learners, or of authors, who need more."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extra = project["optional-dependencies"]
    lines = project["dependencies"] + extra["lab"] + (extra["course"] if lock == FULL else [])
    wanted = [Requirement(line) for line in lines]
    return [requirement for requirement in wanted if requirement.name != project["name"]]


def locked_versions(python: str, lock: str = FULL) -> dict[str, str]:
    """Return name -> version of what a lock installs for `python`, such as "3.12", on Linux."""
    here = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
        "os_name": "posix",
    }
    versions = {}
    for line in (ROOT / lock).read_text(encoding="utf-8").splitlines():
        if line[:1].isalnum():
            requirement = Requirement(line.removesuffix("\\").strip())
            if requirement.marker is None or requirement.marker.evaluate(here):
                (pin,) = requirement.specifier
                versions[canonicalize_name(requirement.name)] = pin.version
    return versions


def environment() -> str:
    """Return the text of environment.yml."""
    versions = locked_versions(PYTHON, LAB)
    names = sorted(canonicalize_name(wanted.name) for wanted in direct_requirements(LAB))
    pins = [f"      - {name}=={versions[name]}\n" for name in names]
    return HEAD + "".join(pins) + "      - -e .\n"


def run(command: Iterable[object], **changes: str) -> subprocess.CompletedProcess[str]:
    """Run at the top of the repository, one thread, with nothing of the user's own packages."""
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    env = {**os.environ, **threads, "PYTHONPATH": str(ROOT), "PYTHONNOUSERSITE": "1", **changes}
    words = [str(word) for word in command]
    try:
        return subprocess.run(
            words, cwd=ROOT, env=env, capture_output=True, text=True, timeout=SECONDS
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(words, 1, "", f"No end after {SECONDS} seconds")


def throw_away(place: Path, wanted: list[str], base: str = sys.executable) -> Path:
    """Make an environment in `place` with what is wanted, and return its Python.

    uv makes it, of the Python `base`, this one by default; where uv cannot reach a package index,
    since it does not read pip's settings, pip installs.

    Raises
    ------
    RuntimeError
        It could not be made, or a package not be installed; the last line of uv says why.
    """
    made = run([find_uv_bin(), "venv", "--no-project", "--python", base, place])
    if made.returncode:
        raise RuntimeError(f"Environment: {one_line(made.stderr, -1)}")
    python = place / "bin" / "python"
    uv = run([find_uv_bin(), "pip", "install", "--python", python, *wanted])
    if uv.returncode:
        pip = run([sys.executable, "-m", "pip", "--python", python, "install", *wanted])
        if pip.returncode:
            raise RuntimeError(f"Installing: {one_line(uv.stderr, -1)}")
    return python


def one_line(text: str, number: int) -> str:
    """Return one line of a message that is not empty: no colours, no place, not too long."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text).replace(str(ROOT), ".")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[number][:300] if lines else "no message"


if __name__ == "__main__":
    (ROOT / "environment.yml").write_text(environment(), encoding="utf-8")
