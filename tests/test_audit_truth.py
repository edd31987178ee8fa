"""The page on how often the audit is right: record, page and today's audit agree."""

import pytest

from tools import audit_truth as truth

# some rows of the record that need the embedded cells alone, and are measured again here
AGAIN = [
    ("healthy", ""),
    ("withheld", "B but in run 1"),
    ("shuffled", ""),
    ("composition", "80/20"),
    ("confounded", "1 % of labels wrong"),
]


@pytest.fixture(scope="module")
def found():
    return truth.read_record()


@pytest.fixture(scope="module")
def embedded():
    return {(s.kind, s.case): s for s in truth.situations("embedded", 0)}


def test_record_was_made_with_these_thresholds(found):
    assert found["thresholds"] == truth.thresholds(), "run `make truth`: thresholds were changed"


def test_record_has_every_data_set_and_seed(found):
    tried = {(row["data"], row["seed"]) for row in found["audits"]}
    assert tried == {(name, seed) for name, d in truth.DATA.items() for seed in d.seeds}
    kinds = {row["kind"] for row in found["audits"]}
    assert kinds >= {
        "healthy", "withheld", "disjoint", "merged", "shuffled", "composition",
        "effect and composition", "one cell", "confounded", "weak effect",
    }  # fmt: skip


def test_page_is_what_the_record_says(found):
    assert truth.PAGE.read_text(encoding="utf-8") == truth.page(), "run `make tables`"


def test_goals_on_the_data_that_did_not_choose_the_thresholds(found):
    """At most 5 % of false alarms, 90 % of withheld types found, never all well where it is not."""
    other = truth._parts()["other data"]
    false, judged = truth._false(truth._rows(found, "healthy", data=other))
    assert judged >= 100
    assert false / judged <= 0.05
    seen, own = truth._found(truth._rows(found, "withheld", data=other))
    assert own >= 30
    assert seen / own >= 0.9
    wrong = [r for r in truth._rows(found, *truth.UNSOUND, labels=None) if r["all_well"]]
    assert not wrong


@pytest.mark.parametrize(("kind", "case"), AGAIN, ids=[f"{k} {c}".strip() for k, c in AGAIN])
def test_measured_again(found, embedded, kind, case):
    """The audit of today says of these cells what the record says."""
    (row,) = (
        r
        for r in found["audits"]
        if (r["data"], r["seed"], r["kind"], r["case"]) == ("embedded", 0, kind, case)
    )
    again = truth.summary(truth.measure("embedded", 0, embedded[kind, case]))
    for name in ("n_cells", "verdicts", "findings", "all_well"):
        assert again[name] == row[name], name
    if "complete" in row:
        assert again["complete"]["named"] == row["complete"]["named"]
        assert again["distance_ratio"] == pytest.approx(row["distance_ratio"], abs=0.02)
    if kind == "withheld":
        assert again["withheld"]["found"] == row["withheld"]["found"]


def test_what_is_true_is_true():
    """A withheld type is in one batch; a copied biology is the batch but for a few labels."""
    for s in truth.situations("atlas", 1):
        if s.kind == "withheld" and not s.options:
            cells = s.make()
            type_, batch = s.lone
            assert set(cells.obs["batch"][cells.obs["type"] == type_]) == {batch}
            assert cells.obs["batch"].nunique() == 4
        if s.kind == "disjoint":
            cells = s.make()
            shared = cells.obs.groupby("type", observed=True)["batch"].nunique()
            assert (shared == 1).all()
        if s.kind == "confounded":
            cells = s.make()
            assert (cells.obs["group"] == cells.obs["batch"]).mean() > 0.94


def test_a_blind_audit_misses_the_goals(found):
    """Were no cluster ever named, the count of types found would say so."""
    rows = truth._rows(found, "withheld")
    blind = [r | {"withheld": r["withheld"] | {"found": False}} for r in rows]
    assert truth._found(rows)[0] > 0
    assert truth._found(blind)[0] == 0


def test_intervals_of_shares():
    assert truth._rate(0, 0) == "none tried"
    assert truth._rate(5, 10) == "5 of 10: 50 % [24 to 76]"  # Wilson 1927, as in Brown et al. 2001
