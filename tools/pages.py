"""Fill what is made by code into a page whose other lines are written by hand.

A made part stands between two marks, the first of which says how it is made:

    <!-- labels: made by tools/record/kang_pbmc.py -->
    <!-- end of labels -->
"""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PART = re.compile(r"(<!-- (\w+): made by [^>]+ -->\n)(.*?)(<!-- end of \2 -->)", re.DOTALL)


def parts(text: str) -> dict[str, str]:
    """Return name -> text of the parts of a page that are made by code."""
    return {found[2]: found[3].strip() for found in PART.finditer(text)}


def without_parts(text: str) -> str:
    """Return what is written by hand."""
    return PART.sub("", text)


def fill(text: str, made: dict[str, str]) -> str:
    """Return the page with each of its made parts anew.

    Raises
    ------
    KeyError
        If the parts of the page are not those that were made.
    """
    if set(parts(text)) != set(made):
        raise KeyError(f"the page marks {sorted(parts(text))}, and {sorted(made)} were made")
    return PART.sub(lambda found: f"{found[1]}\n{made[found[2]]}\n\n{found[4]}", text)
