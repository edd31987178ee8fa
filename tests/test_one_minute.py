"""The page "How Harmony works, in one minute": short, its pictures those of lesson 08, and true."""

import inspect
import re

import harmonypy
import numpy as np
import yaml

from tools.notebooks import functions
from tools.one_minute import LESSON, PICTURES, ROOT, pictures, rounds

PAGE = (ROOT / "book" / "one_minute.md").read_text(encoding="utf-8")


def test_page_is_short_and_stands_before_lesson_05():
    assert len(PAGE.split()) < 400
    parts = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))["parts"]
    files = [chapter["file"] for part in parts for chapter in part["chapters"]]
    here = files.index("book/one_minute")
    assert files[here + 1] == "notebooks/05_diagnose_overcorrection"


def test_pictures_are_fresh():
    """To a tenth of a cell: other versions of NumPy round the last digit otherwise."""
    number = re.compile(r"-?\d*\.\d+")
    stored, made = PICTURES.read_text(encoding="utf-8"), pictures()
    assert number.sub("#", stored) == number.sub("#", made), "run `python -m tools.one_minute`"
    pair = [np.array(number.findall(text), float) for text in (stored, made)]
    assert np.allclose(*pair, atol=0.02)


def test_settings_are_those_of_harmonypy():
    real = inspect.signature(harmonypy.run_harmony).parameters
    table = PAGE.split("| Setting |")[1]
    named = set(re.findall(r"`(\w+)`", table))
    assert named == {"theta", "sigma", "nclust", "alpha", "lamb"} | {
        "max_iter_harmony",
        "epsilon_harmony",
    }
    assert named <= set(real)
    assert real["alpha"].default == 0.2
    assert real["lamb"].default is None


def test_what_the_page_says_of_the_toy():
    """A batch that has the expected number loses five sixths ... a few strays lose little ... the
    type that only one batch has stays where it is ... clusters take in all batches.
    """
    made = rounds()
    types, second = made["types"], made["batch"][:, 1] == 1

    def gap(X, t):
        mine = types == t
        return np.linalg.norm(X[mine & second].mean(axis=0) - X[mine & ~second].mean(axis=0))

    for t in "ABC":
        assert abs(gap(made["end"], t) / gap(made["Z"], t) - 1 / 6) < 0.05
        assert gap(made["one"], t) < 0.5 * gap(made["Z"], t)
    assert np.abs(made["end"] - made["Z"])[types == "D"].max() < 0.01
    share = [made[w][second].sum() / made[w].sum() for w in ("soft", "mixed")]
    assert share[1] > 0.4  # and 0.41 of all cells are of batch 2
    of = functions(LESSON, np=np)
    D = of["distances"](made["Z"], made["Y"])
    R = of["assign"](D)
    rng, one_sided = np.random.default_rng(0), []
    for _ in range(2):
        observed, expected = of["count"](R, made["batch"], made["batch"].mean(axis=0))
        one_sided.append(abs(observed - expected).sum())
        R = of["reassign"](R, D, made["batch"], rng)
    assert one_sided[1] < 0.8 * one_sided[0]
    shift = {held: held / (held + 0.2 * 100) for held in (100, 5)}
    assert np.isclose(shift[100], 5 / 6)
    assert shift[5] <= 0.2


def test_what_the_page_says_of_the_settings():
    """Larger sigma spreads a cell over more clusters; larger alpha and larger lamb correct less;
    lamb switches alpha off.
    """
    of = functions(LESSON, np=np)
    Z, batch, _ = of["make_toy"]()
    Y = of["kmeans"](Z, n_clusters=8, seed=5)
    D = of["distances"](Z, Y)
    spread = [np.exp(-(R * np.log(R.clip(1e-300))).sum(axis=1)).mean() for R in
              (of["assign"](D, sigma=sigma) for sigma in (0.05, 0.1, 0.3))]  # fmt: skip
    assert spread == sorted(spread)
    R = of["assign"](D)

    def moved(**ridge):
        _, shift = of["fit"](Z, R, batch, Y, **ridge)
        return np.linalg.norm(of["subtract"](Z, R, batch, shift) - Z, axis=1).mean()

    assert moved(alpha=0.05) > moved() > moved(alpha=1.0)
    assert moved(lamb=0.1) > moved(lamb=1.0) > moved(lamb=100.0)
    assert moved(lamb=1.0, alpha=0.05) == moved(lamb=1.0, alpha=1.0)
