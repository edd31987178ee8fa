"""Write the cheat sheet, book/cheatsheet.typ, as a PDF; `make cheatsheet` and the book run it."""

from pathlib import Path

import typst

from tools.pages import ROOT

SOURCE = ROOT / "book" / "cheatsheet.typ"
TARGET = ROOT / "_build" / "cheatsheet.pdf"
# only the fonts that typst brings along
FIXED = {"root": ROOT, "ignore_system_fonts": True}


def write() -> Path:
    """Write the PDF file, the same bytes from the same source, and say where it is."""
    TARGET.parent.mkdir(exist_ok=True)
    typst.compile(SOURCE, output=TARGET, format="pdf", timestamp=0, **FIXED)
    return TARGET


if __name__ == "__main__":
    print(f"The cheat sheet: {write().relative_to(ROOT)}")
