"""Make the bundle for a workshop without a network; `make bundle` runs it.

One ZIP file in `_build/`: the packages of requirements-lab.lock as wheels, for the Python and the
system that run this; the tracked files of the course; and the book, if it is built.  As its last
step the bundle is unpacked, installed with no package index, and asked whether it is ready.
"""

import os
import platform
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from helpers.data import sha256
from tools.environment import LAB
from tools.pages import ROOT

BUILD = ROOT / "_build"
COURSE = "harmony-in-practice"  # the folder in the ZIP file
MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"
# what the Makefile compares with the reader's Python, word by word
MADE_FOR = f"Python {MINOR} on {platform.system()} {platform.machine()}\n"
# not that of an environment, which the bundle cannot take along
PYTHON = Path(sys.base_prefix) / "bin" / f"python{MINOR}"
WHEELS = BUILD / "bundle" / f"python{MINOR}"

INSTALL = """\
Harmony in Practice, to install without a network
=================================================

For {made_for}.
Needed besides: GNU make{needs}.

In a terminal, in the folder into which you unpacked this file:

    cd {course}
    make check PYTHON=python{minor}
    make lab

The second line sets up .venv from wheels/, asks no package index, and ends with "Ready".
The third copies the lessons without solutions to my/, and opens JupyterLab there.
{book}
Two sections of lesson 10 and two cells of lesson 14 need files that are not in here:
data/README.md says which, and how HARMONY_COURSE_DATA names a folder that holds them.

Made from commit {commit}.
"""


def pip(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run pip of this Python."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True)


def download(lock: Path, wheels: Path) -> None:
    """Fill a folder with the wheels of a lock, and with nothing else.

    What is there already is not fetched again, and when all of it is there no index is asked.

    Raises
    ------
    SystemExit
        When a wheel cannot be had, in one sentence.
    """
    wheels.mkdir(parents=True, exist_ok=True)
    wanted = lock.read_text(encoding="utf-8")
    for file in wheels.iterdir():
        if sha256(file) not in wanted:  # of an older lock, or half of a file
            file.unlink()
    words = ["download", "--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes"]
    words += ["--find-links", wheels, "--dest", wheels, "--requirement", lock]
    if pip(*words, "--no-index").returncode == 0:
        print(f"bundle: the packages are there already, {len(list(wheels.iterdir()))} wheels")
        return
    print("bundle: fetching the packages, some 300 MB, once ...", flush=True)
    done = pip(*words)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        sys.exit(
            "bundle: not all packages could be fetched. This needs a package index that pip can "
            "reach, once; what was fetched is kept. pip says: " + (errors or [done.stderr])[-1]
        )


def glibc(wheels: Path) -> str:
    """Say from which glibc on all of the wheels fit; nothing where none of them asks."""
    asked = []
    for file in wheels.glob("*.whl"):
        tags = re.findall(r"manylinux_(\d+)_(\d+)", file.name)
        asked += [min((int(major), int(minor)) for major, minor in tags)] if tags else []
    return ", and glibc {}.{} or newer".format(*max(asked)) if asked else ""


def git(*words: str) -> str:
    """Return what git says of this checkout."""
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit("bundle: this folder is no git repository; make the bundle in a clone.")
    return done.stdout


def pack(target: Path, wheels: Path, book: Path | None = None) -> None:
    """Write the ZIP file: the course as git has it, wheels, INSTALL.txt, the built book."""
    if changed := git("status", "--porcelain", "--untracked-files=no").splitlines():
        print(f"bundle: not in it are the uncommitted changes of {len(changed)} files")
    text = INSTALL.format(
        made_for=MADE_FOR.strip(),
        needs=glibc(wheels),
        course=COURSE,
        minor=MINOR,
        book="The book: open _build/html/index.html in a browser.\n" if book else "",
        commit=git("rev-parse", "--short=12", "HEAD").strip(),
    )
    git("archive", "--format=zip", f"--prefix={COURSE}/", f"--output={target}", "HEAD")
    with zipfile.ZipFile(target, "a", zipfile.ZIP_DEFLATED) as bundle:
        for file in sorted(wheels.glob("*.whl")):
            bundle.write(file, f"{COURSE}/wheels/{file.name}", zipfile.ZIP_STORED)
        bundle.writestr(f"{COURSE}/wheels/made_for.txt", MADE_FOR)
        bundle.writestr(f"{COURSE}/INSTALL.txt", text)
        for file in sorted(book.rglob("*")) if book else []:
            bundle.write(file, f"{COURSE}/_build/html/{file.relative_to(book)}")


def unpack(bundle: Path, place: Path) -> Path:
    """Unpack a bundle, and return the folder of the course."""
    with zipfile.ZipFile(bundle) as packed:
        packed.extractall(place)
    return place / COURSE


def install(course: Path, goal: str) -> subprocess.CompletedProcess[str]:
    """`make` something in an unpacked bundle, with no cache and no index within reach."""
    nowhere = "http://127.0.0.1:9"
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    env |= {"PIP_INDEX_URL": nowhere, "UV_DEFAULT_INDEX": nowhere, "UV_OFFLINE": "1"}
    env |= {"PIP_RETRIES": "0", "PIP_NO_CACHE_DIR": "1"}
    env |= {"UV_CACHE_DIR": str(course / "_build" / "uv")}
    command = ["make", "--no-print-directory", goal, f"PYTHON={PYTHON}"]
    return subprocess.run(command, cwd=course, env=env, capture_output=True, text=True)


def main() -> None:
    """Fetch, pack, and install what was packed."""
    download(ROOT / LAB, WHEELS)
    html = BUILD / "html"
    book = html if (html / "index.html").exists() else None
    system = f"{platform.system()}-{platform.machine()}".lower()
    target = BUILD / f"{COURSE}-{system}-python{MINOR}.zip"
    pack(target, WHEELS, book)
    print(f"bundle: {target.relative_to(ROOT)}, {target.stat().st_size / 1e6:.0f} MB", end=", ")
    print("with the built book" if book else "without the book: `make book` builds it")
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        done = install(unpack(target, Path(folder)), "check")
    if done.returncode or not done.stdout.endswith("Ready\n"):
        target.unlink()
        sys.exit("bundle: it did not install without a network:\n" + done.stdout + done.stderr)
    seconds = time.perf_counter() - started
    print(f"bundle: installed anew with no network, and `make check` said Ready: {seconds:.0f} s")


if __name__ == "__main__":
    main()
