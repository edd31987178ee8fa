"""The front door as built: cards, map, gallery, status, preview; links and the ZIP of the book."""

import json
import re
import subprocess
import zipfile
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from test_book import soup_of

from tools import front
from tools.notebooks import LESSONS, ROOT

pytestmark = pytest.mark.book
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
NAMES = [path.stem for path in LESSONS]


@cache
def anchors(path: Path) -> set[str]:
    return set(re.findall(r"""\s(?:id|name)=["']([^"']+)["']""", path.read_text("utf-8")))


def broken(page: Path, book: Path) -> list[str]:
    """Links, pictures, scripts and styles of a page that lead nowhere inside the book."""
    found = []
    text = page.read_text(encoding="utf-8")
    for link in set(re.findall(r"""<[^>]+?\s(?:href|src)=["']([^"']*)["']""", text)):
        parts = urlsplit(link.replace("&amp;", "&"))
        if parts.scheme or parts.netloc:
            continue
        target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
        if not target.is_file() or book.resolve() not in target.parents:
            found.append(f"{link}: no such file")
        elif target.suffix == ".html" and parts.fragment:
            known = unquote(parts.fragment) in anchors(target)
            found += [] if known else [f"{link}: no such place"]
    return found


def test_every_internal_link_leads_somewhere(book):
    pages = [path for path in sorted(book.rglob("*.html")) if "_static" not in path.parts]
    assert len(pages) > len(NAMES)
    found = {path.relative_to(book).as_posix(): broken(path, book) for path in pages}
    assert {page: links for page, links in found.items() if links} == {}


def test_each_lesson_has_a_card_with_its_picture_and_minutes(book):
    page = soup_of(book / "book/index.html")
    cards = page.select(".lessons .sd-card")
    links = [Path(card.select_one("a.sd-stretched-link")["href"]).stem for card in cards]
    assert sorted(links) == NAMES
    assert len(set(links)) == len(links)
    for name, card in zip(links, cards, strict=True):
        image = card.select_one("img.sd-card-img-top")
        assert (book / "book" / image["src"]).is_file()
        assert image["alt"] == "", "the title says it"
        (time,) = [
            cell
            for cell in json.loads((ROOT / f"notebooks/{name}.ipynb").read_text("utf-8"))["cells"]
            if "".join(cell["source"]).startswith("## Time")
        ]
        stated = re.findall(r"(\d+) minutes", "".join(time["source"]))
        words = card.select_one(".sd-card-footer").get_text(strip=True)
        assert re.match(r"(\d+) \+ (\d+) minutes · \w+$", words)
        assert re.findall(r"\d+", words) == stated


def test_each_part_opens_with_its_cards(book):
    for part in TOC["parts"]:
        files = [chapter["file"] for chapter in part["chapters"]]
        mine = [Path(file).name for file in files if file.startswith("notebooks/")]
        if mine:
            pages = [soup_of(book / f"{file}.html") for file in files if "notebooks/" not in file]
            links = [a["href"] for page in pages for a in page.select(".lessons .sd-card a")]
            assert [Path(link).stem for link in links] == mine, part["caption"]


def test_gallery_has_every_figure_with_its_words(book):
    cards = soup_of(book / "book/gallery.html").select(".lessons .sd-card")
    words = [card.select_one(".sd-card-text").get_text() for card in cards]
    expected = []
    for chapter in (chapter for part in TOC["parts"] for chapter in part["chapters"]):
        name = Path(chapter["file"]).name
        if name in NAMES:
            nb = front.nbformat.read(ROOT / f"_build/executed/{name}.ipynb", as_version=4)
            expected += [one.alt for one in front.pictures(nb)]
    assert len(expected) > len(NAMES)
    plain = [re.sub(r"\W+", "", text) for text in expected]
    assert [re.sub(r"\W+", "", text) for text in words] == plain


def test_status_has_a_row_for_each_lesson(book):
    rows = soup_of(book / "book/status.html").select("table")[0].select("tbody tr")
    found = {
        Path(row.a["href"]).stem: [cell.get_text() for cell in row.select("td")] for row in rows
    }
    assert sorted(found) == NAMES
    for name, cells in found.items():
        file = ROOT / "_build" / "ran" / f"{name}.json"
        if file.exists():
            assert cells[1] == str(json.loads(file.read_text())["seconds"]), name


def test_other_sites_get_a_preview(book):
    page = soup_of(book / "notebooks/00_quickstart.html")
    said = {tag["property"]: tag["content"] for tag in page.select("meta[property^='og:']")}
    address = soup_of(book / "book/index.html").select_one("link[rel=canonical]")["href"]
    assert said["og:image"] == address.replace("book/index.html", "_static/social.png")
    assert said["og:title"].startswith("00 · Quickstart")
    png = (book / "_static/social.png").read_bytes()
    assert front.Picture("", "", "", png).size == (1280, 640)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_front_page_shows_one_map_two_buttons_and_the_picture(tab, scheme):
    page = tab("book/index")
    page.emulate_media(color_scheme=scheme)
    page.wait_for_function(f"document.documentElement.dataset.theme === '{scheme}'")
    (shown,) = page.locator("img.lesson-map").locator("visible=true").all()
    assert f"map-{scheme}" in shown.get_attribute("src")
    assert set(re.findall(r"\d\d", shown.get_attribute("alt"))) == {name[:2] for name in NAMES}
    buttons = page.locator(".front-buttons a").all()
    assert [button.inner_text() for button in buttons] == [
        "Start the quickstart",
        "Audit your own data",
    ]
    picture = page.locator("figure.hero img")
    assert picture.evaluate("one => one.naturalWidth") > 900
    page.set_viewport_size({"width": 1400, "height": 900})
    assert buttons[1].bounding_box()["y"] < 900, "the buttons are on the first screen"
    page.set_viewport_size({"width": 390, "height": 844})
    assert buttons[1].bounding_box()["y"] < 844


def test_a_card_is_reached_and_opened_by_keyboard(tab):
    page = tab("book/index")
    link = page.locator(".lessons .sd-card a.sd-stretched-link").first
    link.focus()
    frame = "one => getComputedStyle(one.closest('.sd-card')).outlineStyle"
    assert link.evaluate(frame) == "solid"
    page.keyboard.press("Enter")
    page.wait_for_url("**/00_quickstart.html")


def test_zip_of_a_release_opens_offline(book, browser, tmp_path):
    """Made by the very lines of the workflow, unpacked and opened from disk."""
    workflow = yaml.safe_load((ROOT / ".github/workflows/publish.yml").read_text("utf-8"))
    (pack,) = [s["run"] for s in workflow["jobs"]["build"]["steps"] if s.get("name") == "pack"]
    (tmp_path / "_build").mkdir()
    (tmp_path / "_build" / "html").symlink_to(book)
    subprocess.run(["bash", "-ec", pack], cwd=tmp_path, check=True)
    with zipfile.ZipFile(tmp_path / "harmony-in-practice.zip") as packed:
        packed.extractall(tmp_path / "unpacked")
    context = browser.new_context(offline=True)
    page, missing = context.new_page(), []
    page.on("requestfailed", lambda request: missing.append(request.url))
    page.goto((tmp_path / "unpacked/harmony-in-practice/index.html").as_uri())
    page.wait_for_url("**/book/index.html")
    page.wait_for_load_state("networkidle")
    assert page.locator("article h1").inner_text().startswith("Harmony in Practice")
    assert [url for url in missing if "index.html" not in url] == []
    context.close()
