"""Files of every kind become the same cells, and what cannot be read is said in one sentence."""

import gzip
import hashlib
import warnings

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from audit_cells import logs, planted
from scipy import io as sio
from scipy import sparse as sp

from helpers.audit import read, read_inputs

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*names are not unique:UserWarning"),
    pytest.mark.filterwarnings("ignore:Writing zarr v2:UserWarning"),
]


@pytest.fixture(scope="module")
def cells():
    return planted(n=60, n_genes=40)


def write_mtx(adata, folder):
    """A folder of Cell Ranger 3."""
    folder.mkdir(parents=True)
    with gzip.open(folder / "matrix.mtx.gz", "wb") as file:
        sio.mmwrite(file, sp.coo_matrix(adata.X.T.astype(int)))
    ids = [f"ENSG{i:011d}\t{name}\tGene Expression" for i, name in enumerate(adata.var_names)]
    for name, lines in {"features": ids, "barcodes": list(adata.obs_names)}.items():
        with gzip.open(folder / f"{name}.tsv.gz", "wt") as file:
            file.write("\n".join(lines) + "\n")
    return folder


def write_10x(adata, path):
    """An .h5 of Cell Ranger 3."""
    X = sp.csr_matrix(adata.X).astype(np.int32)
    names = np.array(list(adata.var_names), dtype="S20")
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        group["barcodes"] = np.array(list(adata.obs_names), dtype="S20")
        group["data"], group["indices"], group["indptr"] = X.data, X.indices, X.indptr
        group["shape"] = np.array(X.shape[::-1], dtype=np.int32)
        features = group.create_group("features")
        features["id"] = np.array([f"ENSG{i:011d}" for i in range(len(names))], dtype="S20")
        features["name"] = names
        features["feature_type"] = np.array(["Gene Expression"] * len(names), dtype="S20")
        features["genome"] = np.array(["GRCh38"] * len(names), dtype="S20")
    return path


def write(adata, path):
    if path.name.endswith(".h5ad"):
        adata.write_h5ad(path)
    elif path.name.endswith(".zarr"):
        adata.write_zarr(path)
    elif path.name.endswith(".h5"):
        write_10x(adata, path)
    else:
        write_mtx(adata, path)
    return path


@pytest.mark.parametrize("name", ["a.h5ad", "A.H5AD", "a.zarr", "zarr 3", "a.h5", "filtered"])
def test_every_format_gives_the_same_cells(cells, tmp_path, name):
    path = tmp_path / name
    if name == "A.H5AD":
        cells.write_h5ad(path)
    elif name == "zarr 3":
        with ad.settings.override(zarr_write_format=3):
            cells.write_zarr(path)
    else:
        write(cells, path)
    adata, notes = read_inputs([path], "run")
    assert notes == []
    assert np.array_equal(adata.X.toarray(), cells.X.toarray())
    assert list(adata.obs_names) == list(cells.obs_names)
    assert list(adata.var_names) == list(cells.var_names)


@pytest.mark.parametrize("name", ["e.csv", "e.tsv", "e.csv.gz", "e.tsv.gz"])
def test_a_table_of_an_embedding(cells, tmp_path, name):
    X = np.random.default_rng(0).normal(size=(60, 4))
    table = pd.DataFrame(X, index=cells.obs_names, columns=[f"PC{i}" for i in range(4)])
    table.insert(1, "batch", np.arange(60) % 2)  # numbers, and yet no dimension
    table["type"], table["comment"] = cells.obs["type"], "words"
    table["age"] = np.arange(60) % 3
    table.to_csv(tmp_path / name, sep="\t" if "tsv" in name else ",")
    adata, notes = read_inputs([tmp_path / name], "batch", ["type", "age"])
    assert notes == []
    assert np.allclose(adata.obsm["X_pca"], X)
    assert list(adata.obs["batch"]) == list(table["batch"])
    assert {"batch", "type", "age"} <= set(adata.obs)
    assert adata.n_vars == 0


def test_two_tables_are_not_joined(tmp_path):
    for name in ("a.csv", "b.csv"):
        pd.DataFrame(np.eye(3), columns=list("xyz")).to_csv(tmp_path / name)
    with pytest.raises(ValueError, match="PCs of one run only compare"):
        read_inputs([tmp_path / "a.csv", tmp_path / "b.csv"], "batch")


def test_a_file_left_on_disk_when_it_is_large(cells, tmp_path, monkeypatch):
    path = write(cells, tmp_path / "a.h5ad")
    assert not read_inputs([path], "run")[0].isbacked
    monkeypatch.setattr(read, "BACKED", 0)
    adata, _ = read_inputs([path], "run")
    assert adata.isbacked
    adata.file.close()


# --- several files ---


def parts(cells):
    first, second = cells[:35, :30].copy(), cells[25:, 10:].copy()
    for part in (first, second):
        del part.obs["run"]
    return first, second


@pytest.mark.parametrize("kind", [".h5ad", ".zarr", ".h5", ""])
def test_several_files_are_batches_by_name_on_the_genes_of_all(cells, tmp_path, kind):
    first, second = parts(cells)
    paths = [write(first, tmp_path / f"donor 1{kind}"), write(second, tmp_path / f"donor.2é{kind}")]
    adata, notes = read_inputs(paths, "run")
    assert adata.obs["run"].value_counts().to_dict() == {"donor 1": 35, "donor.2é": 35}
    assert list(adata.var_names) == list(cells.var_names[10:30])
    expected = np.vstack([cells.X.toarray()[:35, 10:30], cells.X.toarray()[25:, 10:30]])
    assert np.array_equal(adata.X.toarray(), expected)
    assert adata.obs_names.is_unique  # ten barcodes are in both
    assert len(notes) == 2
    assert notes[0] == "20 genes are in all inputs; left out: 10 of donor 1, 10 of donor.2é."
    assert notes[1] == "obs['run'] holds the names of the 2 inputs."


def test_a_column_that_all_files_have_is_the_batch(cells, tmp_path):
    paths = [write(part, tmp_path / f"{i}.h5ad") for i, part in enumerate([cells[:30], cells[30:]])]
    adata, notes = read_inputs(paths, "run")
    assert notes == []
    assert list(adata.obs["run"]) == list(cells.obs["run"])


def test_files_of_one_name_get_that_of_their_folder(cells, tmp_path):
    paths = [
        write(cells, tmp_path / run / "filtered_feature_bc_matrix") for run in ("run.1", "run.2")
    ]
    adata, _ = read_inputs(paths, "sample")
    assert set(adata.obs["sample"]) == {
        "run.1/filtered_feature_bc_matrix", "run.2/filtered_feature_bc_matrix"
    }  # fmt: skip


def test_folders_are_not_cut_at_a_full_stop(cells, tmp_path):
    adata, _ = read_inputs([write(cells, tmp_path / name) for name in ("s.1", "s.2")], "sample")
    assert set(adata.obs["sample"]) == {"s.1", "s.2"}


def test_one_file_twice_is_refused(cells, tmp_path):
    path = write(cells, tmp_path / "a.h5ad")
    with pytest.raises(ValueError, match=r"cannot be told apart by name.*rename one"):
        read_inputs([path, path], "sample")


def test_symbols_and_identifiers_are_not_joined(cells, tmp_path):
    other = cells.copy()
    other.var_names = [f"ENSG{i:011d}" for i in range(cells.n_vars)]
    paths = [write(cells, tmp_path / "a.h5ad"), write(other, tmp_path / "b.h5ad")]
    with pytest.raises(ValueError, match="share no gene names") as error:
        read_inputs(paths, "sample")
    assert "Gene0 (a), ENSG00000000000 (b)" in str(error.value)


@pytest.mark.parametrize("column", ["run", "type", "state"])
def test_a_column_of_some_files_only_is_named_with_the_file_that_lacks_it(cells, tmp_path, column):
    other = cells.copy()
    del other.obs[column]
    paths = [write(cells, tmp_path / "a.h5ad"), write(other, tmp_path / "b.h5ad")]
    with pytest.raises(ValueError, match=f"'{column}' is a column of some .* not of others .b.:"):
        read_inputs(paths, "run", ["type", "state"])


def test_counts_and_logarithms_are_not_joined(cells, tmp_path):
    other = cells.copy()
    other.X = sp.csr_matrix(logs(cells))
    paths = [write(cells, tmp_path / "a.h5ad"), write(other, tmp_path / "b.h5ad")]
    with pytest.raises(ValueError, match="X holds counts in a, logarithms in b: make"):
        read_inputs(paths, "sample")
    for part, path in zip((cells.copy(), other), paths, strict=True):
        part.layers["counts"] = cells.X.copy()
        part.write_h5ad(path)
    adata, _ = read_inputs(paths, "sample", layer="counts")
    assert np.array_equal(adata.layers["counts"][:60].toarray(), cells.X.toarray())
    with pytest.raises(KeyError, match="There is no layer 'spliced' in a, b"):
        read_inputs(paths, "sample", layer="spliced")


def test_repeated_gene_names_of_a_file_are_numbered_and_said(cells, tmp_path):
    double = cells.copy()
    double.var_names = ["Gene1", *cells.var_names[1:]]
    paths = [write(double, tmp_path / "a.h5ad"), write(cells, tmp_path / "b.h5ad")]
    adata, notes = read_inputs(paths, "sample")
    assert notes[0] == "a: 1 repeated gene names have got a number."
    assert adata.var_names.is_unique


# --- what cannot be read ---


def broken(tmp_path, kind, cells):
    path = tmp_path / f"x.{kind.split()[0]}"
    match kind:
        case "h5ad truncated":
            cells.write_h5ad(path)
            path.write_bytes(path.read_bytes()[:3000])
        case "h5ad text":
            path.write_text("this is no HDF5\n")
        case "h5ad empty":
            path.touch()
        case "h5ad of 10x":
            write_10x(cells, path)
        case "h5 of anndata":
            cells.write_h5ad(path)
        case "zarr empty" | "folder empty":
            path.mkdir()
        case "csv binary":
            path.write_bytes(bytes(range(256)) * 20)
        case "csv empty":
            path.touch()
        case "csv words":
            path.write_text("cell,a,b\nx,one,two\ny,three,four\n")
        case "rds unknown":
            path.write_text("R")
        case "csv.gz cut":
            path.write_bytes(gzip.compress(b"cell,a,b\nx,1,2\n" * 500)[:40])
    return path


KINDS = [
    "h5ad truncated", "h5ad text", "h5ad empty", "h5ad of 10x", "h5 of anndata", "zarr empty",
    "folder empty", "csv binary", "csv empty", "csv words", "csv.gz cut", "rds unknown",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_read_is_one_sentence_with_the_name(tmp_path, kind, cells):
    path = broken(tmp_path, kind, cells)
    with pytest.raises(ValueError, match=r"cannot be read|is none of what can be read") as error:
        read_inputs([path], "run")
    said = str(error.value)
    assert str(path) in said
    assert "\n" not in said
    assert len(said) <= 302


def test_a_missing_file_and_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no file .*a\.h5ad\.$"):
        read_inputs([tmp_path / "a.h5ad"], "run")
    with pytest.raises(ValueError, match="Name at least one input"):
        read_inputs([], "run")


def test_too_little_memory_is_not_called_a_damaged_file(cells, tmp_path, monkeypatch):
    def too_large(*args, **kwargs):
        raise MemoryError

    path = write(cells, tmp_path / "a.h5ad")
    monkeypatch.setattr(read.ad, "read_h5ad", too_large)
    with pytest.raises(MemoryError):
        read_inputs([path], "run")


# --- the sum that tells inputs apart ---


def test_fingerprint_of_a_file_is_its_sha256_and_of_a_folder_that_of_names_and_contents(tmp_path):
    file = tmp_path / "a"
    file.write_bytes(b"one")
    assert read.fingerprint(file) == hashlib.sha256(b"one").hexdigest()
    sums = set()
    for name, text in [("a", "one"), ("b", "one"), ("a", "two")]:
        folder = tmp_path / f"{name}{text}"
        folder.mkdir()
        (folder / name).write_text(text)
        sums.add(read.fingerprint(folder))
    assert len(sums) == 3
    folder = tmp_path / "again"
    folder.mkdir()
    (folder / "a").write_text("one")
    assert read.fingerprint(folder) == read.fingerprint(tmp_path / "aone")


def test_reading_warns_of_nothing_that_the_notes_do_not_say(cells, tmp_path):
    paths = [write(part, tmp_path / f"{i}.h5ad") for i, part in enumerate(parts(cells))]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", DeprecationWarning)
        read_inputs(paths, "run")
