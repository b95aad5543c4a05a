"""What a customer who is alive now will buy, who may drop out after each further purchase.

They buy at a rate λ ~ Gamma(shape, rate scale) and drop out with probability p ~ Beta(a, b) after
each purchase; λ and p are independent.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import betainc, betaln

from models.btyd._beta_mean import beta_mean_of_power
from models.btyd._checks import FloatArray
from models.btyd._quadrature import gauss_legendre


class Alive(NamedTuple):
    """What is known of customers who are alive: the distributions of λ and p."""

    shape: FloatArray
    scale: FloatArray
    a: float
    b: FloatArray


def probability_of_at_least(n: FloatArray, t: FloatArray, customers: Alive) -> FloatArray:
    """Return the probability of n >= 1 purchases or more within t.

    They make n purchases if they survive the first n - 1 and buy often enough.
    """
    shape, scale, a, b = customers
    survive = np.exp(betaln(a, b + (n - 1.0)) - betaln(a, b))
    enough = betainc(n, shape, t / (scale + t))
    probability: FloatArray = survive * enough
    return probability


class Tail:
    """The probabilities of n = 1, 2, … purchases or more within t, from each other.

    alive: probability of each customer to be alive now. Errors add up to some 1e-15 of one.
    """

    def __init__(self, t: FloatArray, alive: FloatArray, customers: Alive) -> None:
        shape, scale, self._a, self._b = customers
        self._z = t / (scale + t)
        self._shape = shape
        # Of exactly n, and of n or more, of one who does not drop out.
        self._exactly = np.exp(-shape * np.log1p(t / scale)) * shape * self._z
        self._enough = -np.expm1(-shape * np.log1p(t / scale))
        self._survive = alive
        self._n = 1.0

    @property
    def any(self) -> FloatArray:
        """The probability of a purchase; to be read before the first line."""
        return self._survive * self._enough

    def lines(self, number: int) -> FloatArray:
        """Return the next probabilities, a line for each of so many n, and go on."""
        n = np.arange(self._n, self._n + number)[:, None]
        held = self._b + (n - 1.0)
        exactly = _products(self._exactly, self._z * ((self._shape + n) / (n + 1.0)))
        survive = _products(self._survive, held / (self._a + held))
        enough = np.concatenate((self._enough[None], exactly[:-1]))
        enough = np.maximum(np.subtract.accumulate(enough), 0.0)
        self._n += number
        self._exactly, self._survive, self._enough = exactly[-1], survive[-1], enough[-1]
        probabilities: FloatArray = survive[:-1] * enough[:-1]
        return probabilities

    def keep(self, rows: npt.NDArray[np.bool_]) -> None:
        """Go on with these rows only."""
        self._z, self._shape, self._b = self._z[rows], self._shape[rows], self._b[rows]
        self._exactly, self._enough = self._exactly[rows], self._enough[rows]
        self._survive = self._survive[rows]


def _products(first: FloatArray, factors: FloatArray) -> FloatArray:
    """Return first, and after it the products with more and more lines of factors."""
    return np.multiply.accumulate(np.concatenate((first[None], factors)))


def discounted_purchases(t: FloatArray, discount_rate: float, customers: Alive) -> FloatArray:
    """Return the expected number of purchases within t, each discounted to now.

    It is ∫₀ᵗ exp(-δ s) n(s) ds with the rate of purchases n(s) = E[λ exp(-λ p s)]
    = shape/scale E[(1 + p s/scale)^-(shape+1)].
    """
    integral = _discounted_mean_of_power(t, discount_rate, customers, 1.0)
    expected: FloatArray = customers.shape / customers.scale * integral
    return expected


def discounted_time(t: FloatArray, discount_rate: float, customers: Alive) -> FloatArray:
    """Return the time within t that a customer is expected to be alive, discounted to now.

    It is ∫₀ᵗ exp(-δ s) E[exp(-λ p s)] ds.
    """
    return _discounted_mean_of_power(t, discount_rate, customers, 0.0)


def _discounted_mean_of_power(
    t: FloatArray, discount_rate: float, customers: Alive, more: float
) -> FloatArray:
    """Return ∫₀ᵗ exp(-δ s) E[(1 + p s/scale)^-(shape + more)] ds.

    By Gauss-Legendre in w = ln(1 + s k), k the initial rate of decay of the integrand: the
    decay slows down from there to zero, which the logarithm spreads evenly over w.
    """
    a = customers.a
    t, shape, scale, b = np.broadcast_arrays(t, customers.shape, customers.scale, customers.b)
    power = shape + more
    dropout = power * a / (a + b)
    pace = np.maximum(np.maximum(dropout, 1.0) / scale, discount_rate)
    end = np.log1p(t * pace)
    variety = power * (a + 1.0) / (a + b + 1.0) / (pace * scale)
    needed = _nodes_needed(end, a, b, variety)
    means = np.empty(end.shape)
    # Rows are grouped by number of nodes and summed one by one, so that a customer's value does
    # not depend on the rest of the batch, not even in its last digit.
    for number in np.unique(needed):
        rows = needed == number
        columns = (end[rows], pace[rows], power[rows], scale[rows], b[rows])
        means[rows] = _integral(int(number), discount_rate, a, *columns)
    integral: FloatArray = end / pace * means
    return integral


def _integral(number: int, discount_rate: float, a: float, *columns: FloatArray) -> FloatArray:
    """Integrate over w in [0, end], divided by end, with so many nodes; one row each.

    columns: end, pace, power, scale and b of the rows.
    """
    end, pace, power, scale, b = columns
    nodes, weights = gauss_legendre(number)
    w = end[:, None] * nodes
    s = np.expm1(w) / pace[:, None]
    mean = beta_mean_of_power(
        np.broadcast_to(power[:, None], s.shape),
        s / scale[:, None],
        a,
        np.broadcast_to(b[:, None], s.shape),
    )
    integral: FloatArray = np.sum(np.exp(w - discount_rate * s) * mean * weights, axis=1)
    return integral


def _nodes_needed(
    end: FloatArray, a: float, b: FloatArray, variety: FloatArray
) -> npt.NDArray[np.intp]:
    """Return how many nodes integrate up to w = end to 1e-10, in steps that the cache can hold.

    variety: the rate at which the decay slows down at first, in units of the pace. Where a few
    leave so much sooner than most, the integrand falls within 1/variety of its beginning, where
    as many nodes lie only if there are some √variety of them. With a > 1, or many p near 1, hardly
    anybody stays for long, and the integrand falls off steeply.
    """
    steep = np.where((a > 1.0) | (a > 0.6 * b), 2.0 + 1.2 * end, 0.0)
    varied = np.where(variety > 4.0, np.maximum(8.0, 2.6 * np.sqrt(variety)), 0.0)
    return 4 * np.ceil((6.0 + 2.0 * end + steep + varied) / 4.0).astype(np.intp)
