"""The table of versions is whole and fresh, and nothing that did not pass can look as if it had."""

import json
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import yaml

from tools import matrix
from tools.environment import ROOT, locked_versions
from tools.matrix import HARMONYPY, PAGE, PAIRS, RECORD, SCANPY, page, read
from tools.pages import without_parts

WORKFLOW = ROOT / ".github" / "workflows" / "matrix.yml"


def test_page_is_fresh() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "book/versions.md: run `make matrix`"


def test_every_pair_is_recorded_with_what_was_installed() -> None:
    rows = read()
    assert list(rows) == PAIRS
    for row in rows.values():
        if row["result"] == "pass":
            assert not row["messages"]
            assert row["contract"]["passed"] > 50
            assert row["contract"]["failed"] == 0
            assert row["quick_start"] == "pass"
            assert 1 <= row["iLISI"] <= 2
        else:
            assert row["messages"], "what did not pass says why"
        if "installed" in row:
            pins = row["installed"].split()
            assert {f"{name}=={row[name]}" for name in ("harmonypy", "scanpy")} <= set(pins)


def test_the_locked_versions_are_among_the_pairs() -> None:
    for python in ("3.11", "3.12", "3.13"):
        locked = locked_versions(python)
        assert locked["harmonypy"] in HARMONYPY
        assert locked["scanpy"] in SCANPY


def test_a_changed_or_missing_row_makes_the_page_stale(monkeypatch, tmp_path) -> None:
    rows = json.loads(RECORD.read_text(encoding="utf-8"))
    changed = {**rows[0], "result": "fail", "messages": ["test_a: ValueError: no"]}
    for number, record in enumerate([[changed, *rows[1:]], rows[1:]]):
        path = tmp_path / f"{number}.json"
        path.write_text(json.dumps(record), encoding="utf-8")
        monkeypatch.setattr(matrix, "RECORD", path)
        assert page() != PAGE.read_text(encoding="utf-8")
    assert f"Not recorded yet: {PAIRS[0]}." in page()


def test_advice_names_every_version() -> None:
    advice = without_parts(PAGE.read_text(encoding="utf-8")).split("\n## ")[1]
    for name, versions in (("harmonypy", HARMONYPY), ("scanpy", SCANPY)):
        for version in versions:
            short = version if version.startswith("0.0") else ".".join(version.split(".")[:2])
            assert f"{name} {short}" in advice


def test_one_score_does_not_tell_the_methods_apart_as_the_page_says() -> None:
    scores = {pair: row["iLISI"] for pair, row in read().items()}
    assert max(scores.values()) - min(scores.values()) < 0.05
    by_neighbours = (ROOT / "book" / "parity.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| harmonypy 0\.0\.10(.*?) \|.*\| ([\d.]+) \(", by_neighbours, flags=re.M)
    overlap = {name: float(value) for name, value in rows}
    assert overlap[" and harmonypy"] < overlap[", itself"] - 0.05


def test_only_direct_dependencies_are_as_recorded() -> None:
    """What tools bring along may want a newer Python than the one that is there."""
    recorded = {"numpy": "2.3.5", "scanpy": "1.0", "soupsieve": "4.1.2", "nbconvert": "7.17.2"}
    wanted = matrix.requirements("2.1.0", "1.11.5", recorded)
    assert {"harmonypy==2.1.0", "scanpy==1.11.5", "numpy==2.3.5", "nbconvert"} <= set(wanted)
    assert not any("soupsieve" in line or "scanpy==1.0" in line for line in wanted)
    assert len({line.split("==")[0].split(">")[0] for line in wanted}) == len(wanted)


def test_the_quick_start_prints_the_score_that_is_recorded() -> None:
    nb = nbformat.read(ROOT / matrix.LESSON, as_version=4)
    text = "".join(out.get("text", "") for cell in nb.cells for out in cell.get("outputs", []))
    printed = float(matrix.SCORE.search(text)[1])
    rows = read()
    locked = locked_versions("3.12")
    row = rows[f"{locked['harmonypy']}+{locked['scanpy']}"]
    assert row["iLISI"] == printed


def test_contract_counts_what_failed(monkeypatch, tmp_path) -> None:
    tests = tmp_path / "test_three.py"
    tests.write_text(
        "import pytest\n"
        "def test_good(): pass\n"
        "@pytest.mark.skip(reason='not here')\n"
        "def test_skipped(): pass\n"
        "def test_bad(): raise ValueError('the true cause\\nand more')\n"
    )
    monkeypatch.setattr(matrix, "CONTRACT", [str(tests)])
    row, messages = matrix.contract(Path(sys.executable), tmp_path)
    assert row["contract"] == {"passed": 1, "skipped": 1, "failed": 1}
    assert row["skipped"] == {"not here": 1}
    assert messages == ["test_bad: ValueError: the true cause"]
    for broken in ("import nothing_of_this_name\n", "\n"):  # no test ran: never a pass
        tests.write_text(broken)
        _, messages = matrix.contract(Path(sys.executable), tmp_path)
        assert messages


def test_a_lesson_that_stops_fails_with_its_message(monkeypatch, tmp_path) -> None:
    said = {"raise KeyError('gone')": "KeyError: 'gone'", "2": "it printed no score"}
    for code, message in said.items():
        cells = [nbformat.v4.new_code_cell(text) for text in ("1", code, "3")]
        lesson = tmp_path / "lesson.ipynb"
        nbformat.write(nbformat.v4.new_notebook(cells=cells), lesson)
        monkeypatch.setattr(matrix, "LESSON", str(lesson))
        row, messages = matrix.quick_start(Path(sys.executable), tmp_path)
        assert row == {"quick_start": "fail"}
        assert messages == [f"Quick start: {message}"]


def test_the_newest_pair_executes_more_lessons_and_a_failure_is_its_own() -> None:
    row = read()[PAIRS[-1]]
    assert row["lessons"] == [Path(name).stem for name in matrix.NEWEST_TOO]
    assert all((ROOT / name).exists() for name in matrix.NEWEST_TOO)


@pytest.fixture
def table(monkeypatch, tmp_path):
    """A copy of the record and the page, and a way to run `tools.matrix` with made-up results."""
    for name in ("RECORD", "PAGE"):
        copy = tmp_path / getattr(matrix, name).name
        shutil.copy(getattr(matrix, name), copy)
        monkeypatch.setattr(matrix, name, copy)

    def run(results: dict[str, str], *arguments: str) -> None:
        def fake(pair: str, recorded: dict | None) -> dict:
            if results[pair] == "pass":
                return {**read()[pair], "date": "2030-01-01"}
            if results[pair] == "fewer":
                return {**read()[pair], "contract": {"passed": 1, "skipped": 71, "failed": 0}}
            harmonypy, scanpy = pair.split("+")
            row = {"harmonypy": harmonypy, "scanpy": scanpy, "date": "2030-01-01"}
            return row | {"result": results[pair], "messages": ["because"]}

        monkeypatch.setattr(matrix, "try_pair", fake)
        monkeypatch.setattr(sys, "argv", ["tools.matrix.py", *arguments])
        matrix.main()

    return run


def test_a_pair_that_no_longer_passes_is_an_error_and_is_written(table) -> None:
    pair = next(pair for pair, row in read().items() if row["result"] == "pass")
    with pytest.raises(SystemExit, match="fail"):
        table({pair: "fail"}, pair)
    assert read()[pair]["messages"] == ["because"]
    assert matrix.PAGE.read_text(encoding="utf-8") == page()
    assert "  - ``because``" in page()
    table({pair: "fail"}, pair)  # known by now
    matrix.write({})
    with pytest.raises(SystemExit, match="recorded: nothing"):
        table({pair: "fail"}, pair)


def test_a_pair_that_was_not_run_is_an_error_and_keeps_its_row(table) -> None:
    before = read()
    with pytest.raises(SystemExit, match="not run"):
        table({PAIRS[-1]: "not run"}, PAIRS[-1])
    assert read() == before
    rows = {pair: row for pair, row in before.items() if pair != PAIRS[-1]}
    matrix.write(rows)
    for _ in range(2):  # also when it is recorded as not run
        with pytest.raises(SystemExit, match="not run"):
            table({PAIRS[-1]: "not run"}, PAIRS[-1])
        assert read()[PAIRS[-1]]["result"] == "not run"
    assert "2.1.0 with scanpy 1.13.0a2: not run" in page()


def test_the_ends_are_compared_and_nothing_is_written(table, monkeypatch) -> None:
    monkeypatch.setattr(matrix, "python_for", lambda scanpy: sys.executable)
    before = matrix.RECORD.read_bytes(), matrix.PAGE.read_bytes()
    table({PAIRS[0]: "pass", PAIRS[-1]: "pass"}, "--ends")
    with pytest.raises(SystemExit, match=r"fail \(recorded: pass\)"):
        table({PAIRS[0]: "pass", PAIRS[-1]: "fail"}, "--ends")
    with pytest.raises(SystemExit, match="1 tests passed"):
        table({PAIRS[0]: "pass", PAIRS[-1]: "fewer"}, "--ends")
    assert before == (matrix.RECORD.read_bytes(), matrix.PAGE.read_bytes())


def test_python_3_11_alone_runs_an_older_scanpy_and_says_so(monkeypatch, tmp_path, capsys) -> None:
    old = SimpleNamespace(version_info=(3, 11, 7), executable="python3.11")
    monkeypatch.setattr(matrix, "sys", old)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("UV_PYTHON_INSTALL_DIR", str(tmp_path))
    assert matrix.ends() == ["0.0.10+1.11.5", f"{HARMONYPY[-1]}+1.11.5"]
    assert capsys.readouterr().out.count("needs Python 3.12") == 2
    row = matrix.try_pair(PAIRS[-1], None)
    assert row["result"] == "not run"
    assert "needs Python 3.12" in row["messages"][0]


def test_the_workflow_tries_every_pair() -> None:
    workflow = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))
    assert set(workflow[True]) == {"schedule", "workflow_dispatch"}  # YAML 1.1 reads `on` as true
    (job,) = workflow["jobs"].values()
    assert job["strategy"]["matrix"] == {"harmonypy": HARMONYPY, "scanpy": SCANPY}
    assert not job["strategy"]["fail-fast"]
    assert job["env"]["UV_TORCH_BACKEND"] == "cpu"
    commands = [step["run"] for step in job["steps"] if "run" in step]
    assert commands == ["make matrix PAIRS=${{ matrix.harmonypy }}+${{ matrix.scanpy }}"]
    actions = {step["uses"].split("@")[0] for step in job["steps"] if "uses" in step}
    assert actions == {"actions/checkout", "actions/setup-python", "actions/upload-artifact"}
