"""A bundle installs with no package index within reach, and says what is wrong where it cannot.

With two packages in place of 160; `make bundle` itself ends with the whole of it.
"""

import os
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from tools import bundle
from tools.environment import LAB, ROOT

SMALL = ("uv", "setuptools", "packaging")


@pytest.fixture(scope="module")
def lock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lines of a few packages of the learner's lock."""
    entries = re.split(r"\n(?=\w)", (ROOT / LAB).read_text(encoding="utf-8"))
    path = tmp_path_factory.mktemp("lock") / LAB
    chosen = [entry for entry in entries if entry.split("==")[0] in SMALL]
    path.write_text("\n".join(chosen) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def wheels(lock: Path) -> Path:
    folder = lock.parent / "wheels"
    try:
        bundle.download(lock, folder)
    except SystemExit as said:
        reason = f"no package index: {said}"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return folder


@pytest.fixture
def course(lock: Path, wheels: Path, tmp_path: Path) -> Path:
    """An unpacked bundle, whose lock is the small one."""
    target = tmp_path / "bundle.zip"
    bundle.pack(target, wheels)
    folder = bundle.unpack(target, tmp_path)
    shutil.copy(lock, folder / LAB)
    shutil.copy(ROOT / "Makefile", folder)  # also where it is not committed yet
    return folder


def python(course: Path, code: str) -> str:
    command = [course / ".venv" / "bin" / "python", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_it_installs_with_no_index_and_only_once(course: Path) -> None:
    done = bundle.install(course, ".venv/lab")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "pip takes over" not in done.stdout, "uv, too, installs without a network"
    listed = python(course, "from importlib.metadata import distributions as d; "
                            "print(*sorted({x.name.lower() for x in d()}))")  # fmt: skip
    assert set(listed.split()) - {"pip"} == {*SMALL, "harmony-in-practice"}
    again = bundle.install(course, ".venv/lab")
    assert "up to date" in again.stdout
    text = (course / "INSTALL.txt").read_text(encoding="utf-8")
    assert text.startswith("Harmony in Practice")
    assert len(re.findall(r"^    \S", text, flags=re.MULTILINE)) == 3
    assert (course / "data" / "kang_pbmc.h5ad").stat().st_size > 7_000_000


def test_a_wheel_that_the_lock_does_not_know_is_refused(course: Path) -> None:
    (wheel,) = (course / "wheels").glob("packaging-*")
    with zipfile.ZipFile(wheel, "w") as other:
        other.writestr("packaging/__init__.py", "")
    done = bundle.install(course, ".venv/lab")
    assert done.returncode
    assert "hash" in (done.stdout + done.stderr).lower()
    assert not (course / ".venv" / "lab").exists()


def test_another_python_is_told_so(course: Path) -> None:
    made_for = course / "wheels" / "made_for.txt"
    assert made_for.read_text(encoding="utf-8") == bundle.MADE_FOR
    made_for.write_text("Python 3.99 on Nowhere x\n", encoding="utf-8")
    done = bundle.install(course, "check")
    assert done.returncode
    assert "are for Python 3.99 on Nowhere x, and" in done.stderr
    assert not (course / ".venv").exists()


def test_what_is_there_is_not_fetched_again_and_leftovers_go(
    lock: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    (wheels / "old-1.0-py3-none-any.whl").write_bytes(b"of an older lock")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9")
    bundle.download(lock, wheels)
    assert "there already, 3 wheels" in capsys.readouterr().out


def test_without_a_network_it_says_so_in_one_sentence(
    lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(SystemExit, match="needs a package index that pip can reach, once"):
        bundle.download(lock, tmp_path / "wheels")


def test_glibc_is_the_newest_that_any_wheel_asks_for(tmp_path: Path) -> None:
    assert bundle.glibc(tmp_path) == ""
    for name in ("a-1-py3-none-any", "b-1-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_34_x86_64"):
        (tmp_path / f"{name}.whl").touch()
    assert bundle.glibc(tmp_path) == ", and glibc 2.27 or newer"
    (tmp_path / "c-1-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.whl").touch()
    assert bundle.glibc(tmp_path) == ", and glibc 2.27 or newer"
    (tmp_path / "d-1-cp311-cp311-manylinux_2_34_x86_64.whl").touch()
    assert bundle.glibc(tmp_path) == ", and glibc 2.34 or newer"
