"""The troubleshooting page is what `make catalogue` writes, and holds what people search for."""

import re

import nbformat
import pytest

from tools.troubleshooting import LESSON, PAGE, catalogue, failures

# the messages of the failures that learners report, as they would type them
SEARCHES = [
    "is of incorrect shape",
    "Did not find X_pca_harmony",
    "KeyError: 'batch'",
    "has missing labels",
    "number of columns of matrices must match",
    "No module named 'harmonypy'",
    "has no attribute 'harmony_integrate'",
    "fewer than two levels",
    "contrasts can be applied only to factors with 2 or more levels",
    "use_rep",
    "n_pcs",
    "Converged after 1 iteration",
    "Stopped before convergence",
    "looks like a barcode",
    "MemoryError",
    "densifies it",
    "fully confounded",
    "corrected counts",
    "KeyError: 'unique'",
    "rng=None",
    "did not converge in 25 iterations",
]


def test_page_is_fresh() -> None:
    assert PAGE.read_text(encoding="utf-8") == catalogue(), (
        "book/troubleshooting.md is stale: run `make catalogue`"
    )


@pytest.mark.parametrize("message", SEARCHES)
def test_message_is_found(message: str) -> None:
    assert message in catalogue()


def test_every_failure_names_a_thread_or_says_that_there_is_none() -> None:
    thread = re.compile(r"\]\(https://github\.com/[\w.-]+/[\w.-]+/issues/\d+\)")
    for failure in failures(nbformat.read(LESSON, as_version=4)):
        text = failure.parts["**Thread.**"]
        assert thread.search(text) or "None that we know" in text, failure.title


def test_a_part_that_is_missing_stops_it() -> None:
    nb = nbformat.read(LESSON, as_version=4)
    cell = next(cell for cell in nb.cells if "**Mend.**" in cell.source)
    cell.source = cell.source.replace("**Mend.**", "Mend.", 1)
    with pytest.raises(ValueError, match=r"has no \*\*Mend"):
        failures(nb)
