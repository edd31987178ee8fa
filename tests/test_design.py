"""The design check names what can and cannot be told apart."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from helpers.design import ADVICE, VERDICTS, check, cramers_v
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
    row = design.pairs.loc["lane x condition"]
    assert (row["rank"], row["columns"], row["empty"]) == (rank, columns, empty)
    text = str(design)
    assert f"Verdict: {verdict}." in text
    assert "condition" in text
    assert "lane" in text
    # Nesting the other way round is nesting too.
    assert check(table, batch="condition", biology="lane").verdict == verdict


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
