"""Write the Binder and Colab links of the workshop copies into book/before_the_day.md.

`make tables` runs it.  The address of the repository comes from _config.yml and nowhere else.
"""

from urllib.parse import quote

import yaml

from tools.notebooks import EXERCISES, LESSONS
from tools.pages import ROOT, fill

PAGE = ROOT / "book" / "before_the_day.md"


def links() -> dict[str, tuple[str, str]]:
    """Return lesson -> (address on Binder, address on Colab) of its copy without solutions."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    services, branch = config["launch_buttons"], config["repository"]["branch"]
    repository = config["repository"]["url"].removeprefix("https://github.com/")
    binder = f"{services['binderhub_url']}/v2/gh/{repository}/{branch}?urlpath="
    colab = f"{services['colab_url']}/github/{repository}/blob/{branch}/"
    found = {}
    for lesson in LESSONS:
        copy = (EXERCISES / lesson.name).relative_to(ROOT).as_posix()
        found[lesson.stem] = (binder + quote(f"lab/tree/{copy}", safe=""), colab + copy)
    return found


def table() -> str:
    """Return the table of links."""
    lines = ["| Lesson | Binder | Colab |", "|---|---|---|"]
    for name, (binder, colab) in links().items():
        words = name.replace("_", " ")
        there = f"[{words[:2]} on Binder]({binder}) | [{words[:2]} on Colab]({colab})"
        lines.append(f"| {words} | {there} |")
    return "\n".join(lines)


def page() -> str:
    """Return the page with its table made anew."""
    return fill(PAGE.read_text(encoding="utf-8"), {"links": table()})


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
