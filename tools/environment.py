"""Write environment.yml from pyproject.toml and requirements-lab.lock; `make lock` runs it.

Conda gives Python and pip; everything else comes by pip in the locked versions, so conda, Binder
and `make lab` hold the same packages: those of a learner.
"""

import tomllib

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.pages import ROOT

PYTHON = "3.12"

HEAD = f"""\
# For conda and Binder.  Written by `make lock` from pyproject.toml and requirements-lab.lock: a
# learner's direct dependencies in their locked versions for Python {PYTHON}.  Edit those, not this.
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


if __name__ == "__main__":
    (ROOT / "environment.yml").write_text(environment(), encoding="utf-8")
