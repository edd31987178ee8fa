"""Build the HTML book from the executed lessons: ``python book/build.py``.

Stages a source tree in ``_build/site``, then lets Jupyter Book turn it into ``_build/html``.
Files whose content did not change keep their modification time, so that Sphinx's own cache makes
the second build short.
"""

import argparse
import shutil
import sys
from pathlib import Path

import yaml  # comes with jupyter-book

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # this file is run by its path

import tools.grammar  # noqa: E402, F401  (before others import jsonschema)
from tools import cheatsheet, front  # noqa: E402

JOBS = 2  # pages written side by side, where Sphinx can


def pages(toc: dict) -> list[str]:
    """Return every page named in a parsed ``_toc.yml``, in order, the front page first."""
    found = [toc["root"]]
    for part in toc.get("parts", [toc]):
        for chapter in part.get("chapters", []):
            if "file" in chapter:
                found.append(chapter["file"])
            found += [section["file"] for section in chapter.get("sections", [])]
    return found


def wanted_files(executed: Path) -> dict[str, Path]:
    """Map each path inside the staged tree to the file that it is copied from.

    Raises
    ------
    SystemExit
        When a page of the table of contents has no source, in one sentence.
    """
    files = {name: ROOT / name for name in ("_config.yml", "_toc.yml")}
    for path in sorted((ROOT / "book").rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts and path != Path(__file__).resolve():
            files[path.relative_to(ROOT).as_posix()] = path

    for page in pages(yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))):
        if page.startswith("notebooks/"):
            name, source = f"{page}.ipynb", executed / f"{Path(page).name}.ipynb"
            if not source.is_file():
                sys.exit(
                    f"book: {name} is in _toc.yml but was not executed yet "
                    f"({source} is missing); `make book` executes the lessons first."
                )
            quiz = ROOT / "notebooks" / "quiz" / f"{Path(page).name}.yml"
            if quiz.is_file():
                files[quiz.relative_to(ROOT).as_posix()] = quiz
        else:
            name = f"{page}.md"
            source = ROOT / name
            if not source.is_file():
                sys.exit(f"book: {name} is in _toc.yml but does not exist.")
        files[name] = source
    return files


def stage(files: dict[str, Path], site: Path, html: Path) -> None:
    """Make ``site`` hold exactly ``files``, touching only what differs."""
    for name, source in files.items():
        target = site / name
        content = source.read_bytes()
        if not target.is_file() or target.read_bytes() != content:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
    for target in sorted(site.rglob("*")):
        name = target.relative_to(site).as_posix()
        if target.is_file() and name not in files:
            target.unlink()
            # Sphinx would leave the page of a removed source in the book for ever.
            html.joinpath(name).with_suffix(".html").unlink(missing_ok=True)


def main() -> None:
    """Stage, build, and say where the book is."""
    from jupyter_book.sphinx import build_sphinx  # takes seconds, which tests of `pages` need not

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--executed", type=Path, help="default: <out>/executed")
    parser.add_argument("--out", type=Path, default=ROOT / "_build", help="a folder named _build")
    args = parser.parse_args()
    out = args.out.resolve()
    site, html = out / "site", out / "html"

    executed = (args.executed or out / "executed").resolve()
    files = wanted_files(executed)
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    files |= front.write(toc, files, executed, out / "front")
    files["book/cheatsheet.pdf"] = cheatsheet.write()
    stage(files, site, html)

    # What `jupyter-book build -W -n --keep-going -q` calls, which has no option for the jobs: every
    # warning is shown, and any of them fails the build.
    failed = build_sphinx(
        site,
        html,
        noconfig=True,
        path_config=site / "_config.yml",
        confoverrides={
            "external_toc_path": (site / "_toc.yml").as_posix(),
            "latex_individualpages": False,
            "nitpicky": True,
        },
        warningiserror=True,
        keep_going=True,
        quiet=True,
        jobs=JOBS,
    )
    if failed:
        # Sphinx reads a page once: with its cache kept, the next build would not warn and pass.
        shutil.rmtree(out / ".doctrees", ignore_errors=True)
        (html / "index.html").unlink(missing_ok=True)
        sys.exit("book: the build failed; the first WARNING or ERROR above says where.")
    (html / "index.html").touch()  # for make, which compares its age with the sources
    print(f"book: {html / 'index.html'}")


if __name__ == "__main__":
    main()
