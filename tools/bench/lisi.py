"""Compare the time of two LISI scores of 14,000 cells x 30 PCs between programs.

Prints ratios only, because seconds differ between machines. fastlisi is compared where it is
installed. Exits with 1 when another program is faster or its values differ.
"""

import sys
import time

import harmonypy
import numpy as np
import pandas as pd

from helpers.metrics import lisi

try:
    import fastlisi
except ImportError:
    fastlisi = None


def cells(n: int = 14_000, dims: int = 30) -> tuple[np.ndarray, pd.DataFrame]:
    """Ten types in two shifted batches, with variances that fall as those of PCs do."""
    rng = np.random.default_rng(0)
    types, batch = rng.integers(10, size=n), rng.integers(2, size=n)
    scale = 10 / np.sqrt(np.arange(1, dims + 1))
    X = (rng.normal(size=(10, dims)) * scale)[types] + rng.normal(size=(n, dims)) * scale / 3
    X[:, 2] += 4 * batch
    return X, pd.DataFrame({"batch": batch, "type": types}).astype(str)


def fastest(function, repeats: int) -> tuple[float, np.ndarray]:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        values = function()
        times.append(time.perf_counter() - start)
    return min(times), values


def main() -> int:
    X, labels = cells()
    lisi(X[:500], labels[:500])  # warm
    ours, values = fastest(lambda: lisi(X, labels), 3)
    others = {"harmonypy": (harmonypy.compute_lisi, 1)}
    if fastlisi is None:
        print("fastlisi is not installed: not compared")
    else:
        others["fastlisi"] = (fastlisi.compute_lisi, 3)
    good = ours < 2
    print(f"helpers.metrics.lisi takes {ours / 2:.2f} of its budget of two seconds")
    for name, (function, repeats) in others.items():
        seconds, theirs = fastest(lambda f=function: f(X, labels, list(labels)), repeats)
        same = np.allclose(values, theirs, rtol=0, atol=1e-9)
        good &= same and seconds > ours
        print(f"{name} takes {seconds / ours:.1f} times as long; same values: {same}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
