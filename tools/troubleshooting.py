"""Write book/troubleshooting.md from lesson 11 and tools/troubleshooting.md; `make catalogue`.

A failure is a section with a heading of level 3 and four paragraphs that begin with **You see**,
**Cause.**, **Mend.** and **Thread.**; sections without **You see** are left out.  Its messages are
the error lines that the lesson's cells print, or, in the Markdown file, a block of text;
tests/test_troubleshooting.py provokes each of the latter.
"""

import re
from dataclasses import dataclass, field

import nbformat
from docutils.nodes import make_id
from nbformat import NotebookNode

from tools.pages import ROOT

LESSON = ROOT / "notebooks" / "11_troubleshooting_lab.ipynb"
MORE = ROOT / "tools" / "troubleshooting.md"
PAGE = ROOT / "book" / "troubleshooting.md"
PARTS = ("**You see**", "**Cause.**", "**Mend.**", "**Thread.**")
MESSAGE = re.compile(r"\w+(?:Error|Warning): .+")

HEAD = f"""\
<!-- Written by `make catalogue` from notebooks/{LESSON.name} and tools/{MORE.name}.
Edit these, not this page. -->

# Troubleshooting

Search this page for the message that you see, without the names of your own files and columns.
If nothing turned red and the result looks wrong, begin at *It runs and is wrong*.
If you come with a question about the method and not with a failure, the last part answers it.
Failures with a link at their end are met in the [troubleshooting lab](../notebooks/{LESSON.name}).
The messages of the others are provoked in the course's tests.
"""


@dataclass
class Failure:
    """One section of the lesson, or of the Markdown file."""

    group: str
    title: str
    parts: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    in_lab: bool = True

    def __str__(self) -> str:
        parts = [self.parts[part] for part in PARTS]
        if self.messages:
            says = ["The lab prints:", ""] if self.in_lab else []
            parts.insert(1, "\n".join([*says, "```text", *self.messages, "```"]))
        # a plain link, because Sphinx knows no headings of other pages
        plain = self.title.replace("`", "")
        page = f"../notebooks/{LESSON.stem}.html#{make_id(plain)}"
        if self.in_lab:
            parts.append(f'<a href="{page}">In the lab: {plain}</a>')
        return "\n\n".join([f"### {self.title}", *parts])


def failures(nb: NotebookNode, name: str = LESSON.name) -> list[Failure]:
    """Return the failures of a notebook, called `name` in errors, in its order.

    Raises
    ------
    ValueError
        If a section begins with what you see and lacks another part, or two have one title.
    """
    found, group = [], ""
    for cell in nb.cells:
        if cell.cell_type == "code":
            text = "".join(output.get("text", "") for output in cell.outputs)
            if found:
                found[-1].messages += MESSAGE.findall(text)
            continue
        for paragraph in re.split(r"\n\s*\n", cell.source):
            if paragraph.startswith("## "):
                group = paragraph.removeprefix("## ")
            elif paragraph.startswith("### "):
                found.append(Failure(group, paragraph.removeprefix("### ")))
            elif found and (part := next(filter(paragraph.startswith, PARTS), None)):
                found[-1].parts[part] = paragraph
            elif found and paragraph.startswith("```text\n"):
                found[-1].messages += paragraph.splitlines()[1:-1]
        if group == "Recap":
            break
    found = [failure for failure in found if PARTS[0] in failure.parts]
    for failure in found:
        if missing := [part for part in PARTS if part not in failure.parts]:
            raise ValueError(f"{name}, {failure.title}: has no {', '.join(missing)}")
    titles = [failure.title for failure in found]
    if len(set(titles)) < len(titles):
        raise ValueError(f"{name}: two failures have the same title")
    return found


def more() -> list[Failure]:
    """Return the failures of the Markdown file in its order; errors as in `failures`."""
    text = MORE.read_text(encoding="utf-8")
    cells = [nbformat.v4.new_markdown_cell(text)]
    found = failures(nbformat.v4.new_notebook(cells=cells), MORE.name)
    for failure in found:
        failure.in_lab = False
    return found


def catalogue() -> str:
    """Return the text of book/troubleshooting.md."""
    blocks, group = [HEAD.rstrip("\n")], ""
    for failure in failures(nbformat.read(LESSON, as_version=4)) + more():
        if failure.group != group:
            group = failure.group
            blocks.append(f"## {group}")
        blocks.append(str(failure))
    text = "\n\n".join(blocks) + "\n"
    text = re.sub(r"\]\((\d\d_\w+\.ipynb)\)", r"](../notebooks/\1)", text)
    return text.replace("](../book/", "](")


if __name__ == "__main__":
    PAGE.write_text(catalogue(), encoding="utf-8")
