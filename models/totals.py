"""What many customers together will buy, with an interval.

A customer's own number is uncertain because people are; the sum of many is as uncertain because
the parameters are, which are the same for all. Var = Σ Varᵢ + gᵀ Σ g, with Σ the covariance of the
logarithms of the fitted parameters and g the gradient of the total by them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.btyd import PurchaseModel

Floats = NDArray[np.float64]

_NORMAL_90: Final = 1.2815515655446004
"""The 90th percentile of the standard normal distribution."""

_STEP: Final = 1e-3
"""Of the logarithm of a parameter, to difference the total."""


@dataclass(frozen=True, slots=True)
class Total:
    """The expected purchases of many, their 10th and 90th percentile, and two deviations.

    process: the deviation because people differ and chance plays. parameters: because the
    parameters are estimates; None where the fit did not tell how good they are.
    """

    purchases: float
    low: float
    high: float
    process: float
    parameters: float | None


def total_purchases(
    model: PurchaseModel,
    t: float,
    x: Floats,
    t_x: Floats,
    T: Floats,
    *,
    covariance: ArrayLike | None = None,
) -> Total:
    """Return what customers of these statistics buy in (T, T + t] together.

    covariance: of the logarithms of the model's parameters, in the order of its fields.
    """
    expected = float(model.expected_purchases(t, x, t_x, T).sum())
    ahead = model.purchase_counts(t, x, t_x, T)
    process = float(np.maximum(ahead.square - ahead.mean**2, 0.0).sum())
    fitted: float | None = None
    if covariance is not None:
        slope = _slope(model, t, x, t_x, T)
        fitted = float(slope @ np.asarray(covariance, dtype=np.float64) @ slope)
    spread = _NORMAL_90 * float(np.sqrt(process + (fitted or 0.0)))
    return Total(
        expected,
        max(expected - spread, 0.0),
        expected + spread,
        float(np.sqrt(process)),
        None if fitted is None else float(np.sqrt(max(fitted, 0.0))),
    )


def _slope(model: PurchaseModel, t: float, x: Floats, t_x: Floats, T: Floats) -> Floats:
    """Return the change of the total by the logarithm of each parameter."""
    parameters = model.as_dict()
    slope = []
    for name, value in parameters.items():
        ends = [
            float(replace(model, **{name: value * factor}).expected_purchases(t, x, t_x, T).sum())
            for factor in (np.exp(-_STEP), np.exp(_STEP))
        ]
        slope.append((ends[1] - ends[0]) / (2.0 * _STEP))
    return np.array(slope)
