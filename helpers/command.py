"""``harmony-audit``: helpers.audit at the command line.

Beside the package and not in it, so that ``--help`` need not wait for scanpy.
"""

from __future__ import annotations

import shlex
import sys
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

# What a reader can cause; everything else is a fault of ours.
USABLE = (KeyError, ValueError, TypeError, OSError, ImportError)
# Each finding of helpers.audit.questions but "confounded", which has a code of its own.
FINDINGS = (
    "small-batches", "no-effect", "cannot-tell", "not-mixed", "over-mixed", "lost", "collapsed",
    "unstable", "unfinished",
)  # fmt: skip
DONE, FAULT, UNUSABLE, FOUND, REFUSED = 0, 1, 2, 3, 4


class Recorded(click.Command):
    """A command that keeps what was typed, for the record."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep the arguments before they are taken apart."""
        ctx.meta["typed"] = shlex.join(["harmony-audit", *args])
        return super().parse_args(ctx, args)


@click.command(
    cls=Recorded, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.argument(
    "inputs", metavar="INPUT...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option(
    "--batch",
    required=True,
    help="Column of obs to correct; of several inputs without it, the file.",
)
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="New folder for the results."
)
@click.option("--keep", multiple=True, help="Column of the biology to keep; may be given again.")
@click.option("--label", help="Column of the cell types; cells may lack one.")
@click.option("--sample", help="Column of the independent samples; the batch by default.")
@click.option("--layer", help="Layer with counts or logarithms; found if not given.")
@click.option("--basis", help="Embedding to take as it is, such as X_pca.")
@click.option("--quick", is_flag=True, help="Two seeds, no doses, no type withheld.")
@click.option("--seed", default=0, show_default=True, help="Seed of everything drawn.")
@click.option(
    "--fail-on",
    multiple=True,
    type=click.Choice([*FINDINGS, "any"]),
    help="Findings that end in code 3.",
)
@click.version_option(package_name="harmony-in-practice")
def main(
    inputs: tuple[Path, ...],
    batch: str,
    out: Path,
    keep: tuple[str, ...],
    label: str | None,
    sample: str | None,
    layer: str | None,
    basis: str | None,
    quick: bool,
    seed: int,
    fail_on: tuple[str, ...],
) -> None:
    """Audit cells and a batch: can Harmony correct it, does it mix, and what is lost.

    INPUT: an .h5ad or .zarr, a folder or an .h5 of 10x, or a .csv or .tsv of an embedding; several
    files are joined by their genes, each a batch. Nothing of the input is changed.

    Ends with 0 done, 2 unusable input, 3 a finding of --fail-on, 4 batch and biology are the same
    and nothing was corrected, 1 a fault of this program.
    """
    options = {"keep": list(keep), "label": label, "sample": sample}
    options |= {"layer": layer, "basis": basis, "seed": seed}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what the reader should know, the report says
            code = run(inputs, batch, out, options, quick, fail_on)
    except KeyboardInterrupt:
        code = _unusable("Interrupted: nothing was written.")
    except MemoryError:
        code = _unusable("There is too little memory: give fewer cells, or an embedding alone.")
    sys.exit(code)


def run(
    inputs: Sequence[Path],
    batch: str,
    out: Path,
    options: dict[str, Any],
    quick: bool,
    fail_on: Sequence[str],
) -> int:
    """Read, audit, write; return the exit code."""
    from helpers import audit
    from helpers.audit.report import check_out

    try:
        check_out(out)
        columns = [*options["keep"], options["label"], options["sample"]]
        columns = [name for name in columns if name]
        adata, notes = audit.read_inputs(inputs, batch, columns, layer=options["layer"])
        cells = audit.begin(adata, batch, **options)
        cells.notes[:0] = notes
    except USABLE as error:
        return _unusable(error)
    try:
        found = audit.audit(cells, source=adata, quick=quick, progress=sys.stderr.isatty())
    except MemoryError:
        raise
    except Exception:
        traceback.print_exc()
        return FAULT
    try:
        command = click.get_current_context().meta["typed"]
        found.save(out, source=adata, paths=inputs, command=command)
    except OSError as error:
        said = error.strerror or str(error)
        return _unusable(f"{out} cannot be written, and nothing was left behind: {said}.")
    click.echo(found)
    click.echo(f"The report is {out / 'audit.html'}.")
    if found.refused:
        return REFUSED
    wanted = set(FINDINGS) if "any" in fail_on else set(fail_on)
    return FOUND if wanted & {finding.id for finding in found.findings} else DONE


def _unusable(error: BaseException | str) -> int:
    said = error.args[0] if isinstance(error, KeyError) and error.args else error
    click.echo(f"harmony-audit: {' '.join(str(said).split())}", err=True)
    return UNUSABLE


if __name__ == "__main__":
    main()
