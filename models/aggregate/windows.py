"""Rolling windows of the last 7, 30, 90 and 365 days, from the same state as everything else."""

from __future__ import annotations

from typing import TypedDict

from models.aggregate.cancellations import cancelled_orders
from models.aggregate.state import Aggregate, Settled
from models.aggregate.summary import MILLION
from models.economics import Economics, from_units

WINDOWS = (7, 30, 90, 365)
"""Lengths in days; a window of n days ends with, and includes, the day it is asked for."""

_NAMES = tuple((length, str(length)) for length in WINDOWS)


class Window(TypedDict):
    """What happened in the last days; money in units of the reporting currency."""

    orders: int
    revenue: float
    margin: float
    contacts: int


ORDERS, REVENUE, EARNED, UNCOSTED, CONTACTS = range(5)


def rolling_windows(state: Aggregate, today: int, config: Economics) -> dict[str, Window]:
    """Orders, revenue net of refunds, margin and contacts of the windows that end on a day.

    `today` is a day's ordinal; what happened later than `today` is left out.
    """
    by_length = _sums_by_shortest_window(state, today)
    result: dict[str, Window] = {}
    orders = revenue = earned = uncosted = contacts = 0
    window: Window = {"orders": 0, "revenue": 0.0, "margin": 0.0, "contacts": 0}
    for length, name in _NAMES:
        more = by_length.get(length)
        if more is not None:
            orders += more[ORDERS]
            revenue += more[REVENUE]
            earned += more[EARNED]
            uncosted += more[UNCOSTED]
            contacts += more[CONTACTS]
            margin = earned + uncosted * config.margin_millionths // MILLION
            window = {
                "orders": orders,
                "revenue": from_units(revenue),
                "margin": from_units(margin),
                "contacts": contacts,
            }
        # Where nothing more happened, the longer window is the shorter one.
        result[name] = window
    return result


def _sums_by_shortest_window(state: Aggregate, today: int) -> dict[int, list[int]]:
    """Sums of what happened, by the length of the shortest window that it lies in."""
    result: dict[int, list[int]] = {}
    oldest = today - WINDOWS[-1]
    cancelled = state.cancelled
    last_day, sums = -1, []
    for key, order in reversed(state.orders.items()):
        day = order.day
        if day <= oldest:
            break
        if day <= today and key not in cancelled:
            if day != last_day:
                last_day, sums = day, _sums(result, today - day)
            sums[ORDERS] += 1
            sums[REVENUE] += order.gross
            if order.cost < 0:
                sums[UNCOSTED] += order.gross
            else:
                sums[EARNED] += order.gross - order.cost
    void = cancelled_orders(state)
    for refund in state.refunds.values():
        if oldest < refund.day <= today and refund.order not in void:
            sums = _sums(result, today - refund.day)
            sums[REVENUE] -= refund.amount
            sums[EARNED] -= refund.amount - refund.recovered
    for ticket in state.tickets.values():
        if oldest < (day := ticket.first.day) <= today:
            _sums(result, today - day)[CONTACTS] += 1
    if state.settled is not None:
        _add_settled(result, state.settled, oldest, today)
    return result


def _add_settled(result: dict[int, list[int]], settled: Settled, oldest: int, today: int) -> None:
    for day, totals in settled.days.items():
        if oldest < day <= today:
            sums = _sums(result, today - day)
            sums[ORDERS] += totals.orders
            sums[REVENUE] += totals.gross - totals.refunded
            sums[UNCOSTED] += totals.uncosted
            sums[EARNED] += totals.gross - totals.uncosted - totals.cost
            sums[EARNED] -= totals.refunded - totals.recovered
            sums[CONTACTS] += totals.contacts


def _sums(by_length: dict[int, list[int]], age: int) -> list[int]:
    for length in WINDOWS:
        if age < length:
            break
    sums = by_length.get(length)
    if sums is None:
        sums = by_length[length] = [0] * 5
    return sums
