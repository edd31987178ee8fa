"""Have numba keep what it compiles for umap and pynndescent, so that it compiles it once.

The two do not ask for it, so each process that draws a graph of neighbours compiles some two
hundred functions anew: 20 seconds, which most lessons and each test worker would pay.  Where this
module is imported first, their machine code is kept beside their source, as that of scanpy's is.
It is the same code; numba makes it anew for another source, another numba or another processor.
"""

import sys

import numba

from tools import grammar  # noqa: F401  (before a lesson imports altair)

njit = numba.njit


def keeping(*args, **kwargs):
    """numba.njit, with ``cache=True`` for these two packages."""
    caller = sys._getframe(1).f_globals.get("__name__", "")
    # functions of this one module take others as arguments: numba cannot keep them, and warns
    if caller.startswith(("umap.", "pynndescent.")) and caller != "pynndescent.pynndescent_":
        kwargs.setdefault("cache", True)
    return njit(*args, **kwargs)


numba.njit = keeping
