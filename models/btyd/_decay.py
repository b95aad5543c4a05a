"""Integrals of a decaying function of time: exp(-δu) (1 + u/A)^-p (1 + u/B)^-q.

Such a function is left of exp(-(λ + μ + δ) u) when λ and μ have gamma distributions. All terms are
positive, so that nothing cancels, unlike in the hypergeometric differences of Fader and Hardie
(2005) for the same integrals.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.btyd._checks import FloatArray
from models.btyd._quadrature import rules

_FALLEN = 80.0  # e-folds after which the function is cut off: more than the digits of a float


class Decay(NamedTuple):
    """The function of u >= 0, one in each row. p, q >= 0, A, B > 0; δ >= 0 is one number."""

    p: FloatArray
    A: FloatArray
    q: FloatArray
    B: FloatArray
    discount: float = 0.0


class Means(NamedTuple):
    """Means over u, weighted with the function: of u, ln(1 + u/A), 1/(1 + u/A), and so for B."""

    time: FloatArray
    log_a: FloatArray
    inverse_a: FloatArray
    log_b: FloatArray
    inverse_b: FloatArray


class _Nodes(NamedTuple):
    """Some rows' nodes: the function times the weights (a column of the integral's scale apart)."""

    rows: npt.NDArray[np.intp]
    scale: FloatArray
    weight: FloatArray
    log_a: FloatArray
    log_b: FloatArray


def area(decay: Decay, end: FloatArray) -> FloatArray:
    """Return the integral over [0, end], in rows of one dimension, within 1e-13 of itself."""
    total = np.empty(end.shape)
    for each in _nodes(decay, end):
        total[each.rows] = each.scale * np.sum(each.weight, axis=1)
    return total


def area_and_means(decay: Decay, end: FloatArray) -> tuple[FloatArray, Means]:
    """Return the integral over [0, end] and the means; those at u = 0 if end = 0."""
    total, means = np.empty(end.shape), Means(*np.empty((5, *end.shape)))
    for rows, scale, weight, log_a, log_b in _nodes(decay, end):
        height = np.sum(weight, axis=1)
        total[rows] = scale * height
        time = decay.A[rows, None] * np.expm1(log_a)
        columns = (time, log_a, np.exp(-log_a), log_b, np.exp(-log_b))
        for mean, column in zip(means, columns, strict=True):
            mean[rows] = np.sum(weight * column, axis=1) / height
    return total, means


def _nodes(decay: Decay, end: FloatArray) -> Iterator[_Nodes]:
    """Yield nodes by Gauss-Legendre in w = ln(1 + k u), k the fastest rate of decay.

    In w the function has no singularity within π of the real line, however far apart A and B are.
    """
    p, A, q, B, discount = decay
    pace = np.maximum(np.maximum((p + 1.0) / A, (q + 1.0) / B), discount)
    with np.errstate(over="ignore", divide="ignore"):
        fallen = np.minimum(A * np.expm1(_FALLEN / p), B * np.expm1(_FALLEN / q))
        fallen = np.minimum(fallen, np.float64(_FALLEN) / discount)
    width = np.log1p(pace * np.minimum(end, fallen))
    for rows, nodes, weights in rules(12.0 + 3.0 * width):
        w = width[rows, None] * nodes
        u = np.expm1(w) / pace[rows, None]
        log_a, log_b = np.log1p(u / A[rows, None]), np.log1p(u / B[rows, None])
        log_decay = w - p[rows, None] * log_a - q[rows, None] * log_b - discount * u
        scale = width[rows] / pace[rows]
        yield _Nodes(rows, scale, weights * np.exp(log_decay), log_a, log_b)
