"""What umap and pynndescent compile is kept, where numba can keep it; and no grammar is built."""

import subprocess
import sys

import numba
from numba.core.caching import FunctionCache, NullCache
from pynndescent import distances, pynndescent_
from umap import umap_

from tools import compiled


def test_functions_are_kept_where_numba_can() -> None:
    for function in (umap_.smooth_knn_dist, distances.proxy_jensen_shannon):
        assert isinstance(function._cache, FunctionCache)
    # it would warn on stderr, in the middle of a lesson
    assert isinstance(pynndescent_.nn_descent._cache, NullCache)


def test_others_are_left_as_they_are() -> None:
    assert numba.njit is compiled.keeping
    assert isinstance(numba.njit(lambda x: x)._cache, NullCache)


def test_charts_and_notebooks_need_no_grammar() -> None:
    lines = """
import sys
from tools import grammar
import altair, nbformat
nbformat.validate(nbformat.v4.new_notebook())
altair.Chart(altair.Data(values=[])).mark_point().to_dict()
assert "lark" not in sys.modules, "the grammar was built"
"""
    subprocess.run([sys.executable, "-c", lines], check=True)
