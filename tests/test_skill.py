"""The snippets of SKILL.md run as they stand, and do what its sentences say.

`cells.h5ad` is half of the embedded cells, with the planted run.  ``make ends`` runs this file too,
beside another scanpy.
"""

import inspect
import re
from importlib.metadata import version
from pathlib import Path

import harmonypy
import numpy as np
import pytest
import scanpy as sc
import yaml  # comes with dask
from packaging.version import Version

from helpers.data import load_pbmc, plant_run

SKILL = (Path(__file__).resolve().parents[1] / "SKILL.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"^```python\n(.*?)^```", SKILL, flags=re.DOTALL | re.MULTILINE)
NEW_SCANPY = Version(version("scanpy")) >= Version("1.13a0")

pytestmark = pytest.mark.skipif(
    Version(version("harmonypy")) < Version("2.1"), reason="SKILL.md is for harmonypy 2.1"
)


@pytest.fixture(scope="module")
def after(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What the names of the snippets hold once all have run, and the folder they ran in."""
    folder = tmp_path_factory.mktemp("skill")
    plant_run(load_pbmc())[::2].write_h5ad(folder / "cells.h5ad")
    names: dict = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for number, snippet in enumerate(SNIPPETS, 1):
            exec(compile(snippet, f"snippet {number} of SKILL.md", "exec"), names)
    return names | {"folder": folder}


def test_the_skill_is_short_and_says_when_to_use_it() -> None:
    head = yaml.safe_load(SKILL.split("---\n")[1])
    assert set(head) == {"name", "description"}
    assert re.fullmatch(r"[a-z-]{1,64}", head["name"])
    assert len(head["description"]) <= 1024
    assert len(SKILL.splitlines()) < 150
    assert len(SNIPPETS) == 6
    assert "helpers" not in SKILL, "a stranger has public packages only"


def test_every_snippet_runs_and_the_three_numbers_say_what_the_text_says(after: dict) -> None:
    three = after["three"]
    before, end = three.loc["X_pca"], three.loc["X_pca_harmony"]
    assert end["mixing"] > before["mixing"] + 0.5
    assert end["types apart"] > before["types apart"] - 0.02
    assert end["biology kept"] > before["biology kept"] - 0.02


def test_stopped_and_finished_are_what_they_are_called(after: dict) -> None:
    stopped, finished = (after[name].objective_harmony for name in ("stopped", "finished"))
    fall = -np.diff(stopped) / np.abs(stopped[:-1])
    assert 0 <= fall[-1] < 0.01 <= fall[:-1].min()
    assert len(finished) == 41


def test_random_numbers_mix_as_well_and_the_wrong_column_loses_biology(after: dict) -> None:
    few = after["adata"][::2]
    noise = np.random.default_rng(0).normal(size=few.obsm["X_pca"].shape)
    lisi = [harmonypy.compute_lisi(X, few.obs, ["run"]) for X in (few.obsm["X_pca_harmony"], noise)]
    assert np.median(lisi[1]) > np.median(lisi[0]) - 0.05
    settings = {"max_iter_harmony": 40, "epsilon_harmony": 0, "verbose": False}
    wrong = harmonypy.run_harmony(few.obsm["X_pca"], few.obs, "condition", **settings).Z_corr
    kept = [after["own"](X, few.obs["condition"]) for X in (few.obsm["X_pca"], wrong)]
    assert kept[1] < kept[0] - 0.2


def test_the_design_warns_of_a_condition_that_is_the_run(
    after: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    cells = sc.read_h5ad(after["folder"] / "cells.h5ad")[::5].copy()
    monkeypatch.chdir(tmp_path)
    for run, warns in ((cells.obs["run"], False), (cells.obs["condition"], True)):
        cells.obs["run"] = run.to_numpy()
        cells.write_h5ad("cells.h5ad")
        exec(SNIPPETS[0], {})
        assert ("may remove" in capsys.readouterr().out) == warns
    cells.obs["run"] = "only one"
    cells.write_h5ad("cells.h5ad")
    with pytest.raises(AssertionError, match="nothing to correct"):
        exec(SNIPPETS[0], {})


def test_the_file_holds_counts_pcs_and_how_it_was_made(after: dict) -> None:
    back = sc.read_h5ad(after["folder"] / "corrected.h5ad")
    assert {"X_pca", "X_pca_harmony"} <= set(back.obsm)
    counts = back.layers["counts"][:100].toarray()
    assert np.array_equal(counts, counts.round())
    assert back.uns["harmony"]["harmonypy"] == version("harmonypy")
    assert not (after["folder"] / "new.h5ad").exists()
    total = after["bulk"].layers["sum"].sum()
    assert total == pytest.approx(back.layers["counts"].sum())


def test_settings_are_those_of_harmonypy(after: dict) -> None:
    taken = inspect.signature(harmonypy.run_harmony).parameters
    table = SKILL.split("| if |")[1].split("## 4")[0]
    named = set(re.findall(r"`(\w+)[=`]", table))
    assert {"alpha", "lamb", "theta", "tau"} == named <= set(taken)
    assert taken["alpha"].default == 0.2


def test_alpha_up_corrects_less_and_lamb_1_more(after: dict) -> None:
    few = after["adata"][::2]
    pcs, moved = few.obsm["X_pca"], {}
    for name, how in {"default": {}, "alpha": {"alpha": 1}, "lamb": {"lamb": 1}}.items():
        run = harmonypy.run_harmony(pcs, few.obs, "run", verbose=False, **how)
        moved[name] = np.linalg.norm(run.Z_corr - pcs, axis=1).mean()
    assert moved["alpha"] < moved["default"] < moved["lamb"]


def test_one_theta_per_variable(after: dict) -> None:
    """It stands for each of its levels, and what is not given is 2."""
    few = after["adata"][::5]

    def corrected(theta: object) -> np.ndarray:
        columns = {"vars_use": ["run", "condition"], "verbose": False}
        return harmonypy.run_harmony(few.obsm["X_pca"], few.obs, theta=theta, **columns).Z_corr

    assert np.array_equal(corrected([2, 1]), corrected([2, 2, 1, 1]))
    assert np.array_equal(corrected(None), corrected([2, 2]))
    assert not np.array_equal(corrected([2, 2]), corrected([2, 1]))


def test_messages_are_those_of_the_table(after: dict) -> None:
    """Each error of the last table, provoked; those of pynndescent 0.7 and of R need these."""
    adata = after["adata"][::10].copy()
    adata.obs["holes"] = adata.obs["run"].where(np.arange(adata.n_obs) > 3)
    pcs, quiet = adata.obsm["X_pca"], {"verbose": False}
    turned = harmonypy.run_harmony(pcs, adata.obs, "run", **quiet).Z_corr.T
    del adata.obsm["X_pca_harmony"]
    calls = [
        ("incorrect shape", lambda: adata.obsm.update({"X_pca_harmony": turned})),
        ("Did not find", lambda: sc.pp.neighbors(adata, use_rep="X_pca_harmony")),
        ("missing labels", lambda: harmonypy.run_harmony(pcs, adata.obs, "holes", **quiet)),
    ]
    if not NEW_SCANPY:
        calls += [
            ("incorrect shape", lambda: sc.external.pp.harmony_integrate(adata, "run", **quiet)),
            ("no attribute 'harmony", lambda: sc.pp.harmony_integrate(adata, "run")),
        ]
    promised = re.findall(r"^\| `([^`]+)` \|", SKILL.split("## What crashes")[1], re.MULTILINE)
    assert len(promised) == 5
    for words, call in calls:
        (message,) = [text for text in promised if words in text]
        with pytest.raises(Exception, match=r".") as caught:
            call()
        assert message in f"{caught.value}".replace("`", "")
