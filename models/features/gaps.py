"""Times of a customer: since their first event, and between their purchase days."""

from __future__ import annotations

import math
from itertools import islice, pairwise

from models.aggregate.cancellations import cancelled_orders
from models.aggregate.state import Aggregate
from models.aggregate.summary import Summary
from models.economics import Economics


def days_since(day: int, today: int) -> float:
    """Return the days from one to another, by their ordinals; nan for the day 0, which is none."""
    return max(today - day, 0) if day else math.nan


def tenure(state: Aggregate, summary: Summary, today: int, config: Economics) -> float:
    """Return the days since the first event that is known of a customer; nan without one."""
    times = [
        *(each.time for each in islice(state.orders.values(), 1)),
        *(each.time for each in islice(state.refunds.values(), 1)),
        *(each.time for each in state.acquisitions.values()),
        *(each.time for each in state.surveys.values()),
        *(each.first.time for each in state.tickets.values()),
        *state.cancelled.values(),
    ]
    days = [config.day(min(times))] if times else []
    if summary.orders:
        days.append(summary.first_day)
    if state.compacted is not None:
        days += islice(state.compacted.days, 1)
    return max(today - min(days), 0) if days else math.nan


def variation(state: Aggregate, config: Economics) -> float:
    """Return the coefficient of variation of the gaps between remembered purchase days.

    nan with fewer than two gaps.
    """
    void = cancelled_orders(state)
    bought = {config.day(order.time) for key, order in state.orders.items() if key not in void}
    gaps = [later - earlier for earlier, later in pairwise(sorted(bought))]
    if len(gaps) < 2:
        return math.nan
    mean = math.fsum(gaps) / len(gaps)
    return math.sqrt(math.fsum((gap - mean) ** 2 for gap in gaps) / len(gaps)) / mean
