"""The audit on paper: one HTML page without network, the numbers, the corrected cells, a marker."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import sys
import tempfile
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from helpers.audit.pictures import PLAIN_TEXT
from helpers.audit.prepared import AFTER, BEFORE
from helpers.audit.read import fingerprint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from helpers.audit import Audit
    from helpers.audit.questions import Picture

REPORT, NUMBERS, CELLS, MARKER = "audit.html", "audit.json", "corrected.h5ad", "COMPLETE"
# the lesson that teaches what a question asks
LESSONS = {
    "matrix": "01", "design": "06", "effect": "04", "mixing": "04", "lost": "05", "stability": "09",
}  # fmt: skip
MOST_ROWS = 40  # of a table in the report; audit.json has all


def save(
    audit: Audit,
    out: str | os.PathLike,
    *,
    source: ad.AnnData | None = None,
    paths: Sequence[str | os.PathLike] = (),
    command: str = "",
) -> Path:
    """Write report, numbers and corrected cells to a new folder, all or nothing.

    Parameters
    ----------
    audit
        What :func:`helpers.audit.audit` returned.
    out
        A folder that does not exist, or is empty.
    source
        The object audited: its copy with embedding and record is the corrected file.
    paths
        The files that it came from, for their SHA-256; a single h5ad is copied as it is, and only
        the results are added.
    command
        The command line, for the record.

    Writes ``audit.html``, ``audit.json``, ``corrected.h5ad`` (not if refused) and, last, an empty
    ``COMPLETE``. They are made in a folder beside ``out`` that takes its name at the end.

    Raises
    ------
    FileExistsError
        ``out`` is there and not empty.
    OSError
        It cannot be written.
    """
    out = Path(out)
    check_out(out)
    new = [folder for folder in out.parents if not folder.exists()]
    made = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
        numbers = audit.to_dict() | {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": command,
            "input": [{"path": str(path), "sha256": fingerprint(path)} for path in paths],
            "python": sys.version.split()[0],
        }
        text = json.dumps(numbers, indent=1, ensure_ascii=False, allow_nan=False)
        (made / NUMBERS).write_text(text, encoding="utf-8")
        (made / REPORT).write_text(page(audit, numbers), encoding="utf-8")
        if not audit.refused and source is not None:
            _write_cells(audit, source, [Path(path) for path in paths], made / CELLS)
        (made / MARKER).touch()
        made.chmod(0o755)
        if out.exists():
            out.rmdir()  # empty, or check_out had refused it
        made.replace(out)
    except BaseException:
        if made is not None:
            shutil.rmtree(made, ignore_errors=True)
        for folder in new:
            with suppress(OSError):
                folder.rmdir()
        raise
    return out


def check_out(out: str | os.PathLike) -> None:
    """Raise an OSError unless results may go there."""
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out} is there and not empty: name a new folder, or remove it.")
    above = next(folder for folder in out.absolute().parents if folder.exists())
    if not above.is_dir():
        raise NotADirectoryError(f"{above} is a file, and no folder can be made in it.")
    if not os.access(above, os.W_OK | os.X_OK):
        raise PermissionError(f"There is no permission to write to {above}: name another folder.")


def page(audit: Audit, numbers: dict[str, Any]) -> str:
    """The report as one HTML page."""
    return _render("report.html.j2", audit, numbers)


def fragment(audit: Audit) -> str:
    """The report as a part of a page, for a notebook."""
    return _render("answers.html.j2", audit, audit.to_dict())


def _render(name: str, audit: Audit, numbers: dict[str, Any]) -> str:
    environment = Environment(
        loader=PackageLoader("helpers.audit", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"picture": _data, "cell": _cell}
    return environment.get_template(name).render(
        audit=audit, numbers=numbers, lessons=LESSONS, most=MOST_ROWS
    )


def _data(picture: Picture) -> str:
    """A figure as a PNG within the page."""
    file = io.BytesIO()
    with plt.rc_context(PLAIN_TEXT):  # ticks are made as they are drawn
        picture.figure.savefig(file, format="png", dpi=110)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _cell(value: object) -> str:
    """A number with two digits, nothing for NaN."""
    if isinstance(value, float | np.floating):
        return "–" if not np.isfinite(value) else f"{value:.2f}"
    return (
        f"{value:,}"
        if isinstance(value, int | np.integer) and not isinstance(value, bool)
        else str(value)
    )


def _write_cells(audit: Audit, source: ad.AnnData, paths: list[Path], file: Path) -> None:
    """The reader's own object, all its slots as they were, and beside them the results."""
    cells = audit.cells.all
    asked = np.zeros(cells.n_obs, dtype=bool)
    asked[audit.cells.rows] = True
    if len(paths) == 1 and paths[0].suffix == ".h5ad":
        import h5py
        from anndata.io import write_elem

        shutil.copyfile(paths[0], file)
        with h5py.File(file, "r+") as h5:
            obs = source.obs.assign(audited=asked)
            write_elem(h5, "obs", obs)

            def write(slot: str, name: str, value: object) -> None:
                write_elem(h5.require_group(slot), name, value)

            _additions(cells, source, write)
        return
    copy = source.to_memory() if source.isbacked else source.copy()
    copy.obs["audited"] = asked

    def add(slot: str, name: str, value: object) -> None:
        getattr(copy, slot)[name] = value

    _additions(cells, source, add)
    copy.write_h5ad(file)


def _additions(cells: ad.AnnData, source: ad.AnnData, add: Any) -> None:
    before = BEFORE
    if before in source.obsm and not np.array_equal(source.obsm[before], cells.obsm[BEFORE]):
        before = "X_pca_audit"  # the reader's own embedding stays
    add("obsm", before, cells.obsm[BEFORE])
    add("obsm", AFTER, cells.obsm[AFTER])
    add("uns", AFTER, dict(cells.uns[AFTER]) | {"basis": before})
