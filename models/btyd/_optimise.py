"""Maximum likelihood over positive parameters."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from models.btyd._checks import FloatArray
from models.errors import ClvError

Model = TypeVar("Model")
Objective = Callable[[FloatArray], tuple[float, FloatArray]]

_OPTIONS = {"maxiter": 1000, "ftol": 1e-15, "gtol": 1e-9, "maxcor": 20}
_ATTEMPTS = 3
_SMALL_GRADIENT = 1e-4  # of the mean log-likelihood by log-parameter
_STEP = 1e-4  # of log-parameters, to difference a gradient


class FitError(ClvError, ValueError):
    """The parameters cannot be estimated from this data; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Fit(Generic[Model]):
    """Parameters estimated by maximum likelihood, and how the estimation went.

    at_bounds: parameters that ended at the limit of the search range, or so small that they might
    as well have. The model is usable, but the data hardly determines them: often there is too
    little of it, or no dropout in it.

    covariance: of the logarithms of the parameters, in the order of the model's fields; the inverse
    of the curvature of the log-likelihood (and of the prior) at its maximum. None where a parameter
    is at a bound, where the maximum is too flat to tell, and for models that do not compute it.
    """

    parameters: Model
    log_likelihood: float
    customers: int
    iterations: int
    at_bounds: tuple[str, ...] = ()
    covariance: FloatArray | None = field(default=None, compare=False)


class Maximum(NamedTuple):
    """Where a search ended, after how many iterations, and the parameters at bounds."""

    values: dict[str, float]
    iterations: int
    at_bounds: tuple[str, ...]


def maximise(
    model: str,
    objective: Objective,
    start: dict[str, float],
    lower: dict[str, float],
    upper: dict[str, float],
) -> Maximum:
    """Maximise the mean log-likelihood within bounds.

    objective takes the parameters, in the order of start, and returns the mean log-likelihood and
    its gradient. Raises FitError when the search does not converge.
    """
    # Imported here, because it doubles a worker's start time and only fitting needs it.
    from scipy.optimize import minimize  # noqa: PLC0415

    names = list(start)
    low, high = (np.log([limits[name] for name in names]) for limits in (lower, upper))
    begin: FloatArray = np.clip(np.log([start[name] for name in names]), low, high)

    def negative(logs: FloatArray) -> tuple[float, FloatArray]:
        values = np.exp(logs)
        mean, gradient = objective(values)
        return -mean, -gradient * values

    iterations = 0
    for _ in range(_ATTEMPTS):  # A flat ridge can end a search early: start again from there.
        found = minimize(
            negative,
            begin,
            jac=True,
            method="L-BFGS-B",
            bounds=list(zip(low, high, strict=True)),
            options=_OPTIONS,
        )
        begin = np.asarray(found.x, dtype=np.float64)
        iterations += int(found.nit)
        at_edge = (begin <= low) | (begin >= high)
        steepest = float(np.max(np.abs(np.where(at_edge, 0.0, found.jac))))
        if np.isfinite(found.fun) and steepest < _SMALL_GRADIENT:
            break
    else:
        seen = ", ".join(f"{name}={np.exp(v):.6g}" for name, v in zip(names, begin, strict=True))
        raise FitError(
            f"{model}: the fit did not converge after {iterations} iterations (at {seen}, gradient "
            f"{steepest:.2g}); fit on more customers or a longer period, or give another start"
        )
    edges = tuple(name for name, edge in zip(names, at_edge, strict=True) if edge)
    values = dict(zip(names, np.exp(begin).tolist(), strict=True))
    return Maximum(values, iterations, edges)


def inverse_hessian(
    objective: Objective, values: dict[str, float], customers: int
) -> FloatArray | None:
    """Return the covariance of the log-parameters at a maximum of the objective.

    The inverse of the negative Hessian of `customers` times the objective, by central differences
    of its gradient; None if that is not positive definite.
    """
    at: FloatArray = np.array(list(values.values()))

    def slope(point: FloatArray) -> FloatArray:
        return objective(point)[1] * point

    steps = np.eye(len(at)) * _STEP
    rows = [slope(at * np.exp(step)) - slope(at * np.exp(-step)) for step in steps]
    curvature = -customers * np.array(rows) / (2.0 * _STEP)
    try:
        root = np.linalg.inv(np.linalg.cholesky((curvature + curvature.T) / 2.0))
    except np.linalg.LinAlgError:
        return None
    covariance: FloatArray = root.T @ root
    return covariance
