"""How complaints move the probability of staying, as far as the data says.

At each occasion to drop out a customer stays with probability 1 - p, p ~ Beta(a, b). If a complaint
followed the purchase, they stay with (1 - p)^w: the occasion weighs as much as w others. w = 1 says
that complaints do not matter, w > 1 that they drive customers away; it is fitted, never assumed.
With weights, a customer who is alive has survived K = Σ weights occasions, and p ~ Beta(a, b + K);
all else is as in BG/NBD and MBG/NBD.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from scipy.special import betaln, digamma, expit, gammaln

from models.btyd._beta_geometric import BetaGeometric, Seen
from models.btyd._checks import FloatArray, Numbers, discounting, horizon, statistics
from models.btyd._optimise import Fit, inverse_hessian, maximise
from models.btyd._while_alive import Alive
from models.btyd.bg_nbd import BgNbd
from models.btyd.cells import counted
from models.btyd.mbg_nbd import MbgNbd
from models.btyd.prior import LogNormal, Prior, log_density

_LOWEST, _HIGHEST = 1e-2, 1e2  # of the weight
_SMALLEST, _LARGEST = 1e-5, 1e4  # of the other parameters, times in units of the longest T

WEAK_PRIOR: Final = LogNormal(1.0, 1.0)
"""Of the weight: complaints need not matter."""

EARNED: Final = 3.32
"""Nats of log-likelihood that a weight must bring: a chance of 1 % if complaints do not matter."""


class Complaints(NamedTuple):
    """What is known of a customer's complaints.

    survived: occasions that were followed by another purchase, and by a complaint before it.
    last: 1 if a complaint followed the last purchase, else 0.
    """

    survived: FloatArray
    last: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Complaining(BetaGeometric):
    """A model of these customers, row by row, in which complaints have a weight.

    Made by `of` from a fitted model, whose kind it has.
    """

    weight: float
    complaints: Complaints

    @classmethod
    def of(cls, model: BetaGeometric, weight: float, complaints: Complaints) -> Complaining:
        """Return a model of the customers who have these complaints."""
        kind = _COMPLAINING[type(model)]
        return kind(
            **model.as_dict(),
            weight=weight,
            complaints=complaints,
            unsteadiness=model.unsteadiness,
        )

    @classmethod
    def parameter_names(cls) -> tuple[str, ...]:
        """Return the names of the parameters of the model that it was made from."""
        return BetaGeometric.parameter_names()

    def _seen(self, x: FloatArray, t_x: FloatArray, T: FloatArray) -> Seen:
        more = (self.weight - 1.0) * (self.complaints.survived + self.complaints.last)
        return Seen(x + self.occasions_before + more, x, t_x, T)

    def _log_odds_of_death(self, seen: Seen) -> FloatArray:
        k, x, t_x, T = seen
        silence = np.log1p((T - t_x) / (self.alpha + t_x))
        left = _log_dropout(self.a, self.b, k, self._last_weight())
        odds: FloatArray = (self.r + x) * silence + left
        return np.where(x + self.occasions_before > 0, odds, -np.inf)

    def _discounted(
        self,
        while_alive: Callable[[FloatArray, float, Alive], FloatArray],
        t: Numbers,
        discount_rate: float,
        *customers: Numbers,
    ) -> FloatArray:
        seen = self._seen(*statistics(*customers))
        ahead, delta = horizon(t), discounting(discount_rate)
        return self._p_alive(seen) * while_alive(ahead, delta, self._alive(seen))

    def _last_weight(self) -> FloatArray:
        return 1.0 + (self.weight - 1.0) * self.complaints.last


class _ComplainingBgNbd(Complaining, BgNbd):
    __slots__ = ()


class _ComplainingMbgNbd(Complaining, MbgNbd):
    __slots__ = ()


_COMPLAINING: Final[dict[type[BetaGeometric], type[Complaining]]] = {
    BgNbd: _ComplainingBgNbd,
    MbgNbd: _ComplainingMbgNbd,
}


def _log_dropout(a: float, b: float, k: FloatArray, last: FloatArray) -> FloatArray:
    """Return ln(B(a, b+k-last)/B(a, b+k) - 1): the odds of leaving at the last of k occasions."""
    before = np.maximum(k - last, 0.0)
    gain = betaln(a, b + before) - betaln(a, b + np.maximum(k, last))
    odds: FloatArray = np.log(np.expm1(np.maximum(gain, 1e-300)))
    return odds


class ComplaintCells(NamedTuple):
    """The distinct statistics of customers and complaints, and how many customers have each."""

    x: FloatArray
    t_x: FloatArray
    T: FloatArray
    survived: FloatArray
    last: FloatArray
    number: FloatArray

    @classmethod
    def of(
        cls, x: FloatArray, t_x: FloatArray, T: FloatArray, complaints: Complaints
    ) -> ComplaintCells:
        """Count equal rows."""
        return cls(*counted(1, x, t_x, T, complaints.survived, complaints.last))


def fit_complaints(
    start: BetaGeometric, cells: ComplaintCells, prior: Prior | None = None
) -> tuple[Fit[BetaGeometric], float]:
    """Estimate a model of the family of `start` together with the weight of complaints.

    prior: of the model's parameters and of "weight". Raises FitError where the search does not
    converge.
    """
    unit = float(cells.T.max()) or 1.0
    scaled = cells._replace(t_x=cells.t_x / unit, T=cells.T / unit)
    share = cells.number / cells.number.sum()
    customers = int(cells.number.sum())
    first = start.as_dict() | {"weight": 1.0}
    first["alpha"] /= unit
    believed = None
    if prior is not None:
        believed = {name: prior[name] for name in first}
        alpha = believed["alpha"]
        believed["alpha"] = LogNormal(alpha.median / unit, alpha.deviation)
    occasions = start.occasions_before

    def objective(values: FloatArray) -> tuple[float, FloatArray]:
        likelihood, gradient = _likelihood(values, scaled, occasions)
        mean, slope = float(share @ likelihood), gradient @ share
        if believed is None:
            return mean, slope
        log_prior, its_slope = log_density(believed, values)
        return mean + log_prior / customers, slope + its_slope / customers

    names = list(first)
    lower = dict.fromkeys(names, _SMALLEST) | {"weight": _LOWEST}
    upper = dict.fromkeys(names, _LARGEST) | {"weight": _HIGHEST}
    found = maximise(f"{start.title} with complaints", objective, first, lower, upper)
    values = dict(found.values)
    covariance = None
    if not found.at_bounds:
        covariance = inverse_hessian(objective, values, customers)
    likelihood, _ = _likelihood(np.array(list(values.values())), scaled, occasions)
    # In the unit of the times that were given: each purchase has a density.
    total = float(cells.number @ (likelihood - cells.x * np.log(unit)))
    weight = values.pop("weight")
    values["alpha"] *= unit
    model = type(start)(**values)
    if covariance is not None:  # Of the model's parameters, whatever the weight is.
        covariance = covariance[: len(values), : len(values)]
    fit = Fit(model, total, customers, found.iterations, found.at_bounds, covariance)
    return fit, weight


def _likelihood(
    values: FloatArray, cells: ComplaintCells, occasions_before: int
) -> tuple[FloatArray, FloatArray]:
    """Return each row's log-likelihood and its gradient by (r, α, a, b, weight), by row."""
    r, alpha, a, b, weight = values.tolist()
    x, t_x, T, survived, last, _ = cells
    any_occasion = x + occasions_before > 0
    before = np.maximum(x + occasions_before - 1.0, 0.0) + (weight - 1.0) * survived
    at_last = np.where(any_occasion, 1.0 + (weight - 1.0) * last, 0.0)
    y0, y1 = b + before, b + before + at_last
    rate = gammaln(r + x) - gammaln(r) - r * np.log1p(T / alpha) - x * np.log(alpha + T)
    lives = rate + betaln(a, y1) - betaln(a, b)
    silence = (r + x) * np.log1p((T - t_x) / (alpha + t_x))
    gain = betaln(a, y0) - betaln(a, y1)
    with np.errstate(divide="ignore"):
        odds = np.where(any_occasion, silence + np.log(np.expm1(gain)), -np.inf)
    likelihood = lives + np.logaddexp(0.0, odds)
    dead = expit(odds)

    def slopes(y: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Of ln B(a, y) by a and by y."""
        both = digamma(a + y)
        return digamma(a) - both, digamma(y) - both

    by_a1, by_y1 = slopes(y1)
    by_a0, by_y0 = slopes(y0)
    at_b = np.full(1, b)
    by_a, by_b = slopes(at_b)
    # ln(B0 - B1) moves with both ends: its slope less that of ln B1 is (s0 - s1) / (1 - B1/B0).
    share = np.where(any_occasion, dead / -np.expm1(-np.maximum(gain, 1e-300)), 0.0)
    complained = np.where(any_occasion, survived, 0.0)
    both_ends = complained + np.where(any_occasion, last, 0.0)
    gradient = np.stack(
        (
            digamma(r + x) - digamma(r) - np.log1p(T / alpha)
            + dead * np.log1p((T - t_x) / (alpha + t_x)),
            r / alpha - (r + x) / (alpha + T)
            + dead * (r + x) * (1.0 / (alpha + T) - 1.0 / (alpha + t_x)),
            by_a1 - by_a + share * (by_a0 - by_a1),
            by_y1 - by_b + share * (by_y0 - by_y1),
            by_y1 * both_ends + share * (by_y0 * complained - by_y1 * both_ends),
        )
    )  # fmt: skip
    return likelihood, gradient
