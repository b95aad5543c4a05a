"""Rolling windows of the last 7, 30, 90 and 365 days."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import chain
from typing import TypedDict

from models.aggregate.cancellations import cancelled_orders
from models.aggregate.compacted import Compacted
from models.aggregate.state import Aggregate
from models.aggregate.summary import MILLION
from models.calendar import EPOCH_ORDINAL, MILLISECONDS_A_DAY, utc_day
from models.currencies import HOME
from models.economics import Economics, from_units
from models.events.orders import Order
from models.events.refunds import compacted_goods, order_of, recovered_goods

WINDOWS = (7, 30, 90, 365)
"""Lengths in days; a window of n days ends with, and includes, the day it is asked for."""

_NAMES = tuple((length, str(length)) for length in WINDOWS)


class Window(TypedDict):
    """Totals of one window; money in the reporting currency."""

    orders: int
    revenue: float
    margin: float
    contacts: int


ORDERS, REVENUE, EARNED, UNCOSTED, CONTACTS = range(5)


def rolling_windows(state: Aggregate, today: int, config: Economics) -> dict[str, Window]:
    """Return orders, revenue net of refunds, margin and contacts of the windows that end today.

    today: a day's ordinal; later entries are left out.
    """
    by_length = _sums_by_shortest_window(state, today, config)
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


def _sums_by_shortest_window(
    state: Aggregate, today: int, config: Economics
) -> dict[int, list[int]]:
    """Return sums of the entries by the length of the shortest window that contains them."""
    result: dict[int, list[int]] = {}
    oldest = today - WINDOWS[-1]
    day_of, convert = config.day, config.convert
    void = cancelled_orders(state)
    _add_orders(result, state.orders, void, today, config)
    for refund in state.refunds.values():
        if oldest < (day := day_of(refund.time)) <= today and refund.order not in void:
            sums = _sums(result, today - day)
            amount = convert(refund.amount, refund.currency, day)
            sums[REVENUE] -= amount
            sums[EARNED] -= amount - recovered_goods(refund, order_of(state, refund), config)
    for ticket in state.tickets.values():
        if oldest < (day := day_of(ticket.first.time)) <= today:
            _sums(result, today - day)[CONTACTS] += 1
    if state.compacted is not None:
        _add_compacted(result, state.compacted, today, config)
    return result


def _add_orders(
    result: dict[int, list[int]],
    orders: dict[int, Order],
    void: Collection[int],
    today: int,
    config: Economics,
) -> None:
    """Add orders, which are in order of time; of the void ones none."""
    oldest = today - WINDOWS[-1]
    day_of, convert, home = config.day, config.convert, (HOME, config.home)
    in_utc = day_of is utc_day
    since = until = today
    sums: list[int] = []
    for key, order in reversed(orders.items()):
        time = order.time
        # Written out: a frequent buyer's orders are read again for each update.
        day = time // MILLISECONDS_A_DAY + EPOCH_ORDINAL if in_utc else day_of(time)
        if not since < day <= until:
            # Not in the window of the order before.
            if day < oldest:
                break
            if not oldest < day <= today:
                continue
            length, shorter = _lengths(today - day)
            since, until = today - length, today - shorter
            sums = result.setdefault(length, [0] * 5)
        if void and key in void:
            continue
        gross = order.gross
        if order.currency not in home:
            gross = convert(gross, order.currency, day)
        sums[ORDERS] += 1
        sums[REVENUE] += gross
        if order.cost < 0:
            sums[UNCOSTED] += gross
        else:
            sums[EARNED] += gross - convert(order.cost, order.currency, day)


def _add_compacted(
    result: dict[int, list[int]], compacted: Compacted, today: int, config: Economics
) -> None:
    convert = config.convert
    for day, totals in compacted.days.items():
        if today - WINDOWS[-1] < day <= today:
            sums = _sums(result, today - day)
            sums[ORDERS] += totals.orders
            sums[CONTACTS] += totals.contacts
            for currency, money in totals.money.items():
                gross = convert(money.gross, currency, day)
                refunded = convert(money.refunded, currency, day)
                uncosted = convert(money.uncosted, currency, day)
                sums[REVENUE] += gross - refunded
                sums[UNCOSTED] += uncosted
                sums[EARNED] += gross - uncosted - convert(money.cost, currency, day) - refunded
                sums[EARNED] += compacted_goods(money, currency, day, config)


def _lengths(age: int) -> tuple[int, int]:
    """Return the shortest window that has a day of this age in it, and the next shorter one."""
    shorter = 0
    for length in WINDOWS:
        if age < length:
            break
        shorter = length
    return length, shorter


def _sums(by_length: dict[int, list[int]], age: int) -> list[int]:
    length, _ = _lengths(age)
    sums = by_length.get(length)
    if sums is None:
        sums = by_length[length] = [0] * 5
    return sums
