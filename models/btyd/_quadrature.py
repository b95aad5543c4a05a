"""Integration rules.

Each row of a result is summed by itself over nodes that depend on this row alone, so that it is the
same to the last digit whatever the other rows are.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from models.btyd._checks import FloatArray

Curve = Callable[[FloatArray], FloatArray]

_HALVINGS = 20  # to find the ends of what is integrated well within a node's distance
_BLOCK = 2048  # rows whose nodes fit into the processor's cache


@lru_cache(maxsize=128)
def gauss_legendre(number: int) -> tuple[FloatArray, FloatArray]:
    """Return the nodes and weights of the rule on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(number)
    return (nodes + 1.0) / 2.0, weights / 2.0


def rules(needed: FloatArray) -> Iterator[tuple[npt.NDArray[np.intp], FloatArray, FloatArray]]:
    """Yield the rows of a column that share a rule, in blocks, and the rule's nodes and weights.

    needed: how many nodes each row needs; rounded up to a multiple of eight, to have few rules.
    """
    number = 8 * np.ceil(needed / 8.0).astype(np.intp)
    for each in np.unique(number):
        nodes, weights = gauss_legendre(int(each))
        rows = np.flatnonzero(number == each)
        for start in range(0, len(rows), _BLOCK):
            yield rows[start : start + _BLOCK], nodes, weights


def crossing(
    log_curve: Curve, edge: FloatArray, inside: FloatArray, outside: FloatArray
) -> FloatArray:
    """Return where the curve, above the edge inside, has just fallen to it; else `outside`."""
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2.0
        above = log_curve(middle) > edge
        inside, outside = np.where(above, middle, inside), np.where(above, outside, middle)
    return outside
