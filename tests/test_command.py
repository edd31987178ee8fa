"""harmony-audit: what it writes, what it says of unusable input, and the code it ends with."""

import errno
import json
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from audit_cells import logs, planted
from click.testing import CliRunner

from helpers import audit, command
from helpers.audit import questions, read, report

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # repeated names


@pytest.fixture(scope="module")
def cells():
    return planted(n=300, n_genes=120)


@pytest.fixture(scope="module")
def file(cells, tmp_path_factory):
    path = tmp_path_factory.mktemp("input") / "cells.h5ad"
    cells.write_h5ad(path)
    return path


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Few rounds: how well Harmony does is no matter here."""
    monkeypatch.setattr(audit, "FINISHED", {"max_iter_harmony": 5, "epsilon_harmony": 0})


@pytest.fixture
def once(cells, monkeypatch):
    """The outcome of an audit in place of one: for tests of what comes after it."""
    adata = cells.copy()
    found = audit.audit(adata, "run", quick=True)
    monkeypatch.setattr(audit, "audit", lambda *args, **kwargs: found)
    return found


def run(*arguments, quick=True):
    arguments = [str(one) for one in arguments]
    return CliRunner().invoke(command.main, [*arguments, *(["--quick"] if quick else [])])


def sums(folder):
    return {path: report.fingerprint(path) for path in folder.rglob("*") if path.is_file()}


def unusable(result, *words):
    """One sentence on stderr, nothing on stdout, code 2."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("harmony-audit: ")
    assert line[-1] in ".:?)" or "cannot be read" in line
    for word in words:
        assert re.search(word, line), (word, line)


# --- done -------------------------------------------------------------------------------------


def test_done(file, tmp_path):
    before = sums(file.parent)
    result = run(file, "--batch", "run", "--keep", "state", "--out", tmp_path / "new" / "out")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    assert f"The report is {tmp_path / 'new' / 'out' / 'audit.html'}." in result.stdout
    out = tmp_path / "new" / "out"
    names = {path.name for path in out.iterdir()}
    assert names == {"audit.html", "audit.json", "corrected.h5ad", "COMPLETE"}
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    assert sums(file.parent) == before
    numbers = json.loads((out / "audit.json").read_text("utf-8"))
    typed = f"harmony-audit {file} --batch run --keep state --out {out}"
    assert numbers["command"].startswith(typed)
    assert numbers["keep"] == ["state"]
    assert numbers["quick"] is True
    assert numbers["input"][0]["sha256"] == report.fingerprint(file)


def test_same_numbers_from_a_file_on_disk(file, tmp_path, monkeypatch):
    results = []
    for name, backed in {"a": read.BACKED, "b": 0}.items():
        monkeypatch.setattr(read, "BACKED", backed)
        assert run(file, "--batch", "run", "--out", tmp_path / name).exit_code == 0
        numbers = json.loads((tmp_path / name / "audit.json").read_text("utf-8"))
        results.append({k: v for k, v in numbers.items() if k not in ("created", "command")})
    assert results[0] == results[1]
    one, two = (ad.read_h5ad(tmp_path / name / "corrected.h5ad") for name in "ab")
    assert np.array_equal(one.obsm["X_pca_harmony"], two.obsm["X_pca_harmony"])
    assert np.array_equal(one.X.toarray(), two.X.toarray())


def test_several_files(cells, tmp_path):
    paths = []
    for name, part in cells.obs.groupby("run", observed=True):
        paths.append(tmp_path / f"{name}.h5ad")
        adata = cells[part.index, len(paths) :].copy()
        del adata.obs["run"]
        adata.write_h5ad(paths[-1])
    result = run(*paths, "--batch", "donor", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    numbers = json.loads((tmp_path / "out" / "audit.json").read_text("utf-8"))
    assert "117 genes are in all inputs; left out: 2 of run 1, 1 of run 2." in numbers["notes"]
    assert len(numbers["input"]) == 3
    corrected = ad.read_h5ad(tmp_path / "out" / "corrected.h5ad")
    assert set(corrected.obs["donor"]) == {"run 1", "run 2", "run 3"}
    assert corrected.shape == (300, 117)


def test_embedding_alone(cells, tmp_path):
    table = pd.DataFrame(logs(cells)[:, :6], index=cells.obs_names).add_prefix("PC")
    table["run"] = cells.obs["run"]
    table.to_csv(tmp_path / "pcs.csv")
    result = run(tmp_path / "pcs.csv", "--batch", "run", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    corrected = ad.read_h5ad(tmp_path / "out" / "corrected.h5ad")
    assert corrected.obsm["X_pca_harmony"].shape == (300, 6)


def test_refused_is_code_4_complete_and_without_corrected_cells(cells, tmp_path):
    adata = cells.copy()
    adata.obs["state"] = adata.obs["run"].map({"run 1": "ill", "run 2": "well", "run 3": "well"})
    adata.obs["run"] = adata.obs["state"].map({"ill": "first", "well": "second"})
    adata.write_h5ad(tmp_path / "a.h5ad")
    out = tmp_path / "out"
    arguments = (tmp_path / "a.h5ad", "--batch", "run", "--keep", "state")
    result = run(*arguments, "--out", out)
    assert result.exit_code == 4
    assert {path.name for path in out.iterdir()} == {"audit.html", "audit.json", "COMPLETE"}
    assert "Do not integrate" in result.stdout
    again = run(*arguments, "--out", tmp_path / "b", "--fail-on", "any")
    assert again.exit_code == 4  # and not 3


def test_findings_are_code_3_only_where_asked_for(file, once, tmp_path):
    once.findings = [questions.Finding("lost", "Look.")]
    codes = {}
    for name in ("none", "lost", "unstable", "any"):
        fail = [] if name == "none" else ["--fail-on", name]
        result = run(file, "--batch", "run", "--out", tmp_path / name, *fail)
        codes[name] = result.exit_code
        assert (tmp_path / name / "COMPLETE").exists()
    assert codes == {"none": 0, "lost": 3, "unstable": 0, "any": 3}
    once.findings = []
    result = run(file, "--batch", "run", "--out", tmp_path / "well", "--fail-on", "any")
    assert result.exit_code == 0


def test_a_fault_of_ours_is_code_1_with_its_traceback_and_leaves_nothing(
    file, tmp_path, monkeypatch
):
    def fault(*args, **kwargs):
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(questions, "effect", fault)
    result = run(file, "--batch", "run", "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "ZeroDivisionError: ours" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_fault_of_ours_in_the_report_is_code_1_as_well(file, once, tmp_path, monkeypatch):
    def fault(*args, **kwargs):
        raise KeyError("ours")

    monkeypatch.setattr(report, "page", fault)
    result = run(file, "--batch", "run", "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert list(tmp_path.iterdir()) == []


# --- unusable ---------------------------------------------------------------------------------


def hostile(name, cells, tmp_path):
    """A file, the options for it, and words of the sentence."""
    path, adata, options, words = tmp_path / "x.h5ad", cells.copy(), [], []
    match name:
        case "missing":
            return path, options, ["There is no file"]
        case "truncated":
            adata.write_h5ad(path)
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
            return path, options, ["cannot be read", "x.h5ad"]
        case "text":
            path.write_text("this is no HDF5\n")
            return path, options, ["cannot be read", "x.h5ad"]
        case "rds":
            path = tmp_path / "x.rds"
            path.write_text("R")
            return path, options, ["none of what can be read"]
        case "strings in X":
            adata.X = adata.X.toarray().astype(str)
            adata.X = adata.X.astype(object)
            words = ["no numbers"]
        case "NaN in X":
            adata.X.data[3] = np.nan
            words = ["NaN or infinite"]
        case "no cells":
            adata = adata[:0].copy()
            words = ["no cells"]
        case "few cells":
            adata = adata[:25].copy()
            words = ["30 cells", "has 25"]
        case "one gene":
            adata = adata[:, :1].copy()
            words = ["single gene"]
        case "no genes":
            adata = adata[:, :0].copy()
            words = ["neither counts nor logarithms"]
        case "one level":
            adata.obs["run"] = "all"
            words = ["fewer than two levels"]
        case "all different":
            adata.obs["run"] = [f"r{i}" for i in range(adata.n_obs)]
            words = ["run"]
        case "missing labels":
            adata.obs.loc[adata.obs_names[:4], "run"] = np.nan
            words = ["no label for 4 of 300 cells"]
        case "measurement":
            adata.obs["run"] = np.random.default_rng(0).normal(size=adata.n_obs)
            words = ["a measurement is no batch"]
        case "no column":
            del adata.obs["run"]
            words = ["no column 'run'", "type"]
        case "labels all missing":
            adata.obs["type"] = pd.Series(np.nan, adata.obs_names)
            options, words = ["--label", "type"], ["no label for any cell"]
        case "keep is batch":
            options, words = ["--keep", "run"], ["named twice"]
        case "no keep":
            options, words = ["--keep", "größe 試"], ["no column 'größe 試'"]
        case "no layer":
            options, words = ["--layer", "spliced"], ["no layer 'spliced'"]
        case "no basis":
            options, words = ["--basis", "X_scvi"], ["X_scvi"]
        case "negative seed":
            options, words = ["--seed", "-1"], ["seed must be"]
    adata.write_h5ad(path)
    return path, options, words


HOSTILE = [
    "missing", "truncated", "text", "rds", "strings in X", "NaN in X", "no cells", "few cells",
    "one gene", "no genes", "one level", "all different", "missing labels",
    "measurement", "no column", "labels all missing", "keep is batch", "no keep", "no layer",
    "no basis", "negative seed",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_unusable_input_is_one_sentence_code_2_and_leaves_nothing(name, cells, tmp_path):
    path, options, words = hostile(name, cells, tmp_path)
    before = sums(tmp_path)
    result = run(path, "--batch", "run", "--out", tmp_path / "out", *options)
    unusable(result, *words)
    assert sums(tmp_path) == before
    assert not (tmp_path / "out").exists()


def test_two_files_that_share_no_genes(cells, tmp_path):
    other = cells.copy()
    other.var_names = [f"ENSG{i:011d}" for i in range(cells.n_vars)]
    cells.write_h5ad(tmp_path / "a.h5ad")
    other.write_h5ad(tmp_path / "b.h5ad")
    result = run(tmp_path / "a.h5ad", tmp_path / "b.h5ad", "--batch", "f", "--out", tmp_path / "o")
    unusable(result, "share no gene names")


def test_options_are_refused_by_click_with_code_2(file, tmp_path):
    for arguments in (
        ["--batch", "run", "--out", tmp_path / "o"],
        [file, "--out", tmp_path / "o"],
        [file, "--batch", "run"],
        [file, "--batch", "run", "--out", tmp_path / "o", "--fail-on", "everything"],
        [file, "--batch", "run", "--out", tmp_path / "o", "--seed", "x"],
    ):
        result = run(*arguments)
        assert result.exit_code == 2
        assert "Error: " in result.stderr
    assert list(tmp_path.iterdir()) == []


# --- where nothing can be written -------------------------------------------------------------


def never(*args, **kwargs):
    raise AssertionError("read before it was known whether there is room for the results")


@pytest.mark.parametrize("kind", ["not empty", "a file", "below a file", "no permission"])
def test_out_that_cannot_be_is_said_before_anything_is_read(file, tmp_path, kind, monkeypatch):
    out = tmp_path / "out"
    match kind:
        case "not empty":
            out.mkdir()
            (out / "mine").touch()
            word = "not empty"
        case "a file":
            out.touch()
            word = "not empty"
        case "below a file":
            out.touch()
            out, word = out / "a" / "b", "is a file"
        case "no permission":
            tmp_path.chmod(0o555)
            monkeypatch.setattr(report.os, "access", lambda path, mode: not mode & 2)
            out, word = out / "a", "cannot be written|no permission"
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(audit, "read_inputs", never)
    result = run(file, "--batch", "run", "--out", out)
    tmp_path.chmod(0o755)
    unusable(result, word)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EROFS])
@pytest.mark.parametrize("at", ["mkdtemp", "json", "html", "h5ad", "COMPLETE"])
def test_a_full_disk_is_one_sentence_and_leaves_nothing(
    file, once, tmp_path, monkeypatch, at, code
):
    import os

    def full(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    match at:
        case "mkdtemp":
            monkeypatch.setattr(report.tempfile, "mkdtemp", full)
        case "json" | "html":
            original = Path.write_text

            def write_text(self, *args, **kwargs):
                return full() if self.name == f"audit.{at}" else original(self, *args, **kwargs)

            monkeypatch.setattr(Path, "write_text", write_text)
        case "h5ad":
            monkeypatch.setattr(report.shutil, "copyfile", full)
        case "COMPLETE":
            monkeypatch.setattr(Path, "touch", full)
    result = run(file, "--batch", "run", "--out", tmp_path / "new" / "out")
    monkeypatch.undo()
    unusable(result, re.escape(os.strerror(code)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", ["read", "begin", "effect", "save"])
def test_interrupted_leaves_nothing(file, tmp_path, monkeypatch, where):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    before = sums(file.parent)
    owner, name = {
        "read": (audit, "read_inputs"),
        "begin": (audit, "begin"),
        "effect": (questions, "effect"),
        "save": (report, "page"),
    }[where]
    monkeypatch.setattr(owner, name, stop)
    result = run(file, "--batch", "run", "--out", tmp_path / "out")
    unusable(result, "[Ii]nterrupted", "nothing was written")
    assert list(tmp_path.iterdir()) == []
    assert sums(file.parent) == before


def test_too_little_memory_is_said(file, tmp_path, monkeypatch):
    def large(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr(audit, "begin", large)
    unusable(run(file, "--batch", "run", "--out", tmp_path / "out"), "memory")


# --- the installed command --------------------------------------------------------------------


def test_installed_command_says_what_it_does_and_fails_in_one_line(tmp_path):
    script = shutil.which("harmony-audit", path=Path(sys.executable).parent)
    assert script, "the entry point is not installed beside this Python"
    adata = planted(n=60, n_genes=120)
    adata.var_names = ["Gene"] * adata.n_vars  # anndata warns of it on stderr
    del adata.obs["run"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adata.write_h5ad(tmp_path / "a.h5ad")
    arguments = [tmp_path / "a.h5ad", "--batch", "run", "--out", tmp_path / "out"]
    result = subprocess.run([script, *arguments], capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line == "harmony-audit: obs has no column 'run'; it has: type, state."
    assert not (tmp_path / "out").exists()


def test_help_names_every_code_and_needs_no_scanpy():
    code = (
        "import sys; from click.testing import CliRunner; from helpers import command;"
        "print(CliRunner().invoke(command.main, ['--help']).output);"
        "print(sorted({'scanpy', 'harmonypy', 'anndata'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    text, loaded = result.stdout.rstrip().rsplit("\n", 1)
    assert loaded == "[]"
    for word in ("0 done", "1 a fault", "2 unusable", "3 a finding", "4 batch", "--fail-on"):
        assert word in " ".join(text.split())
