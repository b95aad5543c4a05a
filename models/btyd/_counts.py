"""How many purchases within a time to come: what is published of their distribution."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from models.btyd._checks import FloatArray

LOW, HIGH = 0.1, 0.9
"""Of the quantiles: four in five customers lie between them, if the model is right."""

_END: Final = 0.01
"""Where a tail has fallen to this part of its first probability, it goes on as a geometric one."""

_FIRST_LINES: Final = 8
"""Numbers of purchases that are looked at together at first, then twice as many, and so on."""


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

    def lines(self, number: int) -> FloatArray:
        """Return the next ones, a line for each of so many n, and go on to the n after these."""

    def keep(self, rows: npt.NDArray[np.bool_]) -> None:
        """Go on with these rows only."""


class Stepwise(ABC):
    """A tail that is computed for one n after the other."""

    probability: FloatArray
    """For the present n."""

    @abstractmethod
    def advance(self) -> None:
        """Go on to n + 1."""

    def lines(self, number: int) -> FloatArray:
        """Return the next probabilities; see `Tail`."""
        found = np.empty((number, self.probability.size))
        for line in found:
            line[:] = self.probability
            self.advance()
        return found


class PlainTail(Stepwise):
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
    now = tail.lines(_FIRST_LINES)
    first, before, n = now[0], now[0], np.arange(1.0, _FIRST_LINES + 1.0)[:, None]
    rows, end = np.arange(first.size), _END * first
    result, sums = np.zeros((4, first.size)), np.zeros((4, first.size))
    while True:
        low, high, mean, square = sums
        # Nothing is counted for low and high after the end, but the two others go on: every line.
        low, high = low + (now > 1.0 - LOW).sum(axis=0), high + (now > 1.0 - HIGH).sum(axis=0)
        means = np.add.accumulate(np.concatenate((mean[None], now)))[1:]
        squares = np.add.accumulate(np.concatenate((square[None], (2.0 * n - 1.0) * now)))[1:]
        ends = (now <= end) & (now <= 1.0 - HIGH)
        at, done = ends.argmax(axis=0), ends.any(axis=0)
        own, lines = np.flatnonzero(done), at[done]
        former = np.concatenate((before[None], now))[lines, own]
        rest = _rest(n[lines, 0], now[lines, own], former)
        found = np.stack((low[own], high[own], means[lines, own], squares[lines, own]))
        result[:, rows[own]] = found + rest
        if own.size == rows.size:
            return Counts(first, *result)
        left = ~done
        tail.keep(left)
        rows, end, before = rows[left], end[left], now[-1, left]
        sums = np.stack((low, high, means[-1], squares[-1]))[:, left]
        n = np.arange(n[-1, 0] + 1.0, n[-1, 0] + 1.0 + 2 * len(n))[:, None]
        now = tail.lines(len(n))


def _rest(n: FloatArray, now: FloatArray, before: FloatArray) -> FloatArray:
    """Return what a geometric tail after n adds to low, high, mean and square."""
    ratio = np.where(before > 0.0, np.minimum(now / np.maximum(before, 1e-300), 0.99), 0.0)
    ratio = np.where(n > 1.0, ratio, 0.0)
    more = ratio / (1.0 - ratio)
    nothing = np.zeros_like(now)
    square = now * ((2.0 * n - 1.0) * more + 2.0 * more / (1.0 - ratio))
    return np.stack((nothing, nothing, now * more, square))
