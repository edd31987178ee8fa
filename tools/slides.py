"""Make the slides of the one-day plan: ``python -m tools.slides``, or `make slides`.

One deck for each block of tools/workshop.yml, with the pictures and short tables of the executed
lessons (_build/executed/), their alternative texts and speaker notes; sphinx-revealjs builds it,
offline, in _build/slides/.
"""

import argparse
import base64
import html
import json
import math
import shutil
import sys
from itertools import zip_longest
from pathlib import Path

import nbformat
from bs4 import BeautifulSoup
from nbformat import NotebookNode
from sphinx.cmd.build import build_main

from tools.pages import ROOT
from tools.teach import exercise, lesson, timed, workshop

OUT = ROOT / "_build" / "slides"
EXECUTED = ROOT / "_build" / "executed"
STYLE = Path(__file__).with_name("slides.css")
ROWS, COLUMNS = 13, 80  # the largest table, in lines and characters, that the last row can read

CONF = {
    "project": "Harmony in Practice",
    "language": "en",
    "extensions": ["myst_parser", "sphinx_revealjs"],
    "myst_enable_extensions": ["colon_fence"],
    "revealjs_html_theme": "revealjs-simple",  # the other one forbids to zoom
    "revealjs_style_theme": "white-contrast",
    "revealjs_static_path": ["_static"],
    "revealjs_css_files": ["slides.css"],
    "revealjs_script_conf": {
        "width": 1280,
        "height": 720,
        "hash": True,
        "slideNumber": "c/t",
        "transition": "none",
        "center": False,
    },
    "revealjs_script_plugins": [{"src": "revealjs/plugin/notes/notes.js", "name": "RevealNotes"}],
}

INDEX = """# Harmony in Practice: the slides

{blocks}

:::{revealjs-notes}
Every block has a deck of its own; the last slide of each leads on.
:::

## Keys

- arrows or {kbd}`Space`: next and back
- {kbd}`F`: full screen; {kbd}`Esc`: leave it, and see all slides
- {kbd}`S`: the speaker's view, with notes and the next slide
- {kbd}`B`: black, for the board
"""


def output(cell: NotebookNode) -> tuple[str, str]:
    """Return ("picture", PNG in base64), ("table", HTML) or ("text", text) that a cell shows.

    Raises
    ------
    ValueError
        If it shows none of them.
    """
    texts = []
    for one in cell.outputs:
        data = one.get("data", {})
        if "image/png" in data:
            return "picture", data["image/png"]
        if "<table" in data.get("text/html", ""):
            return "table", data["text/html"]
        texts.append(one.get("text") or data.get("text/plain", ""))
    if not "".join(texts).strip():
        raise ValueError(f"cell {cell.id} shows no picture, table or text")
    return "text", "".join(texts).rstrip()


def size(rows: int, width: float) -> int:
    """Return the font size in pixels at which a table fills a slide; its width is in em."""
    return round(min(40, 1180 / width, 540 / (1.6 * rows)))


def as_table(text: str) -> str:
    """Return pandas' table without its looks, in the largest type that fits."""
    table = BeautifulSoup(text, "html.parser").table
    *above, last = table.thead.find_all("tr")
    # pandas gives the names of the index a line of their own: they belong into the corner
    if above:
        pairs = list(zip(above[-1].find_all("th"), last.find_all("th"), strict=False))
        if not any(one.get_text(strip=True) and two.get_text(strip=True) for one, two in pairs):
            for one, two in pairs:
                one.string = one.get_text(strip=True) or two.get_text(strip=True)
            last.decompose()
    for tag in [table, *table.find_all(True)]:
        tag.attrs = {k: v for k, v in tag.attrs.items() if k in ("rowspan", "colspan")}
    for cell in table.find_all("th"):
        cell["scope"] = "col" if cell.find_parent("thead") else "row"
        if not cell.get_text(strip=True):
            cell.name = "td"
            del cell["scope"]
    rows = table.find_all("tr")
    cells = [[c.get_text(strip=True) for c in row.find_all(["th", "td"])] for row in rows]
    # column by column from the right, for a name that spans rows is missing in all but the first
    columns = zip_longest(*(row[::-1] for row in cells), fillvalue="")
    width = sum(0.55 * max(map(len, column)) + 1.4 for column in columns)
    table["style"] = f"font-size: {size(len(rows), width)}px"
    return str(table)


def slide(item: dict, name: str, executed: NotebookNode, pictures: Path) -> str:
    """Return the slides of one item: the question, if there is one, and what answers it."""
    (cell,) = [cell for cell in executed.cells if cell.id == item["cell"]]
    lines = []
    if "ask" in item:
        lines = ["## Predict", "", ":::{container} large", item["ask"], ":::", ""]
    lines += [f"## {item['headline']}", ""]
    kind, shown = output(cell)
    if kind == "picture":
        file = pictures / f"{name[:2]}-{cell.id}.png"
        file.write_bytes(base64.b64decode(shown))
        alt = json.dumps(cell.metadata["mystnb"]["image"]["alt"], ensure_ascii=False)
        lines += [f":::{{image}} {file.name}", f":alt: {alt}", ":::"]
    elif kind == "table":
        lines += ["```{raw} html", as_table(shown), "```"]
    else:
        rows = shown.split("\n")
        style = f"font-size: {size(len(rows), 0.6 * max(map(len, rows)))}px"
        lines += [
            "```{raw} html",
            f'<pre class="printed" style="{style}">{html.escape(shown)}</pre>',
        ]
        lines += ["```"]
    return "\n".join([*lines, "", ":::{revealjs-notes}", item["notes"], ":::", ""])


def deck(row: dict, block: dict, after: str, pictures: Path, executed: Path) -> str:
    """Return the slides of a block, as MyST Markdown; `after` is the next block's name."""
    when = f"{row['from']:%H:%M} to {row['to']:%H:%M}"
    name = block.get("lesson", "")
    where = f"Lesson {name[:2]}, {when}" if name else when
    lines = [f"# {block['title']}", "", where, "", block["goal"], ""]
    lines += [":::{revealjs-notes}", f"On the board: {block['board']}", ""]
    lines += [f"Where people get stuck: {block['stuck']}", ":::", ""]
    if name:
        file = executed / f"{name}.ipynb"
        if not file.exists():
            raise FileNotFoundError(f"{file.name} is not executed: run `make lessons`")
        nb = nbformat.read(file, as_version=4)
        lines += [slide(item, name, nb, pictures) for item in block["slides"]]
    if "exercises" in row:
        titles = [exercise(lesson(name), number) for number in row["exercises"]]
        titles += [row["also"]] if "also" in row else []
        minutes = math.ceil(7.5 * len(row["exercises"]))
        lines += [f"## Your turn: {minutes} minutes", "", *(f"- {title}" for title in titles), ""]
        lines += [":::{revealjs-notes}", *(f"{n}: {say}\n" for n, say in block["say"].items())]
        lines += [":::", ""]
    lines += ["## To take home", "", ":::{container} large", block["keep"], ":::", ""]
    next_one = workshop()["blocks"].get(after)
    lines += [f"[Next: {next_one['title']}]({after}.md)" if next_one else "[All blocks](index.md)"]
    return "\n".join([*lines, ""])


def write_source(source: Path, executed: Path = EXECUTED) -> list[str]:
    """Write what Sphinx reads, and return the names of the blocks."""
    static = source / "_static"
    static.mkdir(parents=True)
    shutil.copy(STYLE, static / "slides.css")
    conf = "".join(f"{key} = {value!r}\n" for key, value in CONF.items())
    (source / "conf.py").write_text(conf, encoding="utf-8")
    plan = [row for row in timed(workshop()["plans"]["one_day"]) if "block" in row]
    blocks = workshop()["blocks"]
    for row, following in zip(plan, [*plan[1:], {"block": "index"}], strict=True):
        text = deck(row, blocks[row["block"]], following["block"], source, executed)
        (source / f"{row['block']}.md").write_text(text, encoding="utf-8")
    links = [
        f"- {row['from']:%H:%M} [{blocks[row['block']]['title']}]({row['block']}.md)"
        for row in plan
    ]
    text = INDEX.replace("{blocks}", "\n".join(links))
    names = [row["block"] for row in plan]
    toc = ["", "```{toctree}", ":hidden:", "", *names, "```", ""]
    (source / "index.md").write_text(text + "\n".join(toc), encoding="utf-8")
    return names


def build(out: Path = OUT, executed: Path = EXECUTED) -> list[str]:
    """Build the decks anew and return their names.

    Raises
    ------
    FileNotFoundError
        If a lesson was not executed.
    RuntimeError
        If Sphinx warns of anything.
    """
    source, trees = out.parent / f"{out.name}-source", out.parent / f"{out.name}-trees"
    for folder in (source, trees, out):
        shutil.rmtree(folder, ignore_errors=True)
    names = write_source(source, executed)
    options = ["-b", "revealjs", "-q", "-W", "--keep-going", "-d", str(trees)]
    failed = build_main([*options, str(source), str(out)])
    shutil.rmtree(trees, ignore_errors=True)
    if failed:
        raise RuntimeError("slides: the build failed; the first WARNING or ERROR above says where.")
    shutil.rmtree(source)
    return names


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT)
    try:
        build(parser.parse_args().out.resolve())
    except (FileNotFoundError, RuntimeError) as error:
        sys.exit(str(error))
    print(f"The slides are ready: {parser.parse_args().out / 'index.html'}")
