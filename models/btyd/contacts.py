"""Gamma-Poisson: how often a customer contacts support.

A customer's contacts are Poisson with a rate μ ~ Gamma(shape, rate) over customers, so that the
number in an exposure T is negative binomial (Greenwood and Yule 1920, J. R. Stat. Soc. 83).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import with_config
from scipy.special import digamma, gammaln, xlogy

from models.btyd._checks import FloatArray, refuse_rows, require_positive
from models.btyd._optimise import Fit, FitError, maximise

_LOWER, _UPPER = 1e-5, 1e6  # of every fitted parameter, the rate in units of the mean exposure
_FLAT = 1e-9  # difference of mean log-likelihoods that is none


@with_config(extra="forbid")
@dataclass(frozen=True, slots=True)
class GammaPoisson:
    """Gamma-Poisson with a shape and a rate, the rate in the time unit of the exposures.

    Statistics are scalars or arrays that broadcast together: n, the number of contacts; T, the time
    over which they were counted. Raises ValueError for parameters that are not finite and > 0.
    """

    shape: float
    rate: float

    def __post_init__(self) -> None:
        require_positive("Gamma-Poisson", shape=self.shape, rate=self.rate)

    def log_likelihood(self, n: npt.ArrayLike, T: npt.ArrayLike) -> FloatArray:
        """Return each customer's log-likelihood; contacts (n > 0) need an exposure T > 0."""
        contacts, exposure = _exposures(n, T)
        _refuse_contacts_in_no_time(contacts, exposure)
        return _log_likelihood(self.shape, self.rate, contacts, exposure)

    def contact_rate(self, n: npt.ArrayLike, T: npt.ArrayLike) -> FloatArray:
        """Return the expected number of contacts per unit of time, (shape + n) / (rate + T)."""
        contacts, exposure = _exposures(n, T)
        expected: FloatArray = (self.shape + contacts) / (self.rate + exposure)
        return expected


def fit_gamma_poisson(
    n: npt.ArrayLike,
    T: npt.ArrayLike,
    number: npt.ArrayLike = 1,
    start: GammaPoisson | None = None,
) -> Fit[GammaPoisson]:
    """Estimate Gamma-Poisson by maximum likelihood from numbers of contacts n in exposures T.

    number: how many customers each row stands for. start: parameters to search from, such as the
    last fit's. Raises FitError when there are no customers or no contacts, and when the search does
    not converge; ValueError naming the first impossible row.
    """
    contacts, exposure, weights = np.broadcast_arrays(
        *(np.atleast_1d(column) for column in _exposures(n, T)),
        np.asarray(number, dtype=np.float64),
    )
    whole = np.isfinite(weights) & (weights >= 0) & (weights == np.floor(weights))
    refuse_rows(~whole, "a number of customers must be whole and >= 0", number=weights)
    _refuse_contacts_in_no_time(contacts, exposure)
    customers = int(weights.sum())
    if customers == 0:
        raise FitError("Gamma-Poisson: no customers to fit on; load support events first")
    share = weights / customers
    mean_contacts = float(share @ contacts)
    if mean_contacts == 0:
        raise FitError(
            f"Gamma-Poisson: none of {customers} customers has contacted support, so there is no "
            "rate to estimate; leave the cost of contacts out until there are contacts"
        )
    typical = float(share @ exposure)
    times = exposure / typical

    def objective(parameters: FloatArray) -> tuple[float, FloatArray]:
        return _mean_log_likelihood(parameters, contacts, times, share)

    begin = start or GammaPoisson(1.0, typical / mean_contacts)
    found, iterations, edges = maximise(
        "Gamma-Poisson",
        objective,
        {"shape": begin.shape, "rate": begin.rate / typical},
        {"shape": _LOWER, "rate": _LOWER},
        {"shape": _UPPER, "rate": _UPPER},
    )
    at_limit, _ = objective(np.array([_UPPER, _UPPER / mean_contacts]))
    best, _ = objective(np.array([found["shape"], found["rate"]]))
    if at_limit > best - _FLAT and "shape" not in edges:
        # Nobody differs from the others: the likelihood is flat up to the bound.
        edges = ("shape", *edges)
    model = GammaPoisson(found["shape"], found["rate"] * typical)
    log_likelihood = float(weights @ model.log_likelihood(contacts, exposure))
    return Fit(model, log_likelihood, customers, iterations, edges)


def _exposures(n: npt.ArrayLike, T: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    contacts, exposure = np.broadcast_arrays(
        np.asarray(n, dtype=np.float64), np.asarray(T, dtype=np.float64)
    )
    columns = {"n": contacts, "T": exposure}
    whole = np.isfinite(contacts) & (contacts >= 0) & (contacts == np.floor(contacts))
    refuse_rows(~whole, "n must be a whole number >= 0", **columns)
    refuse_rows(~(np.isfinite(exposure) & (exposure >= 0)), "T must be finite, >= 0", **columns)
    return contacts, exposure


def _refuse_contacts_in_no_time(contacts: FloatArray, exposure: FloatArray) -> None:
    refuse_rows(
        (contacts > 0) & (exposure == 0),
        "contacts need an exposure T > 0; count the day of the first purchase as one",
        n=contacts,
        T=exposure,
    )


def _log_likelihood(shape: float, rate: float, n: FloatArray, T: FloatArray) -> FloatArray:
    likelihood: FloatArray = (
        gammaln(shape + n) - gammaln(shape) - gammaln(n + 1.0)
        - shape * np.log1p(T / rate) + xlogy(n, T / (rate + T))
    )  # fmt: skip
    return likelihood


def _mean_log_likelihood(
    parameters: FloatArray, n: FloatArray, T: FloatArray, share: FloatArray
) -> tuple[float, FloatArray]:
    """Return the mean log-likelihood and its gradient by (shape, rate)."""
    shape, rate = parameters.tolist()
    gradient = (
        digamma(shape + n) - digamma(shape) - np.log1p(T / rate),
        (shape * T / rate - n) / (rate + T),
    )
    value = float(share @ _log_likelihood(shape, rate, n, T))
    return value, np.array([share @ part for part in gradient])
