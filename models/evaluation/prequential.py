"""Forecasts as a stream lives: refitted each week, held against the weeks that follow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from models.btyd import PurchaseModel
from models.evaluation.predictions import Statistics
from models.totals import demand_deviation, total_purchases

AHEAD = 28
"""Days whose total of purchases is forecast."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """The purchases that customers known on a day were expected to make, and made, after it.

    low, high: 10th and 90th percentile of what was expected. error: expected over actual, less 1;
    None if nobody bought. before: repeat purchases in as many days until that day, which is the
    forecast that all goes on as it was; before_error: its error.
    """

    day: str
    customers: int
    expected: float
    low: float
    high: float
    actual: float
    error: float | None
    before: float
    before_error: float | None


@dataclass(frozen=True, slots=True)
class Prequential:
    """All forecasts; the mean of their errors, and of the errors' absolute values.

    inside: share of the totals between the 10th and the 90th percentile. before_absolute_error: as
    mean_absolute_error, of the forecast that all goes on as it was.
    """

    days_ahead: int
    forecasts: tuple[Forecast, ...]
    mean_error: float | None
    mean_absolute_error: float | None
    inside: float | None
    before_absolute_error: float | None


def forecast(
    day: str,
    model: PurchaseModel,
    of: Statistics,
    *,
    actual: float,
    before: float,
    covariance: ArrayLike | None = None,
    earlier: Sequence[Forecast] = (),
) -> Forecast:
    """Return the forecast of one day. of: statistics of the customers, in days, as the model's.

    covariance: of the logarithms of the model's parameters. earlier: forecasts whose outcomes were
    known on the day, which say how far the demand of all strays.
    """
    strayed = [math.log(each.actual / each.expected) for each in earlier if each.actual > 0]
    total = total_purchases(
        model, AHEAD, *of, covariance=covariance, demand=demand_deviation(strayed)
    )
    expected = total.purchases
    error, before_error = (
        predicted / actual - 1.0 if actual > 0 else None for predicted in (expected, before)
    )
    number = len(of[0])
    return Forecast(
        day, number, expected, total.low, total.high, actual, error, before, before_error
    )


def summarise(forecasts: Sequence[Forecast]) -> Prequential:
    """Return the forecasts with the means of their errors; None without any."""
    errors = np.array([each.error for each in forecasts if each.error is not None])
    before = np.array([each.before_error for each in forecasts if each.before_error is not None])
    return Prequential(
        AHEAD,
        tuple(forecasts),
        float(errors.mean()) if errors.size else None,
        float(np.abs(errors).mean()) if errors.size else None,
        float(np.mean([each.low <= each.actual <= each.high for each in forecasts]))
        if forecasts
        else None,
        float(np.abs(before).mean()) if before.size else None,
    )
