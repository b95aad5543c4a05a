"""Forecasts as a stream lives: refitted each week, held against the weeks that follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.btyd import PurchaseModel
from models.evaluation.predictions import Statistics, expected_until

AHEAD = 28
"""Days whose total of purchases is forecast."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """The purchases that customers known on a day were expected to make, and made, after it.

    error: expected over actual, less 1; None if nobody bought. before: repeat purchases in as many
    days until that day, which is the forecast that all goes on as it was; before_error: its error.
    """

    day: str
    customers: int
    expected: float
    actual: float
    error: float | None
    before: float
    before_error: float | None


@dataclass(frozen=True, slots=True)
class Prequential:
    """All forecasts; the mean of their errors, and of the errors' absolute values.

    before_absolute_error: the latter of the forecast that all goes on as it was.
    """

    days_ahead: int
    forecasts: tuple[Forecast, ...]
    mean_error: float | None
    mean_absolute_error: float | None
    before_absolute_error: float | None


def forecast(
    day: str, model: PurchaseModel, of: Statistics, *, actual: float, before: float
) -> Forecast:
    """Return the forecast of one day. of: statistics of the customers, in days, as the model's."""
    expected = float(expected_until(model, [AHEAD], of)[0])
    error, before_error = (
        predicted / actual - 1.0 if actual > 0 else None for predicted in (expected, before)
    )
    return Forecast(day, len(of[0]), expected, actual, error, before, before_error)


def summarise(forecasts: Sequence[Forecast]) -> Prequential:
    """Return the forecasts with the means of their errors; None without any."""
    errors = np.array([each.error for each in forecasts if each.error is not None])
    before = np.array([each.before_error for each in forecasts if each.before_error is not None])
    return Prequential(
        AHEAD,
        tuple(forecasts),
        float(errors.mean()) if errors.size else None,
        float(np.abs(errors).mean()) if errors.size else None,
        float(np.abs(before).mean()) if before.size else None,
    )
