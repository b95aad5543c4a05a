"""Maximum likelihood over positive parameters."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from models.btyd._checks import FloatArray

Model = TypeVar("Model")
Objective = Callable[[FloatArray], tuple[float, FloatArray]]

_OPTIONS = {"maxiter": 1000, "ftol": 1e-15, "gtol": 1e-9, "maxcor": 20}
_ATTEMPTS = 3
_SMALL_GRADIENT = 1e-4  # of the mean log-likelihood by log-parameter


class FitError(ValueError):
    """The parameters cannot be estimated from this data; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Fit(Generic[Model]):
    """Parameters estimated by maximum likelihood, and how the estimation went.

    at_bounds names the parameters that ran into the edge of what is searched. The model is usable,
    but the data hardly determines them: often there is too little of it, or no dropout in it.
    """

    parameters: Model
    log_likelihood: float
    customers: int
    iterations: int
    at_bounds: tuple[str, ...] = ()


def maximise(
    model: str,
    objective: Objective,
    start: dict[str, float],
    lower: dict[str, float],
    upper: dict[str, float],
) -> tuple[dict[str, float], int, tuple[str, ...]]:
    """Return the parameters that maximise the mean log-likelihood, the iterations, those at bounds.

    objective takes the parameters, in the order of start, and returns the mean log-likelihood and
    its gradient. Raises FitError when the search does not converge.
    """
    # Here, because only a fit needs it and it doubles the time a worker takes to start.
    from scipy.optimize import minimize  # noqa: PLC0415

    names = list(start)
    low, high = (np.log([limits[name] for name in names]) for limits in (lower, upper))
    begin: FloatArray = np.clip(np.log([start[name] for name in names]), low, high)

    def negative(logs: FloatArray) -> tuple[float, FloatArray]:
        values = np.exp(logs)
        mean, gradient = objective(values)
        return -mean, -gradient * values

    iterations = 0
    for _ in range(_ATTEMPTS):  # A flat ridge can end a search early; it goes on from there.
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
    return values, iterations, edges
