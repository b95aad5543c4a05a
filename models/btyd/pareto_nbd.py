"""Pareto/NBD: a customer may drop out at any time, not only at a purchase.

While alive a customer buys at a Poisson rate λ ~ Gamma(r, rate α), and they stay alive for an
exponential time of rate μ ~ Gamma(s, rate β). Schmittlein, Morrison and Colombo (1987), Counting
Your Customers: Who Are They and What Will They Do Next?, Management Science 33(1); Fader and Hardie
(2005), A Note on Deriving the Pareto/NBD Model and Related Expressions.

These sources subtract hypergeometric functions, which cancels. Here the same quantities are
integrals of positive functions. At the last purchase the customer was alive, with
λ ~ Gamma(ρ, A) and μ ~ Gamma(s, B), where ρ = r + x, A = α + t_x, B = β + t_x. In the silence of
u = T - t_x that followed,

    P(stays alive, does not buy)     = (1 + u/A)^-ρ (1 + u/B)^-s
    P(drops out before buying again) = s/B ∫₀ᵘ (1 + y/A)^-ρ (1 + y/B)^-(s+1) dy
    P(buys again)                    = ρ/A ∫₀ᵘ (1 + y/A)^-(ρ+1) (1 + y/B)^-s dy
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Self

import numpy as np
from scipy.special import digamma, expit, exprel, gammaln

from models.btyd._checks import (
    FloatArray,
    Numbers,
    discounting,
    horizon,
    require_positive,
    statistics,
    whole_number,
)
from models.btyd._counts import Counts
from models.btyd._decay import Decay, area, area_and_means
from models.btyd._fading import Fading
from models.btyd._nth_purchase import NthPurchase, probability_within, purchase_counts
from models.btyd.cells import Cells
from models.btyd.model import PurchaseModel, registered
from models.btyd.prior import LogNormal, Prior


@registered
@dataclass(frozen=True, slots=True)
class ParetoNbd(PurchaseModel):
    """Pareto/NBD with parameters r, α, s and β."""

    name: ClassVar[str] = "pareto-nbd"
    title: ClassVar[str] = "Pareto/NBD"
    times: ClassVar[frozenset[str]] = frozenset({"alpha", "beta"})
    least: ClassVar[Mapping[str, float]] = {"s": 0.01}

    r: float
    alpha: float
    s: float
    beta: float

    def __post_init__(self) -> None:
        require_positive("Pareto/NBD", r=self.r, alpha=self.alpha, s=self.s, beta=self.beta)

    @classmethod
    def first_guess(cls, purchase_rate: float) -> Self:
        """Return where a fit starts."""
        return cls(r=0.5, alpha=0.5 / purchase_rate, s=0.5, beta=0.5)

    @classmethod
    def weak_prior(cls, week: float = 1.0) -> Prior:
        """Return what is assumed of a shop that has hardly any customers yet."""
        return {
            "r": LogNormal(0.5, 1.0),
            "alpha": LogNormal(10.0 * week, 1.0),
            "s": LogNormal(0.5, 1.0),
            "beta": LogNormal(20.0 * week, 1.0),
        }

    def log_likelihood(self, x: Numbers, t_x: Numbers, T: Numbers) -> FloatArray:
        """Return each customer's log-likelihood."""
        shape, (frequency, recency, age) = _rows(*statistics(x, t_x, T))
        silence = self._silence(frequency, recency, age)
        with np.errstate(divide="ignore"):
            log_silent = np.logaddexp(silence.log_alive(), np.log(silence.dropped_out()))
        # Next to 1, a probability's logarithm keeps its digits if taken of the complement.
        again = silence.bought_again()
        log_silent = np.where(again < 0.5, np.log1p(-np.minimum(again, 0.5)), log_silent)
        return (self._log_likelihood_of_purchases(frequency, recency) + log_silent).reshape(shape)

    def mean_log_likelihood(self, cells: Cells) -> tuple[float, FloatArray]:
        """Return the mean log-likelihood of counted customers and its gradient by (r, α, s, β)."""
        x, t_x, T = cells.x, cells.t_x, cells.T
        r, alpha, s, beta = self.r, self.alpha, self.s, self.beta
        silence = self._silence(x, t_x, T)
        rho, A, _, B, u = silence
        integral, mean = area_and_means(Decay(rho, A, silence.s + 1.0, B), u)
        log_alive = silence.log_alive()
        with np.errstate(divide="ignore"):
            log_dead = np.log(s / B * integral)
        dead = expit(log_dead - log_alive)
        alive = 1.0 - dead
        # Of the silence, the logarithms of (α + T)/(α + t_x) and (β + T)/(β + t_x), and 1/(1 + u/A)
        # and 1/(1 + u/B): at u for those alive, in the mean over the time of dropout for the dead.
        log_a = alive * np.log1p(u / A) + dead * mean.log_a
        log_b = alive * np.log1p(u / B) + dead * mean.log_b
        inverse_a = alive * A / (A + u) + dead * mean.inverse_a
        inverse_b = alive * s * B / (B + u) + dead * (s + 1.0) * mean.inverse_b
        gradient = (
            digamma(rho) - digamma(r) - np.log1p(t_x / alpha) - log_a,
            r / alpha - rho / A * inverse_a,
            dead / s - np.log1p(t_x / beta) - log_b,
            s / beta - inverse_b / B,
        )
        value = self._log_likelihood_of_purchases(x, t_x) + np.logaddexp(log_alive, log_dead)
        share = cells.number / cells.number.sum()
        return float(share @ value), np.array([share @ part for part in gradient])

    def p_alive(self, x: Numbers, t_x: Numbers, T: Numbers) -> FloatArray:
        """Return the probability that the customer has not dropped out; 1 right at a purchase."""
        shape, customers = _rows(*statistics(x, t_x, T))
        return self._p_alive(*customers).reshape(shape)

    def fading(
        self, silence: FloatArray, x: FloatArray, T: FloatArray, p_alive: FloatArray
    ) -> Fading:
        """Return how far prospects can fall.

        The likelihood of being alive, (α+T)^-(r+x) (β+T)^-s, falls, and that of having left grows
        by the integral of s/(β+t) times it: by no more than it is at T times s ln((β+T')/(β+T)).
        """
        slower, longer = 1.0 + silence / (self.alpha + T), 1.0 + silence / (self.beta + T)
        left = 1.0 - p_alive + p_alive * self.s * np.log(longer)
        with np.errstate(over="ignore"):
            alive = 1.0 / (p_alive + left * slower ** (self.r + x) * longer**self.s)
        return Fading(alive, 1.0 / slower, longer)

    def expected_discounted_purchases(
        self, t: Numbers, discount_rate: float, x: Numbers, t_x: Numbers, T: Numbers
    ) -> FloatArray:
        """Return the expected number of purchases in (T, T + t], each discounted to now.

        discount_rate is δ, compounded continuously, per unit of time: a purchase s from now counts
        exp(-δ s). In closed form if δ = 0.
        """
        frequency, age = np.asarray(x, dtype=np.float64), np.asarray(T, dtype=np.float64)
        rate = (self.r + frequency) / (self.alpha + age)
        time = self.expected_discounted_time(t, discount_rate, x, t_x, T)
        purchases: FloatArray = rate * time
        return purchases

    def expected_discounted_time(
        self, t: Numbers, discount_rate: float, x: Numbers, t_x: Numbers, T: Numbers
    ) -> FloatArray:
        """Return the expected time in (T, T + t] that the customer is alive, discounted to now."""
        delta = discounting(discount_rate)
        shape, (ahead, frequency, recency, age) = _rows(horizon(t), *statistics(x, t_x, T))
        s, B = np.full(age.shape, self.s), self.beta + age
        if delta == 0:
            width = np.log1p(ahead / B)
            lifetime = B * width * exprel((1.0 - s) * width)
        else:
            lifetime = area(Decay(np.zeros(age.shape), B, s, B, delta), ahead)
        time: FloatArray = self._p_alive(frequency, recency, age) * lifetime
        return time.reshape(shape)

    def expected_time_alive(self, x: Numbers, t_x: Numbers, T: Numbers) -> FloatArray:
        """Return the expected time from the first purchase to T that the customer was alive."""
        shape, (frequency, recency, age) = _rows(*statistics(x, t_x, T))
        rho, A, s, B, u = self._silence(frequency, recency, age)
        _, mean = area_and_means(Decay(rho, A, s + 1.0, B), u)
        alive = self._p_alive(frequency, recency, age)
        time: FloatArray = recency + alive * u + (1.0 - alive) * mean.time
        return time.reshape(shape)

    def purchase_counts(self, t: float, x: Numbers, t_x: Numbers, T: Numbers) -> Counts:
        """Return how many purchases within t are to be expected, and between which numbers."""
        _, (frequency, recency, age) = _rows(*statistics(x, t_x, T))
        alive = self._p_alive(frequency, recency, age)
        next_ones = self._nth_purchase(np.ones(age.shape), frequency, age)
        return purchase_counts(np.full(age.shape, t), alive, next_ones)

    def probability_of_at_least(
        self, n: Numbers, t: Numbers, x: Numbers, t_x: Numbers, T: Numbers
    ) -> FloatArray:
        """Return the probability of n purchases or more in (T, T + t]."""
        given = whole_number(n), horizon(t), *statistics(x, t_x, T)
        shape, (number, ahead, frequency, recency, age) = _rows(*given)
        nth = self._nth_purchase(np.maximum(number, 1.0), frequency, age)
        probability = self._p_alive(frequency, recency, age) * probability_within(nth, ahead)
        return np.where(number > 0, probability, 1.0).reshape(shape)

    def _nth_purchase(self, n: FloatArray, x: FloatArray, T: FloatArray) -> NthPurchase:
        s = np.full(x.shape, self.s)
        rate = self._rate_to_come(self.r, self.alpha, x, T)
        return NthPurchase(n, *rate, s, self.beta + T)

    def _silence(self, x: FloatArray, t_x: FloatArray, T: FloatArray) -> "_Silence":
        s = np.full(x.shape, self.s)
        return _Silence(self.r + x, self.alpha + t_x, s, self.beta + t_x, T - t_x)

    def _p_alive(self, x: FloatArray, t_x: FloatArray, T: FloatArray) -> FloatArray:
        silence = self._silence(x, t_x, T)
        with np.errstate(divide="ignore"):
            log_odds = silence.log_alive() - np.log(silence.dropped_out())
        alive: FloatArray = expit(log_odds)
        return alive

    def _log_likelihood_of_purchases(self, x: FloatArray, t_x: FloatArray) -> FloatArray:
        """That of the purchases until t_x, and of being alive there."""
        r, alpha, s, beta = self.r, self.alpha, self.s, self.beta
        likelihood: FloatArray = (
            gammaln(r + x) - gammaln(r) - r * np.log1p(t_x / alpha) - x * np.log(alpha + t_x)
            - s * np.log1p(t_x / beta)
        )  # fmt: skip
        return likelihood


class _Silence(NamedTuple):
    """Customers since their last purchase: the distributions of λ and μ then, and the time u."""

    rho: FloatArray
    A: FloatArray
    s: FloatArray
    B: FloatArray
    u: FloatArray

    def log_alive(self) -> FloatArray:
        """Return the log-probability that they stay alive and do not buy."""
        rho, A, s, B, u = self
        log_alive: FloatArray = -rho * np.log1p(u / A) - s * np.log1p(u / B)
        return log_alive

    def dropped_out(self) -> FloatArray:
        """Return the probability that they drop out before they buy again."""
        rho, A, s, B, u = self
        return s / B * area(Decay(rho, A, s + 1.0, B), u)

    def bought_again(self) -> FloatArray:
        """Return the probability that they would have bought again."""
        rho, A, s, B, u = self
        return rho / A * area(Decay(rho + 1.0, A, s, B), u)


def _rows(*columns: FloatArray) -> tuple[tuple[int, ...], list[FloatArray]]:
    """Return the shape of the columns together, and each as an array of one dimension."""
    together = np.broadcast_arrays(*columns)
    return together[0].shape, [column.reshape(-1) for column in together]
