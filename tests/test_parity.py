"""Python agrees with R's recorded results; book/parity.md says what data/parity.json holds."""

import json
import re
import runpy
from itertools import combinations
from statistics import median

import anndata as ad
import numpy as np
import pytest

from helpers.data import load_pbmc, prepare
from tools import parity
from tools.pages import ROOT, parts, without_parts
from tools.parity import BOTH, COUNTED, FIRST, FIXED, PAGE, RECORD, SECOND, TABLES, page

SCRIPT = runpy.run_path(str(ROOT / "tools" / "record" / "parity.py"))
PATIENT = SCRIPT["SETTINGS"]["patient"]
STALE = "run `python -m tools.record.parity`, and read book/parity.md again"


@pytest.fixture(scope="module")
def record():
    return json.loads(RECORD.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def results(record):
    return record["results"]


@pytest.fixture(scope="module")
def adata():
    return prepare(load_pbmc(), scale=False)


@pytest.fixture(scope="module")
def small():
    return ad.read_h5ad(SCRIPT["FIXTURE"])


@pytest.fixture(scope="module")
def by_r(small):
    seeds = small.uns["r_harmony"]["seeds"]
    return [SCRIPT["Run"](small.obsm[f"X_harmony_r_{seed}"], 0, 0) for seed in seeds]


# --- today's harmonypy against R's recorded results -------------------------------------------


def test_fixture_is_cut_from_the_embedded_cells(small, adata):
    facts = small.uns["r_harmony"]
    assert facts["X_pca_sha256"] == SCRIPT["digest"](small.obsm["X_pca"])
    assert facts["counts_sha256"] == SCRIPT["counts_digest"]()
    assert dict(facts["settings"]) == PATIENT["R harmony"]
    again = SCRIPT["thinned"](adata)
    assert again.obs_names.tolist() == small.obs_names.tolist(), STALE
    for name in ("condition", "cell_type"):
        assert again.obs[name].tolist() == small.obs[name].tolist(), STALE
    # the last digits of PCs depend on the machine
    np.testing.assert_allclose(again.obsm["X_pca"], small.obsm["X_pca"], atol=0.01, err_msg=STALE)


def agree(ours, by_r):
    """The thresholds of the course, and: no farther from R than R is from itself, but a little."""
    found, itself = SCRIPT["compare"](ours, by_r), SCRIPT["compare"](by_r)
    return (
        min(found["smallest r"]) >= max(0.95, min(itself["smallest r"]) - 0.005)
        and np.mean(found["overlap"]) >= max(0.92, min(itself["overlap"]) - 0.01)
        and min(found["overlap"]) >= min(itself["overlap"]) - 0.02
    )


def test_harmonypy_agrees_with_r(small, by_r):
    ours = [SCRIPT["run_harmonypy"](small, seed, **PATIENT["harmonypy"]) for seed in range(3)]
    assert agree(ours, by_r)


def test_lesson_08_agrees_with_r(small, by_r):
    assert agree([SCRIPT["run_lesson"](small, 0, **PATIENT["lesson 08"])], by_r)


@pytest.mark.parametrize("wrong", [{"lamb": 1.0}, {"theta": 0}, {"alpha": 0.4}, {"nclust": 5}])
def test_another_correction_does_not_agree_with_r(small, by_r, wrong):
    settings = PATIENT["harmonypy"] | wrong
    assert not agree([SCRIPT["run_harmonypy"](small, 0, **settings)], by_r)


def test_no_correction_does_not_agree_with_r(small, by_r):
    assert not agree([SCRIPT["Run"](small.obsm["X_pca"], 0, 0)], by_r)


# --- the record -------------------------------------------------------------------------------


def test_record_is_of_these_cells(record, adata):
    assert record["input"]["counts_sha256"] == SCRIPT["counts_digest"](), STALE
    assert [record["input"]["cells"], record["input"]["PCs"]] == [*adata.obsm["X_pca"].shape]
    assert record["settings"] == SCRIPT["SETTINGS"], STALE
    assert record["seeds"] == SCRIPT["SEEDS"], STALE
    assert record["versions"]["environments"] == SCRIPT["ENVIRONMENTS"], STALE


@pytest.mark.parametrize("setting", BOTH)
def test_harmonypy_still_gives_what_is_recorded(record, adata, setting):
    """One seed again; its PCs, and so its rounds, may differ in the last digits elsewhere."""
    old = record["results"][setting]["harmonypy"]
    seed = record["seeds"][0]
    run = SCRIPT["run_harmonypy"](adata, seed, **SCRIPT["SETTINGS"][setting]["harmonypy"])
    assert run.rounds == pytest.approx(old["rounds"][0], abs=1), STALE
    ilisi = run.ilisi(adata.obs["condition"].astype(str))
    assert ilisi == pytest.approx(old["median iLISI"][0], abs=0.02), STALE
    before = SCRIPT["compare"]([SCRIPT["Run"](adata.obsm["X_pca"], 0, 0)], [run])
    recorded = record["results"][setting]["no correction"]["harmonypy"]
    for measure in ("smallest r", "overlap"):
        assert before[measure][0] == pytest.approx(recorded[measure][0], abs=0.02), STALE


def test_defaults_are_those_that_the_page_compares(record, small):
    """One theta and the same stop rules for all of Harmony2; others for the first Harmony."""
    defaults = record["default settings"]
    assert defaults["harmonypy"] == SCRIPT["own_defaults"](small), STALE
    second = [list(defaults[name].values()) for name in (*SECOND[:2], SECOND[3])]
    assert [sorted(values) for values in second] == [[0.001, 0.01, 2, 4, 10]] * 3
    first, by_scanpy = (defaults[name] for name in FIRST)
    assert (first["theta"], by_scanpy["theta"]) == (1, 2)
    assert (first["max_iter_kmeans"], by_scanpy["max_iter_clustering"]) == (20, 200)
    assert (first["epsilon_harmony"], by_scanpy["tol_harmony"]) == (1e-4, 1e-4)


def test_data_card_has_the_numbers_of_cells(record, small):
    text = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    assert f"{small.n_obs:,} of the {record['input']['cells']:,} cells" in text


def test_r_refuses_the_old_names(record):
    """Every call that the record lists stopped, and its message is kept."""
    assert all(record["R errors"].values())
    names = ["max.iter.harmony", "tau", "block.size", "max.iter.cluster", "epsilon.cluster"]
    names += ["epsilon.harmony", "reduction", "assay.use", "lambda", "HarmonyMatrix"]
    for name in names:
        assert any(re.search(rf"\b{name} ?[=(]", call) for call in record["R errors"]), name
    formals = record["R formals"]
    assert formals["RunHarmony.default"]["max_iter"] == "10"
    assert "epsilon.harmony" in formals["harmony_options"]


# --- what the page says -----------------------------------------------------------------------


def test_one_seed_of_harmonypy_stops_early(results):
    """By default one seed stops on a flat stretch; the other four use all their rounds."""
    found = results["defaults"]["harmonypy"]
    assert found["rounds"][0] < 10
    assert found["rounds"][1:] == [10] * 4
    for measure, low, high in [("smallest r", 0.95, 0.999), ("overlap", 0.95, 0.98)]:
        pairs = list(zip(combinations(range(5), 2), found["itself"][measure], strict=True))
        assert max(value for pair, value in pairs if 0 in pair) < low
        assert min(value for pair, value in pairs if 0 not in pair) > high
    # that one differs from R's as well
    by_r = np.reshape(results["defaults"]["R harmony"]["harmonypy"]["overlap"], (5, 5))
    assert by_r[:, 0].max() < 0.95
    assert by_r[:, 1:].min() > 0.98


def test_rs_seeds_stop_early_on_fewer_cells(record):
    """None of R's five seeds did the same here; on fewer cells some do."""
    assert record["results"]["defaults"]["R harmony"]["rounds"] == [10] * 5
    fewer = {setting: record["r_harmony.h5ad"][setting]["R harmony, itself"] for setting in BOTH}
    assert min(fewer["defaults"]["rounds"]) < 10
    assert min(fewer["patient"]["rounds"]) > 10
    assert min(fewer["defaults"]["overlap"]) < 0.95
    assert min(fewer["patient"]["overlap"]) > 0.97


def test_with_patience_all_arrive_at_the_same_place(results):
    for name in SECOND[:3]:
        for found in results["patient"][name].values():
            if isinstance(found, dict):
                assert min(found["smallest r"]) > 0.999
                assert min(found["overlap"]) > 0.98


@pytest.mark.parametrize("setting", BOTH)
@pytest.mark.parametrize("name", SECOND[1:3])
def test_as_close_to_harmonypy_as_harmonypy_to_itself(results, setting, name):
    """R's harmony and lesson 08, with defaults and with patience."""
    itself, found = results[setting]["harmonypy"]["itself"], results[setting][name]["harmonypy"]
    for measure in ("smallest r", "overlap"):
        assert median(found[measure]) > median(itself[measure]) - 0.005
        assert min(found[measure]) > min(itself[measure]) - 0.005


def test_scanpy_agrees_when_it_does_not_stop_on_the_flat_stretch(results):
    """With patience four seeds do; the remaining one, and by default all, stop early."""
    early = results["defaults"]["harmonypy"]["median iLISI"][0]
    usual = min(results["patient"]["harmonypy"]["median iLISI"])
    found = results["patient"]["scanpy, harmony2"]
    of_seed = np.reshape(found["harmonypy"]["overlap"], (5, 5)).min(axis=1)
    agrees = of_seed > 0.98
    assert agrees.sum() == 4
    assert of_seed[~agrees] < 0.95
    assert np.array(found["rounds"])[~agrees] < np.array(found["rounds"])[agrees].min()
    assert np.array(found["median iLISI"])[~agrees] < early + 0.01 < usual - 0.02
    found = results["defaults"]["scanpy, harmony2"]
    assert max(found["rounds"]) < 10
    assert max(found["median iLISI"]) < early + 0.01


def test_fifteen_rounds_of_scanpy_agree(results):
    """A tolerance below zero is never met, and then all seeds of scanpy agree with harmonypy."""
    settings, found = PATIENT[COUNTED], results["patient"][COUNTED]
    assert settings["tol_harmony"] < 0
    assert found["rounds"] == [settings["max_iter_harmony"]] * 5
    for pairs in (found["itself"], found["harmonypy"]):
        assert min(pairs["smallest r"]) > 0.999
        assert min(pairs["overlap"]) > 0.98


def test_first_harmony_is_another_method(results):
    """Its two implementations agree, on another answer; nearly all of it is the ridge penalty."""
    for setting in BOTH:
        old, new, fixed = (results[setting][name] for name in (*FIRST, FIXED))
        assert min(new[FIRST[0]]["overlap"]) > min(old["itself"]["overlap"]) - 0.01 > 0.97
        assert max(old["harmonypy"]["overlap"]) < 0.9
        assert min(old["median iLISI"]) > max(results[setting]["harmonypy"]["median iLISI"]) + 0.1
        assert min(fixed[FIRST[0]]["overlap"]) > min(old["itself"]["overlap"]) - 0.02


def test_the_two_batches_are_alike(adata):
    """Two batches of similar size, and with the same types."""
    cells = adata.obs.groupby(["condition", "cell_type"], observed=False).size().unstack()
    assert len(cells) == 2
    sizes = cells.sum(axis=1)
    assert sizes.min() > 0.95 * sizes.max()
    assert cells.to_numpy().min() > 0


def test_uncorrected_pcs_correlate_too(results):
    """The row `no correction`: a high mean r, while one PC and the overlap are far lower."""
    for setting in BOTH:
        found = results[setting]["no correction"]["harmonypy"]
        assert found["mean r"] > 0.97
        assert median(found["smallest r"]) < 0.75
        assert median(found["overlap"]) < 0.7


def test_function_of_the_page_measures_the_same(small, by_r):
    code = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    found: dict = {}
    exec("\n".join(code), found)
    r, shared = found["agreement"](by_r[0].Z, by_r[1].Z)
    assert r == pytest.approx(SCRIPT["correlations"](*by_r[:2]).min())
    assert shared == pytest.approx(SCRIPT["overlap"](*by_r[:2]), abs=1e-3)


# --- the page ---------------------------------------------------------------------------------


def test_page_is_fresh():
    assert PAGE.read_text(encoding="utf-8") == page(), "book/parity.md: run `make tables`"


def test_page_has_every_table_once_and_no_number_by_hand():
    text = PAGE.read_text(encoding="utf-8")
    assert sorted(parts(text)) == sorted(TABLES)
    prose = without_parts(text).replace("harmonypy 0.0.10", "")
    assert re.findall(r"\d+\.\d+|\d+ %", prose) == []


def test_a_changed_number_makes_the_page_stale(monkeypatch, tmp_path):
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    record["results"]["patient"]["R harmony"]["harmonypy"]["mean r"] -= 0.1
    changed = tmp_path / "parity.json"
    changed.write_text(json.dumps(record), encoding="utf-8")
    monkeypatch.setattr(parity, "RECORD", changed)
    assert PAGE.read_text(encoding="utf-8") != page()
