"""What many customers together will buy, and be worth, with an interval.

A customer's own number is uncertain because people are; the sum of many is as uncertain because
the parameters are, which are the same for all, and more so because the demand of all together rises
and falls, which no model of single customers knows. Var = Σ Varᵢ + gᵀ Σ g + (c total)², with Σ
the covariance of the logarithms of the fitted parameters, g the gradient of the total by them, and
c the relative deviation of the demand, by how wrong earlier totals were.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.btyd import Cells, PurchaseModel
from models.btyd.complaints import Complaining
from models.btyd.gamma_gamma import LEAST_MEAN
from models.contracts.parameters import Parameters
from models.economics import Economics
from models.value import Row, purchase_model, valued

Floats = NDArray[np.float64]

_NORMAL_90: Final = 1.2815515655446004
"""The 90th percentile of the standard normal distribution."""

USUAL_DEMAND: Final = 0.1
"""Relative deviation of four weeks' demand; real shops had .01 to .13."""

_STEP: Final = 1e-3
"""Of the logarithm of a parameter, to difference the total."""


@dataclass(frozen=True, slots=True)
class Total:
    """The expected purchases of many, their 10th and 90th percentile, and three deviations.

    process: the deviation because people differ and chance plays. parameters: because the
    parameters are estimates; None where the fit did not tell how good they are. demand: because
    that of all together rises and falls.
    """

    purchases: float
    low: float
    high: float
    process: float
    parameters: float | None
    demand: float


@dataclass(frozen=True, slots=True)
class TotalValue:
    """The expected value of many customers, and its 10th and 90th percentile, in currency.

    purchases: of all of them within the horizon, not discounted.
    """

    purchases: Total
    expected: float
    low: float
    high: float


def demand_deviation(errors: Sequence[float]) -> float:
    """Return the relative deviation of the demand, by ln(actual / expected) of earlier totals.

    Of totals over as much time. Before there are any it is `USUAL_DEMAND`, which counts as one.
    """
    squares = [USUAL_DEMAND**2, *(error**2 for error in errors)]
    return math.sqrt(math.fsum(squares) / len(squares))


def total_purchases(
    model: PurchaseModel,
    t: float,
    x: Floats,
    t_x: Floats,
    T: Floats,
    *,
    covariance: ArrayLike | None = None,
    demand: float = 0.0,
) -> Total:
    """Return what customers of these statistics buy in (T, T + t] together.

    covariance: of the logarithms of the model's parameters, in the order of its fields. demand: the
    relative deviation of the demand of all together, such as by `demand_deviation`.
    """
    cells = Cells.count(x, t_x, T)
    if isinstance(model, Complaining):  # It knows its customers one by one.
        cells = Cells(x, t_x, T, np.ones(x.shape))
    expected = _expected(model, t, cells)
    ahead = model.purchase_counts(t, cells.x, cells.t_x, cells.T)
    process = float(cells.number @ np.maximum(ahead.square - ahead.mean**2, 0.0))
    fitted: float | None = None
    if covariance is not None:
        slope = _slope(model, t, cells)
        fitted = max(float(slope @ np.asarray(covariance, dtype=np.float64) @ slope), 0.0)
    moved = demand * expected
    spread = _NORMAL_90 * math.sqrt(process + (fitted or 0.0) + moved**2)
    return Total(
        expected,
        max(expected - spread, 0.0),
        expected + spread,
        math.sqrt(process),
        None if fitted is None else math.sqrt(fitted),
        moved,
    )


def total_value(
    of: Row[Floats], parameters: Parameters, economics: Economics, demand: float = USUAL_DEMAND
) -> TotalValue:
    """Return what these customers are expected to buy and to be worth within the horizon, together.

    How the value of a purchase differs among customers counts, but not how well its model is known;
    the parameters of purchases and the demand move the value by the same share as the purchases.
    """
    bought = of.purchase_days > 0
    if not bought.all():
        of = Row(*(column[bought] for column in of))
    unit, model = parameters.unit_days, purchase_model(of, parameters)
    seen = of.purchase_days - 1, of.recency / unit, of.T / unit
    horizon = economics.horizon_days / unit
    purchases = total_purchases(
        model, horizon, *seen, covariance=parameters.covariance, demand=demand
    )
    each = valued(of, parameters, economics, spread=False).expected
    ahead = model.purchase_counts(horizon, *seen)
    if parameters.order_value is None:
        square = ahead.square / np.maximum(ahead.mean, LEAST_MEAN) ** 2
    else:
        kept_value = of.kept_gross / np.maximum(of.kept_days, 1)
        square = parameters.order_value.relative_square(ahead, of.kept_days, kept_value)
    process = math.fsum(each**2 * np.maximum(square - 1.0, 0.0))
    expected = math.fsum(each)
    moved = math.hypot(purchases.parameters or 0.0, purchases.demand)
    together = expected * moved / purchases.purchases if purchases.purchases > 0 else 0.0
    spread = _NORMAL_90 * math.hypot(math.sqrt(process), together)
    return TotalValue(purchases, expected, expected - spread, expected + spread)


def _expected(model: PurchaseModel, t: float, cells: Cells) -> float:
    return float(cells.number @ model.expected_purchases(t, cells.x, cells.t_x, cells.T))


def _slope(model: PurchaseModel, t: float, cells: Cells) -> Floats:
    """Return the change of the total by the logarithm of each parameter."""
    slope = []
    for name, value in model.as_dict().items():
        low, high = (
            _expected(replace(model, **{name: value * math.exp(step)}), t, cells)
            for step in (-_STEP, _STEP)
        )
        slope.append((high - low) / (2.0 * _STEP))
    return np.array(slope)
