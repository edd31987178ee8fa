"""The README's map names every entry at the top of the repository, and no other."""

import re
import tomllib

import yaml
from test_environment import tracked

from tools.environment import ROOT


def test_map_names_every_top_level_entry() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8").split("## The map")[1]
    rows = re.findall(r"^\| (`[^|]*`) \|", text.split("## ")[0], flags=re.MULTILINE)
    named = {name.rstrip("/") for row in rows for name in re.findall(r"`([^`]+)`", row)}
    entries = {path.relative_to(ROOT).parts[0] for path in tracked()}
    assert named == entries


def test_commands_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for name in ("README.md", "CONTRIBUTING.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        for command in set(re.findall(r"(?:^|`)make ([a-z]+)\b", text, flags=re.MULTILINE)):
            assert re.search(rf"^{command}:.*## ", makefile, flags=re.MULTILINE), command


def test_citation_has_the_version_of_the_package() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert citation["version"] == project["version"]
    assert citation["cff-version"] == "1.2.0"
    assert citation["authors"] == [{"name": "Harmony in Practice contributors"}]


def lines(name: str, number: int) -> str:
    return "\n".join((ROOT / name).read_text(encoding="utf-8").splitlines()[:number])


def test_a_windows_reader_meets_wsl_before_any_command() -> None:
    """harmonypy 2 has no build for native Windows, with conda either."""
    for name in ("book/install.md", "SKILL.md"):
        before = (ROOT / name).read_text(encoding="utf-8").split("pip install")[0]
        assert "On Windows" in before, name
        assert "WSL" in before, name
    assert "WSL" in lines("README.md", 10)
    assert "WSL" in lines("environment.yml", 5)
    text = (ROOT / "book" / "how_to_use.md").read_text(encoding="utf-8")
    assert "WSL" in text.split("`make ")[0]


def test_a_learners_work_goes_to_a_folder_that_git_leaves_alone() -> None:
    """Whoever follows the README works in my/, so that no `git pull` meets what she wrote."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (needs, does) = re.findall(r"^lab: ([^#]*?) *##.*\n\t(.*)$", makefile, re.MULTILINE)[0]
    assert needs.split()[-1] == "my", "`make lab` makes the copies first"
    assert "default_url=/lab/tree/my " in does
    assert "/my/" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = text.split("```sh\n")[1].split("```")[0]
    (line,) = re.findall(r"^make lab .*", block, re.MULTILINE)
    assert "my/" in line
    alone = (ROOT / "book" / "how_to_use.md").read_text(encoding="utf-8").split("**In a work")[0]
    assert "run `make lab`" in alone
    assert "`my/`" in alone
    folder = (ROOT / "notebooks" / "exercises" / "README.md").read_text(encoding="utf-8")
    assert "Do not work in this folder" in folder


def test_the_table_of_systems_says_what_becomes_of_an_intel_mac() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.*?) \| (.*) \|$", text.split("## Audit")[0], flags=re.MULTILINE)
    systems = dict(rows)
    assert list(systems)[2:] == ["Linux", "macOS, Apple silicon", "macOS, Intel", "Windows"]
    assert systems["macOS, Intel"].startswith("not supported: ")
    assert "wsl --install" in systems["Windows"]


def test_the_glossary_has_the_words_that_lessons_use_without_a_word_of_theirs() -> None:
    text = (ROOT / "book" / "glossary.md").read_text(encoding="utf-8")
    terms = set(re.findall(r"^(\S.*)\n  \S", text, flags=re.MULTILINE))
    wanted = ["AUROC", "Wilcoxon test", "pseudoreplication", "LSI", "TF-IDF", "dispersion"]
    wanted += ["reference and query", "design-matrix rank", "confounded against nested"]
    assert set(wanted) <= terms
