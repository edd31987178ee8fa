"""Seconds and gigabytes of ``harmony-audit`` by number of cells.

``python -m tools.bench.audit [CELLS ...]``; ``make bench`` runs 10,000. The cells are
those of ``tools/cells.py``. Budgets, on two quiet cores: 10,000 cells in 3 minutes and 3 GB,
100,000 in 10 and 6, 1,000,000 in 30 and 12.
"""

import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tools.cells import write_cells

BUDGETS = {10_000: (180, 3), 100_000: (600, 6), 1_000_000: (1800, 12)}  # seconds, GB


def measure(n_cells: int, *options: str) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds and peak GB of the command."""
    folder = Path(tempfile.mkdtemp(prefix="audit-bench-"))
    try:
        write_cells(folder / "cells.h5ad", n_cells)
        names = "--batch", "batch", "--keep", "condition", "--label", "cell_type"
        command = [sys.executable, "-m", "helpers.command", folder / "cells.h5ad", *names]
        start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([*command, "--out", folder / "out", *options], check=True)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
        # ru_maxrss counts kilobytes on Linux, bytes on macOS
        return (
            time.perf_counter() - start,
            cpu,
            used.ru_maxrss / 1024 ** (3 if sys.platform == "darwin" else 2),
        )
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    over = False
    for n in [int(word.replace(",", "")) for word in sys.argv[1:]] or [10_000]:
        seconds, cpu, peak = measure(n)
        print(f"harmony-audit, {n:,} cells: {seconds:.0f} s ({cpu:.0f} CPU s), {peak:.1f} GB")
        most = BUDGETS.get(n, (np.inf, np.inf))
        over |= seconds > most[0] or peak > most[1]
    if over:
        raise SystemExit("More than the budget: run again on a quiet machine, then look why.")
