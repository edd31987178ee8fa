"""What umap and pynndescent compile is kept, where numba can keep it."""

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
