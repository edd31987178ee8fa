"""The quiz of a lesson: ``notebooks/quiz/NN_name.yml`` becomes a section before *Next*.

Added to what Sphinx has read of a lesson, so that the notebook offered for download stays as it
ran. Without JavaScript the questions can be read, and their answers unfolded; ``_static/quiz.js``
adds a button to each question that says what is right or wrong with the reader's choice.
"""

from pathlib import Path

import jinja2
import yaml  # comes with jupyter-book
from docutils import nodes
from markdown_it import MarkdownIt  # comes with myst-nb
from markupsafe import Markup
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.typing import ExtensionMetadata

TITLE = "Check yourself"
HERE = Path(__file__).parent
MARKDOWN = MarkdownIt("commonmark", {"html": False})
STRAIGHT = str.maketrans("‘’“”", "''\"\"")  # Sphinx has bent the quotation marks of titles
LOGGER = logging.getLogger(__name__)


def quiz_of(lesson: Path) -> Path:
    """Return where the quiz of a notebook is."""
    return lesson.parent / "quiz" / f"{lesson.stem}.yml"


def render(questions: list[dict], links: dict[str, str]) -> str:
    """Return the HTML of a quiz.

    Parameters
    ----------
    questions
        What its file holds: of each question its text, the section that answers it (``see``), and
        its answers, each with its text, its feedback, and perhaps ``right: true``. Texts are one
        paragraph of Markdown.
    links
        From the title of each section of the lesson to its address within the page.
    """
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["md"] = lambda text: Markup(MARKDOWN.renderInline(text.strip()))
    template = environment.from_string((HERE / "quiz.html.j2").read_text(encoding="utf-8"))
    return template.render(questions=questions, links=links)


def add_quiz(app: Sphinx, doctree: nodes.document) -> None:
    """Put the quiz into a lesson that Sphinx has just read; a changed quiz is read again."""
    lesson = Path(app.env.doc2path(app.env.docname))
    path = quiz_of(lesson)
    if lesson.suffix != ".ipynb" or not path.is_file():
        return
    app.env.note_dependency(str(path))
    sections = {
        section[0].astext().translate(STRAIGHT): section
        for section in doctree.findall(nodes.section)
    }
    links = {title: section["ids"][0] for title, section in sections.items()}
    questions = yaml.safe_load(path.read_text(encoding="utf-8"))
    for question in questions:
        if question["see"] not in links:
            LOGGER.warning("%s: the lesson has no section %r", path.name, question["see"])
            links[question["see"]] = ""
    quiz = nodes.section("", nodes.title(text=TITLE), ids=["quiz"], names=["quiz"])
    quiz += nodes.raw("", render(questions, links), format="html")
    after = sections["Next"]
    after.parent.insert(after.parent.index(after), quiz)


def setup(app: Sphinx) -> ExtensionMetadata:
    """Connect to Sphinx, and have it read every page again when these files have changed."""
    files = [Path(__file__), HERE / "quiz.html.j2"]
    version = "".join(file.read_text(encoding="utf-8") for file in files)
    app.add_config_value("lesson_quiz", version, "env")
    app.add_css_file("quiz.css")
    app.add_js_file("quiz.js", loading_method="defer")
    # before Sphinx collects the titles of a page's sections, at 500
    app.connect("doctree-read", add_quiz, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
