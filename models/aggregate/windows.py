"""Rolling windows of the last 7, 30, 90 and 365 days."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import chain
from typing import TypedDict

from models.aggregate.daily import NOTHING, Daily
from models.aggregate.state import Aggregate
from models.aggregate.summary import MILLION, Summary
from models.economics import Economics, from_units

WINDOWS = (7, 30, 90, 365)
"""Lengths in days; a window of n days ends with, and includes, the day it is asked for."""

_NAMES = tuple((length, str(length)) for length in WINDOWS)


class Window(TypedDict):
    """Totals of one window; money in the reporting currency."""

    orders: int
    revenue: float
    margin: float
    contacts: int


def rolling_windows(
    state: Aggregate, today: int, config: Economics, summary: Summary | None = None
) -> dict[str, Window]:
    """Return orders, revenue net of refunds, margin and contacts of the windows that end today.

    today: a day's ordinal; later entries are left out. summary: of the state; it keeps the sums by
    the day for the next time.
    """
    since = today - WINDOWS[-1]
    daily = None if summary is None else summary.daily
    if daily is None or daily.since > since:
        daily = Daily(state, since, config)
        if summary is not None:
            summary.daily = daily
    days, sums = daily.days, daily.sums
    end = len(days) if not days or days[-1] <= today else bisect_right(days, today)
    until = sums[end - 1] if end else NOTHING
    result: dict[str, Window] = {}
    first = end
    window: Window = {"orders": 0, "revenue": 0.0, "margin": 0.0, "contacts": 0}
    for length, name in _NAMES:
        start = bisect_right(days, today - length, 0, first)
        if start < first:
            first = start
            before = sums[start - 1] if start else NOTHING
            orders, revenue, earned, uncosted, contacts = (
                until[0] - before[0], until[1] - before[1], until[2] - before[2],
                until[3] - before[3], until[4] - before[4],
            )  # fmt: skip
            margin = earned + uncosted * config.margin_millionths // MILLION
            window = {
                "orders": orders,
                "revenue": from_units(revenue),
                "margin": from_units(margin),
                "contacts": contacts,
            }
        # Without more entries, the longer window has the same totals.
        result[name] = window
    return result


def leaving_days(state: Aggregate, today: int, length: int, config: Economics) -> Iterator[int]:
    """Yield the days after today on which an entry leaves or enters the window of so many days.

    An entry dated after today enters it on its own day.
    """
    moments = (order.time for order in state.orders.values())
    refunds = (refund.time for refund in state.refunds.values())
    tickets = (ticket.first.time for ticket in state.tickets.values())
    days = map(config.day, chain(moments, refunds, tickets))
    for day in days if state.compacted is None else chain(days, state.compacted.days):
        if day > today:
            yield day
        if day + length > today:
            yield day + length
