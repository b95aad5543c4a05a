"""How many purchases within a time to come: what is published of their distribution."""

from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from models.btyd._checks import FloatArray

LOW, HIGH = 0.1, 0.9
"""Of the quantiles: four in five customers lie between them, if the model is right."""

_END: Final = 0.01
"""Where a tail has fallen to this part of its first probability, it goes on as a geometric one."""

_FEW: Final = 0.25
"""Part of the rows that must have ended before they are left out: copying takes time too."""


class Counts(NamedTuple):
    """The distribution of the number of purchases, by customer.

    any: probability of at least one. low, high: its 10th and 90th percentile. mean, square: of the
    number, and of its square, the mean to one part in a hundred, the square to five.
    """

    any: FloatArray
    low: FloatArray
    high: FloatArray
    mean: FloatArray
    square: FloatArray


class Tail(Protocol):
    """The probabilities of at least n purchases, for n = 1, 2, … of fewer and fewer customers."""

    probability: FloatArray

    def advance(self) -> None:
        """Go on to n + 1."""

    def keep(self, rows: npt.NDArray[np.bool_]) -> None:
        """Go on with these rows only."""


class PlainTail:
    """A tail by a function of n and the rows that are left."""

    def __init__(self, at_least: Callable[..., FloatArray], *columns: FloatArray) -> None:
        self._at_least = at_least
        self._columns = columns
        self._n = 1.0
        self.probability = at_least(self._n, *columns)

    def advance(self) -> None:
        """Go on to n + 1."""
        self._n += 1.0
        self.probability = self._at_least(self._n, *self._columns)

    def keep(self, rows: npt.NDArray[np.bool_]) -> None:
        """Go on with these rows only."""
        self._columns = tuple(column[rows] for column in self._columns)
        self.probability = self.probability[rows]


def counts(tail: Tail) -> Counts:
    """Sum a tail until what is left is small; each customer apart, whoever else there is."""
    first = tail.probability
    result = np.zeros((4, first.size))
    rows, end = np.arange(first.size), _END * first
    sums = np.zeros((4, first.size))
    running = np.ones(first.size, dtype=np.bool_)
    before, n = first, 1
    while rows.size:
        now = tail.probability
        low, high, mean, square = sums
        low += now > 1.0 - LOW
        high += now > 1.0 - HIGH
        mean += now
        square += (2 * n - 1) * now
        ended = running & (now <= end) & (now <= 1.0 - HIGH)
        if ended.any():
            result[:, rows[ended]] = sums[:, ended] + _rest(n, now[ended], before[ended])
            running &= ~ended
            if running.sum() <= (1.0 - _FEW) * rows.size:
                rows, end, now, sums = rows[running], end[running], now[running], sums[:, running]
                tail.keep(running)
                running = np.ones(rows.size, dtype=np.bool_)
        before = now
        tail.advance()
        n += 1
    return Counts(first, *result)


def _rest(n: int, now: FloatArray, before: FloatArray) -> FloatArray:
    """Return what a geometric tail after n adds to low, high, mean and square."""
    ratio = np.where(before > 0.0, np.minimum(now / np.maximum(before, 1e-300), 0.99), 0.0)
    if n == 1:
        ratio = np.zeros_like(now)
    more = ratio / (1.0 - ratio)
    nothing = np.zeros_like(now)
    square = now * ((2 * n - 1) * more + 2.0 * more / (1.0 - ratio))
    return np.stack((nothing, nothing, now * more, square))
