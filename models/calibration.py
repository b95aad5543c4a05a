"""Calibration: purchases of held-out days beside those that were expected of the same customers."""

from __future__ import annotations

import math
from datetime import date
from typing import Annotated, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from models.btyd import PurchaseModel
from models.population import Seen

Floats = NDArray[np.float64]

GROUPS: Final = 10
"""Groups of customers, each of which is expected to make as many purchases as any other."""

_LEAST: Final = 1e-9

_Number = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Group(BaseModel):
    """Customers of whom about as much is expected. deviation: of `expected`, by the model."""

    model_config = ConfigDict(frozen=True)

    customers: Annotated[int, Field(ge=0)]
    expected: _Number
    deviation: _Number
    observed: _Number


class Calibration(BaseModel):
    """What a fit on the days before `first` expects from `first` to `last`, and what came.

    groups: of the customers who had bought before, those of whom the least is expected first.
    """

    model_config = ConfigDict(frozen=True)

    first: date
    last: date
    groups: tuple[Group, ...]


def calibration(
    model: PurchaseModel, unit_days: int, seen: Seen, number: Floats, *, day: int, ahead: float
) -> Calibration:
    """Compare the purchases that followed a day, an ordinal, with what a model expects of them.

    model: fitted on what was known at the end of the day, in units of `unit_days`. seen: what was
    known then, by distinct customers, and `number` of each. ahead: days that have passed since.
    """
    customers = seen.x, seen.t_x / unit_days, seen.T / unit_days
    mean = model.expected_purchases(ahead / unit_days, *customers)
    counts = model.purchase_counts(ahead / unit_days, *customers)
    variance = np.maximum(counts.square - counts.mean**2, 0.0)
    # Of customers of whom as much is expected, those who did not come back are not put first.
    order = np.lexsort((seen.T, seen.t_x, seen.x, mean))
    before = np.cumsum((number * mean)[order])
    middle = before - (number * mean)[order] / 2
    group = np.minimum((GROUPS * middle / max(before[-1], _LEAST)).astype(np.int64), GROUPS - 1)
    columns = (number, number * mean, number * variance, number * seen.after)
    sums = [np.bincount(group, each[order], GROUPS) for each in columns]
    return Calibration(
        first=date.fromordinal(day + 1),
        last=date.fromordinal(day + max(math.ceil(ahead), 1)),
        groups=tuple(
            Group(
                customers=int(customers),
                expected=expected,
                deviation=spread**0.5,
                observed=observed,
            )
            for customers, expected, spread, observed in zip(*sums, strict=True)
            if customers
        ),
    )
