"""Say in a minute whether this machine is ready for the course; `make check` runs it.

Versions against the lock, the embedded cells, one correction with its score, one figure.
"""

import platform
import sys
from importlib.metadata import PackageNotFoundError, version

from tools.environment import LAB, ROOT, direct_requirements, locked_versions

FIGURE = ROOT / "_build" / "check.png"


def other_versions() -> list[str]:
    """Return what is installed in another version than the lock has, or is missing."""
    locked = locked_versions(f"{sys.version_info.major}.{sys.version_info.minor}", LAB)
    found = []
    for name in sorted({wanted.name for wanted in direct_requirements(LAB)}):
        try:
            installed = version(name)
        except PackageNotFoundError:
            installed = "not there"
        if installed != locked[name]:
            found.append(f"{name} is {installed}, and the course has {locked[name]}")
    return found


def main() -> None:
    """Check one thing after the other, and stop at the first that is not as it should be."""
    print(f"Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    if other := other_versions():
        sys.exit("\n".join([*other, "Not ready: remove .venv, then `make check` again."]))
    print(f"Versions: scanpy {version('scanpy')}, harmonypy {version('harmonypy')}, as locked")

    import matplotlib.pyplot as plt
    import numpy as np

    from helpers import metrics, plots
    from helpers.data import load_pbmc, plant_run, prepare
    from helpers.integrate import harmonize

    adata = prepare(plant_run(load_pbmc()))
    print(f"Data: {adata.n_obs:,} cells, {adata.n_vars:,} genes")
    harmonize(adata, "run")
    mixing = {
        rep: np.median(metrics.lisi(adata.obsm[rep], adata.obs["run"]))
        for rep in ("X_pca", "X_pca_harmony")
    }
    before, after = mixing.values()
    print(f"Harmony: median iLISI of the planted run {before:.1f} before, {after:.1f} after")
    if after < before + 0.5:
        sys.exit("Not ready: Harmony should mix the two runs here. Run `make test`.")

    plots.use_style()
    _, axes = plt.subplots(1, 2, figsize=(9, 4), sharex=True, sharey=True)
    for ax, rep in zip(axes, mixing, strict=True):
        for run, marker in zip(adata.obs["run"].cat.categories, "o^", strict=True):
            cells = (adata.obs["run"] == run).to_numpy()
            ax.scatter(*adata.obsm[rep][cells, :2].T, s=4, marker=marker, label=run)
        ax.set(title=rep, xlabel="PC1", ylabel="PC2")
    axes[0].legend()
    FIGURE.parent.mkdir(exist_ok=True)
    plt.savefig(FIGURE)
    print(f"Figure: {FIGURE.relative_to(ROOT)}")
    print("Ready")


if __name__ == "__main__":
    main()
