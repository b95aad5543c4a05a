"""What was expected at a split, until the end of the holdout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.btyd import Cells, PurchaseModel
from models.btyd.complaints import Complaining
from models.contracts.parameters import Parameters
from models.economics import MOST_REMEMBERED, Economics
from models.value import Row, purchase_model, valued

Floats = NDArray[np.float64]
Statistics = tuple[Floats, Floats, Floats]
"""Frequency, recency and T, in the time unit of a model."""

WEEK = 7


@dataclass(frozen=True, slots=True)
class Predictions:
    """Expectations over the holdout: one entry per customer, but for by_week.

    low, high: 10th and 90th percentile. spend: revenue net of refunds, in currency, not discounted.
    p_purchase: probability of a purchase within some days, by their number. by_week: purchases of
    all customers until the end of each week, cumulative.
    """

    p_alive: Floats
    p_purchase: Mapping[int, Floats]
    purchases: Floats
    purchases_low: Floats
    purchases_high: Floats
    spend: Floats
    spend_low: Floats
    spend_high: Floats
    by_week: Floats


def in_revenue(economics: Economics, **changes: Any) -> Economics:
    """Return economics in which a customer's value is their revenue, without discount.

    As many registers as possible are remembered, so that no history is compacted.
    """
    revenue = {"margin": 1.0, "discount_rate": 0.0, "remembered": MOST_REMEMBERED}
    return Economics.model_validate(
        {
            **economics.model_dump(),
            "daily_rates": economics.daily_rates,
            **revenue,
            **changes,
        }
    )


def statistics(of: Row[Floats], unit_days: float) -> Statistics:
    """Return frequency, recency and T of customers, in units of so many days."""
    return np.maximum(of.purchase_days - 1, 0), of.recency / unit_days, of.T / unit_days


def week_ends(days: int) -> list[int]:
    """Return the last day of each week of a holdout; the last week may be shorter."""
    return [*range(WEEK, days, WEEK), days]


def expected_until(model: PurchaseModel, ends: Sequence[float], of: Statistics) -> Floats:
    """Return the purchases that all customers together are expected to make until each end."""
    if isinstance(model, Complaining):  # It knows its customers one by one.
        return np.array([float(model.expected_purchases(end, *of).sum()) for end in ends])
    cells = Cells.count(*of)
    return np.array(
        [
            float(cells.number @ model.expected_purchases(end, cells.x, cells.t_x, cells.T))
            for end in ends
        ]
    )


def predict(
    known: Row[Floats],
    parameters: Parameters,
    economics: Economics,
    days: int,
    windows: Sequence[int],
) -> Predictions:
    """Return what is expected of customers with an order within so many days.

    known: columns as of the split, of rows by `models.value.value_row` with
    `in_revenue(economics)`. windows: days for which the probability of a purchase is asked.
    """
    # Revenue is what the value would be with a margin of one and no costs.
    config = in_revenue(economics, horizon_days=days)
    whole = parameters.model_copy(update={"margin_share": 1.0, "contacts": None})
    nothing = np.zeros(known.T.shape)
    found = valued(known._replace(costed_gross=nothing, costed_margin=nothing), whole, config)
    unit, model = parameters.unit_days, purchase_model(known, parameters)
    of = statistics(known, unit)
    return Predictions(
        p_alive=found.p_alive,
        p_purchase={
            window: model.probability_of_at_least(1, window / unit, *of) for window in windows
        },
        purchases=found.expected_purchases,
        purchases_low=found.purchases_low,
        purchases_high=found.purchases_high,
        spend=found.expected,
        spend_low=found.expected_low,
        spend_high=found.expected_high,
        by_week=expected_until(model, [end / unit for end in week_ends(days)], of),
    )
