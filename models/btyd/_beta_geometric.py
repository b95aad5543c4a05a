"""What BG/NBD and MBG/NBD share.

While alive a customer buys at a Poisson rate λ ~ Gamma(r, rate α), and at each occasion drops out
with probability p ~ Beta(a, b). The two models differ in what an occasion is: each purchase after
the first, or the first one too. So a customer who is alive has survived k occasions, x of them in
BG/NBD and x + 1 in MBG/NBD; all else is here. Given the statistics, a customer who is alive has
λ ~ Gamma(r + x, rate α + T) and p ~ Beta(a, b + k).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple, Self

import numpy as np
from scipy.special import betaln, digamma, expit, gammaln

from models.btyd import _while_alive
from models.btyd._checks import (
    FloatArray,
    Numbers,
    discounting,
    horizon,
    probability,
    require_positive,
    statistics,
    whole_number,
)
from models.btyd._counts import Counts, counts
from models.btyd._fading import Fading
from models.btyd.cells import Cells
from models.btyd.model import PurchaseModel


class Seen(NamedTuple):
    """The statistics of customers, checked, and the occasions k they survived if they are alive."""

    k: FloatArray
    x: FloatArray
    t_x: FloatArray
    T: FloatArray


@dataclass(frozen=True, slots=True)
class BetaGeometric(PurchaseModel):
    """Either model, with parameters r, α, a and b."""

    times: ClassVar[frozenset[str]] = frozenset({"alpha"})
    least: ClassVar[Mapping[str, float]] = {"a": 0.01, "b": 0.01}
    occasions_before: ClassVar[int]
    """Occasions to drop out before the first repeat purchase: 0 or 1."""

    r: float
    alpha: float
    a: float
    b: float

    def __post_init__(self) -> None:
        require_positive(self.title, r=self.r, alpha=self.alpha, a=self.a, b=self.b)

    @classmethod
    def first_guess(cls, purchase_rate: float) -> Self:
        """Return where a fit starts."""
        return cls(r=0.5, alpha=0.5 / purchase_rate, a=0.5, b=2.0)

    def second_guess(self) -> Self:
        """Return where a fit that ran into a bound starts again: hardly any dropout."""
        return replace(self, a=0.01, b=1.0)

    def log_likelihood(self, x: Numbers, t_x: Numbers, T: Numbers) -> FloatArray:
        """Return each customer's log-likelihood."""
        seen = self._seen(*statistics(x, t_x, T))
        return self._log_likelihood_alive(seen) + np.logaddexp(0.0, self._log_odds_of_death(seen))

    def mean_log_likelihood(self, cells: Cells) -> tuple[float, FloatArray]:
        """Return the mean log-likelihood of counted customers and its gradient by (r, α, a, b)."""
        # What depends on x alone is computed once for each run of equal x: cells are in order.
        first = np.flatnonzero(np.diff(cells.x, prepend=-1.0))
        runs = np.diff(first, append=len(cells.x))
        k, x, *_ = self._seen(cells.x[first], cells.t_x[first], cells.T[first])
        share = cells.number / cells.number.sum()
        each_x = np.add.reduceat(share, first)
        r, alpha, a, b = self.r, self.alpha, self.a, self.b
        shape = np.repeat(r + x, runs)
        age = np.log1p(cells.T / alpha)
        silence = np.log1p((cells.T - cells.t_x) / (alpha + cells.t_x))
        with np.errstate(divide="ignore"):
            log_odds = shape * silence + np.repeat(np.log(self._dropout_odds(k)), runs)
        small = np.exp(-np.abs(log_odds))
        dead = share * np.where(log_odds > 0, 1.0, small) / (1.0 + small)
        value = share @ (np.maximum(log_odds, 0.0) + np.log1p(small) - shape * age)
        value += each_x @ (
            gammaln(r + x) - gammaln(r) - x * np.log(alpha) + betaln(a, b + k) - betaln(a, b)
        )
        both = digamma(a + b) - digamma(a + b + k)
        dead_of_x = np.add.reduceat(dead, first)
        now, then = 1.0 / (alpha + cells.T), 1.0 / (alpha + cells.t_x)
        gradient = (
            each_x @ (digamma(r + x) - digamma(r)) - share @ age + dead @ silence,
            r / alpha - (share * shape) @ now + (dead * shape) @ (now - then),
            each_x @ both + dead.sum() / a,
            each_x @ (both + digamma(b + k) - digamma(b)) - dead_of_x @ (1 / before_the_last(b, k)),
        )
        return float(value), np.array(gradient)

    def p_alive(self, x: Numbers, t_x: Numbers, T: Numbers) -> FloatArray:
        """Return the probability that the customer has not dropped out; 1 without an occasion.

        The odds of death are a/(b+k-1) ((α+T)/(α+t_x))^(r+x).
        """
        return self._p_alive(self._seen(*statistics(x, t_x, T)))

    def age_at_p_alive(self, bound: Numbers, x: Numbers, t_x: Numbers) -> FloatArray:
        """Return the T at which P(alive) falls to a bound: the odds of death, solved for T.

        inf without an occasion to drop out, and for an age that is no float.
        """
        seen, bound = self._seen(*statistics(x, t_x, t_x)), probability(bound)
        odds = np.log1p(-bound) - np.log(bound) - np.log(self.a / before_the_last(self.b, seen.k))
        with np.errstate(over="ignore"):
            growth = np.expm1(np.maximum(odds, 0.0) / (self.r + seen.x))
            age = seen.t_x + growth * (self.alpha + seen.t_x)
        return np.where(seen.k > 0, age, np.inf)

    def fading(
        self, silence: FloatArray, x: FloatArray, T: FloatArray, p_alive: FloatArray
    ) -> Fading:
        """Return how far prospects can fall: the odds of death grow by ((α+T')/(α+T))^(r+x)."""
        slower = 1.0 + silence / (self.alpha + T)
        with np.errstate(over="ignore"):
            alive = 1.0 / (p_alive + (1.0 - p_alive) * slower ** (self.r + x))
        return Fading(alive, 1.0 / slower, slower)

    def expected_discounted_purchases(
        self, t: Numbers, discount_rate: float, x: Numbers, t_x: Numbers, T: Numbers
    ) -> FloatArray:
        """Return the expected number of purchases in (T, T + t], each discounted to now.

        discount_rate is δ, compounded continuously, per unit of time: a purchase s from now counts
        exp(-δ s).
        """
        return self._discounted(_while_alive.discounted_purchases, t, discount_rate, x, t_x, T)

    def expected_discounted_time(
        self, t: Numbers, discount_rate: float, x: Numbers, t_x: Numbers, T: Numbers
    ) -> FloatArray:
        """Return the expected time in (T, T + t] that the customer is alive, discounted to now."""
        return self._discounted(_while_alive.discounted_time, t, discount_rate, x, t_x, T)

    def expected_time_alive(self, x: Numbers, t_x: Numbers, T: Numbers) -> FloatArray:
        """Return the expected time alive until T: who has dropped out did so at t_x."""
        seen = self._seen(*statistics(x, t_x, T))
        time: FloatArray = seen.t_x + self._p_alive(seen) * (seen.T - seen.t_x)
        return time

    def purchase_counts(self, t: float, x: Numbers, t_x: Numbers, T: Numbers) -> Counts:
        """Return how many purchases within t are to be expected, and between which numbers."""
        return counts(self._tail(t, x, t_x, T))

    def probability_of_any(self, t: float, x: Numbers, t_x: Numbers, T: Numbers) -> FloatArray:
        """Return the probability of a purchase in (T, T + t]: the `any` of `purchase_counts`."""
        return self._tail(t, x, t_x, T).any

    def _tail(self, t: float, x: Numbers, t_x: Numbers, T: Numbers) -> _while_alive.Tail:
        seen = self._seen(*map(np.ravel, statistics(x, t_x, T)))
        ahead = np.full(seen.x.shape, t)
        return _while_alive.Tail(ahead, self._p_alive(seen), self._alive(seen))

    def probability_of_at_least(
        self, n: Numbers, t: Numbers, x: Numbers, t_x: Numbers, T: Numbers
    ) -> FloatArray:
        """Return the probability of n purchases or more in (T, T + t]."""
        n, ahead, seen = whole_number(n), horizon(t), self._seen(*statistics(x, t_x, T))
        customers = self._alive(seen)
        while_alive = _while_alive.probability_of_at_least(np.maximum(n, 1.0), ahead, customers)
        return np.where(n > 0, self._p_alive(seen) * while_alive, 1.0)

    def _discounted(
        self,
        while_alive: Callable[[FloatArray, float, _while_alive.Alive], FloatArray],
        t: Numbers,
        discount_rate: float,
        *customers: Numbers,
    ) -> FloatArray:
        ahead, delta = horizon(t), discounting(discount_rate)
        seen = self._seen(*statistics(*customers))
        alive = self._p_alive(seen)
        if ahead.ndim > 0:
            return alive * while_alive(ahead, delta, self._alive(seen))
        # Once per distinct (x, T): today's customers are many, and the slowest.
        _, first, row = np.unique(seen.x + 1j * seen.T, return_index=True, return_inverse=True)
        distinct = self._alive(Seen(*(column.reshape(-1)[first] for column in seen)))
        return alive * while_alive(ahead, delta, distinct)[row]

    def _seen(self, x: FloatArray, t_x: FloatArray, T: FloatArray) -> Seen:
        return Seen(x + self.occasions_before, x, t_x, T)

    def _alive(self, seen: Seen) -> _while_alive.Alive:
        rate = self._rate_to_come(self.r, self.alpha, seen.x, seen.T)
        return _while_alive.Alive(*rate, self.a, self.b + seen.k)

    def _p_alive(self, seen: Seen) -> FloatArray:
        alive: FloatArray = expit(-self._log_odds_of_death(seen))
        return alive

    def _log_odds_of_death(self, seen: Seen) -> FloatArray:
        k, x, t_x, T = seen
        silence = np.log1p((T - t_x) / (self.alpha + t_x))
        odds: FloatArray = (self.r + x) * silence + np.log(self.a / before_the_last(self.b, k))
        return np.where(k > 0, odds, -np.inf)

    def _dropout_odds(self, k: FloatArray) -> FloatArray:
        """Return the odds of having dropped out at the last of k occasions; 0 without any."""
        return np.where(k > 0, self.a / before_the_last(self.b, k), 0.0)

    def _log_likelihood_alive(self, seen: Seen) -> FloatArray:
        k, x, _, T = seen
        r, alpha, a, b = self.r, self.alpha, self.a, self.b
        likelihood: FloatArray = (
            gammaln(r + x) - gammaln(r) - r * np.log1p(T / alpha) - x * np.log(alpha + T)
            + betaln(a, b + k) - betaln(a, b)
        )  # fmt: skip
        return likelihood


def before_the_last(b: float, k: FloatArray) -> FloatArray:
    """Return b + k - 1, and b when k = 0; grouped so that a tiny b is kept."""
    survivals: FloatArray = b + (np.maximum(k, 1.0) - 1.0)
    return survivals
