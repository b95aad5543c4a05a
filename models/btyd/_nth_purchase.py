"""When a customer who may drop out at any time makes the n-th of their next purchases.

While alive they buy at a rate λ ~ Gamma(shape, rate scale), and they drop out at a rate
μ ~ Gamma(s, rate β), independent of λ. The n-th purchase would come at a time v after now with
v/scale ~ BetaPrime(n, shape), and they are still alive then with probability (1 + v/β)^-s.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import betaln

from models.btyd._checks import FloatArray
from models.btyd._counts import Counts, Stepwise, counts
from models.btyd._decay import Decay, area
from models.btyd._quadrature import crossing, rules

_TAIL = 40.0  # e-folds below its peak at which a density is cut off
_HALVINGS = 40  # to find the peak
_MOST_FOR_STEPS = 160.0  # nodes


class NthPurchase(NamedTuple):
    """The n-th purchase from now, n >= 1, of customers who are alive; one in each row."""

    n: FloatArray
    shape: FloatArray
    scale: FloatArray
    s: FloatArray
    beta: FloatArray


def probability_within(nth: NthPurchase, t: FloatArray) -> FloatArray:
    """Return the probability that it is made, within t."""
    probability = np.zeros(t.shape)
    first, later = nth.n == 1, (nth.n > 1) & (t > 0)
    _, shape, scale, s, beta = (column[first] for column in nth)
    probability[first] = shape / scale * area(Decay(shape + 1.0, scale, s, beta), t[first])
    probability[later] = _by_density(NthPurchase(*(column[later] for column in nth)), t[later])
    return np.minimum(probability, 1.0)


def purchase_counts(t: FloatArray, alive: FloatArray, customers: NthPurchase) -> Counts:
    """Return the distribution of the number of purchases within t; n of the customers is not used.

    alive: the probability of each to be alive now. They make n purchases before they drop out, or
    before t: the mean of the negative binomial tail over the time of dropout, by Gauss-Legendre
    over its logarithm.
    """
    _, shape, scale, s, beta = customers
    pace = np.maximum((shape + 1.0) / scale, (s + 1.0) / beta)
    width = np.log1p(pace * t)
    result = Counts(*np.empty((len(Counts._fields), *t.shape)))
    # The tail is a step in time, the steeper the more is known of the rate.
    needed = 12.0 + 3.0 * width + np.minimum(width * np.sqrt(shape), _MOST_FOR_STEPS)
    for rows, nodes, weights in rules(needed):
        some = NthPurchase(*(column[rows, None] for column in customers))
        w = width[rows, None] * nodes
        v = np.expm1(w) / pace[rows, None]
        dies = some.s / some.beta * np.exp(w - (some.s + 1.0) * np.log1p(v / some.beta))
        dies *= weights * (width / pace)[rows, None]
        lives = np.exp(-some.s * np.log1p(t[rows, None] / some.beta))
        times = np.concatenate((v, t[rows, None]), axis=1)
        weight = alive[rows, None] * np.concatenate((dies, lives), axis=1)
        for column, part in zip(result, counts(_Tail(times, weight, some)), strict=True):
            column[rows] = part
    return result


class _Tail(Stepwise):
    """The probabilities of n = 1, 2, … purchases or more, from each other.

    They are within the times of each row, which have these weights.
    """

    def __init__(self, times: FloatArray, weight: FloatArray, customers: NthPurchase) -> None:
        self._shape, self._weight = customers.shape, weight
        self._z = times / (customers.scale + times)
        none = np.log1p(times / customers.scale) * -self._shape
        self._exactly, self._enough = np.exp(none) * self._shape * self._z, -np.expm1(none)
        self._n = 1.0
        self.probability = np.sum(self._weight * self._enough, axis=1)

    def advance(self) -> None:
        """Go on to n + 1."""
        n = self._n
        self._enough = np.maximum(self._enough - self._exactly, 0.0)
        self._exactly = self._exactly * (self._z * ((self._shape + n) / (n + 1.0)))
        self._n = n + 1.0
        self.probability = np.sum(self._weight * self._enough, axis=1)

    def keep(self, rows: npt.NDArray[np.bool_]) -> None:
        """Go on with these rows only."""
        self._z, self._shape, self._weight = self._z[rows], self._shape[rows], self._weight[rows]
        self._exactly, self._enough = self._exactly[rows], self._enough[rows]
        self.probability = self.probability[rows]


def _by_density(nth: NthPurchase, t: FloatArray) -> FloatArray:
    """Integrate the density over w = ln(1 + k v), in which it is log-concave; for n > 1.

    By Gauss-Legendre between the points where it has fallen far below its peak.
    """
    pace = np.maximum((nth.shape + nth.n) / (nth.n * nth.scale), (nth.s + 1.0) / nth.beta)
    start, end = np.zeros(t.shape), np.log1p(pace * t)
    peak = _peak(nth, pace, end)
    edge = _log_density(nth, pace, peak) - _TAIL

    def curve(w: FloatArray) -> FloatArray:
        return _log_density(nth, pace, w)

    low = crossing(curve, edge, peak, start)
    width = crossing(curve, edge, peak, end) - low
    probability = np.empty(t.shape)
    for rows, nodes, weights in rules(32.0 + 3.0 * width):
        some = NthPurchase(*(column[rows, None] for column in nth))
        w = low[rows, None] + width[rows, None] * nodes
        density = np.exp(_log_density(some, pace[rows, None], w))
        probability[rows] = width[rows] * np.sum(weights * density, axis=1)
    return probability


def _log_density(nth: NthPurchase, pace: FloatArray, w: FloatArray) -> FloatArray:
    n, shape, scale, s, beta = nth
    v = np.expm1(w) / pace
    with np.errstate(divide="ignore"):
        rising = (n - 1.0) * np.log(v / scale) - np.log(pace * scale) + w
    falling = (shape + n) * np.log1p(v / scale) + s * np.log1p(v / beta)
    density: FloatArray = rising - falling - betaln(n, shape)
    return density


def _peak(nth: NthPurchase, pace: FloatArray, end: FloatArray) -> FloatArray:
    """Return where in [0, end] the density is greatest; its slope falls, so by bisection."""
    n, shape, scale, s, beta = nth
    low, high = np.zeros(end.shape), end
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        v = np.expm1(middle) / pace
        slope = (n - 1.0) / v - (shape + n) / (scale + v) - s / (beta + v)
        rises = slope * (v + 1.0 / pace) > -1.0
        low, high = np.where(rises, middle, low), np.where(rises, high, middle)
    return high
