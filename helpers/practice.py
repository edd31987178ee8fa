"""What the checks of the exercises share: one voice for what is missing or of a wrong type.

A check of a lesson is a short function that returns a sentence, ``Right: ...`` or a hint::

    @practice.wants("the median iLISI, one number", truth=lambda: np.median(ilisi_before))
    def check_1(answer, truth):
        if practice.agrees(practice.number(answer), truth):
            return "Right: ..."
        return "Not yet: ..."

It is called with an answer and prints.  Whatever the answer is, there is no traceback.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from functools import cache, wraps
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd

# Answers that cannot be computed from the data, so that no check cell shows them.
KEYS: dict[str, Any] = {
    "04.4": {"a", "c"},
    "04.5": (0.15, 0.5),  # lowest and highest rise: the deal decides
    "08.3": (50 / (50 + 0.2 * 500), 50 / (50 + 1)),
    "09.1": 0.2 * 40_000 / 100 / 4,
    "10.3": ((0.4, 0.8), (0.9, 1.0)),  # the seeds decide
    "11.1": {"1": "E", "2": "B", "3": "A", "4": "C", "5": "D"},
    "12.3": {"theta": 4, "lamb": 1, "tau": 5, "max_iter_harmony": 20},
    "15.1": 2 * 2e6 * 2500 * 8 / 1e9,
}

# What a check says to wrong choices; in its own cell, their letters would tell the right ones.
HINTS: dict[str, dict[str, str]] = {
    "04.4": {
        "b": "the rise is small, measured by how far the controls lie apart",
        "d": "look at biology kept",
        "e": "it sees only the common shift",
        "f": "26 cells and 90 neighbours: most of the neighbours are other types",
    },
}


class UnsuitableError(ValueError):
    """The answer is not of the kind that the check wants."""


def wants(
    what: str, truth: Callable[[], Any] | None = None
) -> Callable[[Callable[..., str]], Callable[[Any], None]]:
    """Make a check print what it returns, and one plain sentence for any unsuitable answer.

    Parameters
    ----------
    what
        What the answer should be, as it ends a sentence: ``"the median, one number"``.
    truth
        Computes what the check compares with, when it is first needed and once; the check gets it
        as its second argument.

    Returns
    -------
    A decorator for ``check_N(answer)`` or ``check_N(answer, truth)``, which prints one sentence:
    ``Not answered yet: set answer_N to ...`` for None, and ``This is ..., and the check wants
    ...`` when the check raises anything.
    """

    def decorate(check: Callable[..., str]) -> Callable[[Any], None]:
        place = check.__name__.replace("check", "answer")
        known = [cache(truth)] if truth else []

        @wraps(check)
        def told(answer: Any) -> None:
            if answer is None:
                print(f"Not answered yet: set {place} to {what}.")
                return
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    print(check(answer, *(compute() for compute in known)))
            except UnsuitableError:
                print(f"This is {described(answer)}, and the check wants {what}.")
            except Exception as error:
                why = f"{type(error).__name__}: {error}".splitlines()[0].rstrip(".: ")
                print(f"This is {described(answer)}, and the check wants {what}; it met a {why}.")

        return told

    return decorate


def described(answer: Any) -> str:
    """Say in a few words what an answer is, such as ``a list of length 3``."""
    if isinstance(answer, str):
        return f"the text {str(answer) if len(answer) <= 40 else answer[:37] + '...'!r}"
    if isinstance(answer, bool | int | float | complex | np.number | np.bool_):
        return str(answer)
    if callable(answer):
        return "a function"
    kind, shape = type(answer).__name__.removeprefix("nd"), getattr(answer, "shape", None)
    if shape == ():
        return str(answer)
    size = ""
    if isinstance(shape, tuple):
        size = f" of shape {' x '.join(map(str, shape))}"
    elif hasattr(answer, "__len__"):
        size = f" of length {len(answer)}"
    return f"{'an' if kind[0] in 'AEIOUaeiou' else 'a'} {kind}{size}"


def number(answer: Any) -> float:
    """Return one finite real number as a float, from a number, or from anything that holds one.

    Raises
    ------
    UnsuitableError
        It is text, a truth value, a dictionary or a set, not finite, or not one number.
    """
    return float(numbers(answer, 1)[0])


def numbers(answer: Any, n: int) -> np.ndarray:
    """Return `n` finite real numbers as an array, from any list, tuple, array or Series of them.

    Raises
    ------
    UnsuitableError
        There are not `n`, in this order, or not all of them are finite real numbers.
    """
    values = array(answer).ravel()
    if values.size != n or not np.isfinite(values).all():
        raise UnsuitableError
    return values


def array(answer: Any) -> np.ndarray:
    """Return numbers of any shape as an array of floats; NaN is allowed.

    Raises
    ------
    UnsuitableError
        It holds something else than real numbers, or has no order.
    """
    if isinstance(answer, str | set | frozenset | Mapping):
        raise UnsuitableError
    try:
        values = np.asarray(answer)
        if values.dtype.kind == "O" and all(
            isinstance(v, Real | Decimal) and not isinstance(v, bool) for v in values.flat
        ):
            values = values.astype(float)
        if values.dtype.kind not in "iuf":  # neither text, nor truth values, nor complex
            raise UnsuitableError
        return values.astype(float)
    except (TypeError, ValueError):
        raise UnsuitableError from None


def several(answer: Any, n: int) -> tuple:
    """Return `n` things in their order.

    Raises
    ------
    UnsuitableError
        There are not `n`, or they have no order, or it is one text.
    """
    if isinstance(answer, str | set | frozenset | Mapping) or not isinstance(answer, Iterable):
        raise UnsuitableError
    things = tuple(answer)
    if len(things) != n:
        raise UnsuitableError
    return things


def names(answer: Any) -> set[str]:
    """Return a set of names, from one text (commas part names) or from any collection of them.

    Raises
    ------
    UnsuitableError
        It is no collection, or holds anything but text.
    """
    if isinstance(answer, str):
        answer = answer.split(",")
    if isinstance(answer, Mapping) or not isinstance(answer, Iterable):
        raise UnsuitableError
    found = list(answer)
    if not found or not all(isinstance(one, str) for one in found):
        raise UnsuitableError
    return {one.strip() for one in found}


def name(answer: Any) -> str:
    """Return one name, from a text or from a collection of one.

    Raises
    ------
    UnsuitableError
        It is not one name.
    """
    found = names(answer)
    if len(found) != 1:
        raise UnsuitableError
    return found.pop()


def labels(answer: Any, n: int) -> np.ndarray:
    """Return `n` labels as an array of text, from a column of any type.

    Raises
    ------
    UnsuitableError
        It is not one column of `n` labels, or a label is missing.
    """
    if isinstance(answer, set | frozenset | Mapping):
        raise UnsuitableError
    values = np.asarray(answer)
    if values.shape != (n,) or pd.isna(values).any():
        raise UnsuitableError
    return values.astype(str)


def mapping(answer: Any, keys: Iterable[Any], optional: Iterable[Any] = ()) -> dict[str, Any]:
    """Return a dictionary with these keys as text, from a dictionary or a Series.

    Keys that are `optional` may be there or not.

    Raises
    ------
    UnsuitableError
        It is neither, or its keys are others.
    """
    if isinstance(answer, pd.DataFrame) and answer.shape[1] == 1:
        answer = answer.iloc[:, 0]
    if not isinstance(answer, Mapping | pd.Series):
        raise UnsuitableError
    found = {str(key).strip(): value for key, value in answer.items()}
    wanted = set(map(str, keys))
    if wanted - set(map(str, optional)) - set(found) or set(found) - wanted:
        raise UnsuitableError
    return found


def a(kind: type | Callable[[Any], bool], answer: Any) -> Any:
    """Return the answer if it is of a type, or if a function such as ``callable`` says so.

    Raises
    ------
    UnsuitableError
        It is not.
    """
    if not (isinstance(answer, kind) if isinstance(kind, type) else kind(answer)):
        raise UnsuitableError
    return answer


def agrees(value: Any, truth: Any, within: float = 0.01) -> bool:
    """Whether numbers are the true ones, up to a tolerance that two printed digits meet.

    The default tolerance is twice what rounding to two digits can do.
    """
    return bool(np.all(np.abs(np.subtract(value, truth)) <= within + 1e-12))
