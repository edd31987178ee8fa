"""The R code of the course: it parses, and calls Harmony by the names that it takes today.

R code is in cells that begin with ``%%script Rscript``, in fences marked ``r`` of any Markdown, and
in the scripts of ``data/``.  What needs R is skipped without it, or fails when REQUIRE_R=1; what
needs R's package harmony, which no CI of ours has, is skipped without that.
"""

import inspect
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from functools import cache
from itertools import takewhile
from pathlib import Path

import anndata as ad
import harmonypy
import nbformat
import numpy as np
import pandas as pd
import pytest
from docutils import nodes
from test_environment import tracked

from tools.notebooks import LESSONS, ROOT

PARITY = ROOT / "data" / "parity.json"
FIXTURE = ROOT / "data" / "r_harmony.h5ad"
LESSON = ROOT / "notebooks" / "12_r_and_seurat.ipynb"
R_CELL = "%%script Rscript"

# of Seurat 5.5.1; Debian, where the course is checked, has Seurat 4.3
SEURAT = {
    "IntegrateLayers": {
        *["object", "method", "orig.reduction", "assay", "features", "layers", "scale.layer"],
        *["new.reduction", "npcs", "key", "theta", "lambda", "sigma", "nclust", "tau"],
        *["block.size", "max.iter.harmony", "max.iter.cluster", "epsilon.cluster"],
        *["epsilon.harmony", "verbose"],
    }
}


@cache
def known() -> dict[str, set[str]]:
    """Function -> the names of its arguments, as R harmony gave them when it was recorded."""
    formals = json.loads(PARITY.read_text(encoding="utf-8"))["R formals"]
    both = {*formals["RunHarmony.default"], *formals["RunHarmony.Seurat"]} - {"..."}
    return {"RunHarmony": both, "harmony_options": set(formals["harmony_options"]), **SEURAT}


def fences(text: str) -> list[str]:
    return re.findall(r"^ *```[rR]\n(.*?)^ *```", text, flags=re.MULTILINE | re.DOTALL)


def pieces() -> dict[str, str]:
    """Where -> R code."""
    found = {}
    places = {ROOT, ROOT / "book", ROOT / "data"}
    for path in tracked():
        if path.suffix == ".R":
            found[path.name] = path.read_text(encoding="utf-8")
        if path.suffix != ".md" or path.parent not in places:
            continue
        for number, text in enumerate(fences(path.read_text(encoding="utf-8"))):
            found[f"{path.name} {number}"] = text
    for path in LESSONS:
        for cell in nbformat.read(path, as_version=4).cells:
            texts = fences(cell.source)
            if cell.source.startswith(R_CELL):
                texts = [cell.source.split("\n", 1)[1]]
            for number, text in enumerate(texts):
                found[f"{path.stem} {cell.id} {number}"] = text
    return found


every_piece = pytest.mark.parametrize(
    "code", [pytest.param(code, id=where) for where, code in pieces().items()]
)


# --- the linter -------------------------------------------------------------------------------


def bare(code: str) -> str:
    """R code without comments, and with its strings empty."""
    kept = r"""("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')|#[^\n]*"""
    return re.sub(kept, lambda match: '""' if match[1] else "", code)


def calls(code: str, function: str) -> list[list[str]]:
    """The arguments of each call of a function, in bare code."""
    found = []
    for start in re.finditer(rf"(?<![\w.]){re.escape(function)}\s*\(", code):
        depth, arguments = 1, [""]
        for sign in code[start.end() :]:
            depth += (sign in "([{") - (sign in ")]}")
            if depth == 0:
                break
            if sign == "," and depth == 1:
                arguments.append("")
            else:
                arguments[-1] += sign
        found.append([argument.strip() for argument in arguments])
    return found


def faults(code: str) -> list[str]:
    """What is wrong with a piece of R code."""
    code, found = bare(code), []
    if calls(code, "HarmonyMatrix"):
        found.append("HarmonyMatrix() is gone: RunHarmony()")
    if re.search(r"\bslot\s*=(?!=)", code):
        found.append("slot= is gone from Seurat 5: layer=")
    for function, names in known().items():
        for arguments in calls(code, function):
            for argument in arguments:
                name = re.match(r"([\w.]+)\s*=(?!=)", argument)
                if name and name[1] not in names:
                    found.append(f"{function}() has no argument {name[1]}")
    first = re.search(r"(?<![\w.])(RunHarmony|IntegrateLayers)\s*\(", code)
    if first and "set.seed(" not in code[: first.start()]:
        found.append("no set.seed() before Harmony")
    return found


@every_piece
def test_r_code_uses_names_of_today(code: str) -> None:
    assert faults(code) == []


def test_there_is_r_code_in_each_kind_of_place() -> None:
    where = " ".join(pieces())
    assert "12_r_and_seurat" in where
    cells = nbformat.read(LESSON, as_version=4).cells
    assert any(fences(cell.source) for cell in cells)
    assert sum(cell.source.startswith(R_CELL) for cell in cells) >= 4


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ('RunHarmony(so, "batch", max.iter.harmony = 20)', "no argument max.iter.harmony"),
        ('RunHarmony(so, "batch", theta = c(2, 1), tau=5)', "no argument tau"),
        ('RunHarmony(\n  so, "batch",\n  assay.use = "RNA"\n)', "no argument assay.use"),
        ('RunHarmony(so, "batch", reduction = "pca")', "no argument reduction"),
        ("RunHarmony(so, .options = harmony_options(max_iter = 3))", "no argument max_iter"),
        ('harmony::RunHarmony(so, "batch", lamb = 1)', "no argument lamb"),
        ("IntegrateLayers(so, method = HarmonyIntegration, max_iter = 3)", "no argument max_iter"),
        ("HarmonyMatrix(pcs, obs, 'batch')", "HarmonyMatrix() is gone"),
        ("GetAssayData(so, slot = 'counts')", "slot= is gone"),
        ('RunHarmony(so, "batch")', "no set.seed()"),
        ('RunHarmony(so, "batch")\nset.seed(1)', "no set.seed()"),
    ],
)
def test_bad_code_is_caught(code: str, fault: str) -> None:
    assert any(fault in found for found in faults(code)), faults(code)


@pytest.mark.parametrize(
    "code",
    [
        'set.seed(1)\nRunHarmony(so, c("a", "b"), theta = c(2, tau = 1), max_iter = 3)',
        "set.seed(1)\nRunHarmony(so, 'a', .options = harmony_options(tau = 5, alpha = 0.1))",
        'message("call RunHarmony(so, tau = 5)")  # HarmonyMatrix() and slot = are old',
        "so@assays$RNA; x$slot == 3; myRunHarmony(tau = 1)",
        "# it's a comment\nset.seed(1)\nRunHarmony(so, 'a', lambda = if (x == 1) 1 else NULL)",
    ],
)
def test_good_code_passes(code: str) -> None:
    assert faults(code) == []


# --- the tables of the lesson -----------------------------------------------------------------


def rows(heading: str) -> list[list[str]]:
    """The rows of the table whose first cell is `heading`, in lesson 12."""
    for cell in nbformat.read(LESSON, as_version=4).cells:
        lines = cell.source.splitlines()
        for number, line in enumerate(lines):
            if line.startswith(f"| {heading} |"):
                table = takewhile(lambda row: row.startswith("|"), lines[number + 2 :])
                return [[text.strip() for text in row.strip("|").split("|")] for row in table]
    raise AssertionError(f"no table {heading!r}")


def test_table_of_arguments_is_complete_and_has_the_real_defaults() -> None:
    formals = json.loads(PARITY.read_text(encoding="utf-8"))["R formals"]
    python = inspect.signature(harmonypy.run_harmony).parameters
    in_words = {"NULL": ["2 for each", "estimated", "by cells", "all"]}
    in_words |= {"": in_words["NULL"], "None": in_words["NULL"], "TRUE": ["yes"], "True": ["yes"]}
    told = {"R": set(), "Python": set()}

    def same(stated: str, real: str) -> bool:
        stated = stated.strip("`").strip('"')
        if real in in_words:
            return stated in in_words[real]
        try:
            return float(stated) == float(real)
        except ValueError:
            return stated == real or (stated, real) == ("all", "0")

    for _, r_names, name, default in rows("what it is"):
        apart = re.fullmatch(r"(\w+) in R, (\w+) in Python", default)
        r_default, py_default = apart.groups() if apart else (default, default)
        for text, method in re.findall(r"`([^`]+)`(?: \((matrix|Seurat)\))?", r_names):
            if text == "set.seed()":
                continue
            option = re.fullmatch(r"harmony_options\(([\w.]+)\)", text)
            where = "harmony_options" if option else "RunHarmony.default"
            where = "RunHarmony.Seurat" if method == "Seurat" else where
            argument = option[1] if option else text
            told["R"].add((where, argument))
            assert argument in formals[where], text
            if r_default:
                assert same(r_default, formals[where][argument].strip('"')), text
        if name:
            told["Python"].add(name.strip("`"))
            if default:
                assert same(py_default, str(python[name.strip("`")].default)), name
    assert told["Python"] == set(python)
    unsaid = {"object", "...", "plot_convergence", "return_object", ".options"}
    for method, arguments in formals.items():
        missing = {(method, name) for name in set(arguments) - unsaid} - told["R"]
        assert not missing


def test_table_of_old_code_quotes_what_r_says() -> None:
    errors = json.loads(PARITY.read_text(encoding="utf-8"))["R errors"]
    table = rows("old code")
    for old, seen, _ in table:
        for code in re.findall(r"`([^`]+)`", old):
            lines = [call for call in errors if code.rstrip("()") in call]
            # an old function fails before its arguments are looked at
            lines = [call for call in lines if call.startswith("RunHarmony")] or lines
            said = [errors[call] for call in lines]
            assert said, f"{code} was not recorded"
            message = seen.strip("`")
            assert all(message in one for one in said), f"{code}: {said}, not {message}"
    codes = " ".join(old for old, _, _ in table)
    for call in errors:  # nothing that was recorded is left out
        name = re.search(r"[\w.]+(?= = [\w.\"-]+\)$)|^HarmonyMatrix", call)[0]
        assert name in codes, call


# --- R itself ---------------------------------------------------------------------------------


def run_r(code: str, folder: Path | None = None) -> subprocess.CompletedProcess:
    """Run R code as a cell of the lesson does; skips the test without R."""
    rscript = shutil.which("Rscript")
    if rscript is None:
        reason = "there is no Rscript"
        pytest.fail(reason) if os.environ.get("REQUIRE_R") == "1" else pytest.skip(reason)
    env = os.environ | {"LC_ALL": "C"}
    command = [rscript, "--vanilla", "-"]
    return subprocess.run(
        command, input=code, cwd=folder, env=env, capture_output=True, text=True, check=False
    )


def test_r_code_parses() -> None:
    """One R reads all pieces; each is named if it cannot be read."""
    asked = "".join(
        f"tryCatch(parse(text = {json.dumps(code)}), "
        f"error = function(e) cat({json.dumps(where)}, conditionMessage(e)))\n"
        for where, code in pieces().items()
    )
    done = run_r(f"invisible({{\n{asked}}})")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


def test_what_does_not_parse_is_caught() -> None:
    done = run_r('tryCatch(parse(text = "f(1,"), error = function(e) cat("caught"))')
    assert done.stdout == "caught"


def needs_harmony() -> None:
    question = 'cat(requireNamespace("harmony", quietly = TRUE) && '
    question += 'requireNamespace("Seurat", quietly = TRUE) && packageVersion("harmony") >= "2")'
    if run_r(question).stdout != "TRUE":
        pytest.skip("R has no package harmony 2, or no Seurat: see environment-r.yml")


# a Seurat object like that of the lesson, made of the recorded cells
SMALL_OBJECT = """
suppressPackageStartupMessages(library(Seurat))
pcs <- as.matrix(read.csv("small_pcs.csv", row.names = 1))
colnames(pcs) <- paste0("PC_", 1:30)
set.seed(0)  # genes only because layers must have some; Harmony sees the PCs
genes <- matrix(rpois(50 * nrow(pcs), 3), 50)
dimnames(genes) <- list(paste0("g", 1:50), rownames(pcs))
obs <- read.csv("small_obs.csv", row.names = 1)
so <- CreateSeuratObject(as(genes, "dgCMatrix"), meta.data = obs)
so[["pca"]] <- CreateDimReducObject(pcs, key = "PC_", assay = "RNA")
saveRDS(so, "so.rds")
"""


def test_live_cells_agree_with_the_record(tmp_path: Path) -> None:
    """The matrix form and the Seurat forms, run here, give what was recorded."""
    needs_harmony()
    small = ad.read_h5ad(FIXTURE)
    small.obs[["condition"]].to_csv(tmp_path / "small_obs.csv")
    pd.DataFrame(small.obsm["X_pca"], small.obs_names).to_csv(tmp_path / "small_pcs.csv")
    cells = [cell.source for cell in nbformat.read(LESSON, as_version=4).cells]
    live = [text.split("\n", 1)[1] for text in cells if "\nset.seed" in text and R_CELL in text]
    assert len(live) == 3
    for code in [SMALL_OBJECT, *live[:2]]:
        done = run_r(code, tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
    results = ["live.csv", "live_seurat.csv"]
    # Seurat 5 tells on stderr what it does with its arguments; skipped before 5.3
    done = run_r(live[2] + '\nwrite.csv(Embeddings(so, "harmony_v5"), "live_v5.csv")\n', tmp_path)
    assert done.returncode == 0, done.stderr
    if not done.stdout.startswith("skipped: "):
        results.append("live_v5.csv")
    unprojected = live[1].replace("project.dim = FALSE, ", "")
    assert "non-conformable arguments" in run_r(unprojected, tmp_path).stderr
    for name in results:
        table = pd.read_csv(tmp_path / name, index_col=0)
        ours = table.loc[small.obs_names].to_numpy()
        recorded = small.obsm["X_harmony_r_0"]
        r = [np.corrcoef(a, b)[0, 1] for a, b in zip(ours.T, recorded.T, strict=True)]
        assert min(r) > 0.95, name


def test_without_a_seed_every_run_differs() -> None:
    needs_harmony()
    code = """
suppressPackageStartupMessages(library(harmony))
pcs <- matrix(sin(1:9000), 900)
once <- function() RunHarmony(pcs, rep(c("a", "b"), 450), max_iter = 1, verbose = FALSE)
cat(identical(once(), once()), "")
set.seed(1)
first <- once()
set.seed(1)
cat(identical(first, once()))
"""
    assert run_r(code).stdout == "FALSE TRUE"


# --- without R --------------------------------------------------------------------------------


@pytest.mark.parametrize("required", ["0", "1"])
def test_without_r_the_lesson_is_skipped_and_shown_with_a_note(tmp_path, required) -> None:
    """`notebooks/conftest.py` on a machine that has no Rscript."""
    notebooks = tmp_path / "notebooks"
    notebooks.mkdir()
    for path in (LESSON, LESSON.with_name("conftest.py")):
        shutil.copy(path, notebooks)
    command = [sys.executable, "-m", "pytest", "--nbval", "--nbval-current-env", "-rs", "-q"]
    env = os.environ | {"PATH": str(tmp_path), "REQUIRE_R": required}
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", str(notebooks / LESSON.name)],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    executed = tmp_path / "_build" / "executed" / LESSON.name
    if required == "1":
        assert done.returncode != 0
        assert "REQUIRE_R=1, but R with Seurat is not installed" in done.stderr
        assert not executed.exists()
        return
    assert done.returncode == 0, done.stdout
    assert "R with Seurat is not installed on this machine" in done.stdout
    assert "passed" not in done.stdout
    nb = nbformat.read(executed, as_version=4)
    nbformat.validate(nb)
    note = nb.cells.pop(1)
    assert "was not executed" in note.source
    stored = nbformat.read(LESSON, as_version=4)
    assert nb.cells == stored.cells


# --- how the book shows it --------------------------------------------------------------------


def test_r_cells_are_coloured_as_r() -> None:
    colour_r = runpy.run_path(str(ROOT / "book" / "_ext" / "r_cells.py"))["colour_r"]
    texts = ["%%script Rscript --vanilla -\nx <- 1", "%%script bash\nls", "x = 1"]
    page = nodes.section()
    page += [nodes.literal_block(text, text, language="ipython3") for text in texts]
    colour_r(None, page)
    assert [block["language"] for block in page] == ["r", "ipython3", "ipython3"]
