"""What our sources name is there, and a checksum of what a function does sees what it calls."""

import ast
import re

import nbformat
import pytest
from test_environment import tracked

from helpers import practice
from tools import carry, fingerprint
from tools.notebooks import LESSONS, tags
from tools.pages import ROOT

FOLDERS, KINDS = "book|data|helpers|notebooks|tests|tools", "csv|h5ad|ipynb|json|md|py|yml"
FILE = re.compile(rf"(?<![\w/.-])(?:{FOLDERS})/[\w./-]*\w\.(?:{KINDS})\b")


# a source folder, or a variable in its place, is searched for whatever lies in it
SEARCHED = re.compile(
    r'ROOT(?: / (?:"(?:book|data|helpers|notebooks|tests|tools)"|\w+))?\)?\.(?:r?glob|iterdir)\('
)


def sources(*folders):
    """The Python files of the repository in these folders, with their texts."""
    for path in tracked():
        if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in folders:
            yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")


def test_files_that_a_source_names_are_there():
    gone = {
        (source, name)
        for source, text in sources("helpers", "tools", "tests")
        for name in FILE.findall(text)
        if "NN_" not in name and not (ROOT / name).exists()
    }
    assert not gone


def test_no_test_fails_for_a_file_that_merely_lies_about():
    """Such as JupyterLab's duplicate of a lesson: tests ask _toc.yml or Git what is ours."""
    assert SEARCHED.search('(ROOT / "notebooks").glob("05_*.ipynb")')
    assert SEARCHED.search("(carry.ROOT / folder).rglob(")
    assert not SEARCHED.search('(ROOT / "_build" / "executed").glob("*.ipynb")')
    own = "tests/test_sources.py"  # the lines above
    assert [name for name, text in sources("tests") if SEARCHED.search(text)] == [own]


def test_a_check_does_not_tell_which_choices_are_right():
    """Where an answer is some of several letters, its check names none of these letters."""
    chosen = {number for number, key in practice.KEYS.items() if isinstance(key, set)}
    seen = set()
    for path in LESSONS:
        for cell in nbformat.read(path, as_version=4).cells:
            for number in chosen:
                if "check" in tags(cell) and f'KEYS["{number}"]' in cell.source:
                    seen.add(number)
                    words = [
                        n.value for n in ast.walk(ast.parse(cell.source)) if hasattr(n, "value")
                    ]
                    assert not [word for word in words if re.fullmatch(r"[a-z]", f"{word}")], number
    assert seen == chosen


# --- tools/fingerprint.py ---------------------------------------------------------------------

BEFORE = {c.name: c.fingerprint for c in carry.CLAIMS}


@pytest.fixture
def edited(monkeypatch):
    """The checksums of all claims once a text of a module is another."""
    source = fingerprint.source

    def edit(module, old, new):
        text = source(module)
        assert old in text
        changed = {module: text.replace(old, new)}
        monkeypatch.setattr(fingerprint, "source", lambda name: changed.get(name) or source(name))
        fingerprint.definitions.cache_clear()
        return {c.name: c.fingerprint for c in carry.CLAIMS}

    yield edit
    fingerprint.definitions.cache_clear()


EDITS = {  # module, text, other text; the claims that it touches, or all
    "a claim": ("tools.carry", 'basis="half"', 'basis="halves"', ["fewer_pcs_change_types_little"]),
    "what some claims call": (
        "tools.carry",
        "resolution=1.0",
        "resolution=0.5",
        ["clusters_forget_the_batch", "ari_rises_at_fixed_resolution"],
    ),
    "a score": ("helpers.metrics", "(chi2.sf(", "(1 - chi2.sf(", ["kbet_rises"]),
    "what a score calls": ("helpers.metrics", ">= 1e-5", ">= 1e-3", None),
    "what each claim is measured on": ("tools.carry", "n_comps=20", "n_comps=30", None),
    "a constant": ("helpers.integrate", '"max_iter_harmony": 40', '"max_iter_harmony": 4', None),
    "the rule of the types": ("tools.record.kang_pbmc", "PASSES = ", "PASSES = 1 + ", None),
    "the planted run": ("helpers.data", "rng.binomial(", "rng.poisson(", None),
}


@pytest.mark.parametrize("edit", EDITS)
def test_what_a_claim_calls_is_in_its_checksum(edit, edited):
    *texts, touched = EDITS[edit]
    after = edited(*texts)
    assert [name for name in BEFORE if after[name] != BEFORE[name]] == (touched or list(BEFORE))


WORDS = {  # what changes no number
    "a docstring": ("helpers.metrics", "Local Inverse Simpson's Index", "LISI"),
    "a comment": ("helpers.metrics", "# not always the first", "# rarely the last"),
    "the words of an error": ("helpers.checks", "there is nothing to correct", "nothing to do"),
    "the words of a warning": ("helpers.metrics", "billion pairs", "thousand million pairs"),
    "another function": ("helpers.plots", "def convergence", "def curve"),
    "a claim's sentence": ("tools.carry", "Median cLISI hardly changes.", "It hardly changes."),
}


@pytest.mark.parametrize("words", WORDS)
def test_words_are_not(words, edited):
    assert edited(*WORDS[words]) == BEFORE


def test_a_name_that_is_not_there():
    with pytest.raises(KeyError):
        fingerprint.fingerprint("tools.carry", "no_such_claim")


def test_a_record_knows_each_file_that_was_read():
    """The two labs are the embedded cells and those that scanpy ships."""
    inputs = carry.inputs()
    files = {inputs[name] for name in ("embedded, scaled", "all cells", "two labs", "cell lines")}
    assert len(files) == 4
