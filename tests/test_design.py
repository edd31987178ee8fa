"""The design check names what can and cannot be told apart."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from helpers.checks import string_labels
from helpers.design import ADVICE, INVERTED, VERDICTS, check, cramers_v
from helpers.integrate import harmonize


def obs(*combinations: tuple[str, str], cells: int = 50) -> pd.DataFrame:
    rows = [combination for combination in combinations for _ in range(cells)]
    return pd.DataFrame(rows, columns=["lane", "condition"])


CROSSED = obs(("L1", "a"), ("L1", "b"), ("L2", "a"), ("L2", "b"))
FULLY = obs(("L1", "a"), ("L2", "b"))
NESTED = obs(("d1", "a"), ("d2", "a"), ("d3", "b"), ("d4", "b"))
PARTLY = obs(("L1", "a"), ("L1", "b"), ("L2", "b"))
TWO_ISLANDS = obs(("L1", "a"), ("L1", "b"), ("L2", "a"), ("L2", "b"), ("L3", "c"), ("L4", "c"))


@pytest.mark.parametrize(
    ("table", "verdict", "rank", "columns", "empty"),
    [
        (CROSSED, "crossed", 3, 3, 0),
        (FULLY, "fully confounded", 2, 3, 2),
        (NESTED, "nested", 4, 5, 4),
        (PARTLY, "partly confounded", 3, 3, 1),
        (TWO_ISLANDS, "partly confounded", 5, 6, 6),
    ],
)
def test_verdicts(table, verdict, rank, columns, empty):
    design = check(table, batch="lane", biology="condition")
    assert design.verdict == verdict
    assert design.advice == ADVICE[verdict]
    assert verdict in VERDICTS
    row = design.pairs.loc["lane x condition"]
    assert (row["rank"], row["columns"], row["empty"]) == (rank, columns, empty)
    text = str(design)
    assert f"Verdict: {verdict}." in text
    assert "condition" in text
    assert "lane" in text
    # Nesting the other way round is nesting too, but another thing is to be done.
    turned = check(table, batch="condition", biology="lane")
    assert turned.verdict == verdict
    assert turned.advice == ADVICE[INVERTED if verdict == "nested" else verdict]


def test_rare_combinations_and_strong_association_are_partly_confounded():
    rare = pd.concat([PARTLY, obs(("L2", "a"), cells=3)])
    design = check(rare, batch="lane", biology="condition")
    assert design.verdict == "partly confounded"
    assert design.pairs["empty"].item() == 1
    assert check(rare, batch="lane", biology="condition", min_cells=3).verdict == "crossed"
    strong = pd.concat([obs(("L1", "a"), ("L2", "b"), cells=500), obs(("L1", "b"), ("L2", "a"))])
    assert check(strong, batch="lane", biology="condition").verdict == "partly confounded"


def test_the_worst_pair_of_batch_and_biology_decides():
    table = CROSSED.assign(run=np.tile(["r1", "r2"], 100), tissue=CROSSED["lane"].str.lower())
    design = check(table, batch=["run", "lane"], biology=["condition", "tissue"])
    assert design.verdict == "fully confounded"
    assert design.confounded_with(["run", "lane"]) == [("lane", "tissue")]
    assert design.confounded_with(["run"]) == []
    # Two batch variables that always go together are shown, but they are not the verdict's matter.
    twice = CROSSED.assign(chip=CROSSED["lane"].str.lower())
    design = check(twice, batch=["lane", "chip"], biology="condition")
    assert design.pairs.loc["lane x chip", "verdict"] == "fully confounded"
    assert design.verdict == "crossed"


def test_small_levels_are_named():
    table = pd.concat([CROSSED, obs(("L3", "a"), ("L3", "b"), cells=2)])
    assert check(table, batch="lane", biology="condition").small == ("lane=L3",)


# --- designs as they occur: rows are batches, columns are biology, numbers are cells -----------

DESIGNS = {
    "8 pooled donors in 2 lanes": ([[850, 900]] * 8, "crossed"),
    "lane is treatment": ([[6500, 0], [0, 7400]], "fully confounded"),
    "4 pools of healthy and sick": ([[2100, 1800], [1900, 2000]] * 2, "crossed"),
    "3 chemistries x types, one rare": (
        [[120, 90, 60, 5], [200, 100, 70, 7], [80, 60, 30, 0]],
        "crossed",
    ),
    "6 runs of cell lines, 2 lines in 2 runs only": (
        [[300, 310, 270, 0, 0], [350, 400, 450, 410, 380], [90, 80, 100, 0, 0]] * 2,
        "partly confounded",
    ),
    "20 donors, a lane each, 10 sick": ([[500, 0]] * 10 + [[500, 0][::-1]] * 10, "nested"),
    "20 donors, one of them sick": ([[100, 0]] * 19 + [[0, 100]], "nested"),
    "20 donors of 35 cells, 4 diseases": (np.repeat(np.eye(4) * 35, 5, axis=0), "nested"),
    "6 studies of 3 tissues": (np.repeat(np.eye(3) * 4000, 2, axis=0), "nested"),
    "2 runs of 2 tissues each": ([[900, 800, 0, 0], [0, 0, 700, 950]], "nested"),
    "5 days in 5 runs": (np.diag([900, 1500, 400, 1200, 800]), "fully confounded"),
    "the same, day 1 in every run": (
        np.diag([900, 1500, 400, 1200, 800]) + np.eye(5)[:1] * 300,
        "partly confounded",
    ),
    "12 patients before and after": ([[400, 600]] * 12, "crossed"),
    "the same, one without before": ([[400, 600]] * 11 + [[0, 500]], "partly confounded"),
    "sick at one of two sites": ([[3000, 3000], [3000, 0]], "partly confounded"),
    "lanes of 2 treatments of 3": (
        [[500, 500, 0], [500, 0, 500], [0, 500, 500]],
        "partly confounded",
    ),
    "two islands": ([[500, 500, 0]] * 2 + [[0, 0, 500]] * 2, "partly confounded"),
    "runs at 95 to 5": ([[1900, 100], [100, 1900]], "partly confounded"),
    "12 cells of a type, a 5 % batch": ([[2000, 1700, 12], [100, 100, 0]], "crossed"),
    "12 cells of a type, all in one of 2 batches": (
        [[2000, 1700, 0], [1300, 1100, 12]],
        "crossed",
    ),
    "40 batches of 15 cells": ([[5, 10], [10, 5]] * 20, "too few cells"),
    "28 cells, uneven by chance": ([[10, 4], [4, 10]], "too few cells"),
    "one batch of 8 cells": ([[900, 0], [0, 8]], "too few cells"),
}


def draws(n):
    """The same draws on each run, and no shrinking, which would take minutes."""
    return settings(
        max_examples=n, derandomize=True, database=None, deadline=None, phases=[Phase.generate]
    )


def cells(table) -> pd.DataFrame:
    """One row per cell of a table of counts."""
    n = np.asarray(table, dtype=int)
    lane, condition = (np.repeat(i.ravel(), n.ravel()) for i in np.indices(n.shape))
    return pd.DataFrame({"lane": lane, "condition": condition}).astype(str)


def verdict(table: pd.DataFrame) -> str:
    return check(table, batch="lane", biology="condition").verdict


@pytest.mark.parametrize("name", DESIGNS)
def test_designs_as_they_occur(name):
    table, expected = DESIGNS[name]
    assert verdict(cells(table)) == expected
    assert verdict(cells(np.transpose(table))) == expected


def slipped(table: pd.DataFrame, k: int, rng) -> pd.DataFrame:
    """The same cells, and k of them with a wrong batch or a wrong biology, or both."""
    table = table.copy()
    for column in table:
        wrong = rng.choice(len(table), k // 2 if column == "lane" else k - k // 2, replace=False)
        table.loc[wrong, column] = rng.choice(table[column].unique(), len(wrong))
    return table


BIG = [
    name for name, (table, _) in DESIGNS.items() if np.asarray(table)[np.nonzero(table)].min() > 60
]


@draws(30)
@given(st.sampled_from(BIG), st.integers(1, 9), st.integers(0, 1000))
def test_slips_do_not_move_the_verdict(name, k, seed):
    table, expected = DESIGNS[name]
    rng = np.random.default_rng(seed)
    assert verdict(slipped(cells(table), k, rng)) == expected
    # Nor do slips that make a level of their own.
    typed = cells(table)
    typed.loc[rng.choice(len(typed), k, replace=False), "lane"] = "lnae 1"
    design = check(typed, batch="lane", biology="condition")
    assert design.verdict == expected
    assert design.small == ("lane=lnae 1",)


@pytest.mark.parametrize("k", [3, 30, 300])
@pytest.mark.parametrize("sizes", [[0.5, 0.5], [0.9, 0.1], [0.25] * 4])
def test_slips_among_100_000_cells(k, sizes):
    """Few in all, yet more than min_cells in one combination."""
    alone = np.diag(np.array(sizes) * 100_000)
    table = slipped(cells(alone), k, np.random.default_rng(0))
    assert verdict(table) == "fully confounded"
    donors = np.arange(len(table)) % 5
    nested = table.assign(lane=table["lane"] + " donor " + donors.astype(str))
    assert k == 300 or verdict(nested) == "nested"
    # What is rare on purpose is seen: a twentieth of the cells of each run in the other's place.
    assert verdict(cells([[47_500, 2_500], [2_500, 47_500]])) == "partly confounded"


def test_the_guard_holds_when_cells_slip():
    table = slipped(cells([[300, 0], [0, 300]]), 9, np.random.default_rng(0))
    assert (pd.crosstab(table["lane"], table["condition"]).to_numpy() > 0).all()
    adata = ad.AnnData(obs=table.set_axis([f"c{i}" for i in range(600)]))
    adata.obsm["X_pca"] = np.random.default_rng(0).normal(size=(600, 5))
    design = check(adata.obs, batch="lane", biology="condition")
    with pytest.raises(ValueError, match="fully confounded"):
        harmonize(adata, "lane", design=design)


@draws(30)
@given(st.sampled_from(list(DESIGNS)), st.integers(0, 1000))
def test_names_and_order_do_not_matter(name, seed):
    table, expected = np.asarray(DESIGNS[name][0]), DESIGNS[name][1]
    rng = np.random.default_rng(seed)
    rows, columns = (rng.permutation(n) for n in table.shape)
    made = cells(table[rows][:, columns]).sample(frac=1, random_state=seed)
    made["lane"] = made["lane"].map({str(i): f"lane {(i * 7) % 41}" for i in range(len(rows))})
    assert verdict(made) == expected


@pytest.mark.parametrize(
    ("shape", "n", "enough"),
    [((2, 2), 80, False), ((8, 2), 240, False), ((2, 2), 400, True), ((12, 15), 2700, True)],
)
def test_independent_variables_are_crossed(shape, n, enough):
    """Levels of unequal size, cells at random: no false alarm in 99 of 100 draws."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(100):
        shares = [rng.dirichlet(np.full(levels, 5)) for levels in shape]
        lane, condition = (rng.choice(len(p), n, p=p) for p in shares)
        found.append(verdict(cells(np.histogram2d(lane, condition, bins=shape)[0])))
    fine = found.count("crossed") + (0 if enough else found.count("too few cells"))
    assert fine >= 99, pd.Series(found).value_counts()


def test_missing_only_where_cells_were_to_be_expected():
    """Half the combinations of a rare type are empty, which says nothing; of a common one, much."""
    rare = np.array([[400, 400, n] for n in [4, 0] * 4])
    common = np.array([[400, 400, n] for n in [80, 0] * 4])
    pairs = [check(cells(t), batch="lane", biology="condition").pairs for t in (rare, common)]
    assert [p["empty"].item() for p in pairs] == [0, 4]
    assert [p["verdict"].item() for p in pairs] == ["crossed", "partly confounded"]


@draws(40)
@given(st.lists(st.lists(st.sampled_from([0, 50]), min_size=4, max_size=4), min_size=3, max_size=6))
def test_rank_is_that_of_the_design_matrix(table):
    n = np.array(table)
    if n.any(axis=0).sum() < 2 or n.any(axis=1).sum() < 2:
        return
    made = cells(n)
    dummies = [pd.get_dummies(made[name], drop_first=True, dtype=float) for name in made]
    matrix = np.column_stack([np.ones(len(made)), *dummies])
    row = check(made, batch="lane", biology="condition").pairs.iloc[0]
    assert row["rank"] == np.linalg.matrix_rank(matrix)
    assert row["columns"] == matrix.shape[1]


def test_small_levels_do_not_decide():
    """Nested but for a level of 6 cells, crossed but for one: they are named, that is all."""
    for table, expected in [
        ([[90, 0], [90, 0], [0, 90], [3, 3]], "nested"),
        ([[90, 90], [90, 90], [6, 0]], "crossed"),
        ([[90, 0], [0, 90], [3, 3]], "fully confounded"),
    ]:
        design = check(cells(table), batch="lane", biology="condition")
        assert design.verdict == expected
        assert design.small == (f"lane={len(table) - 1}",)


def test_samples_are_counted():
    """Donors within disease; a slip is no sample, and one sick donor is no replication."""
    table = cells([[100, 0]] * 4 + [[0, 100]]).rename(columns={"lane": "donor"})
    table["pool"] = np.where(table["donor"].isin(["0", "1", "4"]), "p1", "p2")
    table.loc[table.index[:3], "condition"] = "1"
    design = check(table, batch="pool", biology="condition", sample="donor")
    levels = design.levels.set_index(["variable", "level"])["samples"]
    assert levels.to_dict() == {
        ("pool", "p1"): 3,
        ("pool", "p2"): 2,
        ("condition", "0"): 4,
        ("condition", "1"): 1,
    }
    assert design.samples["pool", "condition"].to_numpy().tolist() == [[2, 1], [2, 0]]
    assert design.single == ("condition=1",)
    assert "One sample only, and its cells are no replicates: condition=1." in str(design)
    plain = check(table, batch="pool", biology="condition")
    assert plain.verdict == design.verdict
    assert "sample" not in str(plain)


@pytest.mark.parametrize("biology", ["condition", None])
def test_one_sample_in_all_is_no_replicate_and_no_error(biology):
    table = CROSSED.assign(donor="d1")
    design = check(table, batch="lane", biology=biology, sample="donor")
    assert design.single == ("donor=d1",)
    assert "One sample only, and its cells are no replicates: donor=d1." in str(design)
    assert set(design.levels["samples"]) == {1}
    assert design.verdict == ("crossed" if biology else None)
    table.loc[0, "donor"] = None
    with pytest.raises(ValueError, match="no label for 1 of 200 cells"):
        check(table, batch="lane", biology=biology, sample="donor")


def test_biology_of_one_level_has_nothing_to_lose():
    table = CROSSED.assign(tissue="blood")
    match = r"^obs\['tissue'\] has one level only \('blood'\), so no difference in it can be lost"
    for biology in ["tissue", ["condition", "tissue"]]:
        with pytest.raises(ValueError, match=match) as caught:
            check(table, batch="lane", biology=biology)
        assert str(caught.value).endswith("leave it out of biology.")
    with pytest.raises(ValueError, match="there is nothing to correct"):
        check(table, batch="tissue", biology="condition")
    with pytest.raises(ValueError, match="there is nothing to correct"):
        check(table, batch="tissue", biology="tissue")


def test_without_biology_there_is_no_verdict():
    table = CROSSED.assign(run=np.tile(["r1", "r2"], 100))
    design = check(table, batch="lane")
    assert design.verdict is None
    assert design.levels["cells"].tolist() == [100, 100]
    assert len(design.pairs) == len(design.counts) == 0
    assert "Verdict" not in str(design)
    assert "No biology was named" in str(design)
    assert "L1" in str(design)
    design = check(table, batch=["lane", "run"])
    assert design.verdict is None
    assert design.pairs["verdict"].tolist() == ["crossed"]
    assert design.confounded_with(["lane", "run"]) == []


def test_what_is_printed_is_short():
    for advice in ADVICE.values():
        assert advice.count(". ") < 3
        assert advice.endswith(".")
    wide = cells(np.eye(40) * 20 + 20)
    for name in ["lane", "condition"]:
        wide[name] = "a long name, level " + wide[name]
    text = str(check(wide, batch="lane", biology="condition", sample="lane"))
    assert max(map(len, text.split("\n"))) <= 88


@pytest.mark.parametrize(
    "words", [["nan"], ["None", "NA"], ["", " "], ["<NA>", "NaT", "NaN"], ["n/a", "NULL"]]
)
def test_words_for_missing_labels_are_missing(words):
    obs = CROSSED.copy()
    obs.loc[: len(words) - 1, "lane"] = words
    for kind in [object, "category", "string"]:
        with pytest.raises(ValueError, match="no label for") as caught:
            string_labels(obs.astype({"lane": kind}), "lane")
        assert f"for {len(words)} of 200 cells" in str(caught.value)
        assert all(repr(word) in str(caught.value) for word in words)
    string_labels(obs.replace(words, "unassigned"), "lane")


def test_what_str_makes_of_missing_labels_is_missing():
    gone = pd.Series(["L1", "L2", None, np.nan, pd.NA] * 20, dtype=object)
    text = pd.DataFrame({"lane": [str(value) for value in gone]})
    with pytest.raises(ValueError, match=r"60 of 100 cells \(written '<NA>', 'None', 'nan'\)"):
        string_labels(text, "lane")
    with pytest.raises(ValueError, match="60 of 100 cells: label"):
        string_labels(pd.DataFrame({"lane": gone}), "lane")


def test_a_measurement_is_no_batch():
    rng = np.random.default_rng(0)
    obs = pd.DataFrame({"n_genes": rng.integers(200, 2000, 3000), "depth": rng.normal(size=3000)})
    obs["chip"] = np.arange(3000) % 150  # 150 chips of 20 cells
    for name in ["n_genes", "depth"]:
        with pytest.raises(ValueError, match=rf"'{name}'.* holds numbers with .*bin it"):
            string_labels(obs, name)
        binned = pd.DataFrame({name: pd.qcut(obs[name], 4)})  # what the sentence proposes
        assert len(string_labels(binned, name).cat.categories) == 4
        string_labels(obs.astype(str), name)  # names may be as many as they like
    string_labels(obs, "chip")


def test_cramers_v_is_the_published_one():
    rng = np.random.default_rng(0)
    nothing = [
        cramers_v(pd.crosstab(rng.integers(0, 4, 200), rng.integers(0, 5, 200))) for _ in range(200)
    ]
    assert np.median(nothing) < 0.06  # without the correction it would be about 0.14
    assert cramers_v(pd.DataFrame([[50, 0], [0, 50]])) == pytest.approx(1, abs=0.01)
    # By hand: chi2 = 100 * 0.36, phi2 = 0.36 - 1/99, r = c = 2 - 1/99.
    expected = np.sqrt((0.36 - 1 / 99) / (1 - 1 / 99))
    assert cramers_v(pd.DataFrame([[40, 10], [10, 40]])) == pytest.approx(expected)


def test_one_level_per_cell_is_no_division_by_zero():
    table = pd.crosstab(np.arange(9), np.arange(9) % 3)
    with np.errstate(all="raise"):
        assert cramers_v(table) == cramers_v(table.T) == 1


def test_a_variable_named_twice_counts_once():
    design = check(CROSSED, batch=["lane", "lane"], biology="condition")
    assert design.verdict == "crossed"
    assert list(design.pairs.index) == ["lane x condition"]


@pytest.mark.parametrize("kind", ["category", "string", object, bool, np.int8])
def test_any_kind_of_label(kind):
    codes = (CROSSED["lane"] == "L1").to_numpy()
    table = CROSSED.assign(lane=pd.Series(codes).astype(np.int8).astype(kind))
    assert check(table, batch="lane", biology="condition").verdict == "crossed"


@pytest.mark.parametrize(
    ("table", "arguments", "error", "words"),
    [
        (CROSSED, {"batch": "lanes"}, KeyError, "no column 'lanes'"),
        (CROSSED, {"batch": []}, ValueError, "at least one batch column"),
        (CROSSED.replace("L1", None), {}, ValueError, "no label for 100 of 200 cells"),
        (CROSSED[:100], {}, ValueError, "fewer than two levels"),
        (CROSSED.set_axis(["lane"] * 2, axis=1), {}, ValueError, "several columns 'lane'"),
        (CROSSED, {"min_cells": 0}, ValueError, "min_cells must be at least 1"),
        (CROSSED, {"sample": "donor"}, KeyError, "no column 'donor'"),
        (CROSSED, {"sample": ["lane"]}, TypeError, "Name one column of obs, not ['lane']"),
        (CROSSED, {"batch": None}, ValueError, "at least one batch column"),
        (CROSSED, {"batch": 1}, TypeError, "a list of columns, not 1"),
        (CROSSED, {"biology": [["lane"]]}, TypeError, "a list of columns, not [['lane']]"),
        (CROSSED, {"min_cells": "10"}, ValueError, "at least 1, not '10'"),
        (CROSSED, {"min_cells": np.nan}, ValueError, "at least 1, not nan"),
        (ad.AnnData(obs=CROSSED.set_axis(map(str, range(200)))), {}, TypeError, "as adata.obs"),
    ],
)
def test_mistakes_get_one_sentence(table, arguments, error, words):
    with pytest.raises(error) as caught:
        check(table, **{"batch": "lane", "biology": "condition", **arguments})
    assert words in str(caught.value.args[0])
    assert "\n" not in str(caught.value.args[0])


def test_harmonize_refuses_a_fully_confounded_request_unless_told():
    rng = np.random.default_rng(0)
    table = FULLY.set_axis([f"c{i}" for i in range(100)]).assign(run=rng.choice(["1", "2"], 100))
    adata = ad.AnnData(obs=table, obsm={"X_pca": rng.normal(size=(100, 5))})
    design = check(adata.obs, batch=["lane", "run"], biology="condition")
    assert VERDICTS.index(design.verdict) == len(VERDICTS) - 1
    with pytest.raises(ValueError, match=r"'lane'.*'condition'.*fully confounded"):
        harmonize(adata, ["lane", "run"], design=design)
    assert "X_pca_harmony" not in adata.obsm
    assert not adata.uns
    harmonize(adata, "run", design=design)
    harmonize(adata, "lane", design=design, allow_confounded=True, adjusted_basis="anyway")
    assert "anyway" in adata.obsm
