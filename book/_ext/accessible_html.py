"""Small repairs to each page's HTML, made when Sphinx is about to write it (lesson_pages.py).

What a theme option or a template in ``_templates`` can mend is mended there, not here.
"""

from bs4 import BeautifulSoup  # comes with the theme


def repair(soup: BeautifulSoup) -> None:
    """Put right, in the body of a page, the markup that screen readers stumble over."""
    # pandas heads its index column with an empty <th>; a header must say something.
    for header in soup.find_all("th"):
        if not header.get_text(strip=True) and not header.find("img"):
            header.name = "td"

    # sphinxcontrib-bibtex marks a list whose children are no list items.
    for element in soup.select(".citation-list, .citation-list .citation"):
        del element["role"]

    # The label of a folded cell hides its text from screen readers.
    for summary in soup.select("details.hide > summary"):
        del summary["aria-label"]

    # A figure opens by itself, where a reader can enlarge it.  On a phone (course.css) wide ones
    # scroll within this link, but for those of two panels (lesson_pages.py): the link holds these
    # twice, so that the left half of one stands above the right half of the other.
    for image in soup.select(".cell_output img"):
        link = image.wrap(soup.new_tag("a", attrs={"class": "picture", "href": image["src"]}))
        cuts = [name for name in image.get("class", []) if name.startswith("cut-")]
        if cuts:
            link["class"], link["style"] = "picture cut", f"--cut: 0.{cuts[0][4:]}"
            image.wrap(soup.new_tag("span", attrs={"class": "half"}))
            rest = soup.new_tag("span", attrs={"class": "half rest", "aria-hidden": "true"})
            rest.append(soup.new_tag("img", attrs={"src": image["src"], "alt": ""}))
            link.append(rest)
