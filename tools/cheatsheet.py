"""Write the cheat sheet, book/cheatsheet.typ, as a PDF; `make cheatsheet` and the book run it."""

from pathlib import Path

import typst

from tools.pages import ROOT

SOURCE = ROOT / "book" / "cheatsheet.typ"
TARGET = ROOT / "_build" / "cheatsheet.pdf"
# only the fonts that typst brings along; and the same bytes from the same source
FIXED = {"root": ROOT, "ignore_system_fonts": True}


def pdf() -> bytes:
    """Return the PDF file."""
    return typst.compile(SOURCE, format="pdf", timestamp=0, **FIXED)


if __name__ == "__main__":
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_bytes(pdf())
    print(f"The cheat sheet: {TARGET.relative_to(Path.cwd())}")
