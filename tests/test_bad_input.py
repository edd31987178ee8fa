"""Whatever comes in: a right result, or one sentence from helpers; and nothing half-changed.

hypothesis draws the input. Each property knows which input is usable, so that an error where a
result is due fails as a wrong result does. The draws are the same on each run.
"""

import copy
import traceback
import warnings
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from scipy import sparse

from helpers import design, integrate, metrics

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # repeated obs_names


def draws(n):
    return settings(
        max_examples=n,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],  # a draw is short to read; shrinking it would take minutes
        suppress_health_check=list(HealthCheck),
    )


def outcome(function, *args, errors=(ValueError,), **kwargs):
    """What it returns, or None after one of the errors it documents; it may not warn."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            return function(*args, **kwargs)
    except errors as error:
        message = str(error.args[0])
        assert message[-1] in ".?"
        assert "\n" not in message
        raised = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
        assert raised.parent.name == "helpers", f"not said by helpers: {message}"
        return None


# --- what may come in -------------------------------------------------------------------------

# From codes 0, 1, ... to labels; text sorts as the codes do, so results are the same to the bit.
LABELS = {
    "bool": lambda c: c > 0,
    "int8": lambda c: c.astype(np.int8),
    "uint64": lambda c: c.astype(np.uint64),
    "float16": lambda c: c.astype(np.float16) / 8,
    "float64": lambda c: c + 1 / 3,
    "text": lambda c: np.array([f"lane {i:03d}" for i in c], dtype=object),
    "fixed text": lambda c: np.array([f"{i:03d}\u00e9" for i in c], dtype=str),
    "mixed": lambda c: np.array([i if i < 5 else f"{i}th" for i in c.tolist()], dtype=object),
    "list": lambda c: [f"{i:03d}" for i in c],
    "masked": lambda c: pd.array(c, dtype="Int64"),
    "masked bool": lambda c: pd.array(c > 0, dtype="boolean"),
    "masked float": lambda c: pd.array(c / 4, dtype="Float32"),
    "string": lambda c: pd.array([f"{i:03d}" for i in c], dtype="string[python]"),
    "unused": lambda c: pd.Categorical(c, categories=range(-1, 400)),
    "reversed": lambda c: pd.Categorical(c, categories=range(400)[::-1], ordered=True),
    "dates": lambda c: pd.Timestamp("2024-01-01") + pd.to_timedelta(c, unit="D"),
    "zoned": lambda c: pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(c, unit="D"),
    "periods": lambda c: pd.PeriodIndex.from_ordinals(c, freq="D"),
}
if find_spec("pyarrow"):
    LABELS["arrow"] = lambda c: pd.array([f"{i:03d}" for i in c], dtype="string[pyarrow]")
MISSING = {"None": None, "NaN": np.nan, "NA": pd.NA, "NaT": pd.NaT}

# From a float matrix to what may lie in obsm; the second value: does it still hold numbers?
FORMS = {
    **{d: (lambda x, d=d: x.astype(d), True) for d in ("f2", "f4", "f8", "g", ">f4", "O")},
    **{d: (lambda x, d=d: np.rint(x).astype(d), True) for d in ("i1", "i8")},
    "bool": (lambda x: x > 0, True),
    "unsigned": (lambda x: np.abs(np.rint(x)).astype("u2"), True),
    "columns first": (np.asfortranarray, True),
    "every other": (lambda x: np.repeat(x, 2, axis=1)[:, ::2], True),
    "frame": (lambda x: pd.DataFrame(x).add_prefix("PC"), True),
    "masked frame": (lambda x: pd.DataFrame(x).astype("Float64"), True),
    "mixed frame": (lambda x: pd.DataFrame(x).astype(dict.fromkeys([0][: x.shape[1]], "f4")), True),
    "no mask": (np.ma.masked_array, True),
    "mask": (lambda x: np.ma.masked_array(x, np.indices(x.shape).sum(axis=0) == 0), False),
    "frame with NA": (
        lambda x: pd.DataFrame(x).astype("Float64").mask(np.indices(x.shape).sum(axis=0) == 0),
        False,
    ),
    "complex": (lambda x: x + 1j, False),
    "words": (lambda x: np.full(x.shape, "PC"), False),
    "frame with words": (lambda x: pd.DataFrame(x).assign(sample="a"), False),
    "csr": (sparse.csr_matrix, False),
    "csc array": (sparse.csc_array, False),
    "three axes": (lambda x: np.stack([x, x], axis=2), False),
}
# Changes to the cells, and whether finite numbers that can be squared remain.
CELLS = {
    "as they are": (lambda x: x, True),
    "a zero cell": (lambda x: np.where(np.arange(len(x))[:, None] == 1, 0, x), True),
    "half zero": (lambda x: np.where(np.arange(len(x))[:, None] % 2, 0, x), True),
    "a constant PC": (lambda x: np.where(np.arange(x.shape[1]) == 0, 0.1, x), True),
    "copies": (lambda x: x[np.arange(len(x)) // 3], True),
    "all the same": (lambda x: np.full(x.shape, 0.1), True),
    "all zero": (lambda x: np.zeros(x.shape), True),
    "far away": (lambda x: x + 1e3, True),
    "NaN": (lambda x: np.where(np.arange(len(x))[:, None] == 1, np.nan, x), False),
    "infinite": (lambda x: np.where(np.arange(len(x))[:, None] == 1, -np.inf, x), False),
    "beyond squaring": (lambda x: x * 1e200, False),
}
WHOLE = {"i1", "i8", "bool", "unsigned"}  # cannot hold what the last three make
SHORT = {"f2", "f4", ">f4", "mixed frame"}


class Drawn(SimpleNamespace):
    """What was drawn; a failing draw is shown without its arrays."""

    def __repr__(self):
        return str({name: value for name, value in vars(self).items() if np.isscalar(value)})


@st.composite
def embeddings(draw, sizes, forms=tuple(FORMS)):
    n, n_dims = draw(st.sampled_from(sizes)), draw(st.sampled_from([5, 2, 1, 40, 0]))
    form, cells = draw(st.sampled_from(forms)), draw(st.sampled_from(list(CELLS)))
    if (form in WHOLE and not CELLS[cells][1]) or (form in SHORT and cells == "beyond squaring"):
        cells = "as they are"
    X = CELLS[cells][0](np.random.default_rng(n).normal(size=(n, n_dims)) * 3)
    made = FORMS[form][0](X)
    usable = FORMS[form][1] and CELLS[cells][1] and n_dims > 0
    plain = np.asarray(made, np.float64) if usable else X
    return Drawn(form=form, cells=cells, n=n, n_dims=n_dims, X=made, plain=plain, usable=usable)


@st.composite
def labellings(draw, n):
    kind, n_levels = draw(st.sampled_from(list(LABELS))), draw(st.sampled_from([2, 3, 2, 1, n]))
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    codes = np.arange(n) if n_levels == n else rng.integers(0, n_levels, n)
    codes = np.minimum(codes, 1) if "bool" in kind else codes
    values = LABELS[kind](codes)
    missing = draw(st.sampled_from(["", "", "", "", "own", *MISSING])) if n else ""
    if missing:
        values, gap = pd.Series(values), np.arange(n) == n // 2
        values = values.mask(gap) if missing == "own" else values.astype(object)
        if missing != "own":
            values.iloc[n // 2] = MISSING[missing]
    n_levels = len(set(codes))
    usable = not missing and n_levels > 1
    return Drawn(
        kind=kind, missing=missing, n_levels=n_levels, values=values, codes=codes, usable=usable
    )


def contents(adata):
    """All of it, by value."""
    memory = adata.to_memory(copy=True)
    parts = {name: dict(getattr(memory, name)) for name in ("uns", "obsm", "layers")}
    return {**parts, "obs": memory.obs, "X": memory.X, "is_view": adata.is_view}


def same(one, two):
    """Equal in kind and in value."""
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    if isinstance(one, pd.DataFrame):
        pd.testing.assert_frame_equal(one, two, check_flags=False)
        return True
    if sparse.issparse(one):
        return one.format == two.format and same(one.toarray(), two.toarray())
    if isinstance(one, np.ndarray):
        if one.dtype != two.dtype or one.dtype.kind in "fc":
            return one.dtype == two.dtype and np.array_equal(one, two, equal_nan=True)
        return np.array_equal(one.astype(str), two.astype(str))  # object may hold NaN too
    if hasattr(one, "equals"):
        return one.equals(two)
    return type(one) is type(two) and one == two


def annotated(X, columns, names="unique"):
    """An AnnData with X in obsm and these columns in obs."""
    n = X.shape[0]
    index = [f"c{i}" for i in range(n)] if names == "unique" else ["c"] * n
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adata = ad.AnnData(np.zeros((n, 2), np.float32), obs=pd.DataFrame(index=index))
        for name, values in columns.items():
            adata.obs[name] = pd.Series(values).set_axis(index)
        if isinstance(X, pd.DataFrame):
            X = X.set_axis(adata.obs_names)
        adata.obsm["X_pca"] = X
    adata.uns["kept"] = {"as": [1, 2]}
    return adata


# --- the adapter ------------------------------------------------------------------------------


@draws(250)
@given(data=st.data())
def test_harmonize(data):
    pcs = data.draw(embeddings([60, 40, 30, 29, 2, 1, 0]))
    n = pcs.n
    lanes = data.draw(labellings(n))
    names = data.draw(st.sampled_from(["unique", "repeated"]))
    rows = data.draw(st.sampled_from([None, slice(None), slice(None, None, -1)]))
    rows = None if pcs.form == "mask" else rows  # anndata drops the mask of a view
    two_columns = rows is None and data.draw(st.sampled_from([False] * 5 + [True]))
    whole = annotated(pcs.X, {"lane": lanes.values, "other": np.zeros(n)}, names)
    if two_columns:
        whole.obs.columns = ["lane", "lane"]
    adata = whole if rows is None else whole[rows]
    before, parent = contents(adata), contents(whole)

    outcome(integrate.harmonize, adata, "lane", max_iter_harmony=2)

    due = pcs.usable and lanes.usable and n >= 30 and not two_columns
    due = due and lanes.n_levels <= n / 2
    assert ("X_pca_harmony" in adata.obsm) == due
    after = contents(adata)
    if due:
        text = [f"{code:03d}" for code in lanes.codes]
        plain = annotated(pcs.plain, {"lane": text})[rows or slice(None)].copy()
        integrate.harmonize(plain, "lane", max_iter_harmony=2)
        expected, found = plain.obsm["X_pca_harmony"], after["obsm"].pop("X_pca_harmony")
        assert np.isfinite(found).all()
        np.testing.assert_array_equal(found, expected.astype(found.dtype))
        assert found.dtype == (np.float32 if pcs.form == "f4" else np.float64)
        assert after["uns"].pop("X_pca_harmony")["key"] == ["lane"]
        assert not after["is_view"]
        before["is_view"] = False
    assert same(before, after)
    if rows is not None:
        assert same(parent, contents(whole))


@draws(16)
@given(data=st.data())
def test_harmonize_backed(tmp_path_factory, data):
    pcs = data.draw(embeddings([40, 29], ("f2", "f4", "i8", "csr")))  # what h5ad can hold
    kind = data.draw(st.sampled_from(["bool", "int8", "text", "masked", "unused"]))
    view = data.draw(st.booleans())
    n = pcs.n
    path = tmp_path_factory.mktemp("backed") / "cells.h5ad"
    annotated(pcs.X, {"lane": LABELS[kind](np.arange(n) % 2)}).write_h5ad(path)
    written = path.read_bytes()
    adata = ad.read_h5ad(path, backed="r")
    adata = adata[:] if view else adata
    before = contents(adata)

    outcome(integrate.harmonize, adata, "lane", max_iter_harmony=1)

    assert adata.isbacked
    assert ("X_pca_harmony" in adata.obsm) == (pcs.usable and n >= 30 and not view)
    after = contents(adata)
    after["obsm"].pop("X_pca_harmony", None)
    after["uns"].pop("X_pca_harmony", None)
    assert same(before, after)
    adata.file.close()
    assert path.read_bytes() == written


ANYTHING = [
    *(0, 1, 2, 5, -1, 0.1, 2.0, 0.5, 1e-9, 1e9, 2**40, 2**70, np.nan, np.inf, -np.inf),
    *(True, None, "10", "", b"1", (), [], {}, {1}, {"a": 1}, object, ..., 1j, "nan"),
    *(np.int8(3), np.float32(0.2), np.bool_(True), np.array(2), np.array([0.1, 0.2]), np.eye(2)),
    *((1, 2), [0.5], [1, None], ["a", "b"], [[1, 2]], pd.Series([1.0, 2.0]), pd.Series(["a"])),
    *(pd.NA, pd.array([1, 2], dtype="Int64"), pd.Timestamp("2024-01-01"), np.datetime64("NaT")),
]
SETTINGS = ["theta", "lamb", "sigma", "nclust", "tau", "block_size", "max_iter_harmony"]
SETTINGS += ["max_iter_kmeans", "epsilon_cluster", "epsilon_harmony", "alpha", "ncores"]
SETTINGS += ["batch_prop_cutoff", "random_state", "reference_values", "sparkle", "n_clusters"]
SETTINGS += ["key", "basis", "adjusted_basis", "seed", "verbose", "design", "backend"]


@draws(300)
@given(data=st.data())
def test_settings_of_harmonize(tmp_path_factory, data):
    named = data.draw(st.lists(st.sampled_from(SETTINGS), min_size=1, max_size=2, unique=True))
    chosen = {name: data.draw(st.sampled_from(ANYTHING)) for name in named}
    adata = annotated(np.random.default_rng(0).normal(size=(40, 3)), {"lane": ["a", "b"] * 20})
    before = contents(adata)
    errors = (KeyError, TypeError, ValueError, ImportError)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        settings = {"key": "lane", "max_iter_harmony": 2, "adjusted_basis": "Z", **chosen}
        outcome(integrate.harmonize, adata, errors=errors, **settings)

    after = contents(adata)
    if "Z" in adata.obsm:
        path = tmp_path_factory.mktemp("settings") / "cells.h5ad"
        adata.write_h5ad(path)
        record, back = adata.uns["Z"], ad.read_h5ad(path).uns["Z"]
        assert record["n_rounds"] > 0
        assert np.isfinite(after["obsm"].pop("Z")).all()
        assert back["params"].keys() == record["params"].keys()
        for name, value in record["params"].items():
            np.testing.assert_array_equal(back["params"][name], value)
        after["uns"].pop("Z")
    assert same(before, after)


# --- the design check -------------------------------------------------------------------------


@draws(150)
@given(data=st.data())
def test_design(data):
    n = data.draw(st.sampled_from([60, 9, 3, 2, 1, 0]))
    columns = {name: data.draw(labellings(n)) for name in "abc"}
    names = st.lists(st.sampled_from("abc"), min_size=1, max_size=3)
    batch, biology = data.draw(names), data.draw(names)
    obs = pd.DataFrame({name: pd.Series(c.values) for name, c in columns.items()})
    obs.index = ["cell"] * n
    two_columns = data.draw(st.sampled_from([False] * 7 + [True]))
    if two_columns:
        obs = pd.concat([obs, obs[[batch[0]]]], axis=1)
    before = obs.copy()

    found = outcome(design.check, obs, batch=batch, biology=biology)

    assert same(before, obs)
    due = not two_columns and all(columns[name].usable for name in batch + biology)
    assert (found is not None) == due
    if due:
        assert found.pairs["cramers_v"].astype(float).between(0, 1).all()
        mixed = [found.pairs.loc[f"{one} x {two}", "verdict"] for one in batch for two in biology]
        assert found.verdict == max(mixed, key=design.VERDICTS.index)
        plain = pd.DataFrame({name: column.codes for name, column in columns.items()})
        expected = design.check(plain, batch=batch, biology=biology)
        assert found.verdict == expected.verdict
        pd.testing.assert_frame_equal(found.pairs, expected.pairs)


# --- the scores -------------------------------------------------------------------------------

SCORES = {  # score(X, batch, types), what it reads, its range
    "lisi": (lambda X, b, t: metrics.lisi(X, b, perplexity=5), "Xb", 1, 60),
    "lisi of both": (lambda X, b, t: metrics.lisi(X, pd.DataFrame({1: b, 2: t})), "Xbt", 1, 60),
    "silhouette label": (lambda X, b, t: metrics.silhouette_label(X, t), "Xt", 0, 1),
    "silhouette batch": (
        lambda X, b, t: metrics.silhouette_batch(X, batch=b, labels=t),
        "Xbt",
        0,
        1,
    ),
    "graph connectivity": (lambda X, b, t: metrics.graph_connectivity(X, t), "Xt", 0, 1),
    "PC regression": (lambda X, b, t: metrics.pc_regression(X, b), "Xb", 0, 1),
    "kBET": (lambda X, b, t: metrics.kbet(X, batch=b, labels=t), "Xbt", 0, 1),
    "ARI": (lambda X, b, t: metrics.ari(b, t), "bt", -0.5, 1),
    "NMI": (lambda X, b, t: metrics.nmi(b, t), "bt", 0, 1),
}


def crossed(batch, types):
    """Whether there are two or three levels of each, in all combinations."""
    combinations = set(zip(batch.codes.tolist(), types.codes.tolist(), strict=True))
    levels = batch.n_levels, types.n_levels
    return {2, 3}.issuperset(levels) and len(combinations) == levels[0] * levels[1]


@pytest.mark.parametrize("name", SCORES)
@draws(100)
@given(data=st.data())
def test_scores(name, data):
    score, reads, low, high = SCORES[name]
    X = data.draw(embeddings([60, 40, 12, 3, 2, 1, 0]))
    n = X.n
    batch, types = data.draw(labellings(n)), data.draw(labellings(n))
    before = copy.deepcopy((X.X, batch.values, types.values))

    found = outcome(score, X.X, batch.values, types.values)

    for one, two in zip(before, (X.X, batch.values, types.values), strict=True):
        assert same(one, two)
    bad = ("X" in reads and not X.usable) or ("b" in reads and batch.missing)
    if bad or ("t" in reads and types.missing):
        assert found is None
        return
    # Neither the form of X nor the kind of label matters ...
    plain = outcome(score, X.plain, batch.codes, types.codes)
    np.testing.assert_array_equal(found, plain)
    # ... and where cells and levels suffice there is a result.
    if n >= 40 and crossed(batch, types):
        assert found is not None or (name == "PC regression" and X.cells.startswith("all"))
    if found is not None:
        assert np.isfinite(found).all()
        assert low - 1e-9 <= np.min(found) <= np.max(found) <= high + 1e-9


@draws(60)
@given(data=st.data())
def test_score_table(data):
    X = data.draw(embeddings([50, 31, 0]))
    n = X.n
    batch, types = data.draw(labellings(n)), data.draw(labellings(n))
    adata = annotated(X.X, {"lane": batch.values, "type": types.values}, "repeated")
    adata = adata[:] if data.draw(st.booleans()) else adata
    # anndata itself cannot copy a view with two columns of one name
    two_columns = not adata.is_view and data.draw(st.sampled_from([False] * 5 + [True]))
    if two_columns:
        adata.obs.columns = ["lane", "lane"]
    keys = {"batch_key": "lane", "label_key": "type", "use_reps": {"shown": "X_pca"}}
    before = contents(adata)

    table = outcome(metrics.score_table, adata, errors=(KeyError, ValueError), **keys)

    assert same(before, contents(adata))
    good = X.usable and batch.usable and types.usable and not two_columns
    if not good:
        assert table is None
    elif n == 50 and crossed(batch, types) and not X.cells.startswith("all"):
        assert list(table.index) == ["shown"]
        assert np.isfinite(table.to_numpy(float)).all()
