"""Keeping a state small: the oldest entries become sums.

At most `Economics.remembered` orders, refunds, tickets and cancellations are kept one by one. The
oldest beyond that are added to `Settled`, which is a function of the set of events alone: whatever
the order of arrival, the newest entries stay and the rest is summed.
"""

from __future__ import annotations

from models.aggregate.state import Aggregate, DayTotals, Order, Refund, Settled, Ticket
from models.economics import Economics

LONGEST_WINDOW = 365
"""Days for which settled sums are kept by the day."""

CEILING = 2**62
"""Settled money never exceeds this, so that hostile amounts cannot overflow the stored integers."""


def settle(state: Aggregate, config: Economics) -> None:
    """Settle what exceeds the number of remembered entries, in place."""
    limit = config.remembered
    if (
        len(state.orders) > limit
        or len(state.refunds) > limit
        or len(state.tickets) > limit
        or len(state.cancelled) > limit
    ):
        _settle_excess(state, config)


def settle_all(state: Aggregate, config: Economics) -> None:
    """Settle the excess, and what lies at or before the boundaries already, in place."""
    settled = state.settled
    if settled is not None:
        state.orders = {k: v for k, v in state.orders.items() if (v.time, k) > settled.orders_until}
        state.refunds = {
            k: v for k, v in state.refunds.items() if (v.time, k) > settled.refunds_until
        }
        state.tickets = {
            k: v for k, v in state.tickets.items() if (v.first.time, k) > settled.tickets_until
        }
    settle(state, config)


def _settle_excess(state: Aggregate, config: Economics) -> None:
    settled = state.settled = state.settled or Settled()
    limit = config.remembered
    while len(state.orders) > limit:
        key = next(iter(state.orders))
        _settle_order(settled, key, state.orders.pop(key), key in state.cancelled)
    while len(state.refunds) > limit:
        key = next(iter(state.refunds))
        refund = state.refunds.pop(key)
        _settle_refund(settled, key, refund, refund.order in state.cancelled)
    while len(state.tickets) > limit:
        key = next(iter(state.tickets))
        _settle_ticket(settled, key, state.tickets.pop(key), config)
    orphans = [key for key in state.cancelled if key not in state.orders]
    for key in orphans[: max(len(orphans) - limit, 0)]:
        del state.cancelled[key]
    prune_days(settled)


def prune_days(settled: Settled) -> None:
    """Drop the totals of days that no window can reach any more."""
    if settled.days:
        oldest = max(settled.days) - LONGEST_WINDOW
        for day in [day for day in settled.days if day <= oldest]:
            del settled.days[day]


def _day(settled: Settled, day: int) -> DayTotals:
    totals = settled.days.get(day)
    if totals is None:
        totals = settled.days[day] = DayTotals()
        if day != max(settled.days):
            settled.days = dict(sorted(settled.days.items()))
    return totals


def _settle_order(settled: Settled, key: int, order: Order, cancelled: bool) -> None:
    settled.orders_until = (order.time, key)
    if not cancelled:
        add_order(settled, order)


def add_order(settled: Settled, order: Order) -> None:
    """Count an order in the sums, at whatever time it was."""
    uncosted = order.gross if order.cost < 0 else 0
    cost = max(order.cost, 0)
    totals = _day(settled, order.day)
    if settled.orders == 0 or (
        totals.orders == 0 and order.day not in (settled.first_day, settled.last_day)
    ):
        settled.purchase_days += 1
    if settled.orders == 0 or order.day < settled.first_day:
        settled.first_day, settled.first_day_gross = order.day, 0
    if order.day == settled.first_day:
        settled.first_day_gross = min(settled.first_day_gross + order.gross, CEILING)
    settled.last_day = max(settled.last_day, order.day)
    settled.orders += 1
    settled.gross = min(settled.gross + order.gross, CEILING)
    settled.uncosted = min(settled.uncosted + uncosted, CEILING)
    settled.cost = min(settled.cost + cost, CEILING)
    totals.orders += 1
    totals.gross = min(totals.gross + order.gross, CEILING)
    totals.uncosted = min(totals.uncosted + uncosted, CEILING)
    totals.cost = min(totals.cost + cost, CEILING)


def _settle_refund(settled: Settled, key: int, refund: Refund, void: bool) -> None:
    settled.refunds_until = (refund.time, key)
    if not void:
        add_refund(settled, refund)


def add_refund(settled: Settled, refund: Refund) -> None:
    """Count a refund in the sums."""
    settled.refunds += 1
    settled.refunded = min(settled.refunded + refund.amount, CEILING)
    settled.recovered = min(settled.recovered + refund.recovered, CEILING)
    totals = _day(settled, refund.day)
    totals.refunded = min(totals.refunded + refund.amount, CEILING)
    totals.recovered = min(totals.recovered + refund.recovered, CEILING)


def _settle_ticket(settled: Settled, key: int, ticket: Ticket, config: Economics) -> None:
    settled.tickets_until = (ticket.first.time, key)
    add_ticket(settled, ticket, config)


def add_ticket(settled: Settled, ticket: Ticket, config: Economics) -> None:
    """Count a contact in the sums."""
    settled.contacts += 1
    settled.support_cost = min(settled.support_cost + contact_cost(ticket, config), CEILING)
    if ticket.opened is not None and ticket.opened.complaint:
        settled.complaints += 1
        settled.last_complaint = max(settled.last_complaint, ticket.opened.time)
    _day(settled, ticket.first.day).contacts += 1


def contact_cost(ticket: Ticket, config: Economics) -> int:
    """Cost of a contact in money units: as told, by its minutes, or by its channel."""
    resolved = ticket.resolved
    if resolved is not None:
        if resolved.cost >= 0:
            return resolved.cost
        if resolved.decaminutes >= 0:
            return resolved.decaminutes * config.minute_units // 10
    channel = ticket.opened.channel if ticket.opened is not None else -1
    return config.contact_units[channel]
