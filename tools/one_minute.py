"""Draw the pictures of book/one_minute.md from lesson 08: `python -m tools.one_minute`.

The toy, and every function of Harmony, are those of the lesson, read from its cells.  What is drawn
is HTML with SVG in it, which the page includes: its colours are the theme's, light and dark.
"""

import numpy as np

from tools.notebooks import functions
from tools.pages import ROOT

LESSON = ROOT / "notebooks" / "08_how_harmony_works.ipynb"
PICTURES = ROOT / "book" / "one_minute.html"
CLUSTER = 4  # takes in many cells of both batches
EVERY = 3  # of the toy's cells are drawn


def rounds(n: int = 6) -> dict[str, np.ndarray]:
    """Return what the lesson's toy is and becomes.

    Cells x 2 before (`Z`) and after one and `n` rounds (`one`, `end`), batches as columns of 0 and
    1, types, first centroids (`Y`), weights in one cluster by distance alone and with the penalty.
    """
    of = functions(LESSON, np=np)
    Z, batch, types = of["make_toy"]()
    Y = of["kmeans"](Z, n_clusters=8, seed=5)
    D = of["distances"](Z, Y)
    soft = of["assign"](D)
    history = of["harmony"](Z, batch, Y, rounds=n)
    made = {"Z": Z, "batch": batch, "types": types, "Y": Y}
    made |= {"soft": soft[:, CLUSTER], "mixed": history[0]["R"][:, CLUSTER]}
    return made | {"one": history[0]["Z"], "end": history[-1]["Z"]}


def dots(X: np.ndarray, batch: np.ndarray, faint: np.ndarray | None = None) -> str:
    """Return paths: a circle for each cell of batch 1, a triangle for each of batch 2.

    `faint` is from 0 to 1, and drawn in four steps; None draws all alike.
    """
    steps = np.full(len(X), 3) if faint is None else np.clip(4 * faint, 0, 3).astype(int)
    paths = []
    for b, one in enumerate(["M{:.2f} {:.2f}h0", "M{:.2f} {:.2f}l.13 .22h-.26z"]):
        for step in range(4):
            mine = X[(batch[:, b] == 1) & (steps == step)]
            if len(mine):
                d = "".join(one.format(x, -y) for x, y in mine)
                paths.append(f'<path class="batch-{b + 1} step-{step}" d="{d}"/>')
    return "".join(paths)


def figure(title: str, alt: str, drawn: str) -> str:
    """Return one panel: drawing, alternative text, caption."""
    return (
        f'<figure><svg role="img" aria-label="{alt}" viewBox="-5.4 -5.4 10.8 10.8">'
        f"{drawn}</svg><figcaption>{title}</figcaption></figure>"
    )


def pictures() -> str:
    """Return the HTML of the four panels."""
    made = rounds()
    some = slice(None, None, EVERY)
    Z, batch, one, end = (made[name][some] for name in ("Z", "batch", "one", "end"))
    rays = "".join(f"M0 0L{4.6 * x:.2f} {-4.6 * y:.2f}" for x, y in made["Y"])
    x, y = made["Y"][CLUSTER]
    ray = f"M0 0L{4.6 * x:.2f} {-4.6 * y:.2f}"
    ways = "".join(
        f"M{a:.2f} {-b:.2f}L{c:.2f} {-d:.2f}" for a, b, c, d in np.column_stack([Z, one])
    )
    panels = [
        (
            "1. Soft clusters, by direction",
            "Cells of two batches, circles and triangles, as four types in the plane, the batches"
            " of a type apart; lines from the middle show the directions of eight clusters.",
            f'<path class="ray" d="{rays}"/>{dots(Z, batch)}',
        ),
        (
            "2. One cluster, with cells of both batches",
            "The same cells; those that belong to one cluster are strong, the others pale: cells of"
            " both batches of one type belong to it.",
            f'<path class="ray" d="{ray}"/>{dots(Z, batch, made["mixed"][some])}',
        ),
        (
            "3. Shifts subtracted",
            "Lines lead from where each cell was to where it is after one round: the batches of"
            " three types approach each other; the type that only one batch has stays where it is.",
            f'<path class="way" d="{ways}"/>{dots(one, batch)}',
        ),
        (
            "4. After six rounds",
            "After six rounds the batches of three types lie nearly upon each other; the fourth"
            " type is where it was.",
            dots(end, batch),
        ),
    ]
    return "\n".join(
        ['<div class="one-minute">', *(figure(*panel) for panel in panels), "</div>\n"]
    )


if __name__ == "__main__":
    PICTURES.write_text(pictures(), encoding="utf-8")
