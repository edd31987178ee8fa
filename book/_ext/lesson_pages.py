"""What a lesson's cells become on its page: charts that move, answers that are folded, and signs.

Charts and folds are made while Sphinx reads a lesson, signs while it writes a page, so that the
notebook offered for download stays as it ran and reads well in JupyterLab.  Pictures of two panels
are told where a phone may cut them, to show one panel above the other (accessible_html.py).

A sign is an icon and a word, `<span class="sign exercise">Exercise 1</span>`: course.css adds the
icon, so that the word alone is searched for, copied and read aloud.  The kinds are those of SIGNS,
the same on all pages; book/how_to_use.md explains them.
"""

import json
import re
from base64 import b64decode
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from accessible_html import repair
from bs4 import BeautifulSoup, NavigableString, Tag  # comes with the theme
from PIL import Image  # comes with matplotlib
from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

VEGALITE = "application/vnd.vegalite.v5+json"
PREDICT = "**Predict"
IN_WORDS = "**In words.**\n\n"  # begins a solution, for JupyterLab; here its fold has a title
SIGNS = ("predict", "answer", "exercise", "extension", "check", "solution", "warning")
FOLD = "::::{{dropdown}} {title}\n:class-container: {kind}\n\n{text}\n::::"


def with_explorables(nb: dict) -> dict:
    """Return a notebook, changed in place: charts with sliders (helpers/explore.py) are HTML.

    A chart keeps its description and data, which ``_static/explorable.js`` draws, and gets its
    alternative text and its numbers as a table.
    """
    charts = [
        (cell, output)
        for cell in nb["cells"]
        for output in cell.get("outputs", [])
        if VEGALITE in output.get("data", {})
    ]
    for cell, output in charts:
        alt = cell["metadata"].get("mystnb", {}).get("image", {}).get("alt", "")
        output["data"] = {"text/html": explorable(output["data"][VEGALITE], alt)}
    return nb


def with_folds(nb: dict) -> dict:
    """Return a notebook, changed in place: answers in words are folded, as solution cells are.

    These are the Markdown cells of a solution; and, where a *Predict.* is followed by code and
    then by text, the first paragraph of that text, with what it announces by a colon.
    """
    asked = ran = False  # a prediction was asked for; a code cell came after it
    for cell in nb["cells"]:
        tags = cell["metadata"].get("tags", [])
        if cell["cell_type"] == "code":
            ran = asked
        elif cell["cell_type"] == "markdown" and not tags:
            text = "".join(cell["source"])
            if ran and not text.startswith("#"):
                cell["source"] = with_first_paragraph_folded(text)
            asked, ran = PREDICT in text, False
        elif "solution" in tags:
            text = "".join(cell["source"]).removeprefix(IN_WORDS)
            cell["source"] = FOLD.format(title="The solution in words", kind="solution", text=text)
            asked = ran = False
    return nb


def with_first_paragraph_folded(text: str) -> str:
    """Return Markdown with its first paragraph in a fold, and the next if it ends in a colon."""
    answer, _, rest = text.partition("\n\n")
    while answer.endswith(":") and rest:
        more, _, rest = rest.partition("\n\n")
        answer += "\n\n" + more
    fold = FOLD.format(title="Compare with your prediction", kind="answer", text=answer)
    return f"{fold}\n\n{rest}".rstrip()


def with_cuts(nb: dict) -> dict:
    """Return a notebook, changed in place: a picture of two panels gets a class such as cut-452.

    That is where it may be cut, in thousandths of its width.
    """
    for cell in nb["cells"]:
        data = [output.get("data", {}) for output in cell.get("outputs", [])]
        pictures = ["".join(one["image/png"]) for one in data if "image/png" in one]
        if len(pictures) == 1 and (place := gutter(b64decode(pictures[0]))):
            options = cell["metadata"].setdefault("mystnb", {}).setdefault("image", {})
            options["classes"] = f"cut-{1000 * place:03.0f}"
    return nb


def gutter(png: bytes) -> float | None:
    """Return the middle of the blank band between two panels, as a share of the width.

    None if the picture is no wider than high, or if no band from top to bottom, at least 3 % wide,
    lies near the middle.
    """
    pixels = np.asarray(Image.open(BytesIO(png)).convert("L"))
    height, width = pixels.shape
    blank = (pixels > 250).all(axis=0).astype(int)
    bands = np.flatnonzero(np.diff(blank, prepend=0, append=0)).reshape(-1, 2) / width
    bands = [band for band in bands if abs(band.mean() - 0.5) < 0.1 and np.ptp(band) >= 0.03]
    if width <= height or not bands:
        return None
    return float(max(bands, key=np.ptp).mean())


def explorable(spec: dict, alt: str) -> str:
    """Return the HTML of one chart with sliders."""
    spec = dict(spec)
    numbers = spec.pop("usermeta")
    rows = [
        "".join(f"<td>{escape(text)}</td>" for text in row).join(["<tr>", "</tr>"])
        for row in numbers["rows"]
    ]
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in numbers["columns"])
    text = json.dumps(spec, separators=(",", ":")).replace("<", "\\u003c")
    return f"""<div class="explorable">
<div class="explorable-controls"></div>
<div class="explorable-picture" role="img" aria-label="{escape(alt)}"></div>
<p><output>Without JavaScript there are no sliders; the table has every number.</output></p>
<details><summary>The numbers at every position</summary>
<div class="explorable-table" tabindex="0" role="region" aria-label="The numbers at every position">
<table class="dataframe"><thead><tr>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table>
</div></details>
<script type="application/json">{text}</script>
</div>"""


def put_signs(soup: BeautifulSoup) -> None:
    """Put into the body of a page its signs, and names that a screen reader announces.

    What is marked: *Predict.* and *A warning.* at the start of a paragraph, `### Exercise N · ...`,
    the word *Extension* in a heading, folds, checks and solutions, and Sphinx's own warnings.
    """

    def sign(kind: str, text: str) -> Tag:
        span = soup.new_tag("span", attrs={"class": f"sign {kind}"})
        span.string = text
        return span

    for strong in soup.select("p > strong"):
        if strong.get_text() in ("Predict.", "Predict"):
            box(soup, strong, "predict", sign("predict", "Predict"))
    for strong in soup.select("blockquote p > strong"):
        if strong.get_text() == "A warning.":
            quote = strong.find_parent("blockquote")
            box(soup, strong, "warning", sign("warning", "Warning"))
            quote.div.unwrap()
            quote.unwrap()
    for title in soup.select("div.admonition.warning > p.admonition-title:not(:has(.sign))"):
        title.parent["role"], title.parent["aria-label"] = "note", title.get_text()
        title.append(sign("warning", title.string.extract()))

    for heading in soup.find_all(["h2", "h3"]):
        name = heading.get_text().rstrip("#")
        kinds = {r"^Exercise \d+": "exercise", r"\(?\bExtension\b\)?": "extension"}
        found = [kind for words, kind in kinds.items() if split(heading, words, kind, sign)]
        if found:
            section = heading.parent
            section["class"] = [*section.get("class", []), *found]
            section["role"], section["aria-label"] = "group", name

    for cell in soup.select(".cell:is(.tag_check, .tag_solution)"):
        kind = "check" if "tag_check" in cell["class"] else "solution"
        cell["role"], cell["aria-label"] = "group", kind.capitalize()
        for part, verb in {".collapsed": "Show", ".expanded": "Hide"}.items():
            label = cell.select_one(f"details.hide > summary > {part}")
            label.string.replace_with(sign(kind, f"{verb} the {kind}"))
    for kind in ("answer", "solution"):
        for label in soup.select(f"details.{kind} > summary > .sd-summary-text"):
            label["class"] += ["sign", kind]


def box(soup: BeautifulSoup, strong: Tag, kind: str, sign: Tag) -> None:
    """Put a paragraph, from its bold word on, into an admonition whose title is the sign."""
    paragraph = strong.parent
    named = {"class": f"admonition {kind}", "role": "note", "aria-label": sign.get_text()}
    note = soup.new_tag("div", attrs=named)
    title, text = soup.new_tag("p", attrs={"class": "admonition-title"}), soup.new_tag("p")
    title.append(sign)
    for node in list(strong.next_siblings):
        text.append(node.extract())
    if isinstance(text.contents[0], NavigableString):
        text.contents[0].replace_with(text.contents[0].lstrip())
    if strong.get_text().endswith("."):
        strong.decompose()
    else:  # the first word of a sentence
        text.insert(0, f"{strong.extract().get_text()} ")
    note.extend([title, text])
    paragraph.insert_after(note)
    if not paragraph.get_text(strip=True):
        paragraph.decompose()


def split(heading: Tag, words: str, kind: str, sign: Any) -> bool:
    """Put the first words of a heading that match into a sign; False if none do."""
    for emphasis in heading.find_all("em", string="Extension"):
        emphasis.unwrap()
    heading.smooth()
    for text in heading.find_all(string=True, recursive=False):
        if found := re.search(words, text):
            before, after = text[: found.start()], text[found.end() :]
            text.replace_with(before, sign(kind, found[0].strip("()")), after)
            return True
    return False


def read_lesson(app: Sphinx, docname: str, source: list[str]) -> None:
    """Change what Sphinx has just read of a notebook's file, not the file."""
    if app.env.doc2path(docname).endswith(".ipynb"):
        source[0] = json.dumps(with_cuts(with_folds(with_explorables(json.loads(source[0])))))


def write_page(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: object
) -> None:
    """Mend what goes between header and footer, when Sphinx is about to write a page."""
    if context.get("body"):
        soup = BeautifulSoup(context["body"], "html.parser")
        repair(soup)
        put_signs(soup)
        context["body"] = str(soup)


def lead_to_copies(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: object
) -> None:
    """Let Binder and Colab open a lesson's copy without solutions (tools/launch.py)."""
    for group in context.get("header_buttons", []):
        for button in group.get("buttons", []) if group.get("label") == "launch-buttons" else []:
            button["url"] = re.sub(r"/notebooks/(?=\d)", "/notebooks/exercises/", button["url"])


def setup(app: Sphinx) -> ExtensionMetadata:
    """Connect to Sphinx, and have it read every page again when this file has changed."""
    app.add_config_value("lesson_pages", Path(__file__).read_text(encoding="utf-8"), "env")
    app.connect("source-read", read_lesson)
    app.connect("html-page-context", write_page)
    # after the theme has made these buttons, at 501
    app.connect("html-page-context", lead_to_copies, priority=600)
    # comes with sphinx_external_toc, numbers nothing here, and does not say that it is safe
    app.extensions["sphinx_multitoc_numbering"].parallel_read_safe = True
    return {"parallel_read_safe": True, "parallel_write_safe": True}
