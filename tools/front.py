"""Write the front door of the book: cards, the map, the gallery, the status page, logo and card.

book/build.py calls :func:`write`. It fills the places `{{ so named }}` in the Markdown pages, from
the executed lessons (`_build/executed/`), what running them cost (`_build/ran/*.json`), `_toc.yml`
and `book/lessons.yml`, and draws what these pages show.  Nothing of it is stored.
"""

import base64
import json
import platform
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from io import BytesIO
from math import cos, pi, sin
from pathlib import Path

import matplotlib
import nbformat
import yaml
from docutils.nodes import make_id
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imread, thumbnail
from matplotlib.patches import FancyArrowPatch
from nbformat import NotebookNode

from tools.pages import ROOT

PLACE = re.compile(r"\{\{ ([a-z ]+) \}\}")
HERO = "05_diagnose_overcorrection", "front-both", "front-picture"
PRACTICE = {"exercise", "check", "solution"}
THUMBNAIL = 480  # pixels, the width
VERSIONS = "harmonypy scanpy anndata numpy scipy scikit-learn pandas umap-learn igraph leidenalg"
INK = {"light": "#222832", "dark": "#ced6dd"}  # the theme's own, on white and on black
# of the parts, in either theme: at least 4.5 to 1 is for text, so each comes twice
PARTS = {
    "light": ["#1f6f8f", "#b03f28", "#6558b1", "#2f7a4a", "#8a5f0c", "#666666"],
    "dark": ["#6fb7d4", "#ee8f7a", "#aea4ea", "#7fc795", "#e0b35c", "#aaaaaa"],
}
BLUE, AMBER, PALE = "#0b5a75", "#f0a830", "#9fd8e8"
SVG = {"svg.hashsalt": "front", "svg.fonttype": "path"}  # the same bytes each time


@dataclass
class Picture:
    """A figure of a lesson: its cell, its words, the section that holds it."""

    cell: str
    alt: str
    section: str
    png: bytes

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, from the header of the file."""
        return int.from_bytes(self.png[16:20]), int.from_bytes(self.png[20:24])


@dataclass
class Lesson:
    """What the front door says of a lesson."""

    name: str  # 05_diagnose_overcorrection
    part: str  # the caption in _toc.yml
    nb: NotebookNode
    level: str
    needs: list[str]
    afterwards: str
    picture: str = ""
    pictures: list[Picture] = field(init=False)

    def __post_init__(self):
        self.pictures = pictures(self.nb)

    @property
    def number(self) -> str:
        return self.name[:2]

    @property
    def title(self) -> str:
        """The heading without its number and without what follows a colon."""
        heading = self.nb.cells[0].source.splitlines()[0]
        return heading.partition("·")[2].partition(":")[0].strip()

    @property
    def minutes(self) -> tuple[int, int]:
        """Minutes of reading and of exercises, as stated under Time."""
        (text,) = [c.source for c in self.nb.cells if c.source.startswith("## Time")]
        reading, exercises = re.findall(r"(\d+) minutes", text)
        return int(reading), int(exercises)

    @property
    def cover(self) -> Picture:
        """The figure that stands for the lesson."""
        named = [one for one in self.pictures if one.cell == self.picture]
        return (named or self.pictures)[0]


def pictures(nb: NotebookNode) -> list[Picture]:
    """Return the figures of a lesson in order; those of its exercises would tell the answers."""
    found, section = [], ""
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            headings = re.findall(r"^#+ (.+)$", cell.source, flags=re.MULTILINE)
            section = re.sub(r"[`*]", "", headings[-1]) if headings else section
        elif not PRACTICE & {*cell.metadata.get("tags", [])}:
            alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
            for output in cell.outputs:
                if png := output.get("data", {}).get("image/png"):
                    found.append(Picture(cell.id, alt, section, base64.b64decode(png)))
    return found


def lessons(toc: dict, executed: Path) -> list[Lesson]:
    """Return the lessons of the book in the order of its table of contents.

    Raises
    ------
    SystemExit
        When book/lessons.yml does not say what it should of one of them, in one sentence.
    """
    known = yaml.safe_load((ROOT / "book" / "lessons.yml").read_text(encoding="utf-8"))
    found = []
    for part in toc["parts"]:
        for chapter in part["chapters"]:
            if chapter["file"].startswith("notebooks/"):
                name = Path(chapter["file"]).name
                if name not in known:
                    raise SystemExit(f"book: {name} is in _toc.yml but not in book/lessons.yml.")
                nb = nbformat.read(executed / f"{name}.ipynb", as_version=4)
                found.append(Lesson(name, part["caption"], nb, **known[name]))
    return found


# --- what the pages show, as MyST ---


def card(lesson: Lesson) -> str:
    reading, exercises = lesson.minutes
    cover = lesson.cover
    return f""":::{{grid-item-card}} {lesson.number} · {lesson.title}
:link: ../notebooks/{lesson.name}
:link-type: doc
:link-alt: Lesson {lesson.number}, {lesson.title}
:img-top: made/{file_name(lesson, cover)}
:footer: {reading} + {exercises} minutes · {lesson.level}

{lesson.afterwards[0].upper()}{lesson.afterwards[1:]}.
:::"""


def grid(items: list[str], columns: str = "1 2 2 3") -> str:
    return f"::::{{grid}} {columns}\n:gutter: 3\n:class-container: lessons\n\n" + (
        "\n\n".join(items) + "\n::::"
    )


def cards(found: list[Lesson]) -> str:
    """Return a grid of cards for each part."""
    parts = list(dict.fromkeys(lesson.part for lesson in found))
    by_part = {part: [card(one) for one in found if one.part == part] for part in parts}
    return "\n\n".join(f"### {part}\n\n{grid(items)}" for part, items in by_part.items())


def gallery(found: list[Lesson]) -> str:
    """Return all figures with their words; each leads to the section that made it."""
    parts = []
    for lesson in found:
        items = []
        for one in lesson.pictures:
            items.append(
                f""":::{{grid-item-card}}
:link: ../notebooks/{lesson.name}.html#{make_id(one.section)}
:link-type: url
:link-alt: Lesson {lesson.number}, {one.section}
:img-top: made/{file_name(lesson, one)}
:footer: {one.section}

{one.alt}
:::"""
            )
        link = f"[{lesson.number} · {lesson.title}](../notebooks/{lesson.name}.ipynb)"
        parts.append(f"## {link}\n\n{grid(items)}")
    return "\n\n".join(parts)


def hero_of(found: list[Lesson]) -> tuple[Lesson, Picture]:
    (lesson,) = [one for one in found if one.name == HERO[0]]
    (picture,) = [one for one in lesson.pictures if one.cell == HERO[2]]
    return lesson, picture


def biology_kept(found: list[Lesson]) -> list[str]:
    """Return the last number under each third of the picture, as the lesson prints it."""
    lesson, _ = hero_of(found)
    (cell,) = [one for one in lesson.nb.cells if one.id == HERO[1]]
    table = cell.outputs[0]["data"]["text/plain"]
    return re.findall(r"(\d\.\d\d)$", table, flags=re.MULTILINE)


def needs(found: list[Lesson]) -> dict[str, list[str]]:
    """Return lesson -> lessons that it needs, less those that these need anyhow."""
    direct = {one.name: one.needs for one in found}

    def all_of(name: str) -> set[str]:
        return set(direct[name]).union(*map(all_of, direct[name]))

    return {
        name: [one for one in before if not any(one in all_of(other) for other in before)]
        for name, before in direct.items()
    }


def map_in_words(found: list[Lesson]) -> str:
    """Return the alternative text of the map."""
    before = needs(found)
    number = {one.name: one.number for one in found}
    told = [
        f"{number[name]} needs {' and '.join(number[one] for one in before[name])}"
        for name in number
        if before[name]
    ]
    free = [number[name] for name in number if not before[name]]
    return f"Lessons that need no other: {', '.join(free)}. {'; '.join(told)}."


def needs_table(found: list[Lesson]) -> str:
    """Return all that the lessons call necessary, as a table."""
    by_name = {one.name: one for one in found}

    def link(name: str) -> str:
        return f"[{by_name[name].number} · {by_name[name].title}](../notebooks/{name}.ipynb)"

    rows = [
        f"| {link(one.name)} | {', '.join(map(link, one.needs)) or 'no other'} |" for one in found
    ]
    return "\n".join(["| Lesson | Needs |", "|---|---|", *rows])


def status(found: list[Lesson], ran: Path) -> str:
    """Return what running each lesson cost, when, and with which versions."""
    lines = [
        "| Lesson | Seconds | CPU seconds | Memory, MB | Ran on |",
        "|---|--:|--:|--:|---|",
    ]
    for lesson in found:
        file = ran / f"{lesson.name}.json"
        cells = ["not run here"] + [""] * 3
        if file.exists():
            cost = json.loads(file.read_text(encoding="utf-8"))
            day = f"{datetime.fromtimestamp(file.stat().st_mtime, UTC):%Y-%m-%d}"
            numbers = (cost.get(key, "") for key in ("seconds", "cpu_seconds", "peak_mb"))
            cells = [*map(str, numbers), day]
        link = f"[{lesson.number} · {lesson.title}](../notebooks/{lesson.name}.ipynb)"
        lines.append(f"| {link} | {' | '.join(cells)} |")
    return "\n".join(lines)


def versions() -> str:
    """Return what the lessons ran with."""
    named = {"Python": platform.python_version()} | {n: version(n) for n in VERSIONS.split()}
    rows = [f"| {name} | {number} |" for name, number in named.items()]
    system = f"| system | {platform.system()}, {platform.machine()} |"
    return "\n".join(["| Package | Version |", "|---|---|", *rows, system])


# --- what is drawn ---


def file_name(lesson: Lesson, picture: Picture, kind: str = "small") -> str:
    number = lesson.pictures.index(picture)
    return f"{lesson.number}-{number}-{kind}.png"


def small(picture: Picture, target: Path) -> None:
    """Write a figure at the width of a card."""
    scale = min(1, THUMBNAIL / picture.size[0])
    thumbnail(BytesIO(picture.png), str(target), scale=scale, interpolation="hanning")


def draw_map(found: list[Lesson], theme: str, target: Path) -> None:
    """Draw the lessons as a list, with arrows down its side from each to those that need it."""
    colors = PARTS[theme]
    row, width, left = 0.36, 4.7, 0.95  # inches
    parts = list(dict.fromkeys(one.part for one in found))
    color = {one.name: colors[parts.index(one.part) % len(colors)] for one in found}
    y = {one.name: -row * i for i, one in enumerate(found)}
    with matplotlib.rc_context({**SVG, "font.size": 11}):
        fig = Figure(figsize=(width, row * (len(found) + 0.4)))
        ax = fig.add_axes((0, 0, 1, 1), xlim=(0, width))
        ax.set_ylim(-row * (len(found) - 0.3), row * 0.7)
        ax.axis("off")
        for name, before in needs(found).items():
            for other in before:
                # the longer, the flatter, so that all keep to the margin
                bend = 0.9 / (1 + 0.45 * (y[other] - y[name]))
                head = "-|>,head_length=5,head_width=2.5"
                style = {"arrowstyle": head, "shrinkA": 0, "shrinkB": 0, "lw": 1.4}
                ends = (left - 0.1, y[other]), (left - 0.1, y[name])
                bow = f"arc3,rad={bend}"
                ax.add_patch(
                    FancyArrowPatch(*ends, connectionstyle=bow, color=color[other], **style)
                )
        for one in found:
            ax.plot(left, y[one.name], "o", ms=7, color=color[one.name])
            words = f"{one.number}  {one.title}"
            ax.text(left + 0.15, y[one.name], words, color=INK[theme], va="center")
            if one.part in parts:
                parts.remove(one.part)
                side = {"ha": "right", "va": "center", "fontsize": 9}
                ax.text(width, y[one.name], one.part, color=color[one.name], **side)
        fig.savefig(target, format="svg", transparent=True, metadata={"Date": None})


def draw_logo(target: Path) -> None:
    """Draw two batches of cells that overlap: where they do, they are mixed."""
    dots, n = [], 36
    for i in range(n):  # a sunflower's seeds, for each batch in turn
        r, phi = 8.5 * ((i + 0.5) / n) ** 0.5, i * pi * (3 - 5**0.5)
        for x, color in [(11.5, AMBER), (20.5, PALE)]:
            at = f'cx="{x + r * cos(phi + x):.1f}" cy="{16 + r * sin(phi + x):.1f}"'
            dots.append(f'<circle {at} r="1.2" fill="{color}"/>')
    ground = f'<rect width="32" height="32" rx="7" fill="{BLUE}"/>'
    box = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">'
    target.write_text(f"{box}{ground}{''.join(dots)}</svg>\n", encoding="utf-8")


def draw_social(found: list[Lesson], target: Path) -> None:
    """Draw the card that other sites show beside a link: 1280 x 640 pixels."""
    _, picture = hero_of(found)
    fig = Figure(figsize=(12.8, 6.4), dpi=100, facecolor="white")
    FigureCanvasAgg(fig)
    fig.add_axes((0, 0, 0.36, 1), facecolor=BLUE).set(xticks=[], yticks=[])
    fig.axes[0].spines[:].set_visible(False)
    fig.text(0.03, 0.62, "Harmony\nin Practice", color="white", fontsize=44, weight="bold")
    words = "Correct batch effects\nin single-cell RNA-seq,\nand know when not to."
    fig.text(0.03, 0.36, words, color=PALE, fontsize=22, linespacing=1.4)
    fig.text(0.03, 0.08, "An executable course in Python", color=AMBER, fontsize=18)
    ax = fig.add_axes((0.375, 0.06, 0.61, 0.88))
    ax.imshow(imread(BytesIO(picture.png)), interpolation="hanning")
    ax.axis("off")
    fig.savefig(target)


# --- all of it ---


def places(found: list[Lesson], ran: Path) -> dict[str, str]:
    """Return what fills each place on any page."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    lesson, picture = hero_of(found)
    first, second, third = biology_kept(found)
    return {
        "repository": config["repository"]["url"],
        "picture": f"made/{file_name(lesson, picture, 'whole')}",
        "picture in words": picture.alt,
        "picture from": f"../notebooks/{lesson.name}.html#{make_id(picture.section)}",
        "kept uncorrected": first,
        "kept corrected": second,
        "kept overcorrected": third,
        "cards": cards(found),
        "gallery": gallery(found),
        "map in words": map_in_words(found),
        "needs": needs_table(found),
        "status": status(found, ran),
        "versions": versions(),
    }


def fill(page: str, text: str, known: dict[str, str]) -> str:
    """Return the text of a page with its places filled.

    Raises
    ------
    SystemExit
        When nothing is known by such a name, in one sentence.
    """
    if unknown := set(PLACE.findall(text)) - set(known):
        raise SystemExit(f"book: {page} asks for {sorted(unknown)}, which tools/front.py lacks.")
    return PLACE.sub(lambda place: known[place[1]], text)


def write(toc: dict, files: dict[str, Path], executed: Path, folder: Path) -> dict[str, Path]:
    """Write into `folder` what differs from the sources, and what is drawn.

    Returns path in the staged tree -> written file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = lessons(toc, executed)
    made = {}

    def target(name: str) -> Path:
        made[name] = folder / name.replace("/", "+")
        return made[name]

    for lesson in found:
        for picture in lesson.pictures:
            small(picture, target(f"book/made/{file_name(lesson, picture)}"))
    lesson, picture = hero_of(found)
    target(f"book/made/{file_name(lesson, picture, 'whole')}").write_bytes(picture.png)
    for theme in INK:
        draw_map(found, theme, target(f"book/made/map-{theme}.svg"))
    draw_logo(target("book/_static/logo.svg"))
    draw_social(found, target("book/_static/social.png"))

    known = places(found, executed.parent / "ran")
    for part in toc["parts"]:
        mine = [card(one) for one in found if one.part == part["caption"]]
        for chapter in part["chapters"]:
            name = f"{chapter['file']}.md"
            if name in files:
                page(name, files, known | {"cards of this part": grid(mine)}, target)
    page(f"{toc['root']}.md", files, known, target)
    return made


def page(name: str, files: dict[str, Path], known: dict[str, str], target) -> None:
    """Write a page of which a place was filled."""
    text = files[name].read_text(encoding="utf-8")
    if PLACE.search(text):
        target(name).write_text(fill(name, text, known), encoding="utf-8")
