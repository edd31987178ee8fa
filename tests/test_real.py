"""The loaders of lesson 10's real batches: what they give, and what they say where files lack.

Tests of the fetched files are skipped where these are not to be had; REQUIRE_DATA=1 fails them.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp
from nbclient import NotebookClient

from helpers import real
from helpers.data import load_pbmc


@pytest.fixture(scope="module")
def files():
    """The fetched files, or a skip with the reason."""
    if not real.available():
        reason = real.why_not()
        pytest.fail(reason) if os.environ.get("REQUIRE_DATA") == "1" else pytest.skip(reason)


@pytest.fixture(scope="module")
def labs():
    return real.load_two_labs()


@pytest.fixture(scope="module")
def chemistries(files):
    return real.load_chemistries()


@pytest.fixture(scope="module")
def lines(files):
    return real.load_cell_lines()


@pytest.fixture
def no_network(tmp_path, monkeypatch):
    """An empty cache, and nobody who answers."""
    monkeypatch.delenv(real.FOLDER, raising=False)
    monkeypatch.setenv("HARMONY_IN_PRACTICE_CACHE", str(tmp_path / "cache"))
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")
    real.why_not.cache_clear()
    yield tmp_path
    real.why_not.cache_clear()


def is_counts(adata):
    values = adata.X.data
    return sp.isspmatrix_csr(adata.X) and values.dtype == np.float32 and (values % 1 == 0).all()


# --- two labs -----------------------------------------------------------------------------------


def test_two_labs_have_their_shape(labs):
    assert labs.shape == (1400, 765)
    assert labs.obs["study"].value_counts().to_dict() == {"Zheng 2017": 700, "Kang 2018": 700}
    assert is_counts(labs)
    assert labs.obs_names.is_unique
    assert labs.var_names.is_unique


def test_counts_of_zheng_give_back_the_published_logarithms(labs):
    """Forwards what the loader does backwards."""
    published = sc.datasets.pbmc68k_reduced().raw
    zheng = labs[labs.obs["study"] == "Zheng 2017"]
    assert list(zheng.var_names) == list(published.var_names)
    assert [name.removeprefix("zheng_") for name in zheng.obs_names] == list(published.obs_names)
    total = zheng.obs["n_counts"].to_numpy()[:, None]
    logs = np.log1p(zheng.X.toarray() / total * 1e4)
    np.testing.assert_allclose(logs, published.X.toarray(), atol=1e-3)
    assert zheng.X.data.min() == 1


def test_cells_of_kang_are_the_embedded_control_cells(labs):
    kang = labs[labs.obs["study"] == "Kang 2018"]
    embedded = load_pbmc()[kang.obs_names]
    assert (embedded.obs["condition"] == "control").all()
    assert (embedded[:, kang.var_names].X != kang.X).nnz == 0
    assert list(embedded.obs["cell_type"]) == list(kang.obs["label"])
    np.testing.assert_array_equal(np.ravel(embedded.X.sum(axis=1)), kang.obs["n_counts"])


def test_labels_of_two_labs_are_mapped(labs):
    """Every label of the two studies has its place, and the rare ones have none."""
    found = labs.obs.groupby("cell_type", observed=True)["label"].unique().map(set)
    assert found["B"] == {"CD19+ B", "B"}
    assert found["DC"] == {"Dendritic", "DC"}
    assert found["Mono"] == {"CD14+ Monocyte", "CD14 Mono", "FCGR3A Mono"}
    assert found["NK"] == {"CD56+ NK", "NK"}
    assert len(found["T"]) == 7
    assert found["unassigned"] == {"CD34+", "pDC", "Megakaryocyte", "unassigned"}


def test_monocytes_of_zheng_are_not_only_cd14(labs):
    """Why monocytes are one type here: data/README.md."""
    monocytes = labs[labs.obs["label"] == "CD14+ Monocyte"].to_df()
    assert (monocytes["FCGR3A"] > 0).mean() > 2 * (monocytes["S100A8"] > 0).mean()


def test_types_of_zheng_have_their_markers(labs):
    """A marker of each type is highest there, so no label was put to the wrong cell."""
    zheng = labs[labs.obs["study"] == "Zheng 2017"]
    genes = {"T": "CD3D", "NK": "GNLY", "B": "CD79A", "DC": "FCER1A", "Mono": "S100A8"}
    means = zheng.to_df().groupby(zheng.obs["cell_type"], observed=True).mean()
    for cell_type, gene in genes.items():
        assert means[gene].drop("unassigned").idxmax() == cell_type


def test_two_labs_draw_the_same_cells_again_and_others_with_another_seed(labs):
    assert list(real.load_two_labs().obs_names) == list(labs.obs_names)
    other = real.load_two_labs(n_control=50, seed=1)
    assert other.n_obs == 750
    assert set(other.obs_names) - set(labs.obs_names)


@pytest.mark.parametrize("n", [0, 3001])
def test_two_labs_refuse_a_number_of_cells_that_there_is_not(n):
    with pytest.raises(ValueError, match="n_control must be 1 to 3,000"):
        real.load_two_labs(n)


# --- three chemistries --------------------------------------------------------------------------


def test_chemistries_have_their_shape(chemistries):
    assert chemistries.shape == (1200, 1767)
    sizes = chemistries.obs["chemistry"].value_counts().to_dict()
    assert sizes == {"3' v2": 480, "5'": 430, "3' v1": 290}
    assert is_counts(chemistries)
    types = chemistries.obs["cell_type"].value_counts()
    assert len(types) == 9
    assert (types["HSC"], types["MK"]) == (3, 7)


def test_counts_of_chemistries_are_a_part_of_each_cells_molecules(chemistries):
    part = np.ravel(chemistries.X.sum(axis=1)) / chemistries.obs["n_counts"]
    assert part.between(0.1, 0.8).all()
    assert chemistries.X.data.min() == 1


def test_cells_of_chemistries_carry_their_chemistry_in_their_names(chemistries):
    names = chemistries.obs_names.str.split("_").str[0]
    pairs = set(zip(names, chemistries.obs["chemistry"], strict=True))
    assert pairs == {("threepv1", "3' v1"), ("threepfresh", "3' v2"), ("fivePrime", "5'")}


def test_types_of_chemistries_have_their_markers(chemistries):
    """Cells and labels are in one order."""
    means = chemistries.to_df().groupby(chemistries.obs["cell_type"], observed=True).mean()
    genes = {"Mono_CD14": "S100A8", "Mono_CD16": "FCGR3A", "B": "MS4A1", "NK": "GNLY", "MK": "PPBP"}
    for cell_type, gene in genes.items():
        assert means[gene].idxmax() == cell_type


# --- five cell lines ----------------------------------------------------------------------------


def test_cell_lines_have_their_shape(lines):
    assert lines.shape == (1408, 11533)
    sizes = lines.obs["run"].value_counts().to_dict()
    assert sorted(sizes.values()) == [225, 274, 297, 305, 307]
    assert sizes["dropseq"] == 225
    assert is_counts(lines)
    assert lines.obs_names.is_unique
    assert lines.var_names.str.startswith("ENSG").all()
    assert (lines.obs["protocol"] == "Drop-seq").sum() == 225


def test_two_runs_lack_two_lines(lines):
    table = pd.crosstab(lines.obs["run"], lines.obs["cell_line"])
    lacking = {(run, line) for run, row in table.iterrows() for line in row.index[row == 0]}
    assert lacking == {(run, line) for run in ("celseq2 a", "dropseq") for line in ("A549", "H838")}


def test_genotype_agrees_with_expression_within_each_run(lines):
    """Cells and identities are in one order: the nearest mean profile of the run is the cell's."""
    logs = lines.copy()
    sc.pp.normalize_total(logs, target_sum=1e4)
    sc.pp.log1p(logs)
    right = []
    for run in lines.obs["run"].cat.categories:
        cells = logs[(logs.obs["run"] == run) & (logs.obs["genotype"] == "one")].to_df()
        means = cells.groupby(lines.obs.loc[cells.index, "cell_line"], observed=True).mean()
        guess = np.corrcoef(cells, means)[: len(cells), len(cells) :].argmax(axis=1)
        right += list(means.index[guess] == lines.obs.loc[cells.index, "cell_line"])
    assert np.mean(right) > 0.97


# --- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("load", [real.load_chemistries, real.load_cell_lines])
def test_without_network_and_cache_a_loader_says_so_soon(load, no_network):
    start = time.perf_counter()
    with pytest.raises(ConnectionError, match=r"^\S+ is not in the cache .* in it\.$") as caught:
        load()
    assert time.perf_counter() - start < 10
    assert str(caught.value).count(". ") == 0
    assert not real.available()
    assert real.FOLDER in real.why_not()


def test_two_labs_need_no_network(no_network):
    assert real.load_two_labs().n_obs == 1400


def test_cached_files_need_no_network(files, no_network, monkeypatch):
    monkeypatch.undo()
    paths = {name: real._file(name) for name in real.SHA256}
    for name, path in paths.items():
        target = no_network / "cache" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    monkeypatch.delenv(real.FOLDER, raising=False)
    monkeypatch.setenv("HARMONY_IN_PRACTICE_CACHE", str(no_network / "cache"))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    real.why_not.cache_clear()
    assert real.available()
    assert real.load_chemistries().n_obs == 1200


def test_a_folder_without_the_file_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv(real.FOLDER, str(tmp_path))
    real.why_not.cache_clear()
    with pytest.raises(FileNotFoundError, match=r"which has no sc_mixology/sc_celseq2\.count"):
        real.load_cell_lines()
    assert "which has no" in real.why_not()
    real.why_not.cache_clear()


def test_a_damaged_file_is_an_error_and_no_reason_to_skip(tmp_path, monkeypatch):
    monkeypatch.setenv(real.FOLDER, str(tmp_path))
    for name in real.SHA256:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"cut short")
    real.why_not.cache_clear()
    for call in (real.load_chemistries, real.load_cell_lines, real.available):
        with pytest.raises(ValueError, match="is not the published file"):
            call()


def test_every_file_has_a_pinned_address():
    for address in real.ADDRESSES.values():
        assert any(re.fullmatch(r"[0-9a-f]{40}", part) for part in address.split("/"))


# --- counts -------------------------------------------------------------------------------------


def test_counts_come_back_from_logarithms():
    rng = np.random.default_rng(0)
    counts = rng.poisson(2, (40, 50)).astype(float)
    total = counts.sum(axis=1) + rng.integers(500, 5000, 40)
    logs = sp.csr_matrix(np.log1p(counts / total[:, None] * 1e4).astype(np.float32))
    np.testing.assert_array_equal(real._counts(logs, total).toarray(), counts)


def test_logarithms_of_something_else_are_refused():
    logs = sp.random(20, 30, density=0.3, random_state=0, format="csr")
    with pytest.raises(ValueError, match="not those of whole counts"):
        real._counts(logs, np.full(20, 5000.0))


# --- cells that need the files ------------------------------------------------------------------

CONFTEST = Path(__file__).parents[1] / "notebooks" / "conftest.py"


@pytest.fixture
def lesson(tmp_path):
    """A lesson of three cells, the second of which needs the files; and what was stored."""
    texts = {
        "from helpers import real\n\nreal.skip_cells_without_files()": "",
        f"{real.NEEDS_FILES}\nprint(real.load_chemistries().n_obs)": "1200\n",
        "print('the end')": "the end\n",
    }
    cells = []
    for count, (source, text) in enumerate(texts.items(), 1):
        cells.append(nbformat.v4.new_code_cell(source, execution_count=count))
        cells[-1].outputs = [nbformat.v4.new_output("stream", text=text)] if text else []
    path = tmp_path / "notebooks" / "10_small.ipynb"
    path.parent.mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    shutil.copy(CONFTEST, path.parent)
    return path


def test_cells_that_need_the_files_are_skipped_and_keep_their_text(lesson, no_network):
    command = [sys.executable, "-m", "pytest", "--nbval", "--nbval-current-env", "-q", "-rs"]
    command += ["-p", "no:cacheprovider", "-c", os.devnull, f"--rootdir={lesson.parent}"]
    ran = subprocess.run(
        [*command, str(lesson)],
        env=os.environ | {"REQUIRE_DATA": ""},
        cwd=lesson.parent,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "2 passed, 1 skipped" in ran.stdout
    assert "is not in the cache" in ran.stdout
    executed = lesson.parents[1] / "_build" / "executed" / lesson.name
    cells = nbformat.read(executed, as_version=4).cells
    assert [cell.cell_type for cell in cells] == ["code", "markdown", "code", "code"]
    assert "not executed" in cells[1].source
    assert cells[2].outputs[0].text == "1200\n"
    assert cells[3].outputs[0].text == "the end\n"
    assert [cells[i].execution_count for i in (0, 2, 3)] == [1, 2, 3]


def test_required_files_that_lack_are_an_error(no_network, monkeypatch):
    spec = importlib.util.spec_from_file_location("lessons_conftest", CONFTEST)
    conftest = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(conftest)
    monkeypatch.setenv("REQUIRE_DATA", "1")
    with pytest.raises(pytest.UsageError, match="REQUIRE_DATA=1, but pbmcs_exprs_small"):
        conftest.skip_without_files(["a cell that begins with the line"])
    conftest.skip_without_files([])


def test_a_reader_without_files_reads_why_a_cell_does_nothing(lesson, no_network):
    """Outside pytest, as in JupyterLab: no cell fails, and the last one runs."""
    nb = NotebookClient(nbformat.read(lesson, as_version=4)).execute()
    texts = [o.text for cell in nb.cells for o in cell.outputs if o.get("name") == "stdout"]
    assert len(texts) == 2
    assert texts[0].startswith("skipped: pbmcs_exprs_small.rda is not in the cache")
    assert texts[1] == "the end\n"


def test_one_mark_for_cells_that_need_the_files():
    assert f'NEEDS_FILES = "{real.NEEDS_FILES}"' in CONFTEST.read_text()
