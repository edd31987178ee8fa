"""The audit: what it says is what its lines of Python give, and nothing of the reader's changes."""

import ast
import importlib
import json
from pathlib import Path

import anndata as ad
import jsonschema
import numpy as np
import pandas as pd
import pytest
from audit_cells import logs, planted
from scipy import sparse as sp

from helpers import audit, integrate, plots
from helpers.audit import questions, report
from helpers.command import FINDINGS

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # repeated names, many labels

prepared = importlib.import_module("helpers.audit.prepared")  # a function has its name as well
SHORT = {"max_iter_harmony": 8, "epsilon_harmony": 0}
SCHEMA = json.loads((Path(report.__file__).parent / "schema.json").read_text("utf-8"))


def run(adata, batch="run", **options):
    return audit.audit(adata, batch, **{"quick": True, "settings": SHORT} | options)


def same(one, other):
    """Whether two objects are the same in every slot, to the bit."""
    for slot in ("obs", "var"):
        pd.testing.assert_frame_equal(getattr(one, slot), getattr(other, slot))
    for slot in ("obsm", "layers", "varm", "obsp"):
        assert list(getattr(one, slot)) == list(getattr(other, slot))
        for name, value in getattr(one, slot).items():
            same_matrix(value, getattr(other, slot)[name])
    same_matrix(one.X, other.X)
    assert (one.raw is None) == (other.raw is None)
    if one.raw is not None:
        same_matrix(one.raw.X, other.raw.X)
        pd.testing.assert_frame_equal(one.raw.var, other.raw.var)
    assert repr(dict(one.uns)) == repr(dict(other.uns))


def same_matrix(one, other):
    assert type(one) is type(other)
    if one is None:
        return
    assert one.dtype == other.dtype
    dense = [x.toarray() if sp.issparse(x) else np.asarray(x) for x in (one, other)]
    assert np.array_equal(*dense, equal_nan=one.dtype.kind == "f")


@pytest.fixture(scope="module")
def cells():
    return planted(n=300, n_genes=150)


@pytest.fixture(scope="module")
def found(cells):
    return run(cells)


@pytest.fixture(scope="module")
def labelled(cells):
    """In full, with labels that some cells lack."""
    adata = cells.copy()
    adata.obs.loc[adata.obs_names[:20], "type"] = np.nan
    return run(adata, label="type", keep=["state"], quick=False)


# --- nothing is computed in a second way ----------------------------------------------------


def executed(found, adata):
    """What the last line of each answer's Python gives, run one after the other."""
    names, values = {"adata": adata}, {}
    for answer in found.answers:
        *before, last = ast.parse(answer.code).body
        exec(compile(ast.Module(before, []), answer.id, "exec"), names)
        values[answer.id] = eval(compile(ast.Expression(last.value), answer.id, "eval"), names)
    return values


def agree(found, values, within=1e-6):
    """Whether the numbers of the answers are those values."""
    close = {"rel": within, "abs": within, "nan_ok": True}
    pd.testing.assert_frame_equal(values["matrix"], found["matrix"].tables["slots"])
    assert (values["design"].verdict or "nothing named") == found["design"].numbers["verdict"]
    assert values["effect"] == pytest.approx(found["effect"].numbers["distance_ratio"], **close)
    assert values["mixing"] == pytest.approx(found["mixing"].numbers["iLISI"]["after"], **close)
    shared = found["stability"].numbers["neighbors_shared"]
    assert values["stability"] == pytest.approx(shared, **close)
    lost = found["lost"]
    if isinstance(values["lost"], pd.DataFrame):
        table = lost.tables["look here"][list(values["lost"])]
        pd.testing.assert_frame_equal(values["lost"], table, rtol=within, atol=within)
    else:
        assert values["lost"] == pytest.approx(lost.numbers["neighbors_kept"], **close)


def in_layer(cells):
    adata = cells.copy()
    adata.layers["counts"] = adata.X.copy()
    adata.X = np.clip(logs(cells) - logs(cells).mean(axis=0), -10, 10)
    return adata, {}


def in_raw(cells):
    adata = cells.copy()
    adata.raw = adata.copy()
    adata = adata[:, :40].copy()
    adata.X = sp.csr_matrix(logs(cells)[:, :40])
    return adata, {}


def base_2(cells):
    adata = cells.copy()
    adata.layers["log2"] = logs(cells, base=2).astype(np.float32)
    adata.X = None
    return adata, {"label": "type", "keep": ["state"]}


def logs_in_raw(cells):
    adata = cells.copy()
    adata.X = sp.csr_matrix(logs(cells).astype(np.float32))
    adata.raw = adata.copy()
    adata = adata[:, :40].copy()
    adata.X = adata.X.toarray() - 1
    return adata, {}


def dense_logs(cells):
    adata = cells.copy()
    adata.X = logs(cells)
    return adata, {"n_top_genes": 60, "n_comps": 10}


def embedding_alone(cells):
    X = np.random.default_rng(0).normal(size=(cells.n_obs, 5)) + cells.X[:, :5].toarray()
    return ad.AnnData(obs=cells.obs.copy(), obsm={"X_pca": X}), {}


def basis_beside_counts(cells):
    adata = cells.copy()
    adata.obsm["X_own"] = logs(cells)[:, :12]
    return adata, {"basis": "X_own", "seed": 3}


def some_labels(cells):
    adata = cells.copy()
    adata.obs["type"] = adata.obs["type"].astype("category")
    adata.obs.loc[adata.obs_names[:30], "type"] = np.nan
    adata.obs["rün 1"] = pd.Categorical(adata.obs.pop("run"))
    return adata, {"batch": "rün 1", "label": "type", "n_top_genes": 80}


def other_settings(cells):
    settings = SHORT | {"theta": 1.0, "sigma": 0.2, "lamb": 2.0}
    return cells.copy(), {"settings": settings, "seed": 5, "quick": False}


def numbered(cells):
    adata = cells.copy()
    adata.obs["run"] = adata.obs["run"].str[-1].astype(int)
    X = adata.X.toarray()
    X[:4, 20:] = 0  # cells of few genes stay
    adata.X = sp.csr_matrix(X)
    return adata, {"sample": "state"}


def one_sample(cells):
    adata = cells.copy()
    adata.obs["donor"] = "d1"
    return adata, {"sample": "donor"}


SITUATIONS = [
    in_layer, in_raw, base_2, logs_in_raw, dense_logs, embedding_alone, basis_beside_counts,
    some_labels, other_settings, numbered, one_sample,
]  # fmt: skip


@pytest.mark.parametrize("situation", SITUATIONS)
def test_lines_of_python_give_the_numbers(cells, situation):
    adata, options = situation(cells)
    before = adata.copy()
    found = run(adata, **options)
    same(adata, before)
    values = executed(found, adata)
    same(adata, before)  # nor do the lines change what the reader has
    agree(found, values)


def test_one_sample_is_said(cells):
    adata, options = one_sample(cells)
    assert "One sample only" in str(run(adata, **options)["design"])


def test_lines_of_python_of_a_sample(cells, monkeypatch):
    """Of the cells asked and tried, when they are not all."""
    monkeypatch.setattr(prepared, "ASKED", 220)
    monkeypatch.setattr(prepared, "TRIED", 150)
    for options in ({}, {"label": "type"}):
        found = run(cells, **options)
        assert found["matrix"].numbers["n_asked"] == found["mixing"].numbers["n_cells"] == 220
        assert found["stability"].numbers["n_cells"] == 150
        agree(found, executed(found, cells))


def test_lines_of_python_of_a_file_on_disk(cells, tmp_path):
    adata = cells.copy()
    adata.X = sp.csr_matrix(logs(cells).astype(np.float32))
    adata.write_h5ad(tmp_path / "a.h5ad")
    backed = ad.read_h5ad(tmp_path / "a.h5ad", backed="r")
    found = run(backed)
    agree(found, executed(found, backed))
    memory = run(adata)
    assert found.to_dict() == memory.to_dict()
    backed.file.close()


def test_wrong_numbers_would_be_seen(cells, found):
    """The comparison above can fail: each answer with its number moved is caught."""
    values = executed(found, cells)
    agree(found, values)
    for name in ("effect", "mixing", "stability"):
        with pytest.raises(AssertionError):
            agree(found, values | {name: values[name] + 1e-3})
    with pytest.raises(AssertionError):
        agree(found, values | {"lost": values["lost"].assign(kept=values["lost"]["kept"] + 0.001)})


# --- large data: components chosen on some cells, applied to all ------------------------------


def aligned(X, reference):
    """The components with the signs of the reference: a PCA leaves them open."""
    return X * np.sign((X * reference).sum(axis=0))


def rare_genes(adata):
    """With genes of few cells, whose scaled values are cut at 10: their mean is then not 0."""
    rng, X = np.random.default_rng(0), adata.X.toarray()
    X[:, 100:115] = rng.poisson(60, (500, 15)) * (rng.random((500, 15)) < 0.012)
    adata.X = sp.csr_matrix(X)
    return adata


@pytest.mark.parametrize("kind", ["counts", "logs", "log2"])
def test_components_of_large_data_are_those_of_the_chosen_cells_applied_to_all(
    kind, monkeypatch, tmp_path
):
    adata = rare_genes(planted(n=500, n_genes=150))
    if kind != "counts":
        adata.X = sp.csr_matrix(logs(adata, 2 if kind == "log2" else np.e).astype(np.float32))
    monkeypatch.setattr(prepared, "ASKED", 150)
    direct = prepared.prepared(adata, "run", n_top_genes=80, n_comps=8)
    for name, value in {"EXACT": 100, "CHOOSING": 300, "BLOCK": 70}.items():
        monkeypatch.setattr(prepared, name, value)
    adata.write_h5ad(tmp_path / "a.h5ad")
    backed = ad.read_h5ad(tmp_path / "a.h5ad", backed="r")
    large = prepared.prepared(adata, "run", n_top_genes=80, n_comps=8)
    on_disk = prepared.prepared(backed, "run", n_top_genes=80, n_comps=8)
    backed.file.close()
    assert np.array_equal(large.all.obsm["X_pca"], on_disk.all.obsm["X_pca"])
    assert "chosen on" in large.source

    # the chosen cells: to rounding the PCs that prepare or embed gives them alone
    monkeypatch.setattr(prepared, "EXACT", 10**6)
    chosen = np.union1d(
        prepared.sample_cells(500, 300, seed=0), prepared.sample_cells(500, 150, seed=0)
    )
    assert f"chosen on {len(chosen)} cells" in large.source
    alone = prepared.prepared(adata[chosen].copy(), "run", n_top_genes=80, n_comps=8)
    projected = large.all.obsm["X_pca"][chosen]
    assert np.abs(projected - alone.all.obsm["X_pca"]).max() < 1e-3

    # all cells: near those that all cells choose, in the components that carry the types
    both = direct.all.obsm["X_pca"], large.all.obsm["X_pca"]
    for i in range(2):
        assert abs(np.corrcoef(both[0][:, i], both[1][:, i])[0, 1]) > 0.9
    assert np.array_equal(large.asked.obsm["X_pca"], large.all.obsm["X_pca"][large.rows])
    assert list(large.asked.obs_names) == list(adata.obs_names[large.rows])
    places = large.asked.var["place"].to_numpy()
    expected = direct.all.obs_names[large.rows]
    assert list(expected) == list(large.asked.obs_names)
    seen = large.asked.X.toarray()
    truth = (logs(adata) if kind == "counts" else logs(rare_genes(planted(n=500, n_genes=150))))[
        large.rows
    ]
    assert np.allclose(seen, truth[:, places], atol=1e-4)


def test_large_data_is_audited_from_disk(monkeypatch, tmp_path):
    adata = planted(n=500, n_genes=150)
    adata.write_h5ad(tmp_path / "a.h5ad")
    for name, value in {"EXACT": 100, "CHOOSING": 300, "ASKED": 200, "BLOCK": 90}.items():
        monkeypatch.setattr(prepared, name, value)
    backed = ad.read_h5ad(tmp_path / "a.h5ad", backed="r")
    found = run(backed, n_comps=10)
    assert found.cells.all.obsm["X_pca_harmony"].shape == (500, 10)
    assert "small differences" in found["matrix"].code
    assert found.to_dict() == run(adata, n_comps=10).to_dict()
    out = found.save(tmp_path / "out", source=backed, paths=[tmp_path / "a.h5ad"])
    backed.file.close()
    corrected = ad.read_h5ad(out / "corrected.h5ad")
    assert corrected.obs["audited"].sum() == 200
    assert corrected.obsm["X_pca_harmony"].shape == (500, 10)


# --- what it says -----------------------------------------------------------------------------


def test_seven_questions_in_order_and_no_score(found):
    assert [answer.id for answer in found.answers] == [
        "matrix", "design", "effect", "mixing", "lost", "stability"
    ]  # fmt: skip
    assert str(found).count("\n") == 6
    assert str(found).splitlines()[6].startswith("7. What next? ")
    assert 1 <= len(found.advice) <= 3
    assert all(answer.sentence and answer.code for answer in found.answers)
    assert all(answer.pictures for answer in found.answers if answer.id != "design")
    with pytest.raises(KeyError, match="No answer 'score'; there are matrix, design"):
        found["score"]


def test_pictures_say_what_they_show(found, labelled):
    for answer in [*found.answers, *labelled.answers]:
        for picture in answer.pictures:
            assert len(picture.alt) >= 30
            assert picture.figure.axes
    import matplotlib.pyplot as plt

    assert plt.get_fignums() == []


def test_the_same_again(cells, found):
    assert run(cells).to_dict() == found.to_dict()


def test_order_of_the_cells_is_no_matter_to_the_design_and_hardly_to_mixing(cells, found):
    order = np.random.default_rng(0).permutation(cells.n_obs)
    other = run(cells[order].copy())
    assert other["design"].numbers == found["design"].numbers
    one, two = (f["mixing"].numbers["iLISI"]["before"] for f in (found, other))
    assert one == pytest.approx(two, abs=1e-3)


def test_every_finding_is_one_that_the_command_can_fail_on(labelled):
    source = Path(questions.__file__).read_text("utf-8")
    named = {
        node.args[0]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Finding"
    }
    ids = {
        constant.value
        for arg in named
        for constant in ast.walk(arg)
        if isinstance(constant, ast.Constant) and constant.value != "no"
    }
    assert ids == {*FINDINGS, "confounded"}


def test_confounded_is_refused_and_nothing_is_corrected(cells, tmp_path):
    adata = cells.copy()
    adata.obs["state"] = np.where(adata.obs["run"] == "run 1", "ill", "well")
    adata.obs["run"] = np.where(adata.obs["state"] == "ill", "first", "second")
    before = adata.copy()
    found = run(adata, keep=["state"])
    same(adata, before)
    assert found.refused
    assert [answer.id for answer in found.answers] == ["matrix", "design"]
    assert "X_pca_harmony" not in found.cells.all.obsm
    assert "Do not integrate" in found.advice[0]
    assert "were not corrected" in found.methods()
    out = found.save(tmp_path / "out", source=adata)
    assert {path.name for path in out.iterdir()} == {"audit.html", "audit.json", "COMPLETE"}
    jsonschema.validate(json.loads((out / "audit.json").read_text("utf-8")), SCHEMA)


def test_methods_paragraph_names_what_was_done(found):
    text = found.methods()
    record = found.cells.all.uns["X_pca_harmony"]
    for word in ("300 cells", "3 batches", "8 rounds", "seed 0", "max_iter_harmony = 8"):
        assert word in text
    assert record["versions"]["harmonypy"] in text
    assert f"{found['mixing'].numbers['iLISI']['after']:.2f}" in text


def test_labels_add_their_tables(labelled):
    tables = labelled["lost"].tables
    assert {"own-type share", "three numbers", "each type withheld in turn"} <= set(tables)
    assert "unassigned" not in tables["own-type share"].index
    assert "unassigned" not in tables["each type withheld in turn"].index
    assert tables["own-type share"]["n_cells"].sum() == 280
    assert {"default", "unscaled"} <= set(labelled["stability"].tables["dose"].index)


# --- odd cells --------------------------------------------------------------------------------


def odd_group(a):
    """A batch of the name of a column of our own."""
    a.obs["group"] = a.obs.pop("run")
    return {"batch": "group"}


def odd_cluster(a):
    a.obs["audit_cluster"] = a.obs.pop("run")
    return {"batch": "audit_cluster"}


def odd_audited(a):
    a.obs["audited"] = a.obs.pop("run")
    return {"batch": "audited"}


def odd_dollars(a):
    a.obs["run"] = a.obs["run"].map({"run 1": "$\\frac$", "run 2": "a$b", "run 3": "_^{"})
    a.obs["$cost$ {in %}"] = a.obs.pop("type")
    return {"label": "$cost$ {in %}", "keep": ["state"]}


def odd_html(a):
    a.obs["<b>&run"] = a.obs.pop("run") + "<script>alert(1)</script>"
    return {"batch": "<b>&run"}


def odd_signs(a):
    a.obs["Lauf № 試"] = a.obs.pop("run") + " é試\t'\""
    return {"batch": "Lauf № 試"}


def odd_repeated_cells(a):
    a.obs_names = ["cell"] * a.n_obs
    return {"label": "type"}


def odd_repeated_genes(a):
    a.var_names = ["Gene"] * a.n_vars
    return {}


def odd_one_cell(a):
    a.obs.loc[a.obs_names[7], "run"] = "lonely"
    return {"label": "type"}


def odd_small(a):
    a.obs.loc[a.obs_names[:12], "run"] = "small"
    return {}


def odd_one_type(a):
    a.obs["type"] = "T cell"
    return {"label": "type"}


def odd_names_of_columns(a):
    a.obs["n_cells"] = a.obs.pop("type")
    a.obs["cluster"] = a.obs.pop("state")
    return {"label": "n_cells", "keep": ["cluster"]}


def odd_many(a):
    a.obs["run"] = [f"run {i % 12}" for i in range(a.n_obs)]
    return {}


def odd_zero_cells(a):
    X = a.X.toarray()
    X[:5] = 0
    a.X = sp.csr_matrix(X)
    return {}


def odd_numbers(a):
    a.obs["run"] = a.obs["run"].str[-1].astype(float)
    a.obs["type"] = a.obs["type"].str[-1].astype(int)
    return {"label": "type"}


ODD = [value for name, value in list(globals().items()) if name.startswith("odd_")]


@pytest.mark.parametrize("odd", ODD)
def test_odd_cells_are_audited_and_saved(cells, odd, tmp_path):
    adata = cells.copy()
    options = odd(adata)
    before = adata.copy()
    found = run(adata, **options)
    same(adata, before)
    assert len(found.answers) == 6
    batch = adata.obs[options.get("batch", "run")].astype(str)
    sizes = found.cells.all.obs[options.get("batch", "run")].value_counts()
    assert sizes.to_dict() == batch.value_counts().to_dict()
    assert found["mixing"].numbers["iLISI"]["before"] <= batch.nunique()
    out = found.save(tmp_path / "out", source=adata)
    jsonschema.validate(json.loads((out / "audit.json").read_text("utf-8")), SCHEMA)
    html = (out / "audit.html").read_text("utf-8")
    assert "<script>alert" not in html
    back = ad.read_h5ad(out / "corrected.h5ad")
    assert np.array_equal(back.obsm["X_pca_harmony"], found.cells.all.obsm["X_pca_harmony"])


def test_the_name_of_the_batch_is_no_matter(cells, found):
    for name in ("group", "audit_cluster", "batch", "cluster"):
        adata = cells.copy()
        adata.obs[name] = adata.obs.pop("run")
        other = run(adata, name)
        for answer in ("effect", "mixing", "stability"):
            assert other[answer].numbers == found[answer].numbers, name
        table = other["mixing"].tables["by group"]
        pd.testing.assert_frame_equal(table, found["mixing"].tables["by group"])


# --- errors -----------------------------------------------------------------------------------


def no_batch(a):
    return {"batch": "donor"}, KeyError, "no column 'donor'"


def no_keep(a):
    return {"keep": ["disease"]}, KeyError, "no column 'disease'"


def no_label(a):
    return {"label": "celltype"}, KeyError, "no column 'celltype'"


def one_level(a):
    a.obs["run"] = "all"
    return {}, ValueError, "fewer than two levels"


def all_different(a):
    a.obs["run"] = [f"{i}" for i in range(a.n_obs)]
    return {}, ValueError, "one level per cell|level"


def some_missing(a):
    a.obs.loc[a.obs_names[:3], "run"] = np.nan
    return {}, ValueError, "no label for 3 of 300 cells"


def measurement(a):
    a.obs["run"] = np.random.default_rng(0).normal(size=a.n_obs)
    return {}, ValueError, "a measurement is no batch"


def labels_missing(a):
    a.obs["type"] = np.nan
    return {"label": "type"}, ValueError, "'type'.* has no label for any cell"


def keep_is_batch(a):
    return {"keep": ["run"]}, ValueError, "'run' is named twice"


def label_is_batch(a):
    return {"label": "run"}, ValueError, "'run' is named twice"


def two_columns(a):
    a.obs = pd.concat([a.obs, a.obs[["run"]]], axis=1)
    return {}, ValueError, "several columns 'run'"


def text_in_x(a):
    a.X = a.X.toarray().astype(str)
    return {}, ValueError, "neither counts nor logarithms .* X holds no numbers"


def nan_in_x(a):
    X = a.X.toarray()
    X[3, 3] = np.nan
    a.X = X
    return {}, ValueError, "X holds NaN or infinite"


def scaled_only(a):
    a.X = logs(a) - logs(a).mean(axis=0)
    return {}, ValueError, "X holds (scaled|negative numbers)"


def no_cells(a):
    a._inplace_subset_obs(np.zeros(a.n_obs, bool))
    return {}, ValueError, "cells|levels"


def few_cells(a):
    a._inplace_subset_obs(np.arange(a.n_obs) < 20)
    return {}, ValueError, "30 cells|fewer"


def one_gene(a):
    a._inplace_subset_var(np.arange(a.n_vars) < 1)
    return {}, ValueError, "single gene|one gene"


def no_genes(a):
    a._inplace_subset_var(np.zeros(a.n_vars, bool))
    return {}, ValueError, "neither counts nor logarithms"


def no_layer(a):
    return {"layer": "spliced"}, KeyError, "no layer 'spliced'"


def bad_layer(a):
    a.layers["scaled"] = logs(a) - logs(a).mean(axis=0)
    return {"layer": "scaled"}, ValueError, "must hold counts or logarithms"


def no_basis(a):
    return {"basis": "X_scvi"}, KeyError, "no 'X_scvi'"


def nan_in_basis(a):
    a.obsm["X_own"] = np.full((a.n_obs, 3), np.nan)
    return {"basis": "X_own"}, ValueError, "NaN or infinite values in 300 cells"


def odd_seed(a):
    return {"seed": -1}, ValueError, "seed must be"


def unknown_setting(a):
    return {"settings": {"thetta": 2}}, TypeError, "thetta"


def bad_setting(a):
    return {"settings": {"theta": "high"}}, (TypeError, ValueError), "theta"


def bad_genes(a):
    return {"n_top_genes": 1}, ValueError, "n_top_genes must be"


def list_as_batch(a):
    return {"batch": ["run", "state"]}, (TypeError, ValueError), "one column|Name one"


def keep_as_text(a):
    return {"keep": "stat"}, KeyError, "no column 'stat'"


UNUSABLE = [
    no_batch, no_keep, no_label, one_level, all_different, some_missing, measurement,
    labels_missing, keep_is_batch, label_is_batch, two_columns, text_in_x, nan_in_x, scaled_only,
    no_cells, few_cells, one_gene, no_genes, no_layer, bad_layer, no_basis, nan_in_basis, odd_seed,
    unknown_setting, bad_setting, bad_genes, list_as_batch, keep_as_text,
]  # fmt: skip


@pytest.mark.parametrize("unusable", UNUSABLE)
def test_unusable_input_is_one_sentence_and_changes_nothing(cells, unusable):
    adata = cells.copy()
    options, error, match = unusable(adata)
    before = adata.copy()
    with pytest.raises(error, match=match) as raised:
        run(adata, **options)
    said = str(raised.value.args[0])
    assert "\n" not in said
    assert said[-1] == "."
    same(adata, before)


def test_no_anndata_is_refused():
    with pytest.raises(TypeError, match="audit reads an AnnData, not a DataFrame"):
        audit.audit(pd.DataFrame(), "run")


def test_a_view_of_a_file_on_disk_is_refused(cells, tmp_path):
    cells.write_h5ad(tmp_path / "a.h5ad")
    backed = ad.read_h5ad(tmp_path / "a.h5ad", backed="r")
    with pytest.raises(ValueError, match="view of a backed"):
        run(backed[:100])
    backed.file.close()


# --- what is written --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def full(cells):
    """Cells with something in every slot."""
    adata = cells.copy()
    rng = np.random.default_rng(0)
    adata.layers["counts"] = adata.X.copy()
    adata.raw = adata.copy()
    adata.X = sp.csr_matrix(logs(adata).astype(np.float32))
    adata.obsm["X_pca"] = rng.normal(size=(adata.n_obs, 4))
    adata.obsm["X_umap"] = rng.normal(size=(adata.n_obs, 2))
    adata.varm["PCs"] = rng.normal(size=(adata.n_vars, 4))
    adata.obsp["distances"] = sp.random(adata.n_obs, adata.n_obs, 0.01, "csr", random_state=0)
    adata.uns["mine"] = {"a": 1, "b": np.arange(3)}
    adata.obs["ordered"] = pd.Categorical(adata.obs["type"], ordered=True)
    adata.obs["true"] = rng.random(adata.n_obs) > 0.5
    adata.obs["perhaps"] = pd.array([None, *range(adata.n_obs - 1)], dtype="Int64")
    adata.obs["größe/試"[:5]] = np.arange(adata.n_obs)
    adata.var["ids"] = [f"ENSG{i:011d}" for i in range(adata.n_vars)]
    return adata


@pytest.fixture(scope="module")
def saved(full, tmp_path_factory):
    """Saved once from a file, and once from memory, by names without a slash.

    anndata 0.13 refuses one; this refuses it with the older ones as well.
    """
    folder = tmp_path_factory.mktemp("saved")
    full.write_h5ad(folder / "full.h5ad")
    source = ad.read_h5ad(folder / "full.h5ad")
    found = run(source)
    write_elem = ad.io.write_elem

    def plain(group, name, value):
        assert "/" not in name
        write_elem(group, name, value)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ad.io, "write_elem", plain)
        return source, found, {
            "file": found.save(folder / "a", source=source, paths=[folder / "full.h5ad"]),
            "memory": found.save(folder / "b", source=source),
        }  # fmt: skip


@pytest.mark.parametrize("way", ["file", "memory"])
def test_corrected_file_holds_all_that_the_reader_had_and_the_results(saved, way):
    source, found, out = saved
    back = ad.read_h5ad(out[way] / "corrected.h5ad")
    assert np.array_equal(back.obsm["X_pca"], source.obsm["X_pca"])  # her own stays
    assert np.array_equal(back.obsm["X_pca_audit"], found.cells.all.obsm["X_pca"])
    assert np.array_equal(back.obsm["X_pca_harmony"], found.cells.all.obsm["X_pca_harmony"])
    record = back.uns["X_pca_harmony"]
    assert record["basis"] == "X_pca_audit"
    assert record["key"] in ("run", ["run"]) or list(record["key"]) == ["run"]
    assert plots.convergence(record).axes  # as the lessons read it
    assert back.obs["audited"].all()
    for slot, names in {
        "obsm": ("X_pca_audit", "X_pca_harmony"),
        "uns": ("X_pca_harmony",),
    }.items():
        for name in names:
            del getattr(back, slot)[name]
    del back.obs["audited"]
    same(back, source)


def test_corrected_file_can_be_corrected_again(saved):
    back = ad.read_h5ad(saved[2]["file"] / "corrected.h5ad")
    integrate.harmonize(back, "run", basis="X_pca_audit", **SHORT)
    expected = saved[1].cells.all.obsm["X_pca_harmony"]
    assert np.allclose(back.obsm["X_pca_harmony"], expected, atol=1e-4)


def test_audit_json_is_as_the_schema_says(saved, labelled, tmp_path):
    for out in (*saved[2].values(), labelled.save(tmp_path / "out")):
        text = (out / "audit.json").read_text("utf-8")
        numbers = json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
        jsonschema.validate(numbers, SCHEMA)
    assert numbers["answers"][4]["numbers"]["withheld"]["n"] == 3
    numbers["answers"][2]["numbers"]["new"] = 1
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(numbers, SCHEMA)


def test_schema_is_one_and_describes_every_name():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["properties"]["schema"]["const"] == audit.SCHEMA

    def walk(part):
        for name, value in part.get("properties", {}).items():
            if set(value) - {"const", "$ref"}:
                assert value.get("description"), name
        for value in part.values():
            for inner in value if isinstance(value, list) else [value]:
                if isinstance(inner, dict):
                    walk(inner)

    walk({key: value for key, value in SCHEMA.items() if key != "allOf"})
    ids = SCHEMA["properties"]["findings"]["items"]["properties"]["id"]["enum"]
    assert set(ids) == {*FINDINGS, "confounded"}


def test_input_is_named_with_its_sum(saved):
    numbers = json.loads((saved[2]["file"] / "audit.json").read_text("utf-8"))
    (one,) = numbers["input"]
    assert one["sha256"] == report.fingerprint(one["path"])
    assert json.loads((saved[2]["memory"] / "audit.json").read_text("utf-8"))["input"] == []


def test_complete_is_written_last_and_the_folder_appears_whole(found, cells, tmp_path, monkeypatch):
    order, touch, write_text = [], Path.touch, Path.write_text
    h5ad = ad.AnnData.write_h5ad

    def noted(name, function):
        def inner(self, *args, **kwargs):
            order.append(Path(args[0] if name == "h5ad" else self).name)
            assert not (tmp_path / "out").exists()
            return function(self, *args, **kwargs)

        return inner

    monkeypatch.setattr(Path, "touch", noted("touch", touch))
    monkeypatch.setattr(Path, "write_text", noted("text", write_text))
    monkeypatch.setattr(ad.AnnData, "write_h5ad", noted("h5ad", h5ad))
    out = found.save(tmp_path / "out", source=cells)
    assert sorted(order[:-1]) == ["audit.html", "audit.json", "corrected.h5ad"]
    assert order[-1] == "COMPLETE"
    assert {path.name for path in out.iterdir()} == set(order)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("at", ["audit.json", "audit.html", "corrected.h5ad", "COMPLETE"])
def test_what_is_interrupted_leaves_nothing(found, cells, tmp_path, monkeypatch, error, at):
    with monkeypatch.context() as patch:
        for owner, name in [
            (Path, "touch"), (Path, "write_text"), (ad.AnnData, "write_h5ad")
        ]:  # fmt: skip
            original = getattr(owner, name)

            def inner(self, *args, _original=original, _name=name, **kwargs):
                if Path(args[0] if _name == "write_h5ad" else self).name == at:
                    raise error
                return _original(self, *args, **kwargs)

            patch.setattr(owner, name, inner)
        with pytest.raises(type(error)):
            found.save(tmp_path / "out", source=cells)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_over(found, cells, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "note").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("mine", "file"):
        with pytest.raises(FileExistsError, match="is there and not empty"):
            found.save(tmp_path / name, source=cells)
    assert (tmp_path / "mine" / "note").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    assert (found.save(tmp_path / "empty") / "COMPLETE").exists()


def test_html_needs_no_network_and_hides_nothing(saved):
    from bs4 import BeautifulSoup

    path = saved[2]["file"] / "audit.html"
    assert path.stat().st_size < 3e6
    soup = BeautifulSoup(path.read_text("utf-8"), "html.parser")
    assert soup.html["lang"] == "en"
    assert "run" in soup.title.text
    assert len(soup.select("h1")) == 1
    assert [h.text[:2] for h in soup.select("h2") if h.text[1:2] == "."] == [
        f"{i}." for i in range(1, 8)
    ]
    for image in soup.select("img"):
        assert len(image["alt"]) >= 30
        assert image["src"].startswith("data:image/png;base64,")
    for tag in soup.select("[src], [href]"):
        assert tag.get("src", tag.get("href")).startswith(("data:", "#"))
    assert not [s for s in soup.select("script, style") if "//" in s.text.replace("// ", "")]
    for answer in saved[1].answers:
        assert answer.sentence in soup.text
        assert answer.code in [code.text for code in soup.select("pre code")]
    ids = [tag["id"] for tag in soup.select("[id]")]
    assert len(ids) == len(set(ids))


def test_every_row_of_a_table_has_its_name(labelled):
    from bs4 import BeautifulSoup

    tables = {name: table for a in labelled.answers for name, table in a.tables.items()}
    for name, table in tables.items():
        assert table.index.name or isinstance(table.index, pd.RangeIndex), name
    soup = BeautifulSoup(labelled._repr_html_(), "html.parser")
    shown = {d.summary.text: d.text for d in soup.select("details")}
    for name in tables["dose"].index:
        assert name in shown["Table: dose"]


def test_notebook_shows_the_answers_and_the_command_line_a_page(found):
    html = found._repr_html_()
    assert "<html" not in html
    assert "<style>" in html
    assert found["effect"].sentence in html
    assert "<script" not in html
