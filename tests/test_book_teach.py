"""The instructor guide: its wrong answers are those of the last run, and its links arrive."""

import re

import pytest
from bs4 import BeautifulSoup

from tools.pages import parts
from tools.teach import PAGE, blocks_text

pytestmark = pytest.mark.book


def masked(text):
    """Without digits: the last one may differ between versions of Python."""
    return re.sub(r"\d+(\.\d+)?", "#", text)


def test_wrong_answers_are_those_of_the_trials(book):
    written = parts(PAGE.read_text(encoding="utf-8"))["blocks"]
    assert masked(written) == masked(blocks_text()), "book/teach.md is stale: run `make teach`"


def test_links_to_headings_arrive(book):
    page = book / "book" / "teach.html"
    soup = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
    links = [a["href"] for a in soup.select("article a[href*='#']") if "://" not in a["href"]]
    links = [link for link in links if not link.endswith("#")]
    assert len(links) > 30
    for link in links:
        file, _, anchor = link.partition("#")
        other = soup
        if file:
            text = (page.parent / file).read_text(encoding="utf-8")
            other = BeautifulSoup(text, "html.parser")
        assert other.find(id=anchor), link
