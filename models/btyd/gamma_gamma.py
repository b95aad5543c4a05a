"""Gamma-Gamma: what a customer's orders are worth on average.

A customer's order values are Gamma(p, rate ν), and ν ~ Gamma(q, rate v) over customers, independent
of how often they buy. Fader and Hardie (2013), The Gamma-Gamma Model of Monetary Value; equation
numbers below are theirs.
"""

from dataclasses import dataclass, field, replace
from typing import Final, Self

import numpy as np
import numpy.typing as npt
from pydantic import with_config
from scipy.special import betaln, digamma, gammaincinv

from models.btyd._checks import FloatArray, refuse_rows, require_positive, same_shape
from models.btyd._counts import HIGH, LOW, Counts
from models.btyd._optimise import Fit, FitError, maximise
from models.btyd.cells import SpendCells
from models.btyd.prior import LogNormal, Prior, log_density

_LOWER = {"p": 1e-4, "q": 1e-4, "v": 1e-8}  # v in units of the geometric mean order value
_UPPER = {"p": 1e4, "q": 1e4, "v": 1e8}

_LEAST_Q = 2.1
"""Least shape of a customer's rate, for a spread: at 2 and below the variance does not exist."""

LEAST_MEAN: Final = 1e-150
"""A lower mean number of purchases counts as this one, so that its square is above zero."""


@with_config(extra="forbid")
@dataclass(frozen=True, slots=True)
class GammaGamma:
    """Gamma-Gamma with parameters p, q and v; v in the currency unit of the values it is given.

    Statistics are scalars or arrays that broadcast together: x, the number of repeat purchases; m,
    their mean value. Raises ValueError for parameters that are not finite and > 0, and for q <= 1,
    where the mean over customers does not exist.

    unsteadiness: how much the values change after they were seen. How far what is to come strays, x
    purchases tell as little as x / (1 + unsteadiness x) would if they did not; what is expected
    stays.
    """

    p: float
    q: float
    v: float
    unsteadiness: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        require_positive("Gamma-Gamma", p=self.p, q=self.q, v=self.v)
        if not (np.isfinite(self.unsteadiness) and self.unsteadiness >= 0):
            raise ValueError(
                f"Gamma-Gamma: unsteadiness is {self.unsteadiness!r}; it must be finite and >= 0"
            )
        if self.q <= 1:
            raise ValueError(
                f"Gamma-Gamma: q is {self.q!r}, and the mean order value over customers exists "
                "only for q > 1; cap the largest order values, or fit on more customers"
            )

    def log_likelihood(self, x: npt.ArrayLike, m: npt.ArrayLike) -> FloatArray:
        """Return the log-likelihood of buyers, x >= 1 and m > 0 (equation 1a)."""
        frequency, value = _spend(x, m)
        refuse_rows(
            (frequency < 1) | (value <= 0),
            "the likelihood needs a repeat buyer, x >= 1 and m > 0",
            x=frequency,
            m=value,
        )
        return _log_likelihood(self.p, self.q, self.v, frequency, value)

    def expected_order_value(self, x: npt.ArrayLike, m: npt.ArrayLike) -> FloatArray:
        """Return the expected mean order value given x orders of mean m (equation 5).

        For x = 0 that is the mean over customers, p v / (q - 1), whatever m is.
        """
        frequency, value = _spend(x, m)
        expected: FloatArray = (
            self.p * (self.v + frequency * value) / (self.p * frequency + (self.q - 1.0))
        )
        return expected

    def with_unsteadiness(self, unsteadiness: float) -> Self:
        """Return this model with another unsteadiness; ValueError unless it is finite and >= 0."""
        return replace(self, unsteadiness=unsteadiness)

    def shape_to_come(self, x: FloatArray) -> FloatArray:
        """Return the shape of the gamma distribution of ν after x purchases."""
        return self.q + self.p * x / (1.0 + self.unsteadiness * x)

    def relative_square(self, ahead: Counts, x: npt.ArrayLike, m: npt.ArrayLike) -> FloatArray:
        """Return the mean square of what is spent, as a multiple of the square of its mean.

        The arguments are those of `relative_quantiles`.
        """
        frequency, _ = _spend(x, m)
        q = np.maximum(self.shape_to_come(frequency), _LEAST_Q)
        mean = np.maximum(ahead.mean, LEAST_MEAN)
        square: FloatArray = (
            (self.p * ahead.square + mean) * (q - 1.0) / (self.p * mean**2 * (q - 2.0))
        )
        return square

    def relative_quantiles(
        self, ahead: Counts, x: npt.ArrayLike, m: npt.ArrayLike
    ) -> tuple[FloatArray, FloatArray]:
        """Return the 10th and 90th percentile of what is spent, as multiples of its mean.

        ahead: how many orders are to come, given x orders of mean m. If there is one at all, the
        sum is taken as a gamma variable of the right mean and variance. On Online Retail
        7.6 to 10.3 % lie below the first, and 90.2 to 91.5 % below the second.
        """
        likely = np.maximum(ahead.any, 1e-300)
        # The squared coefficient of variation of the sum, given that it is not zero.
        spread = np.maximum(self.relative_square(ahead, x, m) * likely - 1.0, 1e-12)
        shape = 1.0 / spread

        def quantile(share: float) -> FloatArray:
            among = (share - (1.0 - likely)) / likely
            part = gammaincinv(shape, np.clip(among, 0.0, 1.0)) / shape / likely
            relative: FloatArray = np.where(among > 0.0, part, 0.0)
            return relative

        return quantile(LOW), quantile(HIGH)

    @property
    def mean_order_value(self) -> float:
        """The mean order value over customers."""
        return self.p * self.v / (self.q - 1.0)


WEAK_PRIOR: Prior = {"p": LogNormal(4.0, 1.0), "q": LogNormal(3.0, 0.5), "v": LogNormal(0.6, 1.0)}
"""What is assumed of a shop that has hardly any customers yet; v in units of the geometric mean of
its order values. CDNOW has p 13.8, q 3.1 and v .19 over all purchase days, Online Retail 3.3, 3.2
and .9."""


def fit_gamma_gamma(
    cells: SpendCells, start: GammaGamma | None = None, prior: Prior | None = None
) -> Fit[GammaGamma]:
    """Estimate Gamma-Gamma by maximum likelihood from counted buyers.

    start: parameters to search from, such as the last fit's. prior: of each parameter, such as
    `WEAK_PRIOR`; the estimate is then the maximum of likelihood times prior. Raises FitError when
    there are no buyers, when the mean of the fitted values does not exist, and when the search does
    not converge.
    """
    x, m, number = cells.x, cells.m, cells.number
    customers = cells.customers
    if customers == 0:
        raise FitError(
            "Gamma-Gamma: nobody with a positive order value to fit on; fit on a longer period"
        )
    share = number / customers
    typical = float(np.exp(share @ np.log(m)))  # The mean may not exist.
    values = m / typical

    def objective(parameters: FloatArray) -> tuple[float, FloatArray]:
        mean, gradient = _mean_log_likelihood(parameters, x, values, share)
        if prior is None:
            return mean, gradient
        log_prior, its_gradient = log_density(prior, parameters)
        return mean + log_prior / customers, gradient + its_gradient / customers

    begin = start or GammaGamma(2.0, 3.0, typical)
    found, iterations, edges = maximise(
        "Gamma-Gamma",
        objective,
        {"p": begin.p, "q": begin.q, "v": begin.v / typical},
        _LOWER,
        _UPPER,
    )
    if found["q"] <= 1:
        raise FitError(
            f"Gamma-Gamma: the fit to {customers} customers gives q={found['q']:.4g}, and the mean "
            "order value exists only for q > 1; cap the largest order values, or fit on more "
            "customers"
        )
    model = GammaGamma(found["p"], found["q"], found["v"] * typical)
    log_likelihood = float(number @ model.log_likelihood(x, m))
    return Fit(model, log_likelihood, customers, iterations, edges)


def _spend(x: npt.ArrayLike, m: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    frequency, value = same_shape(x, m)
    wrong = ~(np.isfinite(frequency) & (frequency >= 0) & np.isfinite(value) & (value >= 0))
    refuse_rows(wrong, "x and m must be finite and >= 0", x=frequency, m=value)
    return frequency, value


def _log_likelihood(p: float, q: float, v: float, x: FloatArray, m: FloatArray) -> FloatArray:
    total = x * m
    likelihood: FloatArray = (
        -betaln(p * x, q) - q * np.log1p(total / v) - p * x * np.log1p(v / total) - np.log(m)
    )
    return likelihood


def _mean_log_likelihood(
    parameters: FloatArray, x: FloatArray, m: FloatArray, share: FloatArray
) -> tuple[float, FloatArray]:
    """Return the mean log-likelihood and its gradient by (p, q, v); q <= 1 is allowed here."""
    p, q, v = parameters.tolist()
    total = x * m
    gradient = (
        x * (digamma(p * x + q) - digamma(p * x) - np.log1p(v / total)),
        digamma(p * x + q) - digamma(q) - np.log1p(total / v),
        (q * total / v - p * x) / (v + total),
    )
    value = float(share @ _log_likelihood(p, q, v, x, m))
    return value, np.array([share @ part for part in gradient])
