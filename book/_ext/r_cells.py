"""Colour a cell of R in a Python notebook (``%%script Rscript``) as R."""

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata


def colour_r(app: Sphinx, doctree: nodes.document) -> None:
    """Set the language of R cells, when Sphinx has read a page."""
    for block in doctree.findall(nodes.literal_block):
        if block.astext().startswith("%%script Rscript"):
            block["language"] = "r"


def setup(app: Sphinx) -> ExtensionMetadata:
    """Connect to Sphinx."""
    app.connect("doctree-read", colour_r)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
