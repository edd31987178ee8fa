"""What a lesson's cells become on its page: charts that move, answers that are folded.

Made while Sphinx reads a lesson, so that the notebook offered for download stays as it ran.
"""

import json
from html import escape
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

VEGALITE = "application/vnd.vegalite.v5+json"
PREDICT = "**Predict"
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
            text = "".join(cell["source"])
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


def read_lesson(app: Sphinx, docname: str, source: list[str]) -> None:
    """Change what Sphinx has just read of a notebook's file, not the file."""
    if app.env.doc2path(docname).endswith(".ipynb"):
        source[0] = json.dumps(with_folds(with_explorables(json.loads(source[0]))))


def setup(app: Sphinx) -> ExtensionMetadata:
    """Connect to Sphinx, and have it read every page again when this file has changed."""
    app.add_config_value("lesson_pages", Path(__file__).read_text(encoding="utf-8"), "env")
    app.connect("source-read", read_lesson)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
